"""A loopback TCP proxy that delays every byte and drops connections when told: a bad line between two programs."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType


class LossyProxy:
    """`async with` listens on a free port; `url` is where. What was on its way when it is cut is lost."""

    def __init__(self, to: str, *, delay_s: float = 0.0) -> None:
        """`to` is `http://host:port`; `delay_s` holds each way."""
        host, _, port = to.removeprefix("http://").partition(":")
        self._place, self._delay_s = (host, int(port)), delay_s
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.url = ""
        self.open = True
        """Whether new connections are taken."""
        self.connections = 0

    async def __aenter__(self) -> LossyProxy:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.sleep(0)  # transports end with the next turn of the loop

    def cut(self) -> None:
        """Drop all connections in the middle of whatever they carry."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.transport.abort()
            return
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection(*self._place)
        self._writers |= {writer, far_writer}
        for source, target in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Pass bytes on, each after its delay and in order; the sender is not slowed down."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                loop.call_later(self._delay_s, _write, target, data)
        loop.call_later(self._delay_s, target.close)


def _write(target: asyncio.StreamWriter, data: bytes) -> None:
    if not target.is_closing():
        target.write(data)
