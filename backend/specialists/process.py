"""A process of the platform: started in a group of its own or adopted, watched until it ends, stopped by a ladder.

Knows no specialist. Signals go only to a process whose identity (pid and start) was just checked, or that is our
unreaped child, so that a recycled pid is never hit.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from backend.registry.identity import Identity, identify

KILL_WAIT_S = 3.0
"""How long the system gets to end a process after SIGKILL."""
GROUP_WAIT_S = 1.0
POLL_S = 0.1
"""How often a process is looked at where the system cannot tell us of its end."""
PIPE_BYTES = 60_000
"""What fits into a pipe without anybody reading it."""

_left_running: list[subprocess.Popen[bytes]] = []
"""Children nobody watches any more; held so that the library does not complain, reaped when the next one starts."""


def _reap_left() -> None:
    for child in list(_left_running):
        if child.poll() is not None:
            with suppress(ValueError):  # another thread was faster
                _left_running.remove(child)


atexit.register(_reap_left)


class Ending(Struct, frozen=True):
    """How a process ended. Both `None` when unknown: the end of a process that is not our child leaves no trace.

    `by_us` names the signals we sent it, in order, if we did; `leftover` counts processes of its group we had to kill.
    """

    code: int | None = None
    signal: int | None = None
    by_us: str = ""
    leftover: bool = False
    cause: str = ""
    """What a launcher beyond this machine was told of the end."""

    def words(self) -> str:
        """Return the ending in words for the operator."""
        if self.cause:
            return f"ended: {self.cause}"
        if self.signal is not None:
            name = signal_name(self.signal)
            outside = " from outside; the system does so when memory runs out" if self.signal == 9 else ""
            return f"killed by signal {self.signal} ({name}){'' if self.by_us else outside}"
        if self.code is not None:
            return f"exited with code {self.code}"
        return "ended; how is unknown, for it was not our child"


class Process:
    """One live process. `exited` resolves to its ending, once."""

    def __init__(self, identity: Identity, child: subprocess.Popen[bytes] | None = None) -> None:
        self.identity = identity
        self.exited: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._child = child
        self._stdin = child.stdin if child is not None else None
        """Ours to close; whoever writes to it takes it away, for it must not be closed under a write."""
        self._loop = asyncio.get_running_loop()
        self._pidfd: int | None = None
        self._poll: asyncio.Task[None] | None = None
        self._sent: list[str] = []
        self._watch()

    @property
    def pid(self) -> int:
        return self.identity.pid

    @property
    def is_child(self) -> bool:
        return self._child is not None

    async def feed(self, text: bytes) -> None:
        """Write to the stdin of a child and close it, once. A child that is gone is no error: `exited` tells of it."""
        pipe, self._stdin = self._stdin, None
        if pipe is None:
            return

        def write() -> None:
            with pipe, suppress(BrokenPipeError):
                pipe.write(text)

        if len(text) < PIPE_BYTES:
            write()
        else:
            await asyncio.to_thread(write)

    async def stop(self, grace_s: float, *, force: bool = False) -> Ending:
        """End the process and its group: SIGTERM, `grace_s` seconds, SIGKILL; `force` begins with SIGKILL."""
        if not force:
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                return await self._ended_within(grace_s)
        self._signal(signal.SIGKILL)
        with suppress(TimeoutError):
            return await self._ended_within(KILL_WAIT_S)
        return Ending(by_us="SIGKILL without effect")

    def detach(self) -> None:
        """Stop watching and leave the process alone; a child not fed yet finds its stdin empty."""
        self._unwatch()
        self._close_stdin()
        if self._child is not None and not self.exited.done():
            _left_running.append(self._child)

    async def _ended_within(self, seconds: float) -> Ending:
        async with asyncio.timeout(seconds):
            return await asyncio.shield(self.exited)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the whole group, if the process is still the one we know."""
        if self.exited.done() or (self._child is None and not self.identity.still_lives()):
            return
        self._sent.append(number.name)
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)

    # watching

    def _watch(self) -> None:
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            self._watch_without_pidfd()
        else:
            self._loop.add_reader(self._pidfd, self._on_end)

    def _watch_without_pidfd(self) -> None:
        if (child := self._child) is None:
            self._poll = self._loop.create_task(self._poll_until_end())
            return

        def wait() -> None:
            child.wait()
            with suppress(RuntimeError):  # the loop is closed: nobody asks any more
                self._loop.call_soon_threadsafe(self._on_end)

        threading.Thread(target=wait, name=f"wait {self.pid}", daemon=True).start()

    async def _poll_until_end(self) -> None:
        while await asyncio.to_thread(self.identity.still_lives):  # noqa: ASYNC110 - nobody else can tell
            await asyncio.sleep(POLL_S)
        self._on_end()

    def _on_end(self) -> None:
        """The process ended: clear its group, for a child while its pid is still taken, then learn how it ended."""
        self._unwatch()
        self._close_stdin()
        leftover = self._clear_group()
        code = self._child.wait() if self._child is not None else None
        if self.exited.done():
            return
        self.exited.set_result(
            Ending(
                code=code if code is not None and code >= 0 else None,
                signal=-code if code is not None and code < 0 else None,
                by_us=", ".join(self._sent),
                leftover=leftover,
            )
        )

    def _close_stdin(self) -> None:
        if self._stdin is not None:
            self._stdin.close()
            self._stdin = None

    def _clear_group(self) -> bool:
        """Kill what the process left in its group; return whether there was anything alive."""
        recycled = self._child is None and identify(self.pid) is not None
        members = [] if recycled else group_members(self.pid)
        if members:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return bool(members)

    def _unwatch(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None


async def start(
    argv: Sequence[str], *, environment: Mapping[str, str], log_fd: int, pass_fds: Sequence[int], cwd: Path
) -> Process:
    """Start a program in a session of its own, writing to `log_fd`, its stdin a pipe.

    A caller that is cancelled meanwhile leaves no process.

    Raises:
        OSError: It cannot be started.
    """

    def spawn() -> subprocess.Popen[bytes]:
        _reap_left()
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=log_fd,
            stderr=log_fd,
            env=dict(environment),
            pass_fds=tuple(pass_fds),
            cwd=cwd,
            start_new_session=True,
            bufsize=0,
        )

    spawning = asyncio.ensure_future(asyncio.to_thread(spawn))
    try:
        child = await asyncio.shield(spawning)
    except asyncio.CancelledError:
        child = await spawning
        child.kill()
        if child.stdin is not None:
            child.stdin.close()
        await asyncio.to_thread(child.wait)
        raise
    return Process(identify(child.pid) or Identity(child.pid, time.time()), child)


def group_members(group: int) -> list[int]:
    """Return the live processes of a process group; empty where it holds at most the dead."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return []
    if not Path("/proc/self/stat").exists():
        return []
    members: list[int] = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[2]) == group and fields[0] not in (b"Z", b"X"):
                members.append(int(entry.name))
    return members


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
