"""A loopback relay with a narrow line: bytes wait for the line to be free, then for its delay, and what is on its way stays."""

from __future__ import annotations

import asyncio
import contextlib

from tests.relay import Relay, write


class SlowLine(Relay):
    """What queues before the line holds the sender up, as a router's would.

    `stopped` holds all bytes without closing anything, as a cut cable does.
    """

    def __init__(self, to: str, *, delay_s: float, bytes_per_s: float, queue_bytes: int = 16_384) -> None:
        super().__init__(to, queue_bytes)
        self.delay_s, self.bytes_per_s = delay_s, bytes_per_s
        self.stopped = asyncio.Event()
        self.carried = 0

    async def carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1_460):
                self.carried += len(data)
                await asyncio.sleep(len(data) / self.bytes_per_s)
                while self.stopped.is_set():  # noqa: ASYNC110 - a cut cable tells nobody
                    await asyncio.sleep(0.02)
                loop.call_later(self.delay_s, write, target, data)
        loop.call_later(self.delay_s, target.close)
