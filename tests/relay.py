"""A loopback relay between a client and a server; a kind of bad line says how the bytes are carried."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Self

from backend.tasks import Background


class Relay:
    """`async with` listens on a free port, at `url`. Subclasses carry the bytes of each way."""

    def __init__(self, to: str, limit: int = 65_536) -> None:
        """`to` is `http://host:port`; `limit` bounds what is read ahead of a line that is busy."""
        host, _, port = to.removeprefix("http://").partition(":")
        self._place, self._limit = (host, int(port)), limit
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks = Background()
        self._server: asyncio.Server | None = None
        self.url = ""
        self.open = True
        """Whether new connections are taken."""
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._tasks.end()
        self.cut()
        await asyncio.sleep(0)  # transports end with the next turn of the loop

    def cut(self) -> None:
        """Drop all connections in the middle of whatever they carry."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Pass on what one side sends, to its end."""
        raise NotImplementedError

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        self.connections += 1
        far = socket.socket()
        far.setblocking(False)
        # Before it connects: the kernel would read ahead as much as it likes, and take what the line cannot carry.
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._limit)
        await asyncio.get_running_loop().sock_connect(far, self._place)
        far_reader, far_writer = await asyncio.open_connection(sock=far, limit=self._limit)
        self._writers |= {writer, far_writer}
        for source, target in ((reader, far_writer), (far_reader, writer)):
            self._tasks.start(self.carry(source, target), "carry")


def write(target: asyncio.StreamWriter, data: bytes) -> None:
    """Write, unless the other side is gone."""
    if not target.is_closing():
        target.write(data)
