"""What becomes of old conversations in every store."""

from __future__ import annotations

import time

from backend.memory import MemoryStore, Retention, RetentionReport
from backend.memory.export import export_session
from backend.schema.records import UsageRow
from backend.schema.tools import ToolRecord
from tests.stores import fail, say, use

DAY_S = 86_400.0


async def test_old_messages_are_deleted_but_pinned_ones_and_defaults_stay(store: MemoryStore) -> None:
    default = await store.sessions.default("apollo-ai")
    side, young = (
        await store.sessions.create("apollo-ai", "side"),
        await store.sessions.create("apollo-ai", "young"),
    )
    for session in (default, side):
        for number in range(900):
            await say(store, session.id, f"ancient {number}", created_at=1000.0 + number)
    pinned = await say(store, default.id, "ancient but pinned", created_at=999.0, pinned=True)
    await say(store, young.id, "recent")
    nothing = await store.retain(Retention())
    assert nothing.messages_deleted == 0

    later = (await store.sessions.get(side.id)).updated_at + 5 * 86_400
    fresh = await say(store, young.id, "newest", created_at=later)
    report = await store.retain(Retention(messages_days=4), later)
    assert (report.messages_deleted, report.sessions_deleted) == (1801, 1)
    assert await store.messages.read(default.id) == [pinned]
    assert (await store.sessions.get(default.id)).messages == 1
    assert await store.messages.read(young.id) == [fresh]
    assert {s.id for s in (await store.sessions.find()).sessions} == {default.id, young.id}
    assert len((await store.messages.search("ancient")).hits) == 1


async def test_nothing_goes_of_a_session_in_which_somebody_is_answered_or_waits(store: MemoryStore) -> None:
    runs, waits, rests = [
        await store.sessions.create("apollo-ai", name) for name in ("runs", "waits", "rests")
    ]
    for number in range(300):  # more than one step, so that those which stay are passed over
        for session in (runs, rests):
            await say(store, session.id, f"old {number}", created_at=1000.0 + number)
    await say(store, runs.id, "asked", created_at=999.0, request_id="r", opens={"r": "apollo-ai"})
    await store.turns.wait({"w": "apollo-ai"}, waits.id, "may I?")
    later = runs.updated_at + 5 * DAY_S
    report = await store.retain(Retention(messages_days=4), later)
    assert (report.messages_deleted, report.sessions_deleted) == (300, 1)
    assert len(await store.messages.read(runs.id, limit=500)) == 301
    assert (await store.sessions.get(waits.id)).id == waits.id
    await say(
        store,
        runs.id,
        "yes",
        author="apollo-ai",
        role="assistant",
        request_id="r",
        ends_turn=True,
        created_at=1400.0,
    )
    await store.turns.end("w")
    assert (await store.retain(Retention(messages_days=4), later)).messages_deleted == 302
    assert {session.id for session in (await store.sessions.find()).sessions} == set()


async def test_packed_sessions_read_search_export_and_delete_as_before(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai", "long")
    for number in range(450):
        text = f"the answer {number} is always the same. " * 30
        await say(
            store, session.id, author="apollo-ai", role="assistant", content=text, reasoning="hmm " * 200
        )
    before = await store.messages.read(session.id, limit=1000)
    later = (await store.sessions.get(session.id)).updated_at + 40 * 86_400
    report = await store.retain(Retention(compress_after_days=30), later)
    assert report.sessions_packed == 1
    assert report.bytes_packed > 450 * 1000
    assert await store.messages.read(session.id, limit=1000) == before
    assert len((await store.messages.search("answer 321", limit=1)).hits) == 1
    assert "the answer 449" in (await export_session(store.sessions, store.messages, session.id)).content
    again = await store.retain(Retention(compress_after_days=30), later)
    assert again.sessions_packed == 0
    await say(store, session.id, "awake again")
    assert len(await store.messages.read(session.id, limit=1000)) == 451
    await store.sessions.delete(session.id)
    assert (await store.messages.search("answer")).hits == []


async def test_acknowledged_errors_and_the_usage_of_old_days_go_with_their_age(store: MemoryStore) -> None:
    moment = time.mktime((2026, 6, 1, 12, 0, 0, 0, 0, -1))
    old = [await fail(store, "apollo-ai", "internal", f"old {n}", at=moment - 91 * DAY_S) for n in range(300)]
    unseen = await fail(store, "apollo-ai", "internal", "never seen", at=moment - 400 * DAY_S)
    young = await fail(store, "apollo-ai", "internal", "young", at=moment - 89 * DAY_S)
    await store.errors.acknowledge([*(error.id for error in old), young.id])
    for day in ("2024-05-31", "2025-06-01", "2026-06-01"):
        await use(store, UsageRow(day, "apollo-ai", "p", "m", "USD", 1, 1, turns=1))
    assert await store.retain(Retention(), moment) == RetentionReport()
    report = await store.retain(Retention(errors_days=90, usage_days=365), moment)
    assert (report.errors_deleted, report.usage_deleted, report.messages_deleted) == (300, 1, 0)
    assert {error.id for error in await store.errors.find(limit=1_000)} == {unseen.id, young.id}
    assert {error.id for error in await store.errors.find(where="apollo-ai", limit=1_000)} == {
        unseen.id,
        young.id,
    }
    assert [row.day for row in await store.turns.usage()] == ["2025-06-01", "2026-06-01"]


async def test_errors_that_nobody_acknowledged_go_with_an_age_of_their_own(store: MemoryStore) -> None:
    moment = time.mktime((2026, 6, 1, 12, 0, 0, 0, 0, -1))
    for number in range(300):
        await fail(store, "apollo-ai", "internal", f"old {number}", at=moment - 400 * DAY_S)
    again = await fail(store, "apollo-ai", "internal", "again and again", at=moment - 400 * DAY_S)
    await fail(store, "apollo-ai", "internal", "again and again", at=moment - DAY_S)
    seen = await fail(store, "apollo-ai", "internal", "seen", at=moment - 400 * DAY_S)
    await store.errors.acknowledge([seen.id])
    report = await store.retain(Retention(unseen_errors_days=365), moment)
    assert report.errors_deleted == 300
    assert {error.id for error in await store.errors.find(limit=1_000)} == {again.id, seen.id}
    assert await store.errors.unacknowledged() == 1
    fresh = await fail(store, "apollo-ai", "internal", "old 1", at=moment)
    assert fresh.count == 1 and await store.errors.unacknowledged() == 2


async def test_calls_of_tools_go_with_their_age_but_those_that_are_open(store: MemoryStore) -> None:
    moment = time.mktime((2026, 6, 1, 12, 0, 0, 0, 0, -1))
    for number in range(450):
        at = moment - (400 - number % 2 * 399) * DAY_S + number
        state = "waiting" if number == 0 else "done"
        await store.tool_calls.put(
            ToolRecord(f"t{number}", "apollo-ai", "r", "s", "read", "d", "p", at, state)
        )
    assert (await store.retain(Retention(usage_days=1), moment)).tool_calls_deleted == 0
    assert (await store.retain(Retention(tool_calls_days=365), moment)).tool_calls_deleted == 224
    left = await store.tool_calls.find(limit=1_000)
    assert len(left) == 226 and left[-1].id == "t0"
    assert (await store.retain(Retention(tool_calls_days=365), moment)).tool_calls_deleted == 0
