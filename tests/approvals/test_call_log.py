"""The records of tool calls beside a store that fails now and then: none is lost, and none is shown as it was before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backend.memory import StoreFailed
from backend.orchestration.approvals.call_log import CallLog
from backend.schema.tools import ToolRecord
from tests.stores import tried_again_quickly

CALL = ToolRecord("c1", "apollo-ai", "r1", "s1", "marks:mark", "", "{}", 5.0, "waiting")


class Calls:
    """The tool calls of a store. The next record is refused, or held on its way; a reading is held once it has read."""

    def __init__(self, calls: Any) -> None:
        self._calls = calls
        self.refuses = False
        self.holds: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self.reading: asyncio.Event | None = None
        self.has_read = asyncio.Event()

    async def put(self, record: ToolRecord) -> None:
        refuses, holds = self.refuses, self.holds
        self.begun.set()
        if holds is not None:
            await holds.wait()
        if refuses:
            raise StoreFailed("the disk is full")
        await self._calls.put(record)

    async def find(
        self, *, ai_id: str | None = None, states: Sequence[str] = (), limit: int = 200
    ) -> list[ToolRecord]:
        found = await self._calls.find(ai_id=ai_id, states=states, limit=limit)
        self.has_read.set()
        if self.reading is not None:
            await self.reading.wait()
        return found


@pytest.fixture
async def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Calls]:
    async with tried_again_quickly(tmp_path, monkeypatch) as memory:
        yield Calls(memory.tool_calls)


async def test_an_end_that_is_refused_while_an_older_record_is_stored_is_not_lost_with_it(
    calls: Calls,
) -> None:
    log = CallLog(calls)
    calls.refuses = True
    await log.complete(replace(CALL, state="running"))
    calls.refuses, calls.holds = False, asyncio.Event()
    calls.begun.clear()
    await calls.begun.wait()  # the older one is on its way
    holds, calls.holds = calls.holds, None
    calls.refuses = True
    await log.complete(replace(CALL, state="done"))
    calls.refuses = False
    holds.set()
    await log.close()
    assert [one.state for one in await calls.find()] == ["done"]


async def test_a_call_that_is_stored_while_the_calls_are_read_is_listed_as_it_is(calls: Calls) -> None:
    log = CallLog(calls)
    await log.put(CALL)
    calls.refuses = True
    await log.complete(replace(CALL, state="done"))
    await log.complete(replace(CALL, id="c2", state="denied", at=6.0))
    calls.reading = asyncio.Event()
    listing = asyncio.create_task(log.find())
    await calls.has_read.wait()
    calls.refuses = False
    while log.unstored:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    calls.reading.set()
    assert [(one.id, one.state) for one in await listing] == [("c2", "denied"), ("c1", "done")]
    await log.close()
