"""The process of the embedded model server: started when first needed, adopted, stopped with the fleet.

Knows how the server is started (settings on stdin, one line on its ready pipe), not what it serves.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import suppress

import msgspec
from msgspec import Struct

from backend.home import write_private
from backend.identity import Identity, identify
from backend.schema.errors import TektonError
from backend.specialists.context import SupervisorContext
from backend.specialists.environment import allowed
from backend.specialists.launcher import LaunchFailed
from backend.specialists.logs import begin_log, evidence, log_path
from backend.specialists.process import Process, start
from backend.specialists.ready_pipe import LinePipe
from backend.tasks import end_tasks
from backend.wire import encoder

SERVICE = "embedded"
TITLE = "embedded model server"
SERVER_MODULE = "backend.providers.embedded.server"
READY_TIMEOUT_S = 120.0
"""Long, because reading weights from a slow disk takes long on small machines."""
STOP_GRACE_S = 3.0


class ServerFacts(Struct):
    """What the server writes to its ready pipe, and what `run/embedded.json` holds. `context` in tokens a slot."""

    url: str
    api_key: str
    pid: int
    process_start: float
    model: str
    slots: int
    context: int
    home: str = ""
    """The home it was started for."""
    start_ticks: int = 0
    boot_id: str = ""

    @property
    def identity(self) -> Identity:
        """The process that wrote them, also where the clock was set since."""
        return Identity(self.pid, self.process_start, self.start_ticks, self.boot_id)


class ModelServer:
    """At most one model server. Every launch may call `ensure`; they share one start."""

    def __init__(self, context: SupervisorContext) -> None:
        self._context = context
        self._process: Process | None = None
        self._starting: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._stop_asked = False

    def ensure(self) -> bool:
        """Start the server in the background unless it runs or is being started; return whether this call did.

        A failure shows in the service's row and in the error log.
        """
        if self._context.table.copied:
            return False  # the gateway that leads the fleet runs it
        if self._process is not None or (self._starting is not None and not self._starting.done()):
            return False
        self._context.home.embedded_ending.unlink(missing_ok=True)  # from now on it is starting, not dead
        self._starting = asyncio.create_task(self._start(), name="embedded model server")
        return True

    async def missing(self) -> TektonError | None:
        """Return why the server cannot start, such as missing weights, else `None`. Looks at the disk only."""
        from backend.providers.embedded import PROVIDER, weights

        try:
            await asyncio.to_thread(weights.find, PROVIDER.own(self._context.settings), self._context.home)
        except TektonError as error:
            return error
        return None

    async def settled(self) -> None:
        """Wait until a start under way has ended, well or not."""
        if self._starting is not None:
            await asyncio.wait([self._starting])

    def adopt(self) -> bool:
        """Watch a server that an earlier backend started; return whether it lives."""
        try:
            facts = msgspec.json.decode(self._context.home.embedded_facts.read_bytes(), type=ServerFacts)
        except (OSError, msgspec.MsgspecError):
            return False
        if not self._context.home.may_be(
            facts.home
        ):  # this home is a copy: the server is that of the other one
            self._context.home.embedded_facts.unlink(missing_ok=True)
            return False
        identity = identify(facts.pid)
        # By the start time too: after a restart of the machine the pid may be anybody's.
        if identity is None or not facts.identity.still_lives():
            self._write_ending("the embedded model server ended while no backend ran")
            return False
        self._follow(Process(identity), facts, adopted=True)
        return True

    async def stop(self) -> None:
        """End the server, if there is one."""
        if self._starting is not None and not self._starting.done():
            await end_tasks(self._starting)
        if self._process is None:
            return
        self._stop_asked = True
        self._show(state="stopping")
        process, following = self._process, self._following
        # `_until_end` sees this end as well, and by `_stop_asked` does not record it as a failure.
        await process.stop(STOP_GRACE_S)
        if following is not None:
            await asyncio.wait([following], timeout=STOP_GRACE_S)

    def detach(self) -> None:
        """Leave the server alone and stop watching it."""
        for task in (self._starting, self._following):
            if task is not None:
                task.cancel()
        if self._process is not None:
            self._process.detach()

    async def _start(self) -> None:
        self._stop_asked = False
        self._show(
            state="starting", started_at=time.time(), detail="reading its weights", cause="", pid=0, port=0
        )
        try:
            await self._launch()
        except (TektonError, OSError, msgspec.MsgspecError) as error:
            text = f"the embedded model server did not start: {error}"
            self._write_ending(text)
            self._show(state="exited", pid=0, detail="", cause=text)
            lines = error.evidence if isinstance(error, TektonError) else ""
            self._context.record_error(SERVICE, "launch_failed", text, phase="starting", evidence=lines)
        except asyncio.CancelledError:
            self._write_ending("the embedded model server was stopped while starting")
            self._show(state="stopped", pid=0, detail="", cause="stopped while starting")
            raise

    async def _launch(self) -> None:
        """Start the process and wait until it serves; on failure no process is left."""
        read_fd, write_fd = os.pipe()
        pipe = LinePipe(read_fd)
        try:
            try:
                process = await self._spawn(write_fd)
            finally:
                os.close(write_fd)
            try:
                await self._until_serving(process, pipe)
            except BaseException:
                await process.stop(0, force=True)
                raise
        finally:
            pipe.close()

    async def _until_serving(self, process: Process, pipe: LinePipe) -> None:
        self._show(pid=process.pid)
        await process.feed(encoder.encode(self._context.settings))
        # Either says enough; the pipe alone would also end with a process that never wrote.
        waited = {pipe.first, process.exited}
        await asyncio.wait(waited, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not pipe.first.done():
            how = f"not ready within {READY_TIMEOUT_S:g} s"
            if process.exited.done():
                how = process.exited.result().describe()
            raise LaunchFailed(
                f"{how}; see its log", evidence=evidence(log_path(self._context.home.logs, SERVICE))
            )
        facts = msgspec.json.decode(pipe.first.result(), type=ServerFacts)
        facts.home = str(self._context.home.root)
        # Written before it is shown as ready: workers find the server by this file alone. It holds its key, so
        # it is private.
        await asyncio.to_thread(write_private, self._context.home.embedded_facts, encoder.encode(facts))
        self._follow(process, facts, adopted=False)

    async def _spawn(self, write_fd: int) -> Process:
        context = self._context
        log_fd = begin_log(context.home.logs, SERVICE)
        try:
            return await start(
                [sys.executable, "-P", "-m", SERVER_MODULE, "--ready-fd", str(write_fd)],
                environment={
                    **allowed(context.environment, SERVICE, context.settings),
                    "TEKTON_HOME": str(context.home.root),
                },
                log_fd=log_fd,
                pass_fds=(write_fd,),
                cwd=context.home.root,
            )
        finally:
            os.close(log_fd)

    def _follow(self, process: Process, facts: ServerFacts, *, adopted: bool) -> None:
        self._process = process
        self._show(
            state="ready",
            pid=process.pid,
            port=int(facts.url.rpartition(":")[2].partition("/")[0] or 0),
            detail=f"{facts.model}, {facts.slots} slots of {facts.context:,} tokens",
            cause="adopted from an earlier backend" if adopted else "",
        )
        self._following = asyncio.create_task(self._until_end(process), name="embedded model server's end")

    async def _until_end(self, process: Process) -> None:
        status = await asyncio.shield(process.exited)
        self._process = None
        self._write_ending(
            f"the embedded model server does not run since {time.strftime('%H:%M:%S')}: {status.describe()}"
        )
        if self._stop_asked:
            self._show(state="stopped", pid=0, port=0, detail="", cause=f"stopped: {status.describe()}")
            return
        text = f"the embedded model server {status.describe()}"
        state = "killed" if status.signal is not None else "exited"
        self._show(state=state, pid=0, port=0, detail="", cause=text)
        lines = evidence(log_path(self._context.home.logs, SERVICE))
        self._context.record_error(SERVICE, state, text, evidence=lines)

    def _write_ending(self, text: str) -> None:
        """Write down why there is no server, for the workers: those who wait for it read the home's files."""
        with suppress(OSError):  # a full disk: workers then wait for a start until their time-out
            write_private(self._context.home.embedded_ending, text.encode())
        self._context.home.embedded_facts.unlink(missing_ok=True)

    def _show(self, **changes: object) -> None:
        self._context.table.update_service(SERVICE, TITLE, publish=True, **changes)
