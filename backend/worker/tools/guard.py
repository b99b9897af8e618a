"""Runs a program and ends it, with all its children, when whoever started the guard ends: even by `kill -9`.

Started as a script, `python -I -S guard.py PARENT_PID COMMAND…`; standard library only, since one runs for each server.
Standard input and output are the program's. Children that began a session of their own are found as well: the guard
takes over orphans (Linux), and ends whatever descends from it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_S = 1.0
"""How long the program may take to end once it was asked to; the MCP library kills the guard after 2 s."""
END_S = 5.0
"""How long what the program left behind is hunted."""
ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def guarded(command: Iterable[str]) -> list[str]:
    """Return the command line that runs a command under a guard of this process."""
    # -I -S: without the environment and without site packages, so that nobody can put code into it, and it starts fast.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> int:
    """Run the program; return its exit status, 128 and the signal where one ended it."""
    parent, *command = sys.argv[1:]
    # Blocked before the fork: a signal that comes in between is still there for `sigwait`.
    signal.pthread_sigmask(signal.SIG_BLOCK, [*ENDINGS, signal.SIGCHLD])
    _on_linux(PR_SET_CHILD_SUBREAPER, 1)
    _on_linux(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it ended before the kernel knew what to do then
        return 128 + signal.SIGTERM
    # A plain fork: this process has one thread, and the program inherits the pipes as they are.
    child = os.fork()
    if child == 0:
        _become(command)
    _let_go_of_pipes()
    status: int | None = None
    while status is None:
        if signal.sigwait([*ENDINGS, signal.SIGCHLD]) != signal.SIGCHLD:
            _ask_to_end(child)
            status = signal.SIGTERM
        else:
            status = _reap(child)
    end_descendants()
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _become(command: list[str]) -> None:
    """Turn this process into the program, which dies with the guard."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _on_linux(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _let_go_of_pipes() -> None:
    """Hold neither pipe of the program's: whoever speaks to it sees when it closes one."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for pipe in (0, 1):
        os.dup2(nothing, pipe)
    os.close(nothing)


def _on_linux(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _reap(child: int) -> int | None:
    """Collect what ended, orphans included; return the program's wait status if it did."""
    status = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                status = ended[1]
    return status


def _ask_to_end(child: int) -> None:
    """Ask the program to end and wait a little."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until and _reap(child) is None:
        time.sleep(0.02)


def end_descendants(*, reap: bool = True) -> None:
    """Kill everything that descends from this process, until nothing does. Without `reap` somebody else collects the ends.

    What multiplies faster than it is killed is held first: a stopped process begins no others.
    """
    until = time.monotonic() + END_S
    while (left := _descendants(os.getpid())) and time.monotonic() < until:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in left:
                with suppress(OSError):
                    os.kill(pid, number)
        time.sleep(0.01)
        if reap:
            _reap(0)


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found: list[int] = []
    look = [pid]
    while look:
        look = [child for one in look for child in children.get(one, [])]
        found += look
    return found


if __name__ == "__main__":
    sys.exit(main())
