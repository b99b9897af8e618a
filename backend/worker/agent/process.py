"""The agent's program: started under a guard, spoken to over its standard input and output, ended with all it began.

The guard stands in a session of its own, out of reach of whatever ends this worker, and ends the agent with it, even after
`kill -9`. Standard error is the worker's own, which is its log. Nothing is started twice.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from backend.acp.peer import Handler, Peer
from backend.schema.agents import AgentSpec
from backend.schema.errors import TektonError
from backend.worker.tools import guard

log = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
MAX_UNREAD = 32 * 1024 * 1024
"""Bytes that the agent may leave unread before it is taken for dead."""
EOF_S, TERM_S = 0.5, 2.5
"""How long the agent may take to end once its input is closed; the guard once it is signalled, which has its own steps."""
SEEN = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM"})
"""Variables that every agent sees, beside `LC_*`."""


def agent_environment(environment: Mapping[str, str], names: list[str], ai_id: str) -> dict[str, str]:
    """Return what an agent sees of our environment: little, and nothing of ours but whose it is."""
    wanted = {*SEEN, *names}
    seen = {name: value for name, value in environment.items() if name in wanted or name.startswith("LC_")}
    return {**seen, "TEKTON_SPECIALIST": ai_id}


class AgentProcess:
    """One run of the agent's program. `ended` resolves to its exit status, 128 and the signal where one ended it."""

    def __init__(self, spec: AgentSpec, environment: Mapping[str, str], handler: Handler) -> None:
        self._spec, self._environment, self._handler = spec, environment, handler
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Future[None] | None = None
        self._stopping = False
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.peer = Peer(self._write, handler)

    async def start(self, hold: Callable[[], Awaitable[None]]) -> None:
        """Start it and read what it says; `hold` is awaited after each read and holds a reader that would be too fast.

        Raises:
            TektonError: It cannot be started.
        """
        if sys.platform == "linux":  # what a guard leaves behind that is killed itself comes to us
            ctypes.CDLL(None).prctl(guard.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *guard.guarded(self._spec.command),
                stdin=PIPE,
                stdout=PIPE,
                stderr=None,
                cwd=self._spec.cwd,
                env=dict(self._environment),
                start_new_session=True,
            )
        except OSError as error:
            raise TektonError(
                f"the agent cannot be started in {self._spec.cwd}: {error.strerror}", code="launch_failed"
            ) from error
        self._reading = asyncio.create_task(self._read(self._process, hold), name="agent's output")
        if self._process.stdin is not None:
            self._watching = asyncio.create_task(self._watch_input(self._process.stdin), name="agent's input")
        self._sweep_after(self._process.pid)

    def _sweep_after(self, pid: int) -> None:
        """Once the guard has ended, end what is left of the agent: it may hold its output open for ever."""
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(pid)
        except (AttributeError, OSError):
            return  # not Linux: there the guard is all there is

        def ended() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            self._sweeping = loop.run_in_executor(None, lambda: guard.end_descendants(reap=False))

        loop.add_reader(descriptor, ended)

    async def stop(self) -> None:
        """End it and everything it began: end of input, then the guard's steps, which end in SIGKILL."""
        process = self._process
        self._stopping = True
        if process is None or self.ended.done():
            return
        if process.stdin is not None:
            process.stdin.close()
        await self._ended_within(EOF_S)
        for end in (process.terminate, process.kill):
            if self.ended.done():
                break
            with suppress(ProcessLookupError):
                end()
            await self._ended_within(TERM_S)

    async def _ended_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.ended), seconds)

    async def _read(self, process: Process, hold: Callable[[], Awaitable[None]]) -> None:
        assert process.stdout is not None
        try:
            while data := await process.stdout.read(READ_BYTES):
                self.peer.feed(data)
                # One step for everybody else: an agent that writes without a pause would keep the loop to
                # itself.
                await asyncio.sleep(0)
                await hold()
        except ConnectionError as error:
            log.info("the agent's output broke: %s", error)
        # Its output may end before it does, be it for milliseconds; only then has it given up on us.
        ending = asyncio.ensure_future(process.wait())
        if not (await asyncio.wait([ending], timeout=EOF_S))[0]:
            self._give_up("the agent closed its output: it can answer nothing more")
        code = await ending
        self.peer.close(f"the agent ended: {ending_of(code)}")
        if not self.ended.done():
            self.ended.set_result(code)

    async def _watch_input(self, stdin: asyncio.StreamWriter) -> None:
        """Notice that the agent reads no more: what it is sent is lost, and nothing would come of it."""
        with suppress(OSError):
            await stdin.wait_closed()
        if self._stopping:
            return
        await self._ended_within(EOF_S)
        if not self.ended.done():
            self._give_up("the agent closed its input: it can be asked nothing more")

    def _give_up(self, why: str) -> None:
        """End an agent that cannot be spoken to any more; nothing starts it again."""
        log.error("%s, and is ended", why)
        self.peer.close(why)
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    def _write(self, line: bytes) -> None:
        stdin = self._process.stdin if self._process is not None else None
        if stdin is None or stdin.is_closing():
            return
        if stdin.transport.get_write_buffer_size() > MAX_UNREAD:
            self._stopping = True  # its input is closed by us
            self._give_up("the agent does not read what it is sent")
            stdin.close()
            return
        stdin.write(line)


def ending_of(code: int) -> str:
    """Return an exit status in words."""
    if code > 128:
        from signal import Signals

        with suppress(ValueError):
            return f"killed by {Signals(code - 128).name}"
    return f"exit code {code}" if code >= 0 else f"its guard was killed by signal {-code}"
