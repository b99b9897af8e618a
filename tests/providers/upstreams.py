"""A loopback HTTP server whose every byte a test decides: what vendors' libraries talk to. Knows no vendor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

Handler = Callable[["Call"], Awaitable[None]]
TLS_HELLO = b"\x16"
"""The first byte of a client that wants TLS."""
PHRASES = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class Call:
    """One request. `gone` is set when its client closes the connection before the answer's end."""

    def __init__(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self.gone = asyncio.Event()
        self.begun = asyncio.Event()
        self._writer = writer

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    async def reply(self, status: int, body: bytes | object, **headers: str) -> None:
        """Answer at once and whole."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._head(status, {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers})
        self._writer.write(data)
        await self._writer.drain()

    async def begin(self, media: str, status: int = 200) -> None:
        """Begin an answer of parts."""
        self._head(status, {"Content-Type": media, "Transfer-Encoding": "chunked"})
        await self._writer.drain()
        self.begun.set()

    async def send(self, *parts: bytes) -> None:
        """Send parts, each a chunk of its own: that is how its reader gets them, however the network joins them."""
        self._writer.write(b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part))
        await self._writer.drain()

    async def end(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def close(self) -> None:
        """Close the connection as a server does that is stopped."""
        self._writer.close()

    def cut(self) -> None:
        """Break the connection in the middle."""
        self._writer.transport.abort()

    def _head(self, status: int, headers: dict[str, str]) -> None:
        lines = [
            f"HTTP/1.1 {status} {PHRASES.get(status, 'Said')}",
            *(f"{k}: {v}" for k, v in headers.items()),
        ]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())


class Upstream:
    """Serves with `handler`; `calls` holds every request in order."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self.handler, self.calls = handler, list[Call]()
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Event()
        self.url = ""
        self.closes_idle = False
        """Whether a connection that has answered is closed in the moment its client asks on it again."""

    async def start(self) -> Upstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=1 << 24)
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def until_called(self, path: str, after: int = 0, bound_s: float = 60.0) -> Call:
        """Return the request for a path that came behind `after` others, waiting for it."""
        async with asyncio.timeout(bound_s):
            while len(found := self.to(path)) <= after:
                self._arrived.clear()
                await self._arrived.wait()
        return found[after]

    def to(self, path: str) -> list[Call]:
        return [call for call in self.calls if call.path.partition("?")[0] == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = b""
        while True:
            call = await self._read(first, reader, writer)
            self.calls.append(call)
            self._arrived.set()
            peek = asyncio.ensure_future(reader.read(1))
            handling = asyncio.ensure_future(self.handler(call))
            try:
                await asyncio.wait({peek, handling}, return_when=asyncio.FIRST_COMPLETED)
                if not handling.done() or writer.is_closing():
                    call.gone.set()
                    return
                handling.result()
                first = await peek
            finally:
                for task in (peek, handling):
                    task.cancel()
                await asyncio.wait({peek, handling})
                with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                    peek.result()
            if not first or self.closes_idle:
                return

    @staticmethod
    async def _read(first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call:
        if (first or (first := await reader.readexactly(1))) == TLS_HELLO:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            raise ConnectionError("TLS where none is spoken")
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        method, path, _ = line.split(" ")
        return Call(method, path, headers, body, writer)
