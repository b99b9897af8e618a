"""Which worker processes of a home live, whatever the registry says: found by how they were started.

Blocking. Only processes of this user whose command line is a worker's of exactly this home are counted.
"""

from __future__ import annotations

import os

import psutil
from msgspec import Struct

from backend.home import Home
from backend.registry.identity import Identity, identify
from backend.specialists.spec import WORKER_MODULE


class Found(Struct, frozen=True):
    """A live worker. `port` 0 when it listens nowhere that we could see."""

    ai_id: str
    identity: Identity
    port: int


def living_workers(home: Home) -> list[Found]:
    """Return every live worker of a home, newest first."""
    found: list[Found] = []
    for process in psutil.process_iter(["cmdline", "uids"]):
        argv: list[str] = process.info["cmdline"] or []
        if WORKER_MODULE not in argv or _value(argv, "--home") != str(home.root):
            continue
        uids = process.info["uids"]
        identity = identify(process.pid)
        ai_id = _value(argv, "--id")
        if identity is None or not ai_id or (uids is not None and uids.real != os.getuid()):
            continue
        found.append(Found(ai_id, identity, _listening(process)))
    return sorted(found, key=lambda worker: worker.identity.start, reverse=True)


def _listening(process: psutil.Process) -> int:
    try:
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return connection.laddr.port
    except psutil.Error:
        pass
    return 0


def _value(argv: list[str], option: str) -> str:
    try:
        return argv[argv.index(option) + 1]
    except (ValueError, IndexError):
        return ""
