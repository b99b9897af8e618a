"""How the kernel notices that the other end of a connection is gone without a word, as behind a cut network.

Knows sockets alone. What people wait for is asked by the pulse, which is faster; this ends what nobody asks about.
"""

from __future__ import annotations

import asyncio
import socket

from backend.tls import is_loopback

IDLE_S, EVERY_S, TIMES = 5, 2, 3
"""Seconds of silence before the first probe, between two, and how many may stay unanswered."""
UNREAD_MS = 10_000
"""Milliseconds that sent bytes may stay unconfirmed."""


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Have the kernel end a connection whose other end fell silent; one within this machine is left alone."""
    peer = transport.get_extra_info("peername")
    made: socket.socket | None = transport.get_extra_info("socket")
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
