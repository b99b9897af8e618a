"""A first-come, first-served queue in front of a limited number of slots, with positions that waiters can show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

OnPosition = Callable[[int], None]
"""Called with a waiter's position, 1 for the next one in, at first and whenever it changes."""


class AdmissionQueue:
    """Admits at most `limit` holders at a time, in the order in which they came."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self._waiters: list[tuple[asyncio.Future[None], OnPosition]] = []

    @property
    def waiting(self) -> int:
        """How many wait to be admitted."""
        return len(self._waiters)

    @asynccontextmanager
    async def slot(self, on_position: OnPosition) -> AsyncGenerator[None]:
        """Hold a slot for the length of the block; wait for one first, which a cancellation ends."""
        await self._acquire(on_position)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, on_position: OnPosition) -> None:
        if self.running < self.limit and not self._waiters:
            self.running += 1
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (admitted, on_position)
        self._waiters.append(waiter)
        on_position(len(self._waiters))
        try:
            await admitted
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._report_positions()
            elif not admitted.cancelled():
                # Admitted and cancelled within one step of the loop: the slot is ours and nobody will use it.
                self._release()
            raise

    def _release(self) -> None:
        self.running -= 1
        before = len(self._waiters)
        while self.running < self.limit and self._waiters:
            admitted, _ = self._waiters.pop(0)
            if not admitted.done():
                admitted.set_result(None)
                self.running += 1
        if len(self._waiters) < before:
            self._report_positions()

    def _report_positions(self) -> None:
        for position, (_, on_position) in enumerate(self._waiters, 1):
            on_position(position)
