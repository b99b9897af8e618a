"""The embedded model server as a process of the platform: started when first needed, adopted, stopped with the fleet.

Knows the server's contract (settings on stdin, one line of facts on its ready pipe), not what it serves.
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
from backend.registry.identity import Identity, identify
from backend.schema.errors import TektonError
from backend.specialists.environment import allowed
from backend.specialists.fleet import Fleet
from backend.specialists.launcher import LaunchFailed
from backend.specialists.logs import begin_log, evidence, log_path
from backend.specialists.process import Process, start
from backend.specialists.startpipe import LinePipe
from backend.wire import encoder

SERVICE = "embedded"
TITLE = "embedded model server"
SERVER_MODULE = "backend.providers.embedded_server"
READY_TIMEOUT_S = 120.0
"""Reading weights from a cold disk takes long on small machines."""
STOP_GRACE_S = 3.0


class ServerFacts(Struct):
    """What the server says when it serves, and what `run/embedded.json` holds."""

    url: str
    api_key: str
    pid: int
    process_start: float
    model: str
    slots: int
    context: int


class EmbeddedService:
    """At most one model server. `ensure` may be called by every launch; they share one start."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._process: Process | None = None
        self._starting: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._stop_asked = False

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def ensure(self) -> bool:
        """Start the server unless it runs or is being started; its failure is a row and a ledger entry.

        Returns whether this call began a start.
        """
        if self._fleet.board.copied:
            return False  # the gateway that leads has it
        if self._process is not None or (self._starting is not None and not self._starting.done()):
            return False
        self._fleet.home.embedded_ending.unlink(missing_ok=True)  # from here on it is starting, not dead
        self._starting = asyncio.create_task(self._start(), name="embedded model server")
        return True

    async def missing(self) -> TektonError | None:
        """Return what the server cannot start without, if that is so; a look at the disk."""
        from backend.providers import weights

        try:
            await asyncio.to_thread(weights.find, self._fleet.settings, self._fleet.home)
        except TektonError as error:
            return error
        return None

    async def settled(self) -> None:
        """Wait until a start under way has ended, well or not."""
        if self._starting is not None:
            await asyncio.wait([self._starting])

    def adopt(self) -> bool:
        """Watch a server an earlier backend started, if it lives; return whether it does."""
        try:
            facts = msgspec.json.decode(self._fleet.home.embedded_facts.read_bytes(), type=ServerFacts)
        except (OSError, msgspec.MsgspecError):
            return False
        identity = identify(facts.pid)
        if identity is None or not Identity(facts.pid, facts.process_start).still_lives():
            self._leave_word("the embedded model server ended while no backend ran")
            return False
        self._follow(Process(identity), facts, adopted=True)
        return True

    async def stop(self) -> None:
        """End the server; nothing happens when there is none."""
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if self._process is None:
            return
        self._stop_asked = True
        self._show(state="stopping")
        process, following = self._process, self._following
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
            self._leave_word(text)
            self._show(state="exited", pid=0, detail="", cause=text)
            proof = error.evidence if isinstance(error, TektonError) else ""
            self._fleet.record_error(SERVICE, "launch_failed", text, phase="starting", evidence=proof)
        except asyncio.CancelledError:
            self._leave_word("the embedded model server was stopped while starting")
            self._show(state="stopped", pid=0, detail="", cause="stopped while starting")
            raise

    async def _launch(self) -> None:
        """Start the process and wait for its facts; nothing of it is left on failure."""
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
        await process.feed(encoder.encode(self._fleet.settings))
        waited = {pipe.first, process.exited}
        await asyncio.wait(waited, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not pipe.first.done():
            how = f"not ready within {READY_TIMEOUT_S:g} s"
            if process.exited.done():
                how = process.exited.result().words()
            raise LaunchFailed(
                f"{how}; see its log", evidence=evidence(log_path(self._fleet.home.logs, SERVICE))
            )
        facts = msgspec.json.decode(pipe.first.result(), type=ServerFacts)
        await asyncio.to_thread(write_private, self._fleet.home.embedded_facts, pipe.first.result())
        self._follow(process, facts, adopted=False)

    async def _spawn(self, write_fd: int) -> Process:
        fleet = self._fleet
        log_fd = begin_log(fleet.home.logs, SERVICE)
        try:
            return await start(
                [sys.executable, "-P", "-m", SERVER_MODULE, "--ready-fd", str(write_fd)],
                environment={
                    **allowed(fleet.environment, SERVICE, fleet.settings),
                    "TEKTON_HOME": str(fleet.home.root),
                },
                log_fd=log_fd,
                pass_fds=(write_fd,),
                cwd=fleet.home.root,
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
        ending = await asyncio.shield(process.exited)
        self._process = None
        self._leave_word(
            f"the embedded model server does not run since {time.strftime('%H:%M:%S')}: {ending.words()}"
        )
        if self._stop_asked:
            self._show(state="stopped", pid=0, port=0, detail="", cause=f"stopped: {ending.words()}")
            return
        text = f"the embedded model server {ending.words()}"
        state = "killed" if ending.signal is not None else "exited"
        self._show(state=state, pid=0, port=0, detail="", cause=text)
        proof = evidence(log_path(self._fleet.home.logs, SERVICE))
        self._fleet.record_error(SERVICE, state, text, evidence=proof)

    def _leave_word(self, text: str) -> None:
        """Tell the workers, by the home's files, that there is no server and why; they cannot know otherwise."""
        with suppress(OSError):  # a full disk: they wait for a start then, as they did
            write_private(self._fleet.home.embedded_ending, text.encode())
        self._fleet.home.embedded_facts.unlink(missing_ok=True)

    def _show(self, **changes: object) -> None:
        self._fleet.board.change_service(SERVICE, TITLE, **changes)
