"""A process of the platform: started in a process group of its own or adopted, watched until it ends, stopped in steps.

Knows no specialist. Signals go only to our own unreaped child, or to a process whose identity (pid and start time)
was just checked, so that never another process is hit that got the same pid.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from backend.deadlines import loop_timeout
from backend.identity import Identity, identify

KILL_WAIT_S = 3.0
"""How long the system gets to end a process after SIGKILL."""
POLL_S = 0.1
"""How often a process is checked on systems that cannot notify us of its end."""
PIPE_BYTES = 60_000
"""What fits into a pipe that nobody reads yet, with a margin to the 64 KiB of Linux and macOS."""

_detached: list[subprocess.Popen[bytes]] = []
"""Children that run on and nobody watches. `Popen` warns when it is dropped before its process ended, so they are
kept here, and reaped when the next child starts."""


def _reap_detached() -> None:
    for child in list(_detached):
        if child.poll() is not None:
            with suppress(ValueError):  # another thread removed it first
                _detached.remove(child)


atexit.register(_reap_detached)


def _taken_back(pid: int) -> subprocess.Popen[bytes] | None:
    """Return the child that was left alone under this pid, which names no other process before it is reaped."""
    child = next((child for child in list(_detached) if child.pid == pid), None)
    if child is not None:
        with suppress(ValueError):  # another thread removed it first
            _detached.remove(child)
    return child


class ExitStatus(Struct, frozen=True):
    """How a process ended: exit `code` or `signal`. Both are `None` when unknown, as for a process that is no child.

    `by_us` names the signals we sent it, in order; `leftover` says whether processes it left in its group were killed.
    """

    code: int | None = None
    signal: int | None = None
    by_us: str = ""
    leftover: bool = False
    cause: str = ""
    """How the launcher of other hosts explains the end."""

    def describe(self) -> str:
        """Return the end in words for the operator."""
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
    """One live process. `exited` resolves to its exit status. A child of ours that was left alone is taken back."""

    def __init__(self, identity: Identity, child: subprocess.Popen[bytes] | None = None) -> None:
        self.identity = identity
        self.exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self._child = child = child or _taken_back(identity.pid)
        self._stdin = child.stdin if child is not None else None
        """`None` once `feed` writes to it or it is closed: it must not be closed during a write in a thread."""
        self._loop = asyncio.get_running_loop()
        self._pidfd: int | None = None
        self._poll: asyncio.Task[None] | None = None
        self._sent: list[str] = []
        self._watch()

    @property
    def pid(self) -> int:
        return self.identity.pid

    async def feed(self, text: bytes) -> None:
        """Write to the stdin of a child and close it, once. A child that is gone is no error: `exited` resolves then."""
        pipe, self._stdin = self._stdin, None
        if pipe is None:
            return

        def write() -> None:
            with pipe, suppress(BrokenPipeError):
                pipe.write(text)

        # A pipe takes so much at once without a reader; more would block until the child, which imports for a
        # while, reads.
        if len(text) < PIPE_BYTES:
            write()
        else:
            await asyncio.to_thread(write)

    async def stop(self, grace_s: float, *, force: bool = False) -> ExitStatus:
        """End the process and its group: SIGTERM, `grace_s` seconds, SIGKILL; `force` begins with SIGKILL."""
        if not force:
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                return await self._ended_within(grace_s)
        self._signal(signal.SIGKILL)
        with suppress(TimeoutError):
            return await self._ended_within(KILL_WAIT_S)
        return ExitStatus(by_us="SIGKILL without effect")

    def detach(self) -> None:
        """Stop watching and leave the process alone; a child that was not fed yet finds its stdin empty."""
        self._unwatch()
        self._close_stdin()
        if self._child is not None and not self.exited.done():
            _detached.append(self._child)

    async def _ended_within(self, seconds: float) -> ExitStatus:
        async with loop_timeout(seconds):
            # Others wait for the same future: a time-out here must not cancel it.
            return await asyncio.shield(self.exited)

    def _signal(self, number: signal.Signals) -> None:
        """Signal the whole group, if the process is still the one we know."""
        if self.exited.done() or (self._child is None and not self.identity.still_lives()):
            return
        self._sent.append(number.name)
        signal_group(self.pid, number)

    # watching

    def _watch(self) -> None:
        try:
            # A pidfd names this very process: no pid that is used again, no polling, and it works for processes
            # of others.
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
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._on_end)

        # macOS has no pidfd; a thread that waits costs less than asyncio's child watchers, which reap what is
        # not theirs.
        threading.Thread(target=wait, name=f"wait {self.pid}", daemon=True).start()

    async def _poll_until_end(self) -> None:
        while await asyncio.to_thread(self.identity.still_lives):  # noqa: ASYNC110 - no event exists for this
            await asyncio.sleep(POLL_S)
        self._on_end()

    def _on_end(self) -> None:
        """Conclude the end with all others that are seen in the same turn of the loop: they share one look at `/proc`."""
        self._unwatch()
        self._close_stdin()
        ended = _ended.setdefault(self._loop, [])
        ended.append(self)
        if len(ended) == 1:
            self._loop.call_soon(_conclude, self._loop)

    def conclude(self, groups: dict[int, list[int]]) -> None:
        """Kill what the process left in its group, then read how it ended; `groups` was seen after its end."""
        # Before `wait`: until a child is reaped, its pid and so its group number cannot be used by others.
        leftover = self._kill_group(groups)
        code = self._child.wait() if self._child is not None else None
        if self.exited.done():
            return
        self.exited.set_result(
            ExitStatus(
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

    def _kill_group(self, groups: dict[int, list[int]]) -> bool:
        """Kill the live processes of the group; return whether there were any."""
        # Whoever is not our child is reaped by its parent, so its pid may be another process's by now.
        recycled = self._child is None and identify(self.pid) is not None
        members = [] if recycled or not group_exists(self.pid) else groups.get(self.pid)
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


_ended: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[Process]] = weakref.WeakKeyDictionary()
"""Processes whose end was seen in this turn of a loop."""


def _conclude(loop: asyncio.AbstractEventLoop) -> None:
    groups = live_groups()
    for process in _ended.pop(loop, []):
        process.conclude(groups)


async def start(
    argv: Sequence[str], *, environment: Mapping[str, str], log_fd: int, pass_fds: Sequence[int], cwd: Path
) -> Process:
    """Start a program in a session of its own, with its output going to `log_fd` and a pipe as its stdin.

    No process is left when the caller is cancelled meanwhile.

    Raises:
        OSError: It cannot be started.
    """

    def spawn() -> subprocess.Popen[bytes]:
        _reap_detached()
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
        # A thread cannot be cancelled: wait for the child it makes, then end that.
        child = await spawning
        child.kill()
        if child.stdin is not None:
            child.stdin.close()
        await asyncio.to_thread(child.wait)
        raise
    # A child that ended already still holds its pid until we reap it, so the pid names no other process.
    return Process(identify(child.pid) or Identity(child.pid, time.time()), child)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a process with its group, where it leads one; one that is gone is no error."""
    with suppress(ProcessLookupError, PermissionError):
        # The group of one that leads none is also that of whoever started it, be it a shell or a test.
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def group_exists(group: int) -> bool:
    """Return whether a process group has members that we may signal, be they zombies."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def live_groups() -> dict[int, list[int]]:
    """Look once at all processes; return the pids of the live ones by their groups. Zombies do not count."""
    groups: dict[int, list[int]] = {}
    if not os.path.exists("/proc/self/stat"):
        return groups
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError), open(f"{entry.path}/stat", "rb") as file:
            state, _, group = file.read().rpartition(b")")[2].split(None, 3)[:3]
            if state not in (b"Z", b"X"):
                groups.setdefault(int(group), []).append(int(entry.name))
    return groups


def signal_name(number: int) -> str:
    """Return the name of a signal, such as `SIGKILL`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
