"""Whether the other end of a connection is there at all: what the kernel knows, and what it is told to notice.

Knows sockets alone. What people wait for is asked by the pulse, which is faster; the kernel ends what nobody asks about.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from backend.tls import is_loopback

IDLE_S, EVERY_S, TIMES = 5, 2, 3
"""Seconds of silence before the first probe, between two, and how many may stay unanswered."""
UNREAD_MS = 10_000
"""Milliseconds that sent bytes may stay unconfirmed."""
_UNACKED_AT = 24
"""Where `struct tcp_info` of Linux holds the number of segments sent and not confirmed."""


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Have the kernel end a connection whose other end fell silent; one within this machine is left alone."""
    peer, made = transport.get_extra_info("peername"), transport.get_extra_info("socket")
    if made is None or not peer or is_loopback(str(peer[0])):
        return
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", IDLE_S),
        ("TCP_KEEPINTVL", EVERY_S),
        ("TCP_KEEPCNT", TIMES),
        ("TCP_USER_TIMEOUT", UNREAD_MS),
    ):
        if (option := getattr(socket, name, None)) is not None:  # not every system has each
            made.setsockopt(socket.IPPROTO_TCP, option, value)


def unconfirmed(transport: asyncio.BaseTransport) -> bool:
    """Return whether bytes were sent that the other host has not confirmed; where that cannot be told, true.

    A host confirms what it receives even while its process is busy or stopped: so a host that is cut off is known from
    a process that is mute.
    """
    option, made = getattr(socket, "TCP_INFO", None), transport.get_extra_info("socket")
    if option is None or made is None:
        return True
    facts = made.getsockopt(socket.IPPROTO_TCP, option, _UNACKED_AT + 4)
    return len(facts) < _UNACKED_AT + 4 or bool(struct.unpack_from("=I", facts, _UNACKED_AT)[0])
