"""Errors, usage, settings and open turns in every store."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from msgspec.structs import replace

from backend.memory import MemoryStore, Retention
from backend.schema.errors import TektonError
from backend.schema.records import ErrorRecord, UsageRow
from tests.memory.contract.conftest import Reopen
from tests.stores import fail, say, use


async def test_equal_failures_share_a_record_until_someone_acknowledges_it(store: MemoryStore) -> None:
    first = await fail(store, "apollo-ai", "stalled", "no token", phase="prefill", evidence="a", at=10.0)
    again = await fail(store, "apollo-ai", "stalled", "no token", request_id="r2", at=20.0)
    assert (again.id, again.count, again.first, again.last) == (first.id, 2, 10.0, 20.0)
    assert (again.evidence, again.request_id) == ("a", "r2")
    for where, code, message in (
        ("numa-ai", "stalled", "no token"),
        ("apollo-ai", "internal", "no token"),
        ("apollo-ai", "stalled", "none"),
    ):
        assert (await fail(store, where, code, message)).count == 1
    assert await store.errors.unacknowledged() == 4

    assert await store.errors.acknowledge([first.id, first.id, 12345]) == [first.id]
    assert await store.errors.acknowledge([first.id]) == []
    new = await fail(store, "apollo-ai", "stalled", "no token")
    assert (new.count, new.acknowledged) == (1, 0.0)
    assert new.id != first.id
    assert await store.errors.unacknowledged() == 4


async def test_the_error_log_survives_a_restart_and_lists_newest_first(
    store: MemoryStore, again: Reopen
) -> None:
    for number in range(3):
        await fail(store, "apollo-ai", "internal", f"failure {number}", at=float(number))
    await fail(store, "numa-ai", "internal", "other", at=9.0)
    later = await again()
    assert [e.message for e in await later.errors.find()] == ["other", "failure 2", "failure 1", "failure 0"]
    assert [e.message for e in await later.errors.find(where="apollo-ai", limit=1)] == ["failure 2"]
    everything = {e.id for e in await later.errors.find()}
    assert set(await later.errors.acknowledge()) == everything
    assert await later.errors.find(unacknowledged=True) == []
    assert all(e.acknowledged > 0 for e in await later.errors.find())


async def test_a_thousand_failures_at_once_are_counted_without_loss(store: MemoryStore) -> None:
    await asyncio.gather(*(fail(store, "apollo-ai", "internal", f"kind {n % 3}") for n in range(1000)))
    assert sorted(e.count for e in await store.errors.find()) == [333, 333, 334]


async def test_endless_evidence_is_kept_by_its_end(store: MemoryStore) -> None:
    record = await fail(store, "apollo-ai", "internal", "m" * 9_000, evidence="x" * 99_999 + "the end")
    assert record.evidence.endswith("the end")
    assert len(record.evidence) <= 16_000
    assert len(record.message) <= 4_000


def used(ai_id: str, day: str, currency: str, tokens: int, cost: float = 0.0) -> UsageRow:
    unpriced = int(not currency)
    return UsageRow(
        day, ai_id, "anthropic", "big", currency, tokens, tokens * 2, cost, turns=1, unpriced=unpriced
    )


async def test_usage_adds_up_by_day_specialist_model_and_currency(store: MemoryStore) -> None:
    for currency, tokens, cost in (("USD", 100, 0.25), ("USD", 1, 0.5), ("EUR", 10, 0.25), ("", 5, 0.0)):
        await use(store, used("apollo-ai", "2026-01-01", currency, tokens, cost))
    await use(store, used("numa-ai", "2026-01-02", "USD", 1))
    assert await store.turns.usage("2026-01-01") == [
        UsageRow("2026-01-01", "apollo-ai", "anthropic", "big", "", 5, 10, 0.0, turns=1, unpriced=1),
        UsageRow("2026-01-01", "apollo-ai", "anthropic", "big", "EUR", 10, 20, 0.25, turns=1),
        UsageRow("2026-01-01", "apollo-ai", "anthropic", "big", "USD", 101, 202, 0.75, turns=2),
    ]
    assert [row.day for row in await store.turns.usage()] == ["2026-01-01"] * 3 + ["2026-01-02"]
    assert [row.ai_id for row in await store.turns.usage(since="2026-01-02")] == ["numa-ai"]


async def test_figures_that_cannot_be_true_cost_no_answer_and_spoil_no_sum(store: MemoryStore) -> None:
    for cost in (float("nan"), float("inf"), 0.5):
        await use(store, used("apollo-ai", "2026-01-01", "USD", 2**70, cost))
    await use(store, used("apollo-ai", "2026-01-01", "USD", -5))
    [row] = await store.turns.usage("2026-01-01")
    assert (row.turns, row.cost) == (4, 0.5)
    assert isinstance(row.tokens_in, int) and row.tokens_in == 3 * 2**53
    assert len(await store.messages.read((await store.sessions.default("apollo-ai")).id)) == 4


async def test_an_answer_its_turns_end_and_what_it_used_are_one_change(store: MemoryStore) -> None:
    session = await store.sessions.default("apollo-ai")
    for request_id in ("r1", "r2"):
        await store.turns.begin(request_id, "apollo-ai", session.id)
    booked = used("apollo-ai", "2026-01-01", "USD", 7, 0.5)
    answer: dict[str, Any] = {
        "author": "apollo-ai",
        "role": "assistant",
        "content": "two words",
        "request_id": "r1",
    }
    with pytest.raises(TektonError):
        await say(store, "no-such-session", **answer, ends_turn=True, used=booked)
    assert len(await store.turns.unfinished()) == 2 and await store.turns.usage() == []
    await say(store, session.id, **answer, ends_turn=True, used=booked)
    assert [turn.request_id for turn in await store.turns.unfinished()] == ["r2"]
    assert await store.turns.usage() == [booked]
    assert [hit.message.content for hit in (await store.messages.search("words")).hits] == ["two words"]
    assert await store.turns.book("direct-1", booked)
    [row] = await store.turns.usage()
    assert (row.tokens_in, row.turns, row.cost) == (14, 2, 1.0), "what left no answer is booked alone"


async def test_a_turn_that_is_reported_again_is_booked_once(store: MemoryStore, again: Reopen) -> None:
    booked = used("apollo-ai", "2026-01-01", "USD", 7, 0.5)
    assert await store.turns.book("direct-1", booked)
    assert not await store.turns.book("direct-1", booked)
    assert await store.turns.book("direct-failed", None), "one that reached no model has a name as well"
    store = await again()
    assert not await store.turns.book("direct-1", booked) and not await store.turns.book(
        "direct-failed", None
    )
    assert await store.turns.book("direct-2", booked)
    await store.retain(Retention(), time.time() + 29 * 86_400)
    assert not await store.turns.book("direct-2", booked)
    await store.retain(Retention(), time.time() + 31 * 86_400)
    assert await store.turns.book("direct-failed", None), "names are known for a month"
    [row] = await store.turns.usage()
    assert (row.tokens_in, row.turns, row.cost) == (14, 2, 1.0)


async def test_settings_keep_json_values_until_they_are_forgotten(store: MemoryStore) -> None:
    assert await store.settings.get("draft/apollo-ai") is None
    await store.settings.put("draft/apollo-ai", {"text": "half a ques", "cursor": [0, 11]})
    await store.settings.put("draft/numa-ai", "x")
    await store.settings.put("theme", "dark")
    await store.settings.put("theme", "light")
    assert await store.settings.get("draft/apollo-ai") == {"text": "half a ques", "cursor": [0, 11]}
    assert await store.settings.get("theme") == "light"
    assert list(await store.settings.with_prefix("draft/")) == ["draft/apollo-ai", "draft/numa-ai"]
    await store.settings.put("draft/numa-ai", None)
    assert await store.settings.with_prefix("draft/") == {
        "draft/apollo-ai": {"text": "half a ques", "cursor": [0, 11]}
    }


async def test_turns_left_open_by_a_dead_backend_are_known_to_the_next(
    store: MemoryStore, again: Reopen
) -> None:
    await store.turns.begin("r1", "apollo-ai", "s-1")
    await store.turns.begin("r2", "numa-ai", "s-2")
    await store.turns.end("r1")
    later = await again()
    assert [(t.request_id, t.ai_id, t.session_id) for t in await later.turns.unfinished()] == [
        ("r2", "numa-ai", "s-2")
    ]


async def test_a_question_and_the_turns_it_opens_are_one_change_and_what_waited_waits_no_more(
    store: MemoryStore, again: Reopen
) -> None:
    session = await store.sessions.default("apollo-ai")
    await store.turns.wait({"r1": "apollo-ai", "r2/numa-ai": "numa-ai"}, session.id, "may I? \ud800")
    assert [turn.waiting for turn in await store.turns.unfinished()] == ["may I? ?"] * 2
    with pytest.raises(TektonError):
        await say(store, "no-such-session", "x", request_id="r1", opens={"r1": "apollo-ai"})
    assert [turn.waiting for turn in await store.turns.unfinished()] == ["may I? ?"] * 2
    opens = {"r1": "apollo-ai", "r2/numa-ai": "numa-ai"}
    await say(store, session.id, "may I?", request_id="r1", opens=opens)
    later = await again()
    found = sorted(await later.turns.unfinished(), key=lambda turn: turn.request_id)
    assert [(t.request_id, t.ai_id, t.session_id, t.waiting) for t in found] == [
        ("r1", "apollo-ai", session.id, None),
        ("r2/numa-ai", "numa-ai", session.id, None),
    ]
    await later.turns.end("r1", "r2/numa-ai")
    assert await later.turns.unfinished() == []


async def test_an_answer_whose_confirmation_was_lost_is_kept_once_when_it_is_given_again(
    store: MemoryStore,
) -> None:
    session = await store.sessions.default("apollo-ai")
    await say(store, session.id, "how?", request_id="r1", opens={"r1": "apollo-ai"})
    answer: dict[str, Any] = {"author": "apollo-ai", "role": "assistant", "request_id": "r1"}
    booked = used("apollo-ai", "2026-01-01", "USD", 7, 0.5)
    first = await say(store, session.id, "so", **answer, ends_turn=True, used=booked)
    again = await say(store, session.id, "so", **answer, ends_turn=True, used=booked)
    assert again.id == first.id and await store.turns.usage() == [booked]
    answer["author"] = "numa-ai"
    other = await say(store, session.id, "or so", **answer, ends_turn=True)
    assert [row.id for row in await store.messages.of_request("r1")] == [first.id - 1, first.id, other.id]


async def test_a_failure_that_waited_is_counted_as_often_as_it_happened(store: MemoryStore) -> None:
    waited = ErrorRecord(-3, "apollo-ai", "internal", "boom", 5.0, 9.0, count=4, request_id="r4")
    first = await store.errors.record(waited)
    assert (first.count, first.first, first.last, first.request_id) == (4, 5.0, 9.0, "r4")
    again = await store.errors.record(replace(waited, count=2, last=12.0, request_id="r6"))
    assert (again.id, again.count, again.first, again.last, again.request_id) == (
        first.id,
        6,
        5.0,
        12.0,
        "r6",
    )
