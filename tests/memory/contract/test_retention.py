"""What becomes of old conversations in every store."""

from __future__ import annotations

from backend.memory import MemoryStore


async def test_old_messages_are_deleted_but_pinned_ones_and_defaults_stay(store: MemoryStore) -> None:
    default = await store.default_session("apollo-ai")
    side, young = (
        await store.create_session("apollo-ai", "side"),
        await store.create_session("apollo-ai", "young"),
    )
    for session in (default, side):
        for number in range(900):
            await store.append(
                session.id, author="you", role="user", content=f"ancient {number}", created_at=1000.0 + number
            )
    pinned = await store.append(
        default.id, author="you", role="user", content="ancient but pinned", created_at=999.0, pinned=True
    )
    await store.append(young.id, author="you", role="user", content="recent")
    nothing = await store.retain(retention_days=0, compress_after_days=0)
    assert nothing.messages_deleted == 0

    later = (await store.get_session(side.id)).updated_at + 5 * 86_400
    fresh = await store.append(young.id, author="you", role="user", content="newest", created_at=later)
    report = await store.retain(retention_days=4, compress_after_days=0, now=later)
    assert (report.messages_deleted, report.sessions_deleted) == (1801, 1)
    assert await store.messages(default.id) == [pinned]
    assert (await store.get_session(default.id)).messages == 1
    assert await store.messages(young.id) == [fresh]
    assert {s.id for s in await store.sessions()} == {default.id, young.id}
    assert len(await store.search("ancient")) == 1


async def test_packed_sessions_read_search_export_and_delete_as_before(store: MemoryStore) -> None:
    session = await store.create_session("apollo-ai", "long")
    for number in range(450):
        text = f"the answer {number} is always the same. " * 30
        await store.append(
            session.id, author="apollo-ai", role="assistant", content=text, reasoning="hmm " * 200
        )
    before = await store.messages(session.id, limit=1000)
    later = (await store.get_session(session.id)).updated_at + 40 * 86_400
    report = await store.retain(retention_days=0, compress_after_days=30, now=later)
    assert report.sessions_packed == 1
    assert report.bytes_saved > 450 * 1000
    assert await store.messages(session.id, limit=1000) == before
    assert len(await store.search("answer 321", limit=1)) == 1
    assert "the answer 449" in (await store.export(session.id)).content
    again = await store.retain(retention_days=0, compress_after_days=30, now=later)
    assert again.sessions_packed == 0
    await store.append(session.id, author="you", role="user", content="awake again")
    assert len(await store.messages(session.id, limit=1000)) == 451
    await store.delete_session(session.id)
    assert await store.search("answer") == []
