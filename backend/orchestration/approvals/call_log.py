"""The records of tool calls: what may run is stored before, and what came of it as soon as the store takes it.

Knows no rules and no asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from backend.memory import ToolCallStore
from backend.schema.tools import ToolRecord

log = logging.getLogger(__name__)

STORE_AGAIN_S = 2.0
MAX_UNSTORED = 10_000
"""Records that wait for a store that takes nothing; the oldest are given up first, and close at the next start."""


class CallLog:
    """Records by id. Whoever reads them sees those that wait for the store as they are."""

    def __init__(self, store: ToolCallStore) -> None:
        self._store = store
        self._unstored: dict[str, ToolRecord] = {}
        self._writes: set[asyncio.Task[None]] = set()
        self._storing: asyncio.Task[None] | None = None

    async def put(self, record: ToolRecord) -> None:
        """Store a record now.

        Raises:
            TektonError: The store did not take it.
        """
        await self._store.put(record)
        self._unstored.pop(record.id, None)

    async def complete(self, record: ToolRecord) -> None:
        """Store the end of a call, later if the store takes nothing now. Never raises."""
        try:
            await self.put(record)
        except Exception as error:
            log.warning("the record of a tool call cannot be stored yet: %s", error)
            self._unstored[record.id] = record
            if len(self._unstored) > MAX_UNSTORED:
                del self._unstored[next(iter(self._unstored))]
            if self._storing is None or self._storing.done():
                self._storing = asyncio.create_task(self._store_later(), name="store tool records later")

    def complete_soon(self, record: ToolRecord) -> None:
        """Store the end of a call without waiting for it."""
        task = asyncio.create_task(self.complete(record), name="tool record")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def find(
        self, *, ai_id: str | None = None, states: Sequence[str] = (), limit: int = 200
    ) -> list[ToolRecord]:
        """Return records, newest first: of one specialist, or in certain states."""
        while self._writes:
            await asyncio.wait(self._writes)
        stored = await self._store.find(ai_id=ai_id, states=tuple(states), limit=limit)
        found = {record.id: record for record in stored if record.id not in self._unstored}
        for record in self._unstored.values():
            if (ai_id is None or record.ai_id == ai_id) and (not states or record.state in states):
                found[record.id] = record
        return sorted(found.values(), key=lambda record: record.at, reverse=True)[:limit]

    async def close(self) -> None:
        """Try once more to store what waits."""
        while self._writes:
            await asyncio.wait(self._writes)
        if self._storing is not None:
            self._storing.cancel()
            await asyncio.wait([self._storing])
        if not await self._store_waiting():
            log.error("%d records of tool calls could not be stored before the end", len(self._unstored))

    async def _store_later(self) -> None:
        while True:
            await asyncio.sleep(STORE_AGAIN_S)
            if await self._store_waiting():
                return

    async def _store_waiting(self) -> bool:
        """Store what waits, oldest first; return whether nothing waits any more."""
        for record in list(self._unstored.values()):
            try:
                await self.put(record)
            except Exception as error:
                log.warning("the record of a tool call is still not stored: %s", error)
                return False
        return not self._unstored
