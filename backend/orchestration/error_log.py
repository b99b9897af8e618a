"""The error log: failures go in from anywhere, in order, are stored, and published as events.

Storing happens on one queue behind the caller's back, so that a failure can be recorded from a callback. A failure that
the store does not take is kept here, listed like the others, and stored when that is possible again. Merging equal
failures is the store's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from backend.events import EventStream
from backend.memory import ErrorStore
from backend.orchestration.store_later import StoreLater
from backend.schema.events import ErrorEntry, ErrorsAcknowledged
from backend.schema.records import ErrorRecord
from backend.tasks import end_tasks

log = logging.getLogger(__name__)

EVIDENCE_CHARS = 8_000
MAX_SETTLED = 200
"""Newest failures among which one that came out otherwise is looked for."""
MOST_READS = 3
"""So often a list is read anew because something was stored while it was read."""
PAUSE_S = 0.5
"""How long a list waits for what is being stored, before it may name it twice."""
MAX_UNSTORED = 500
"""Different failures that wait for the store; beyond it the oldest are given up."""


class ErrorLog:
    """Record failures, list and acknowledge them. `unacknowledged` counts records nobody has acknowledged."""

    def __init__(self, store: ErrorStore, events: EventStream) -> None:
        self._store, self._events = store, events
        self._queue: asyncio.Queue[ErrorRecord] = asyncio.Queue()
        self._writing: asyncio.Task[None] | None = None
        self._stored_unacknowledged = 0
        self._later: StoreLater[tuple[str, str, str], ErrorRecord] = StoreLater(
            self._store_waiting, "failures"
        )
        """Failures the store did not take, by where, code and message; their ids count down from -1."""
        self._last_unstored = 0
        self._storing: ErrorRecord | None = None
        """The one of them that the store is given now: what comes meanwhile is not counted on it."""
        self._settled: dict[int, set[str]] = {}
        """By id of a record: the requests whose failure came out otherwise."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """Failures since the start by where and code."""

    @property
    def unacknowledged(self) -> int:
        waiting = sum(not record.acknowledged for record in self._later.waiting.values())
        return self._stored_unacknowledged + waiting

    def count_again(self, unacknowledged: int) -> None:
        """Take the number of stored records nobody has acknowledged, as another gateway counted it."""
        self._stored_unacknowledged = unacknowledged

    async def open(self) -> None:
        """Count what earlier backends left and begin to store. Survives a store that cannot be read."""
        try:
            self._stored_unacknowledged = await self._store.unacknowledged()
        except Exception as error:
            log.exception("reading the error log")
            self.record("memory", "internal", f"the error log could not be read: {error}")
        self._writing = asyncio.create_task(self._write(), name="error log")

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
        now = time.time()
        failure = ErrorRecord(
            0,
            where,
            code,
            message,
            now,
            now,
            phase=phase,
            evidence=evidence[-EVIDENCE_CHARS:],
            request_id=request_id,
        )
        self._queue.put_nowait(failure)

    async def find(self, *, unacknowledged: bool, where: str | None, limit: int) -> list[ErrorRecord]:
        """Return records, newest first: those that are not stored yet before the others.

        Raises:
            MemoryFault: The store cannot be read, and nothing waits for it.
        """
        await self._queue.join()
        waiting: list[ErrorRecord] = []
        stored: list[ErrorRecord] = []
        for _ in range(MOST_READS):
            await self._later.pause(PAUSE_S)
            waiting = list(reversed(self._later.waiting.values()))
            if where is not None:
                waiting = [record for record in waiting if record.where == where]
            was_storing = self._storing is not None
            try:
                stored = await self._store.find(unacknowledged=unacknowledged, where=where, limit=limit)
            except Exception:
                if not waiting:
                    raise
                log.exception("reading the error log")
            # one that was stored meanwhile would be listed twice
            if not was_storing and self._storing is None and all(map(self._waits, waiting)):
                break
        return [*(one for one in waiting if not (unacknowledged and one.acknowledged)), *stored][:limit]

    def _waits(self, record: ErrorRecord) -> bool:
        """Return whether a record waits for the store still, as it is."""
        return self._later.waiting.get(_key(record)) is record

    async def acknowledge(self, ids: list[int] | None) -> int:
        """Mark records as seen by a person, all of them when `ids` is `None`; return how many remain."""
        await self._queue.join()
        now = time.time()
        waiting = [
            record
            for record in self._later.waiting.values()
            if not record.acknowledged and (ids is None or record.id in ids)
        ]
        acknowledged = [record.id for record in waiting]
        if ids is None or any(number >= 0 for number in ids):
            stored = None if ids is None else [number for number in ids if number >= 0]
            acknowledged += await self._store.acknowledge(stored)
            self._stored_unacknowledged = await self._store.unacknowledged()
        for record in waiting:
            record.acknowledged = now
        self._events.publish("errors", ErrorsAcknowledged(acknowledged, now, self.unacknowledged))
        return self.unacknowledged

    async def settle(self, where: str, code: str, message: str, request_id: str) -> None:
        """Take that one failure of a record came out otherwise; one of which all did is acknowledged. Raises what the store raises."""
        told = await self.find(unacknowledged=True, where=where, limit=MAX_SETTLED)
        for record in told:
            if (record.code, record.message) == (code, message):
                settled = self._settled.setdefault(record.id, set())
                settled.add(request_id)
                if len(settled) >= record.count:
                    await self.acknowledge([record.id])
                    del self._settled[record.id]

    @property
    def unstored(self) -> list[ErrorRecord]:
        """Failures that wait for the store, the oldest first."""
        return list(self._later.waiting.values())

    async def take(self, unstored: Sequence[ErrorRecord]) -> None:
        """Take in what waited for another store. Their ids stay what they are until they are stored, unless one of ours has it."""
        ours = {record.id for record in self.unstored}
        self._last_unstored = min([self._last_unstored, *(record.id for record in unstored)])
        taken: dict[tuple[str, str, str], ErrorRecord] = {}
        for record in unstored:
            key = _key(record)
            known = self._later.waiting.get(key)
            if known is not None and known is not self._storing:
                record = msgspec.structs.replace(_joined(record, known), id=known.id)
            elif record.id in ours:
                self._last_unstored -= 1
                record = msgspec.structs.replace(record, id=self._last_unstored)
            taken[key] = record
        await self._later.take(taken)

    async def recount(self) -> None:
        """Count anew what nobody has acknowledged, after old records were deleted."""
        before, self._stored_unacknowledged = self._stored_unacknowledged, await self._store.unacknowledged()
        if self._stored_unacknowledged != before:
            self._events.publish("errors", ErrorsAcknowledged([], time.time(), self.unacknowledged))

    async def flush(self) -> None:
        """Wait until every failure recorded so far is stored, or waits for the store."""
        await self._queue.join()

    async def close(self) -> None:
        """Store what can be stored, and end."""
        await self._queue.join()
        await end_tasks(self._writing)
        await self._later.close()

    async def _write(self) -> None:
        while True:
            failure = await self._queue.get()
            try:
                await self._store_one(failure)
            except Exception as error:  # the error log is the last place a failure can go
                log.exception(
                    "cannot store a failure of %s: %s %s", failure.where, failure.code, failure.message
                )
                self._keep(failure, error)
            finally:
                self._queue.task_done()

    async def _store_one(self, failure: ErrorRecord) -> None:
        waiting = self._later.waiting.get(_key(failure))
        if waiting is not None and waiting is not self._storing:
            # Behind it, not before it: what is stored last says which request it was.
            self._wait(_joined(waiting, failure))
            return
        record = await self._store.record(failure)
        self._stored_unacknowledged = await self._store.unacknowledged()
        self._events.publish("errors", ErrorEntry(record, self.unacknowledged))

    def _keep(self, failure: ErrorRecord, error: Exception) -> None:
        """Keep and publish a failure that the store did not take."""
        known = self._later.waiting.get(_key(failure))
        if known is not None and known is not self._storing:
            self._wait(_joined(known, failure))
            return
        self._last_unstored -= 1
        evidence = f"not stored yet: {error}\n{failure.evidence}".strip()
        self._wait(msgspec.structs.replace(failure, id=self._last_unstored, evidence=evidence))

    def _wait(self, record: ErrorRecord) -> None:
        """Have a record wait for the store as the newest, in the place of an equal one, and publish it."""
        self._later.waiting.pop(_key(record), None)
        self._later.keep(_key(record), record)
        while len(self._later.waiting) > MAX_UNSTORED:
            self._later.drop_oldest()
        self._events.publish("errors", ErrorEntry(record, self.unacknowledged))

    async def _store_waiting(self, waiting: ErrorRecord) -> None:
        """Store a failure that waited, and tell under which id it stands now. Raises what the store raises."""
        key = _key(waiting)
        self._storing = waiting
        try:
            record = await self._store.record(waiting)
        except Exception:
            if (meanwhile := self._later.waiting.get(key, waiting)) is not waiting:
                both = msgspec.structs.replace(_joined(waiting, meanwhile), id=meanwhile.id)
                self._later.waiting[key] = both
                self._tell_in_place(waiting.id, both)
            raise
        finally:
            self._storing = None
        # At once: what comes from here on is not to be counted on it, nor is it to be stored again if what follows fails.
        if self._later.waiting.get(key) is waiting:
            del self._later.waiting[key]
        if waiting.acknowledged:
            await self._store.acknowledge([record.id])
        self._stored_unacknowledged = await self._store.unacknowledged()
        if settled := self._settled.pop(waiting.id, None):
            self._settled.setdefault(record.id, set()).update(settled)
        self._tell_in_place(waiting.id, record)

    def _tell_in_place(self, gone: int, record: ErrorRecord) -> None:
        """Publish a record that stands in the place of one that had another id."""
        self._events.publish("errors", ErrorsAcknowledged([gone], time.time(), self.unacknowledged))
        self._events.publish("errors", ErrorEntry(record, self.unacknowledged))


def _key(failure: ErrorRecord) -> tuple[str, str, str]:
    """Return what equal failures have in common."""
    return failure.where, failure.code, failure.message


def _joined(known: ErrorRecord, failure: ErrorRecord) -> ErrorRecord:
    """Return a record that waits, counted on by an equal failure as the store would do."""
    return msgspec.structs.replace(
        known,
        last=failure.last,
        count=known.count + failure.count,
        phase=failure.phase,
        evidence=failure.evidence or known.evidence,
        request_id=failure.request_id,
        acknowledged=0.0,
    )
