"""The listener's two protocols, with what the server's own lack: limits on a request's head and on idle clients, and
many WebSocket frames in one write.

Knows bytes and clocks; no token, no route and no event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from backend.config import Gateway as GatewaySettings

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers of one request."""
MAX_HEADERS = 128
FRAMES = "tekton.frames"
"""Extension of the ASGI scope: a function that writes many text frames at once."""


class _HeadTooLarge(Exception):
    """The head of a request passed its limit; the parser ends with it."""


class HttpProtocol(HttpToolsProtocol):
    """HTTP with a bounded head, and a clock for clients that begin a request and do not go on."""

    max_open = 1_000
    head_timeout_s = 10.0

    _head_bytes = 0
    _in_body = False
    _too_large = False
    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_open:
            text = f"{self.max_open} connections are open already (gateway.max_open)"
            self._refuse(b"503 Service Unavailable", "too_many", text)
            return
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._clock is not None and self._in_body:
            self._start_clock()
        super().data_received(data)

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
        self._head_bytes = 0
        self._in_body = False
        self._start_clock()

    def on_url(self, url: bytes) -> None:
        self._weigh(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._weigh(len(name) + len(value))
        if len(self.headers) >= MAX_HEADERS:
            self._weigh(MAX_HEAD_BYTES)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_body = True
        self._start_clock()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_clock()
        super().on_message_complete()

    def _weigh(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > MAX_HEAD_BYTES:
            self._too_large = True
            raise _HeadTooLarge

    def _start_clock(self) -> None:
        self._stop_clock()
        self._clock = self.loop.call_later(self.head_timeout_s, self._late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        """Close on a client that sent half a request; one whose body waits for the application is left alone."""
        self._clock = None
        if self.flow.read_paused:
            self._start_clock()
        elif not self.transport.is_closing():
            text = f"the request did not come within {self.head_timeout_s:g} s"
            self._refuse(b"408 Request Timeout", "timeout", text)

    def _refuse(self, status: bytes, code: str, text: str) -> None:
        kind = "server_error" if status.startswith(b"503") else "invalid_request_error"
        body = b'{"error":{"code":"%b","message":"%b","type":"%b","param":null}}' % (
            code.encode(),
            text.encode(),
            kind.encode(),
        )
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        self.transport.close()


def http_protocol(settings: GatewaySettings) -> type[HttpProtocol]:
    """Return the protocol with the limits of these settings."""
    limits = {"max_open": settings.max_open, "head_timeout_s": settings.head_timeout_s}
    return type("ListenerProtocol", (HttpProtocol,), limits)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket that can write many frames at once, each a text message of its own."""

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
        parts = [b""] * (2 * len(texts))
        parts[::2] = [_HEADS[size] if (size := len(text)) < _MANY else _head(size) for text in texts]
        parts[1::2] = texts
        self.transport.write(b"".join(parts))


def _head(size: int) -> bytes:
    """Return the head of a final text frame, unmasked as a server's are (RFC 6455, 5.2)."""
    if size < 126:
        return bytes((0x81, size))
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


_MANY = 1_024
_HEADS = tuple(map(_head, range(_MANY)))
"""Heads of frames of the sizes that nearly all have."""
