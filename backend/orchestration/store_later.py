"""What the store did not take now: it is kept, tried again now and then, and once more at the close."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")

log = logging.getLogger(__name__)

STORE_AGAIN_S = 2.0


class StoreLater(Generic[K, T]):
    """`waiting` holds records by id, the oldest first; how many may wait, and which is given up, is their owner's.

    `store` stores one of them, or raises. `what` calls them in the log: "runs".
    """

    def __init__(self, store: Callable[[T], Awaitable[object]], what: str) -> None:
        self.waiting: dict[K, T] = {}
        self._store, self._what = store, what
        self._closing = asyncio.Event()
        self._storing = asyncio.Lock()
        """Held while records are stored: two tries at once would store one twice."""
        self._task: asyncio.Task[None] | None = None

    def keep(self, key: K, record: T) -> None:
        """Take a record in, and try again soon."""
        self.waiting[key] = record
        self._begin()

    async def take(self, records: Mapping[K, T]) -> None:
        """Take in what waited for another store, and try once before this returns; later what that does not take."""
        self.waiting |= records
        if not await self._store_waiting():
            self._begin()

    async def pause(self, within_s: float) -> None:
        """Wait until nothing is being stored, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), self._storing:
                pass

    def drop_oldest(self) -> T:
        """Give up what has waited longest, and return it."""
        return self.waiting.pop(next(iter(self.waiting)))

    async def close(self) -> None:
        """Try once more to store what waits."""
        self._closing.set()
        if self._task is not None:
            # Not cancelled: the store may commit a record whose call was given up, and would be given it twice.
            await asyncio.wait([self._task])
        if not await self._store_waiting():
            log.error("%d %s were not stored before the close", len(self.waiting), self._what)

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._try_again(), name=f"store {self._what} later")

    async def _try_again(self) -> None:
        while not await self._closes():
            if await self._store_waiting():
                return

    async def _closes(self) -> bool:
        """Wait for the next try; return whether the close came instead."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), STORE_AGAIN_S)
        return self._closing.is_set()

    async def _store_waiting(self) -> bool:
        """Store what waits, oldest first; return whether nothing waits any more."""
        async with self._storing:
            while self.waiting:
                key, record = next(iter(self.waiting.items()))
                try:
                    await self._store(record)
                except Exception as error:
                    # The others would fail alike, and wait behind it so that they are stored in their order.
                    log.warning("%d %s are still not stored: %s", len(self.waiting), self._what, error)
                    return False
                # Another may have come in its place while it was stored, and the owner may have given it up.
                if self.waiting.get(key) is record:
                    del self.waiting[key]
            return True
