"""Find the live worker processes of a home by their command lines, whatever the registry says.

Blocking. Only this user's processes are looked at, and only those started as a worker of exactly this home.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import psutil
from msgspec import Struct

from backend.home import Home
from backend.identity import Identity, identify
from backend.worker.spec import WORKER_MODULE

WORKER_MODULES = frozenset({WORKER_MODULE, "backend.specialists.worker"})
"""What a worker's command line names. Version 0.1 started the second one; its workers outlive an upgrade."""
_MODULE_BYTES = tuple(module.encode() for module in WORKER_MODULES)


class FoundWorker(Struct, frozen=True):
    """A live worker. `port` is 0 if it listens nowhere that this user can see."""

    ai_id: str
    identity: Identity
    port: int


def find_workers(home: Home, *, ports: bool = True) -> list[FoundWorker]:
    """Return every live worker of a home, newest first. The home may be spelled differently, as through a link.

    Without `ports`, which take longest to find out, they are 0; see `listening_port`.
    """
    found: list[FoundWorker] = []
    for pid, argv in _command_lines():
        named = _option(argv, "--home")
        if _option(argv, "-m") not in WORKER_MODULES or not named or not _is_same(named, home):
            continue
        identity, ai_id = identify(pid), _option(argv, "--id")
        if identity is not None and ai_id and _is_ours(pid):
            found.append(FoundWorker(ai_id, identity, listening_port(pid) if ports else 0))
    return sorted(found, key=lambda worker: worker.identity.start, reverse=True)


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    """Yield the processes that may be workers, with their command lines.

    On Linux only one file is read of each process: psutil reads several of all there are, which on a busy machine takes
    most of a start.
    """
    if not os.path.exists("/proc/self/cmdline"):
        for process in psutil.process_iter(["cmdline"]):
            yield process.pid, process.info["cmdline"] or []
        return
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                line = file.read()
                if any(module in line for module in _MODULE_BYTES):
                    yield int(name), os.fsdecode(line).split("\0")


def _is_ours(pid: int) -> bool:
    try:
        return psutil.Process(pid).uids().real == os.getuid()
    except psutil.Error:
        return False


def home_of(pid: int) -> str:
    """Return the home that a worker was started for, as it was spelled; empty when `pid` names no worker that we can see."""
    try:
        argv = psutil.Process(pid).cmdline() if pid > 0 else []
    except psutil.Error:
        return ""
    return _option(argv, "--home") if _option(argv, "-m") in WORKER_MODULES else ""


def _is_same(named: str, home: Home) -> bool:
    """Return whether a path is the home, by another name too: through a link, `..` or a mount."""
    try:
        return os.path.samefile(named, home.root)
    except OSError:  # one of them is gone
        return os.path.realpath(named) == os.path.realpath(home.root)


def listening_port(pid: int) -> int:
    """Return on which port a process listens, 0 if this user can see none."""
    try:
        for connection in psutil.Process(pid).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return connection.laddr.port
    except psutil.Error:
        pass
    return 0


def _option(argv: list[str], name: str) -> str:
    try:
        return argv[argv.index(name) + 1]
    except (ValueError, IndexError):
        return ""
