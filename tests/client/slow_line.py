"""A loopback relay with a narrow line: bytes wait for the line to be free, then for its delay, and what is on its way stays."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType


class SlowLine:
    """`async with` listens on a free port, at `url`. What queues before the line holds the sender up, as a router's would.

    `stopped` holds all bytes without closing anything, as a cut cable does.
    """

    def __init__(self, to: str, *, delay_s: float, bytes_per_s: float, queue_bytes: int = 16_384) -> None:
        host, _, port = to.removeprefix("http://").partition(":")
        self._place = host, int(port)
        self.delay_s, self.bytes_per_s, self._queue_bytes = delay_s, bytes_per_s, queue_bytes
        self.stopped = asyncio.Event()
        self.carried = self.connections = 0
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> SlowLine:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # transports end with the next turn of the loop

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection(*self._place, limit=self._queue_bytes)
        self._writers += [writer, far_writer]
        for source, target in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1_460):
                self.carried += len(data)
                await asyncio.sleep(len(data) / self.bytes_per_s)
                while self.stopped.is_set():  # noqa: ASYNC110 - a cut cable tells nobody
                    await asyncio.sleep(0.02)
                loop.call_later(self.delay_s, _write, target, data)
        loop.call_later(self.delay_s, target.close)


def _write(target: asyncio.StreamWriter, data: bytes) -> None:
    if not target.is_closing():
        target.write(data)
