"""Time limits for what others are to do, in which time only counts while we could have noticed.

An event loop that stands still (a machine without CPU to spare, a process that was stopped) sees a deadline pass and what
came before it in the same moment, and `asyncio.timeout` then says that nothing came. A limit of this module is counted in
slices: one in which the loop stood still is not counted, so whoever is waited for has nearly the whole time.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

SLICES = 8
"""A limit is looked at so often: what the loop stood still costs whoever is waited for at most one slice."""
MOST_STALLS = 3 * SLICES
"""Slices that are not counted at most: a loop that never keeps up must not wait for ever."""


class loop_timeout:
    """Raise `TimeoutError` out of the block after so many seconds in which the loop ran; `None` means no limit."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._limit = asyncio.timeout(None)
        self._left, self._stalls, self._due = SLICES, 0, 0.0
        self._handle: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._limit.__aenter__()
        if self._seconds is not None:
            self._step = self._seconds / SLICES
            self._wait()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if self._handle is not None:
            self._handle.cancel()
        return await self._limit.__aexit__(kind, error, trace)

    def _wait(self) -> None:
        self._due = self._loop.time() + self._step
        self._handle = self._loop.call_at(self._due, self._count)

    def _count(self) -> None:
        stood_still = self._loop.time() - self._due > self._step
        if stood_still and self._stalls < MOST_STALLS:
            self._stalls += 1
        else:
            self._left -= 1
        if self._left > 0:
            self._wait()
        else:
            self._limit.reschedule(self._loop.time())
