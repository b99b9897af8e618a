"""The newest pipeline runs, with what each stage was given and gave, so that they can be looked at and run again."""

from __future__ import annotations

import asyncio

import msgspec

from backend.memory import MemoryStore
from backend.orchestration.pipeline_records import RunRecord
from backend.schema.errors import TektonError

KEPT_RUNS = 100
KEPT_BYTES = 32 * 1024 * 1024
"""Of all runs together; the oldest go first, the newest always stays."""
RUN_KEY = "pipeline:"
INDEX_KEY = "pipelines"


class UnknownRun(TektonError):
    """No run has this id, or it is no longer kept."""

    code = "not_found"


class RunHistory:
    """Runs by id. An index beside them says their ages and sizes, so that no run is read to be forgotten."""

    def __init__(self, memory: MemoryStore) -> None:
        self._memory = memory
        self._lock = asyncio.Lock()

    async def remember(self, record: RunRecord) -> None:
        """Keep a run, and forget the oldest beyond the caps."""
        size = len(msgspec.json.encode(record))
        async with self._lock:
            index = await self._index()
            index[record.request_id] = (record.started_at, size)
            await self._memory.put_setting(RUN_KEY + record.request_id, record.written())
            total = 0
            by_age = sorted(index.items(), key=lambda entry: entry[1][0], reverse=True)
            for place, (run_id, (_, run_size)) in enumerate(by_age):
                total += run_size
                if place and (place >= KEPT_RUNS or total > KEPT_BYTES):
                    del index[run_id]
                    await self._memory.put_setting(RUN_KEY + run_id, None)
            await self._memory.put_setting(INDEX_KEY, index)

    async def get(self, run_id: str) -> RunRecord:
        """Return one run.

        Raises:
            UnknownRun: It is not kept.
        """
        value = await self._memory.get_setting(RUN_KEY + run_id)
        if value is None:
            raise UnknownRun(f"there is no pipeline run {run_id!r}; `tekton pipe --history` lists them")
        return RunRecord.read(value)

    async def newest(self, limit: int) -> list[RunRecord]:
        """Return the newest runs, newest first."""
        async with self._lock:
            index = await self._index()
            names = sorted(index, key=lambda run_id: index[run_id][0], reverse=True)[:limit]
            return [await self.get(run_id) for run_id in names]

    async def _index(self) -> dict[str, tuple[float, int]]:
        """Return start time and bytes of each run; made from the runs themselves where there is none yet."""
        stored = await self._memory.get_setting(INDEX_KEY)
        if stored is not None:
            return msgspec.convert(stored, dict[str, tuple[float, int]])
        runs = await self._memory.settings(RUN_KEY)
        return {
            key.removeprefix(RUN_KEY): (value["started_at"], len(msgspec.json.encode(value)))
            for key, value in runs.items()
        }
