"""The error ledger's front: failures go in from anywhere, in order, and come out as events.

Writing happens behind the caller's back on one queue, so that a failure can be recorded from a callback. Knows
nothing of processes; merging and storing is memory's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass

from backend.events import EventStream
from backend.memory import MemoryStore
from backend.schema.events import ErrorEntry, ErrorsAcknowledged
from backend.schema.records import ErrorRecord

log = logging.getLogger(__name__)

EVIDENCE_CHARS = 8_000


@dataclass(frozen=True)
class _Failure:
    where: str
    code: str
    message: str
    phase: str
    evidence: str
    request_id: str


class Ledger:
    """Record failures and acknowledge them. `unacknowledged` counts records nobody has acknowledged."""

    def __init__(self, memory: MemoryStore, events: EventStream) -> None:
        self._memory, self._events = memory, events
        self._queue: asyncio.Queue[_Failure] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None
        self.unacknowledged = 0
        self.counts: Counter[tuple[str, str]] = Counter()
        """Failures of this life by where and code."""
        self._unstored = 0

    async def open(self) -> None:
        """Count what earlier lives left and begin to write."""
        self.unacknowledged = await self._memory.unacknowledged()
        self._writer = asyncio.create_task(self._write(), name="ledger")

    def record(
        self,
        where: str,
        code: str,
        message: str,
        *,
        phase: str = "",
        evidence: str = "",
        request_id: str = "",
    ) -> None:
        """Take a failure in; it is stored and published in the order of calls. Never blocks, never raises."""
        self.counts[where, code] += 1
        self._queue.put_nowait(_Failure(where, code, message, phase, evidence[-EVIDENCE_CHARS:], request_id))

    async def acknowledge(self, ids: list[int] | None) -> int:
        """Mark records as seen by a person, all of them when `ids` is `None`; return how many remain."""
        await self._queue.join()
        acknowledged = await self._memory.acknowledge(ids)
        self.unacknowledged = await self._memory.unacknowledged()
        self._events.publish("errors", ErrorsAcknowledged(acknowledged, time.time(), self.unacknowledged))
        return self.unacknowledged

    async def flush(self) -> None:
        """Wait until every failure recorded so far is stored."""
        await self._queue.join()

    async def close(self) -> None:
        await self._queue.join()
        if self._writer is not None:
            self._writer.cancel()

    async def _write(self) -> None:
        while True:
            failure = await self._queue.get()
            try:
                record = await self._memory.record_error(
                    failure.where,
                    failure.code,
                    failure.message,
                    phase=failure.phase,
                    evidence=failure.evidence,
                    request_id=failure.request_id,
                )
                self.unacknowledged = await self._memory.unacknowledged()
                self._events.publish("errors", ErrorEntry(record, self.unacknowledged))
            except Exception as error:  # the ledger is the last place a failure can go
                log.exception(
                    "cannot store a failure of %s: %s %s", failure.where, failure.code, failure.message
                )
                self._tell_unstored(failure, error)
            finally:
                self._queue.task_done()

    def _tell_unstored(self, failure: _Failure, error: Exception) -> None:
        """Publish a failure that has no place to be kept: whoever watches sees it now or never."""
        self.unacknowledged += 1
        self._unstored += 1
        now = time.time()
        record = ErrorRecord(
            -self._unstored,
            failure.where,
            failure.code,
            failure.message,
            now,
            now,
            phase=failure.phase,
            evidence=f"not kept in the ledger: {error}",
            request_id=failure.request_id,
        )
        self._events.publish("errors", ErrorEntry(record, self.unacknowledged))
