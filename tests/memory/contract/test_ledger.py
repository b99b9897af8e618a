"""The error ledger, the usage counters, settings and open turns."""

from __future__ import annotations

import asyncio

import pytest

from backend.memory import MemoryStore, UsageRow
from backend.schema.errors import TektonError
from tests.memory.contract.conftest import Reopen


async def test_equal_failures_share_a_record_until_someone_acknowledges_it(store: MemoryStore) -> None:
    first = await store.record_error(
        "apollo-ai", "stalled", "no token", phase="prefill", evidence="a", at=10.0
    )
    again = await store.record_error("apollo-ai", "stalled", "no token", request_id="r2", at=20.0)
    assert (again.id, again.count, again.first, again.last) == (first.id, 2, 10.0, 20.0)
    assert (again.evidence, again.request_id) == ("a", "r2")
    for where, code, message in (
        ("numa-ai", "stalled", "no token"),
        ("apollo-ai", "internal", "no token"),
        ("apollo-ai", "stalled", "none"),
    ):
        assert (await store.record_error(where, code, message)).count == 1
    assert await store.unacknowledged() == 4

    assert await store.acknowledge([first.id, first.id, 12345]) == [first.id]
    assert await store.acknowledge([first.id]) == []
    new = await store.record_error("apollo-ai", "stalled", "no token")
    assert (new.count, new.acknowledged) == (1, 0.0)
    assert new.id != first.id
    assert await store.unacknowledged() == 4


async def test_the_ledger_survives_a_restart_and_lists_newest_first(
    store: MemoryStore, again: Reopen
) -> None:
    for number in range(3):
        await store.record_error("apollo-ai", "internal", f"failure {number}", at=float(number))
    await store.record_error("numa-ai", "internal", "other", at=9.0)
    later = await again()
    assert [e.message for e in await later.errors()] == ["other", "failure 2", "failure 1", "failure 0"]
    assert [e.message for e in await later.errors(where="apollo-ai", limit=1)] == ["failure 2"]
    everything = {e.id for e in await later.errors()}
    assert set(await later.acknowledge()) == everything
    assert await later.errors(unacknowledged=True) == []
    assert all(e.acknowledged > 0 for e in await later.errors())


async def test_a_thousand_failures_at_once_are_counted_without_loss(store: MemoryStore) -> None:
    await asyncio.gather(*(store.record_error("apollo-ai", "internal", f"kind {n % 3}") for n in range(1000)))
    assert sorted(e.count for e in await store.errors()) == [333, 333, 334]


async def test_endless_evidence_is_kept_by_its_end(store: MemoryStore) -> None:
    record = await store.record_error("apollo-ai", "internal", "m" * 9_000, evidence="x" * 99_999 + "the end")
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
        await store.add_usage(used("apollo-ai", "2026-01-01", currency, tokens, cost))
    await store.add_usage(used("numa-ai", "2026-01-02", "USD", 1))
    assert await store.usage("2026-01-01") == [
        UsageRow("2026-01-01", "apollo-ai", "anthropic", "big", "", 5, 10, 0.0, turns=1, unpriced=1),
        UsageRow("2026-01-01", "apollo-ai", "anthropic", "big", "EUR", 10, 20, 0.25, turns=1),
        UsageRow("2026-01-01", "apollo-ai", "anthropic", "big", "USD", 101, 202, 0.75, turns=2),
    ]
    assert [row.day for row in await store.usage()] == ["2026-01-01"] * 3 + ["2026-01-02"]
    assert [row.ai_id for row in await store.usage(since="2026-01-02")] == ["numa-ai"]


async def test_an_answer_its_turns_end_and_what_it_used_are_one_change(store: MemoryStore) -> None:
    session = await store.default_session("apollo-ai")
    for request_id in ("r1", "r2"):
        await store.turn_opened(request_id, "apollo-ai", session.id)
    booked = used("apollo-ai", "2026-01-01", "USD", 7, 0.5)
    answer = {"author": "apollo-ai", "role": "assistant", "content": "two words", "request_id": "r1"}
    with pytest.raises(TektonError):
        await store.append("no-such-session", **answer, closes_turn=True, booked=booked)
    assert len(await store.open_turns()) == 2 and await store.usage() == []
    await store.append(session.id, **answer, closes_turn=True, booked=booked)
    assert [turn.request_id for turn in await store.open_turns()] == ["r2"]
    assert await store.usage() == [booked]
    assert [hit.message.content for hit in await store.search("words")] == ["two words"]


async def test_settings_keep_json_values_until_they_are_forgotten(store: MemoryStore) -> None:
    assert await store.get_setting("draft/apollo-ai") is None
    await store.put_setting("draft/apollo-ai", {"text": "half a ques", "cursor": [0, 11]})
    await store.put_setting("draft/numa-ai", "x")
    await store.put_setting("theme", "dark")
    await store.put_setting("theme", "light")
    assert await store.get_setting("draft/apollo-ai") == {"text": "half a ques", "cursor": [0, 11]}
    assert await store.get_setting("theme") == "light"
    assert list(await store.settings("draft/")) == ["draft/apollo-ai", "draft/numa-ai"]
    await store.put_setting("draft/numa-ai", None)
    assert await store.settings("draft/") == {"draft/apollo-ai": {"text": "half a ques", "cursor": [0, 11]}}


async def test_turns_left_open_by_a_dead_backend_are_known_to_the_next(
    store: MemoryStore, again: Reopen
) -> None:
    await store.turn_opened("r1", "apollo-ai", "s-1")
    await store.turn_opened("r2", "numa-ai", "s-2")
    await store.turn_closed("r1")
    later = await again()
    assert [(t.request_id, t.ai_id, t.session_id) for t in await later.open_turns()] == [
        ("r2", "numa-ai", "s-2")
    ]
