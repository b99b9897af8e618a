"""Find the live worker processes of a home by their command lines, whatever the registry says.

Blocking. Only this user's processes are looked at, and only those started as a worker of exactly this home.
"""

from __future__ import annotations

import os

import psutil
from msgspec import Struct

from backend.home import Home
from backend.registry.identity import Identity, identify
from backend.worker.spec import WORKER_MODULE

WORKER_MODULES = frozenset({WORKER_MODULE, "backend.specialists.worker"})
"""What a worker's command line names. Version 0.1 started the second one; its workers outlive an upgrade."""


class FoundWorker(Struct, frozen=True):
    """A live worker. `port` is 0 if it listens nowhere that this user can see."""

    ai_id: str
    identity: Identity
    port: int


def find_workers(home: Home) -> list[FoundWorker]:
    """Return every live worker of a home, newest first. The home may be spelled differently, as through a link."""
    found: list[FoundWorker] = []
    for process in psutil.process_iter(["cmdline", "uids"]):
        argv: list[str] = process.info["cmdline"] or []
        named = _option(argv, "--home")
        if _option(argv, "-m") not in WORKER_MODULES or not named or not _is_same(named, home):
            continue
        uids = process.info["uids"]
        identity = identify(process.pid)
        ai_id = _option(argv, "--id")
        if identity is None or not ai_id or (uids is not None and uids.real != os.getuid()):
            continue
        found.append(FoundWorker(ai_id, identity, _listening_port(process)))
    return sorted(found, key=lambda worker: worker.identity.start, reverse=True)


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


def _listening_port(process: psutil.Process) -> int:
    try:
        for connection in process.net_connections("tcp"):
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
