"""A loopback TCP proxy that delays every byte and drops connections when told: a bad line between two programs."""

from __future__ import annotations

import asyncio
import contextlib

from tests.relay import Relay, write


class LossyProxy(Relay):
    """What was on its way when it is cut is lost. `delay_s` holds each way; the sender is not slowed down."""

    def __init__(self, to: str, *, delay_s: float = 0.0) -> None:
        super().__init__(to)
        self._delay_s = delay_s

    async def carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Pass bytes on, each after its delay and in order."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                loop.call_later(self._delay_s, write, target, data)
        loop.call_later(self._delay_s, target.close)
