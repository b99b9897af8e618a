"""What a backend held that its store did not take goes to the one that follows it, as when it was declared dead by another."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from backend.memory import StoreFailed, UnknownSession
from backend.memory.shared_log import StoredLate
from backend.orchestration import store_later
from backend.orchestration.platform import Held, Platform
from backend.schema.events import MessageStored
from backend.schema.records import ErrorRecord, RunRecord, StoredMessage
from backend.schema.tools import ToolRecord
from backend.specialists.killall import kill_all
from tests.orchestration.running import BOUND_S, Watcher, do, start


class LateAnswers:
    """Puts an answer behind the end that its turn has; refuses as often as it is told to."""

    def __init__(self, platform: Platform) -> None:
        self._messages = platform.memory.messages
        self.still_ended = 0
        self.gone = False

    async def put(self, answer: StoredMessage, *, used: Any, **_: Any) -> StoredLate | None:
        if self.gone:
            raise UnknownSession(answer.session_id)
        if self.still_ended:
            self.still_ended -= 1
            return None
        lost = (await self._messages.of_request(answer.request_id))[-1]
        return StoredLate(await self._messages.append(answer, used=used), lost)


async def refuse(*_: object, **__: object) -> Any:
    raise StoreFailed("the store is away")


async def held_by(root: Path, monkeypatch: pytest.MonkeyPatch) -> Held:
    """Run a backend whose store takes nothing any more, and end it; return what it holds."""
    platform = await start(root)
    assert (await do(platform, "launch", ids=["apollo"])).results[0].ok
    memory: Any = platform.memory
    with monkeypatch.context() as away:
        asking = {"ai_id": "apollo", "content": "hello", "request_id": "held"}
        stored = memory.messages.append

        async def questions_only(message: StoredMessage, **facts: Any) -> StoredMessage:
            return await (stored if message.role == "user" else refuse)(message, **facts)

        away.setattr(memory.messages, "append", questions_only)
        away.setattr(memory.errors, "record", refuse)
        away.setattr(memory.tool_calls, "put", refuse)
        away.setattr(memory.settings, "put", refuse)
        outcome = await do(platform, "chat", **asking)
        assert outcome.code is None and any("not stored yet" in note for note in outcome.notes)
        call = ToolRecord("c", "apollo-ai", "held", "s", "files__read", "", "", time.time(), "done")
        await platform.approvals.call_log.complete(call)
        assert await platform.pipelines.kept.keep(RunRecord("p", "apollo", [], time.time(), ok=True))
        await platform.close(stop_fleet=False)
    return platform.held()


async def test_answers_failures_calls_and_runs_are_stored_by_the_one_that_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_later, "STORE_AGAIN_S", 0.02)
    held = await held_by(tmp_path, monkeypatch)
    assert held.answers == ["held"] and held.errors and held.calls and held.runs
    platform = await start(tmp_path)
    try:
        # its turn was ended as lost, which is told
        assert (await lost(platform))[0].count == 1
        assert not await platform.memory.turns.usage()
        watcher = Watcher(platform, "chat")
        late = platform.memory.late_answers = LateAnswers(platform)
        late.still_ended = 2
        await platform.take(held)
        told = await watcher.until(MessageStored, corrects=True)
        assert (told.message.request_id, told.message.error_code) == ("held", None)
        async with asyncio.timeout(BOUND_S):
            while platform.turns.unstored:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert [one.content for one in await platform.memory.messages.of_request("held")][1:] == [
            "",
            told.message.content,
        ]
        assert not await lost(platform), "what told of its loss is settled"
        assert {one.id: one.state for one in await platform.memory.tool_calls.find()} == {"c": "done"}
        assert (await platform.pipelines.kept.get("p")).ok
        messages = {error.message for error in await platform.memory.errors.find()}
        assert {error.message for error in held.errors} <= messages
        assert [row.turns for row in await platform.memory.turns.usage()] == [1]
        assert platform.budgets.used_today().tokens > 0
    finally:
        await end(platform)


async def test_one_whose_conversation_is_gone_is_named_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await held_by(tmp_path, monkeypatch)
    platform = await start(tmp_path)
    try:
        late = platform.memory.late_answers = LateAnswers(platform)
        late.gone = True
        await platform.take(held)
        assert not platform.turns.unstored
        [named] = [
            error
            for error in await platform.error_log.find(unacknowledged=True, where=None, limit=100)
            if "was deleted before the store took it" in error.message
        ]
        assert (named.where, named.request_id) == ("apollo-ai", "held")
    finally:
        await end(platform)


async def lost(platform: Platform) -> list[ErrorRecord]:
    found = await platform.error_log.find(unacknowledged=True, where="apollo-ai", limit=100)
    return [error for error in found if (error.code, error.request_id) == ("backend_lost", "held")]


async def end(platform: Platform) -> None:
    await platform.close(stop_fleet=True)
    await asyncio.to_thread(kill_all, platform.home, grace_s=1.0)
