"""Who may use a worker's port, and how much of it: on loopback the operator's own programs, elsewhere who has the token.

Knows addresses, users and counts; neither frames nor what is asked.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from backend.worker.spec import WorkerSpec

MAX_CONNECTIONS = 64
"""Connections of programs other than the platform. Further ones are refused, unless a hello with the token comes."""
MAX_OPEN = 512
"""Connections of any kind, those that are being refused included; further ones are cut."""
MAX_HELD_BYTES = 64 * 1024 * 1024
"""Bytes of half lines and of requests under way that all of these connections together may hold."""
FIRST_LINE_S = 5.0
"""How long who is not known yet may take for a first line, in seconds."""
MAX_FIRST_LINE = 4 * 1024
"""Bytes in that line."""
SOCKET_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))

Address = tuple[str, int]


class Access:
    """The rules of one worker's port and what its clients hold of it now. The platform's connections are not counted."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.rule = "token" if spec.off_loopback else spec.sockets
        self.connections = 0
        self.held_bytes = 0

    @property
    def full(self) -> bool:
        """Whether no further connection is served."""
        return self.connections >= MAX_CONNECTIONS

    @property
    def overloaded(self) -> bool:
        """Whether clients hold more bytes than they may."""
        return self.held_bytes > MAX_HELD_BYTES

    async def admits(self, transport: asyncio.BaseTransport) -> bool:
        """Return whether a connection is served without the token."""
        if self.rule == "open":
            return True
        if self.rule == "token":
            return False
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not own:
            return False
        return await asyncio.to_thread(owner, peer[:2], own[:2]) == os.getuid()

    @property
    def why(self) -> str:
        """The text with which a client is refused."""
        who = (
            "" if self.rule == "token" else f"; without one, programs of user {os.getuid()} alone are served"
        )
        return f"the first line must be a hello with the platform's worker token{who}"


def owner(peer: Address, own: Address) -> int | None:
    """Return the user id of the program at the other end of a connection on this machine.

    `None` where the system does not say, or when the program has closed its end already: the kernel gives such a
    socket to user 0, which would make everybody root.
    """
    for path in SOCKET_TABLES:
        try:
            table = path.read_bytes()
        except OSError:
            continue
        if (found := owner_in(table, peer, own)) is not None:
            return found
    return None


def owner_in(table: bytes, peer: Address, own: Address) -> int | None:
    """Return whom a table of sockets (`/proc/net/tcp`) gives the one from `peer` to `own`; `None` when nobody."""
    for near, far in zip(_spellings(peer), _spellings(own), strict=True):
        start = table.find(b": %s %s " % (near, far))
        if start >= 0:
            fields = table[start:].split(b"\n", 1)[0].split()
            # ": local remote state queues timer retransmits uid timeout inode …"
            uid, inode = fields[7], fields[9]
            return int(uid) if inode != b"0" else None
    return None


def _spellings(address: Address) -> Sequence[bytes]:
    """Return how the tables write an address: as it is, and as IPv6 sockets write an IPv4 one."""
    host, port = address
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        return [_hexadecimal(packed, port)] * 2
    packed = socket.inet_aton(host)
    return [_hexadecimal(packed, port), _hexadecimal(bytes(10) + b"\xff\xff" + packed, port)]


def _hexadecimal(packed: bytes, port: int) -> bytes:
    """Return an address as words of four bytes in the machine's order, in capitals, and the port."""
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return ("".join(f"{word:08X}" for word in words) + f":{port:04X}").encode()
