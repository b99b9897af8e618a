"""The listener's two protocols, with what the server's own lack: limits on a request's head and on idle clients, and
many WebSocket frames in one write.

Knows bytes and clocks; no token, no route and no event.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio.transports import BaseTransport
from collections.abc import Sequence
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

from backend.config import Gateway as GatewaySettings

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers of one request."""
MAX_HEADERS = 128
MIN_BODY_RATE = 1_024
"""Bytes a second, on average, at which a request's body must come."""
LINGER_S, MAX_LINGER_S, LINGER_BYTES = 5.0, 15.0, 128 * 1024 * 1024
"""A body that nobody reads is taken in after its refusal until the client has paused for so long, for so long in all, and
up to so many bytes: many clients send all of it before they read, and would meet a reset instead of the reason."""
YOUNG_S = 0.25
"""For how long a new connection is not closed in favour of a newer one."""
FRAMES = "tekton.frames"
"""Extension of the ASGI scope: a function that writes many text frames at once."""
UNSENT_BYTES = 8 * 1024
"""How much of what is written to a WebSocket the kernel takes before it can send it."""
TRUST = "tekton.trust"
"""Extension of the ASGI scope: a function to call once the client has shown a valid token."""
UNREAD = "tekton.unread"
"""Extension of the ASGI scope: a function that returns whether some of the request's body is still to come."""


class _HeadTooLarge(Exception):
    """The head of a request passed its limit; the parser ends with it."""


class HttpProtocol(HttpToolsProtocol):
    """HTTP with a bounded head, and a clock for clients that begin a request and do not go on."""

    max_open = 1_000
    head_timeout_s = 10.0

    trusted = False
    """Whether a request on this connection carried a valid token."""
    opened = 0.0
    _head_bytes = 0
    _body_bytes = 0
    _body_began = 0.0
    _in_body = False
    unread: RequestResponseCycle | None = None
    """The request whose body has not come to its end."""
    _too_large = False
    _lingering = 0
    _linger_end = _lingered_at = 0.0
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.opened = self.loop.time()
        if len(self.connections) > self.max_open and not self._displace_stranger():
            text = f"{self.max_open} connections are open already (gateway.max_open)"
            self._refuse(b"503 Service Unavailable", "too_many", text)
            return
        self._start_clock(self.head_timeout_s)

    def _displace_stranger(self) -> bool:
        """Close a connection that has not authenticated, so that such connections cannot keep the operator out.

        Those that still send a body go first, then the oldest. One that just came has not had time to show its token:
        while all are so young, up to twice the limit are let in.
        """
        settled = self.opened - YOUNG_S
        strangers = [
            one
            for one in self.connections
            if isinstance(one, HttpProtocol) and not one.trusted and one.opened < settled
        ]
        if not strangers:
            return len(self.connections) <= 2 * self.max_open
        min(strangers, key=lambda one: (one.unread is None, one.opened)).transport.abort()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End with the server: at once, or after the request under way. What a new connection sent may still be unread."""
        left = self.opened + YOUNG_S - self.loop.time()
        if cast(RequestResponseCycle | None, self.cycle) is None and left > 0:
            self.loop.call_later(left, super().shutdown)
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            self._lingering -= len(data)
            self._lingered_at = self.loop.time()
            if self._lingering <= 0:
                self.transport.close()
            return
        if self._in_body:
            self._body_bytes += len(data)
        super().data_received(data)

    def on_response_complete(self) -> None:
        if not self._lingering:
            super().on_response_complete()

    def close_gently(self) -> None:
        """Close after a response. What a client still sends of a body that nobody reads is taken in for a moment."""
        if self.unread is None or self.transport.is_closing():
            self.transport.close()
            return
        self._stop_clock()
        self._lingering = LINGER_BYTES
        self._lingered_at = self.loop.time()
        self._linger_end = self._lingered_at + MAX_LINGER_S
        # what is still sent is read and thrown away: closing on unread bytes would reset the connection and lose our answer
        self.flow.resume_reading()
        self._clock = self.loop.call_later(LINGER_S, self._linger)

    def _linger(self) -> None:
        """Close on a client that has paused, or has sent for long enough."""
        left = min(self._lingered_at + LINGER_S, self._linger_end) - self.loop.time()
        if left > 0:
            self._clock = self.loop.call_later(left, self._linger)
        else:
            self._clock = None
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if self._too_large:
            text = f"the request's head is larger than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers"
            self._refuse(b"431 Request Header Fields Too Large", "too_large", text)
        else:
            self._refuse(b"400 Bad Request", "invalid_request", "this is not an HTTP request")

    def handle_websocket_upgrade(self) -> None:
        self._stop_clock()
        super().handle_websocket_upgrade()

    # the parser's callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = self._body_bytes = 0
        self._in_body = False
        self._start_clock(self.head_timeout_s)

    def on_url(self, url: bytes) -> None:
        self._weigh(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._weigh(len(name) + len(value))
        if len(self.headers) >= MAX_HEADERS:
            self._weigh(MAX_HEAD_BYTES)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_body, self._body_began = True, self.loop.time()
        self._start_clock(self.head_timeout_s)
        cast(dict[str, Any], self.scope)["extensions"] = {TRUST: self._trust, UNREAD: self._is_unread}
        cycle = self.cycle
        super().on_headers_complete()
        if self.cycle is cycle:
            return  # an upgrade, which has no body
        self.unread = self.cycle
        self.cycle.transport = cast(asyncio.Transport, _GentleClose(self, self.transport))

    def on_message_complete(self) -> None:
        self.unread = None
        self._stop_clock()
        super().on_message_complete()

    def _trust(self) -> None:
        self.trusted = True

    def _is_unread(self) -> bool:
        return self.unread is not None

    def _weigh(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > MAX_HEAD_BYTES:
            self._too_large = True
            raise _HeadTooLarge

    def _start_clock(self, seconds: float) -> None:
        self._stop_clock()
        self._clock = self.loop.call_later(seconds, self._late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        """Close on a client that sends too slowly; one whose body waits for the application is left alone."""
        self._clock = None
        if self.flow.read_paused:
            self._body_began = self.loop.time()  # the application did not read meanwhile
            self._start_clock(self.head_timeout_s)
            return
        if self._in_body:
            due = self._body_began + self.head_timeout_s + self._body_bytes / MIN_BODY_RATE
            if (left := due - self.loop.time()) > 0:
                self._start_clock(left)
                return
        if self.unread is not None and self.unread.response_complete:
            self.transport.close()  # answered already, and its body does not come to an end
        elif not self.transport.is_closing():
            text = f"the request did not come within {self.head_timeout_s:g} s, or at {MIN_BODY_RATE} bytes a second"
            self._refuse(b"408 Request Timeout", "timeout", text)

    def _refuse(self, status: bytes, code: str, text: str) -> None:
        kind = "server_error" if status.startswith(b"503") else "invalid_request_error"
        # by hand: there is no request yet that the application could answer
        body = b'{"error":{"code":"%b","message":"%b","type":"%b","param":null}}' % (
            code.encode(),
            text.encode(),
            kind.encode(),
        )
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        self.transport.close()


class _GentleClose:
    """A transport as a response sees it: its `close` lingers."""

    def __init__(self, protocol: HttpProtocol, transport: asyncio.Transport) -> None:
        self.close = protocol.close_gently
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def http_protocol(settings: GatewaySettings) -> type[HttpProtocol]:
    """Return the protocol with the limits of these settings."""
    limits = {"max_open": settings.max_open, "head_timeout_s": settings.head_timeout_s}
    # uvicorn makes the protocol with arguments of its own: limits can only be attributes of a class
    return type("ListenerProtocol", (HttpProtocol,), limits)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket that can write many frames at once, each a text message of its own.

    Compresses for clients that ask for it, as ours do beyond this machine. Little is given to the kernel ahead of time, so that the
    answer to a ping does not queue behind seconds of data; any byte of a client is a sign of its life.
    """

    _heard_at = 0.0

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._heard_at = self.loop.time()
        # Nothing waits before the kernel: what is written next goes as soon as what was written before has. With TLS the
        # loop's own buffer is never empty in that sense: a writer would wait for ever.
        self.transport.set_write_buffer_limits(
            high=UNSENT_BYTES if transport.get_extra_info("ssl_object") else 0
        )
        connection = transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with contextlib.suppress(OSError):
                # What the kernel holds cannot be overtaken: with little in it, a pong leaves behind little data.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        super().data_received(data)

    def keepalive_timeout(self) -> None:
        """End a client that is silent; one whose answer only queues behind data is given its time."""
        assert self.ping_timeout is not None
        left = self._heard_at + self.ping_timeout - self.loop.time()
        if left > 0:
            self.pong_timer = self.loop.call_later(left, self.keepalive_timeout)
            return
        super().keepalive_timeout()

    async def run_asgi(self) -> None:
        extensions = cast(dict[str, Any], self.scope.setdefault("extensions", {}))
        extensions[FRAMES] = self.send_frames
        await super().run_asgi()

    async def send_frames(self, texts: Sequence[bytes]) -> None:
        """Write text messages (UTF-8) in one go; waits first until the client has read enough.

        Raises:
            ConnectionResetError: The connection is gone or closing.
        """
        await self.writable.wait()
        if self.disconnected or self.close_sent or not self.handshake_complete:
            raise ConnectionResetError("the connection is gone")
        if self.conn.extensions:
            self.transport.write(b"".join(part for text in texts for part in self._compressed(text)))
            return
        parts = [b""] * (2 * len(texts))
        parts[::2] = [_HEADS[size] if (size := len(text)) < _MANY else _head(size) for text in texts]
        parts[1::2] = texts
        self.transport.write(b"".join(parts))

    def _compressed(self, text: bytes) -> tuple[bytes, bytes]:
        frame = Frame(Opcode.TEXT, text)
        for extension in self.conn.extensions:
            frame = extension.encode(frame)
        return _head(len(frame.data), 0xC1 if frame.rsv1 else 0x81), bytes(frame.data)


def _head(size: int, first: int = 0x81) -> bytes:
    """Return the head of a final text frame, unmasked as a server's are (RFC 6455, 5.2)."""
    if size < 126:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")


_MANY = 1_024
_HEADS = tuple(map(_head, range(_MANY)))
"""Heads of frames of the sizes that nearly all have."""
