"""The newest pipeline runs, with what each stage was given and gave, so that they can be looked at and run again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from backend.orchestration.store_later import StoreLater
from backend.orchestration.stored import Stored
from backend.schema.errors import TektonError
from backend.schema.records import RunRecord

KEPT_RUNS = 100
KEPT_BYTES = 32 * 1024 * 1024
"""Of all runs together; the oldest go first, the newest always stays."""
RUN_KEY = "pipeline:"
INDEX_KEY = "pipelines"
OPEN_KEY = "pipelines-under-way"

log = logging.getLogger(__name__)


class UnknownRun(TektonError):
    """No run has this id, or it is no longer kept."""

    code = "not_found"


class RunHistory:
    """Runs by id. An index beside them says their ages and sizes, so that no run is read to be forgotten."""

    def __init__(self, store: Stored) -> None:
        self._store = store
        self.names = set[str]()
        """The runs that are kept, once opened."""
        self._open = set[str]()
        """Those that this backend began and has not ended."""
        self._lock = asyncio.Lock()
        self._later: StoreLater[str, RunRecord] = StoreLater(self.remember, "pipeline runs")
        """Runs that have ended and wait for a store that takes nothing."""

    async def open(self) -> list[RunRecord]:
        """Read the index; return the runs that were under way when an earlier backend ended, as they had begun."""
        async with self._lock:
            self.names = set(await self._index())
            names = await self._store.get(OPEN_KEY, list[str]) or []
            found = [await self._store.get(RUN_KEY + name, RunRecord) for name in names]
        return [record for record in found if record is not None]

    async def begin(self, record: RunRecord) -> None:
        """Keep a run as it begins, so that it is known should this backend not live to keep its end."""
        async with self._lock:
            names = {*self._open, record.request_id}
            await asyncio.gather(
                self._store.put(RUN_KEY + record.request_id, record), self._store.put(OPEN_KEY, sorted(names))
            )
            self._open = names

    async def keep(self, record: RunRecord) -> str:
        """Keep a run that has ended, later if the store takes nothing now; return why, "" when it is stored. Never raises."""
        self.names.add(record.request_id)
        try:
            await self.remember(record)
        except Exception as error:
            log.warning("the pipeline run %s is not stored yet: %s", record.request_id, error)
            self._later.keep(record.request_id, record)
            if len(self._later.waiting) > KEPT_RUNS:
                self._later.drop_oldest()
            return str(error)
        return ""

    @property
    def unstored(self) -> list[RunRecord]:
        """Runs that wait for the store, the oldest first."""
        return list(self._later.waiting.values())

    async def take(self, unstored: Sequence[RunRecord]) -> None:
        """Take in what waited for another store."""
        self.names |= {record.request_id for record in unstored}
        await self._later.take({record.request_id: record for record in unstored})

    async def close(self) -> None:
        """Try once more to store what waits."""
        await self._later.close()

    async def remember(self, record: RunRecord) -> None:
        """Keep a run now, and forget the oldest beyond the caps. Raises what the store raises."""
        size = len(msgspec.json.encode(record))
        async with self._lock:
            index = await self._index()
            index[record.request_id] = (record.started_at, size)
            await self._store.put(RUN_KEY + record.request_id, record)
            total = 0
            by_age = sorted(index.items(), key=lambda entry: entry[1][0], reverse=True)
            for place, (run_id, (_, run_size)) in enumerate(by_age):
                total += run_size
                if place and (place >= KEPT_RUNS or total > KEPT_BYTES):
                    del index[run_id]
                    await self._store.put(RUN_KEY + run_id, None)
            await self._store.put(INDEX_KEY, index)
            self._open.discard(record.request_id)
            await self._store.put(OPEN_KEY, sorted(self._open))
            self.names = set(index)

    async def get(self, run_id: str) -> RunRecord:
        """Return one run.

        Raises:
            UnknownRun: It is not kept.
        """
        record = self._later.waiting.get(run_id) or await self._store.get(RUN_KEY + run_id, RunRecord)
        if record is None:
            raise UnknownRun(f"there is no pipeline run {run_id!r}; `tekton pipe --history` lists them")
        if not _is_told(record):
            raise UnknownRun(f"the conversation of the pipeline run {run_id!r} was deleted")
        return record

    async def newest(self, limit: int) -> list[RunRecord]:
        """Return the newest runs, newest first."""
        found: list[RunRecord] = []
        waiting = [record for record in self._later.waiting.values() if _is_told(record)]
        named = {record.request_id for record in self._later.waiting.values()}
        async with self._lock:
            index = await self._index()
            for run_id in sorted(index, key=lambda run_id: index[run_id][0], reverse=True):
                if len(found) >= limit:
                    break
                record = await self._store.get(RUN_KEY + run_id, RunRecord)
                if record is not None and _is_told(record) and run_id not in named:
                    found.append(record)
        return sorted([*waiting, *found], key=lambda record: record.started_at, reverse=True)[:limit]

    async def is_forgotten(self, run_id: str) -> bool:
        """Return whether a run has this id of which nothing but that is known."""
        if (waiting := self._later.waiting.get(run_id)) is not None:
            return not _is_told(waiting)
        record = await self._store.get(RUN_KEY + run_id, RunRecord)
        return record is not None and not _is_told(record)

    async def forget_session(self, session_id: str, session_of: Callable[[str], Awaitable[str]]) -> None:
        """Forget what was said in the runs of a conversation that is being deleted; their ids stay taken.

        Runs of before did not name their conversation: `session_of` says where a turn is stored, "" when it is no more.
        """
        for run_id, record in list(self._later.waiting.items()):
            if record.session_id == session_id:
                self._later.waiting[run_id] = RunRecord(run_id, "", [], record.started_at)
        async with self._lock:
            index = await self._index()
            for run_id in list(index):
                record = await self._store.get(RUN_KEY + run_id, RunRecord)
                if record is None or not _is_told(record):
                    continue
                places = {record.session_id} if record.session_id else await _places(record, session_of)
                if session_id not in places:
                    continue
                bare = RunRecord(run_id, "", [], record.started_at)
                await self._store.put(RUN_KEY + run_id, bare)
                index[run_id] = record.started_at, len(msgspec.json.encode(bare))
            await self._store.put(INDEX_KEY, index)

    async def forget_before(self, moment: float) -> None:
        """Forget the runs that began before a moment."""
        async with self._lock:
            index = await self._index()
            old = [
                run_id for run_id, (began, _) in index.items() if began < moment and run_id not in self._open
            ]
            for run_id in old:
                del index[run_id]
                await self._store.put(RUN_KEY + run_id, None)
            if old:
                await self._store.put(INDEX_KEY, index)
                self.names = set(index)

    async def _index(self) -> dict[str, tuple[float, int]]:
        """Return start time and bytes of each run; made from the runs themselves where there is none yet."""
        index = await self._store.get(INDEX_KEY, dict[str, tuple[float, int]])
        if index is not None:
            return index
        made: dict[str, tuple[float, int]] = {}
        for key in await self._store.keys(RUN_KEY):
            if (record := await self._store.get(key, RunRecord)) is not None:
                made[record.request_id] = (record.started_at, len(msgspec.json.encode(record)))
        return made


def _is_told(record: RunRecord) -> bool:
    """Return whether there is more of a run than that it was."""
    return bool(record.pipeline)


async def _places(record: RunRecord, session_of: Callable[[str], Awaitable[str]]) -> set[str]:
    """Return the conversations in which the turns of a run are stored."""
    turns = [lane.request_id for stage in record.stages for lane in stage.lanes if lane.request_id]
    return {await session_of(name) for name in turns}
