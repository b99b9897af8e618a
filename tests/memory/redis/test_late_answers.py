"""Answers of a gateway that was fenced before it could store them: in the place of the end others gave their turn, once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from backend.memory import MemoryStore, UnknownMessage, UnknownSession
from backend.memory.redis import late_answers
from backend.memory.redis.layout import PREFIX, packed, read_messages
from backend.memory.redis.store import RedisStore
from backend.memory.shared_log import LateAnswers
from backend.schema.records import StoredMessage, UsageRow
from tests.redis_server import NEEDS_REDIS, RedisServer
from tests.stores import say, search_all

pytestmark = [pytest.mark.cluster, NEEDS_REDIS]
APOLLO = "apollo-ai"
USED = UsageRow("2026-01-02", APOLLO, "scripted", "small", "USD", 3, 5, 0.5, 1)


@pytest.fixture
async def stores(server: RedisServer) -> AsyncIterator[list[RedisStore]]:
    """Two gateways of one fleet: the one that was fenced and is back, and the one that ended its turns."""
    made = [RedisStore(server.address, name, fleet="f") for name in ("one", "two")]
    for store in made:
        await store.open()
    yield made
    for store in made:
        await store.close()


def late_of(store: MemoryStore) -> LateAnswers:
    assert store.late_answers is not None
    return store.late_answers


async def asked(store: MemoryStore) -> StoredMessage:
    session = await store.sessions.default(APOLLO)
    return await say(store, session.id, "what is it?", request_id="r", opens={"r": APOLLO})


async def ended(store: MemoryStore, question: StoredMessage, text: str, **facts: Any) -> StoredMessage:
    """Store the end that a gateway gives the turn; by default that of a turn whose gateway is gone."""
    facts = {"error_code": "backend_lost", "error": "its gateway ended", **facts}
    return await say(
        store,
        question.session_id,
        text,
        author=APOLLO,
        role="assistant",
        request_id="r",
        ends_turn=True,
        **facts,
    )


def whole(question: StoredMessage, text: str = "it is a melody whole") -> StoredMessage:
    return StoredMessage(
        0, question.session_id, APOLLO, "assistant", text, time.time(), request_id="r", finish_reason="stop"
    )


async def answers(store: MemoryStore) -> list[StoredMessage]:
    return [message for message in await store.messages.of_request("r") if message.role == "assistant"]


async def test_it_takes_the_place_of_the_end_that_was_stored_as_lost_with_all_that_hangs_on_it(
    stores: list[RedisStore],
) -> None:
    back, other = stores
    question = await asked(back)
    await back.turns.end("r")  # taken over
    lost = await ended(other, question, "it is a mel")
    await other.messages.pin(lost.id)
    gave_way: list[str | None] = []
    for _ in range(2):  # the confirmation of the first may be lost
        put = await late_of(back).put(whole(question), prompt_id=question.id, used=USED, sent=None)
        assert put is not None and put.message.id == lost.id
        gave_way.append(put.lost and put.lost.error)
    assert gave_way == ["its gateway ended", None]
    [kept] = await answers(other)
    assert (kept.id, kept.content, kept.error_code, kept.error) == (lost.id, "it is a melody whole", None, "")
    assert kept.pinned and kept.finish_reason == "stop" and kept.created_at == lost.created_at
    assert await search_all(other, '"melody whole"') == [lost.id]
    assert await search_all(other, '"mel"') == [], "the cut word is in no message any more"
    session = await other.sessions.get(question.session_id)
    assert (session.messages, session.preview) == (2, "it is a melody whole")
    assert [row.turns for row in await other.turns.usage()] == [1]
    await other.sessions.delete(question.session_id)
    assert not await search_all(other, "melody")


async def test_what_was_said_after_it_stays_behind_it(stores: list[RedisStore]) -> None:
    back, other = stores
    question = await asked(back)
    await back.turns.end("r")
    await ended(other, question, "it is")
    await say(other, question.session_id, "go on", request_id="next")
    assert await late_of(back).put(whole(question), prompt_id=question.id, used=None, sent=None)
    shown = await other.messages.read(question.session_id)
    assert [message.content for message in shown] == ["what is it?", "it is a melody whole", "go on"]
    assert (await other.sessions.get(question.session_id)).preview == "go on"


async def test_it_waits_while_another_gateway_still_ends_its_turn(stores: list[RedisStore]) -> None:
    back, other = stores
    question = await asked(back)
    await back.turns.end("r")
    await other.turns.begin("r", APOLLO, question.session_id)
    assert await late_of(back).put(whole(question), prompt_id=question.id, used=None, sent=None) is None
    assert not await answers(other)
    await ended(other, question, "it")
    assert await late_of(back).put(whole(question), prompt_id=question.id, used=None, sent=None)
    assert [one.content for one in await answers(other)] == ["it is a melody whole"]


async def test_it_is_stored_where_nobody_has_ended_its_turn(stores: list[RedisStore]) -> None:
    back, _ = stores
    question = await asked(back)
    for _ in range(2):
        assert await late_of(back).put(whole(question), prompt_id=question.id, used=USED, sent=None)
    assert [one.content for one in await answers(back)] == ["it is a melody whole"]
    assert not await back.turns.unfinished()
    assert [row.turns for row in await back.turns.usage()] == [1]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("another beginning", {}),
        ("it is", {"error_code": "cancelled", "error": "cancelled"}),
        ("it is a lyre", {"error_code": None, "error": ""}),
    ],
)
async def test_beside_any_other_end_it_is_stored_once_as_a_further_message(
    stores: list[RedisStore], text: str, facts: dict[str, Any]
) -> None:
    back, other = stores
    question = await asked(back)
    await back.turns.end("r")
    await ended(other, question, text, **facts)
    for _ in range(2):
        assert await late_of(back).put(whole(question), prompt_id=question.id, used=USED, sent=None)
    assert [one.content for one in await answers(other)] == [text, "it is a melody whole"]
    assert [row.turns for row in await other.turns.usage()] == [1]


async def test_an_end_that_is_changed_while_it_is_looked_at_is_left_and_replaced_at_the_next_try(
    stores: list[RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    back, other = stores
    question = await asked(back)
    await back.turns.end("r")
    text = "word " * 100
    lost = await ended(other, question, text)

    async def read_and_pack(connection: Any, ids: Any) -> list[StoredMessage]:
        blob = await connection.call("HGET", f"{PREFIX}m", lost.id)
        await connection.call("HSET", f"{PREFIX}m", lost.id, packed(blob))
        return await read_messages(connection, ids)

    late = whole(question, text + "more")
    with monkeypatch.context() as patched:
        patched.setattr(late_answers, "read_messages", read_and_pack)
        assert await late_of(back).put(late, prompt_id=question.id, used=USED, sent=None) is None
    assert not await other.turns.usage()
    assert await late_of(back).put(late, prompt_id=question.id, used=USED, sent=None)
    assert [one.content for one in await answers(other)] == [text + "more"]


async def test_without_its_conversation_or_its_question_it_is_refused(stores: list[RedisStore]) -> None:
    back, other = stores
    question = await asked(back)
    await back.turns.end("r")
    await ended(other, question, "it is")
    await other.messages.forget("r")
    with pytest.raises(UnknownMessage):
        await late_of(back).put(whole(question), prompt_id=question.id, used=None, sent=None)
    await other.sessions.delete(question.session_id)
    with pytest.raises(UnknownSession):
        await late_of(back).put(whole(question), prompt_id=question.id, used=None, sent=None)
    assert not await answers(other)
