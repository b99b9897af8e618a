"""TCP keepalive towards other hosts, and whether the other host still confirms what it was sent.

Knows sockets only. The heartbeat notices a lost host sooner; keepalive ends the connections nobody sends on.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from backend.tls import is_loopback

IDLE_S, EVERY_S, TIMES = 5, 2, 3
"""Seconds of silence before the first probe, seconds between two probes, and how many may go unanswered."""
UNACKED_MS = 10_000
"""Milliseconds that sent bytes may stay unconfirmed before the kernel ends the connection."""
_UNACKED_OFFSET = 24
"""Where `struct tcp_info` of Linux holds `tcpi_unacked`, the number of segments sent and not confirmed."""


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Have the kernel end a connection whose other host fell silent. Connections on loopback are left alone."""
    peer, made = transport.get_extra_info("peername"), transport.get_extra_info("socket")
    if made is None or not peer or is_loopback(str(peer[0])):
        return
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", IDLE_S),
        ("TCP_KEEPINTVL", EVERY_S),
        ("TCP_KEEPCNT", TIMES),
        ("TCP_USER_TIMEOUT", UNACKED_MS),
    ):
        if (option := getattr(socket, name, None)) is not None:  # not every system has each
            made.setsockopt(socket.IPPROTO_TCP, option, value)


def unconfirmed(transport: asyncio.BaseTransport) -> bool:
    """Return whether bytes were sent that the other host has not confirmed; true where the system cannot say.

    A host's kernel confirms what it receives even while the process there is busy or stopped. This distinguishes a host that
    is cut off from a process that hangs.
    """
    option, made = getattr(socket, "TCP_INFO", None), transport.get_extra_info("socket")
    if option is None or made is None:
        return True
    facts = made.getsockopt(socket.IPPROTO_TCP, option, _UNACKED_OFFSET + 4)
    if len(facts) < _UNACKED_OFFSET + 4:
        return True
    return bool(struct.unpack_from("=I", facts, _UNACKED_OFFSET)[0])
