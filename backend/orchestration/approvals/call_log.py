"""The records of tool calls: what may run is stored before, and what came of it as soon as the store takes it.

Knows no rules and no asks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from backend.memory import ToolCallStore
from backend.orchestration.store_later import StoreLater
from backend.schema.tools import ToolRecord
from backend.tasks import Background

log = logging.getLogger(__name__)

MAX_UNSTORED = 10_000
"""Records that wait for a store that takes nothing; the oldest are given up first, and close at the next start."""


class CallLog:
    """Records by id. Whoever reads them sees those that wait for the store as they are."""

    def __init__(self, store: ToolCallStore) -> None:
        self._store = store
        self._later: StoreLater[str, ToolRecord] = StoreLater(self._put, "records of tool calls")
        self._writes = Background()

    async def put(self, record: ToolRecord) -> None:
        """Store a record now.

        Raises:
            TektonError: The store did not take it.
        """
        before = self._later.waiting.get(record.id)
        await self._store.put(record)
        if before is not None and self._later.waiting.get(record.id) is before:
            del self._later.waiting[record.id]

    async def _put(self, record: ToolRecord) -> None:
        await self._store.put(record)

    async def complete(self, record: ToolRecord) -> None:
        """Store the end of a call, later if the store takes nothing now. Never raises."""
        try:
            await self.put(record)
        except Exception as error:
            log.warning("the record of a tool call cannot be stored yet: %s", error)
            self._later.keep(record.id, record)
            if len(self._later.waiting) > MAX_UNSTORED:
                self._later.drop_oldest()

    def complete_soon(self, record: ToolRecord) -> None:
        """Store the end of a call without waiting for it."""
        self._writes.start(self.complete(record), "tool record")

    async def find(
        self, *, ai_id: str | None = None, states: Sequence[str] = (), limit: int = 200
    ) -> list[ToolRecord]:
        """Return records, newest first: of one specialist, or in certain states."""
        await self._writes.settled()
        waiting = dict(self._later.waiting)
        stored = await self._store.find(ai_id=ai_id, states=tuple(states), limit=limit)
        # with those that were stored while the store was read, which may have missed them
        waiting |= self._later.waiting
        found = {record.id: record for record in stored if record.id not in waiting}
        for record in waiting.values():
            if (ai_id is None or record.ai_id == ai_id) and (not states or record.state in states):
                found[record.id] = record
        return sorted(found.values(), key=lambda record: record.at, reverse=True)[:limit]

    @property
    def unstored(self) -> list[ToolRecord]:
        """Records that wait for the store, the oldest first."""
        return list(self._later.waiting.values())

    async def take(self, unstored: Sequence[ToolRecord]) -> None:
        """Take in what waited for another store."""
        await self._later.take({record.id: record for record in unstored})

    async def close(self) -> None:
        """Try once more to store what waits."""
        await self._writes.settled()
        await self._later.close()
