"""A store that takes nothing at one of the moments of a turn with a tool call: the turn ends, what ran was allowed, nothing stays open."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.home import Home
from backend.memory.errors import StoreFailed
from backend.orchestration import store_later
from backend.orchestration.platform import Platform
from backend.schema.errors import TektonError
from backend.schema.events import AskOpened, SpecialistEvent
from backend.schema.tools import Answer
from tests.orchestration.running import BOUND_S, Watcher, do, running

SERVER = str(Path(__file__).with_name("marking.py"))


class Failing:
    """Lets the writes of a database fail from the `first` on, `count` of them."""

    def __init__(self, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
        database: Any = platform.memory.messages._database  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]
        self._write = database.write
        self.begin(0, 0)
        monkeypatch.setattr(database, "write", self.write)

    def begin(self, first: int, count: int) -> None:
        self.seen, self.first, self.last = 0, first, first + count - 1

    async def write(self, work: Any) -> Any:
        self.seen += 1
        if self.first <= self.seen <= self.last:
            raise StoreFailed("the disk is full")
        return await self._write(work)


async def tools_there(platform: Platform) -> None:
    watcher = Watcher(platform, "fleet")
    while not [tool for row in platform.fleet.status("apollo-ai").tools for tool in row.tools]:
        watcher.seen.clear()
        await watcher.until(SpecialistEvent)
    watcher.close()


async def allow(platform: Platform, watcher: Watcher, again: Answer, answered: list[Answer]) -> None:
    """Allow the next ask; one that the store keeps from being allowed still waits, and is answered another way."""
    ask = await watcher.until(AskOpened)
    watcher.seen.clear()
    try:
        await do(platform, "answer_ask", id=ask.ask.id, answer="allow")
    except StoreFailed:
        assert [one.id for one in platform.approvals.asks] == [ask.ask.id]
        await do(platform, "answer_ask", id=ask.ask.id, answer=again)
        answered.append(again)


@pytest.mark.parametrize("count", [1, 1_000])
async def test_a_turn_with_an_ask_ends_and_leaves_nothing_open_wherever_the_store_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(store_later, "STORE_AGAIN_S", 0.05)
    root, marks = tmp_path / "home", tmp_path / "marks"
    command = [sys.executable, SERVER, str(marks), str(Home(root).prepare().database)]
    config = f'[tools.marks]\ncommand = {json.dumps(command)}\n[specialists.apollo]\ntools = ["marks"]\n'
    async with running(root, "apollo", config=config) as platform:
        await tools_there(platform)
        store = Failing(platform, monkeypatch)
        watcher = Watcher(platform, "asks")
        reached, answered = True, list[Answer]()
        number = 0
        while reached and number < 40:
            number += 1
            name = f"m{number}."
            session = (await do(platform, "create_session", owner="apollo")).id
            store.begin(number, count)

            again = "allow" if count == 1 else "deny"
            answering = asyncio.create_task(allow(platform, watcher, again, answered))
            failed = None
            try:
                outcome = await do(
                    platform, "chat", ai_id="apollo", request_id=f"r{number}", session_id=session,
                    content=f'[[call marks__mark {{"name": "{name}"}}]] done',
                )  # fmt: skip
            except TektonError as error:
                outcome, failed = None, error
            answering.cancel()
            watcher.seen.clear()
            reached = store.seen >= number
            store.begin(0, 0)
            assert not platform.approvals.asks
            async with asyncio.timeout(BOUND_S):
                while platform.turns.active or await platform.memory.turns.unfinished():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            rows = (await do(platform, "session_messages", id=session)).messages
            ran = (
                [line for line in marks.read_text().splitlines() if line.startswith(name)]
                if marks.exists()
                else []
            )
            async with asyncio.timeout(BOUND_S):
                while platform.approvals.call_log.unstored:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            stored = [
                one for one in await platform.memory.tool_calls.find(limit=100) if one.session_id == session
            ]
            assert not [one for one in stored if one.state in ("waiting", "running")], stored
            assert len(ran) <= 1
            if failed is not None:
                errors = (await do(platform, "list_errors", limit=20)).errors
                assert failed.code == "internal" and [one for one in errors if one.request_id == f"r{number}"]
            if outcome is not None:
                assert [row.role for row in rows] == ["user", "assistant"] and rows[
                    1
                ].content == outcome.content
            again = await do(platform, "chat", ai_id="apollo", session_id=session, content="next")
            assert again.code is None
        assert number > 4 and answered
