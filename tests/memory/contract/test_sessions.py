"""Sessions and messages in the embedded store."""

from __future__ import annotations

import asyncio

import pytest

from backend.memory import TEAM, MemoryStore, UnknownMessage, UnknownSession
from backend.schema.frames import Usage
from backend.schema.records import StoredMessage
from tests.memory.contract.conftest import Reopen


async def say(store: MemoryStore, session_id: str, *lines: str) -> list[StoredMessage]:
    """Store lines as a conversation, the operator beginning."""
    return [
        await store.append(
            session_id,
            author="apollo-ai" if number % 2 else "you",
            role="assistant" if number % 2 else "user",
            content=line,
        )
        for number, line in enumerate(lines)
    ]


async def test_each_owner_has_one_default_session(store: MemoryStore) -> None:
    asked = await asyncio.gather(*(store.default_session("apollo-ai") for _ in range(8)))
    assert len({session.id for session in asked}) == 1
    team = await store.default_session(TEAM)
    assert team.id != asked[0].id
    assert (team.owner, team.is_default, team.messages) == (TEAM, True, 0)
    assert len(await store.sessions()) == 2


async def test_a_message_comes_back_as_it_was_stored(store: MemoryStore, again: Reopen) -> None:
    session = await store.create_session("apollo-ai", "Review")
    given = await store.append(
        session.id,
        author="apollo-ai",
        role="assistant",
        content="partial \x1b[2J text\x00 é 漢 🙂",
        created_at=1000.5,
        request_id="r1",
        lane="R",
        model="m:1",
        usage=Usage(10, 20, cached_tokens=3, estimated=True),
        finish_reason="length",
        error_code="stalled",
        error="no token for 15 s",
        first_token_ms=12.5,
        total_time=3.25,
        reasoning="because",
        pinned=True,
    )
    assert given.id > 0
    assert await store.message(given.id) == given
    later = await again()
    assert await later.messages(session.id) == [given]
    assert await later.request_messages("r1") == [given]
    assert await later.request_messages("") == []


async def test_a_text_no_encoding_can_hold_is_stored_with_replacements(store: MemoryStore) -> None:
    session = await store.create_session("apollo-ai")
    given = await store.append(session.id, author="you", role="user", content="a\ud800b")
    assert given.content == "a?b"
    assert (await store.messages(session.id))[0].content == "a?b"


async def test_messages_are_read_in_windows_oldest_first(store: MemoryStore) -> None:
    session = await store.create_session("apollo-ai")
    other = await store.create_session("numa-ai")
    ids: list[int] = []
    for number in range(10):
        ids.append((await store.append(session.id, author="you", role="user", content=f"n{number}")).id)
        await store.append(other.id, author="you", role="user", content="elsewhere")

    async def window(**bounds: int) -> list[int]:
        return [ids.index(m.id) for m in await store.messages(session.id, **bounds)]

    assert await window(limit=3) == [7, 8, 9]
    assert await window(limit=3, before_id=ids[7]) == [4, 5, 6]
    assert await window(limit=3, after_id=ids[1]) == [2, 3, 4]
    assert await window(after_id=ids[2], before_id=ids[5]) == [3, 4]
    assert await window(before_id=ids[0]) == []


async def test_a_session_counts_previews_and_titles_itself_by_its_messages(store: MemoryStore) -> None:
    session = await store.create_session("apollo-ai")
    await say(store, session.id, "Why does\n the   build fail?", "Because of " + "x" * 500)
    session = await store.get_session(session.id)
    assert (session.title, session.messages) == ("Why does the build fail?", 2)
    assert session.preview.startswith("Because of xxx") and len(session.preview) <= 120
    assert session.updated_at >= session.created_at


async def test_a_given_title_is_kept_and_renaming_changes_it(store: MemoryStore) -> None:
    session = await store.create_session("apollo-ai", "Mine")
    await say(store, session.id, "hello")
    assert (await store.get_session(session.id)).title == "Mine"
    assert (await store.rename(session.id, "Our\nplan")).title == "Our plan"


async def test_sessions_are_listed_newest_use_first_and_filtered(store: MemoryStore) -> None:
    old = await store.create_session("apollo-ai", "Database migration")
    new = await store.create_session("apollo-ai", "Colours")
    numa = await store.create_session("numa-ai", "Watch")
    await say(store, numa.id, "the migration went well")
    await say(store, old.id, "hello")
    await store.patch_session(new.id, archived=True)

    async def names(**filters: object) -> list[str]:
        return [s.title for s in await store.sessions(**filters)]  # type: ignore[arg-type]

    assert await names() == ["Database migration", "Watch"]
    assert await names(owner="apollo-ai") == ["Database migration"]
    assert await names(owner="apollo-ai", include_archived=True) == ["Database migration", "Colours"]
    assert await names(query="MIGRATION") == ["Database migration", "Watch"]
    assert await names(query="migration", owner="numa-ai") == ["Watch"]
    assert await names(query='"%_\\*(') == []
    assert await names(limit=1) == ["Database migration"]


async def test_a_new_default_takes_the_mark_from_the_old_one(store: MemoryStore) -> None:
    first = await store.default_session("apollo-ai")
    second = await store.create_session("apollo-ai", "Fresh")
    await store.patch_session(second.id, is_default=True, provider="ollama", model="tiny")
    assert (await store.default_session("apollo-ai")).id == second.id
    assert not (await store.get_session(first.id)).is_default
    assert (await store.get_session(second.id)).model == "tiny"


async def test_a_deleted_session_is_gone_with_its_messages_and_found_no_more(store: MemoryStore) -> None:
    session = await store.default_session("apollo-ai")
    said = await say(store, session.id, "the quokka sleeps")
    await store.delete_session(session.id)
    with pytest.raises(UnknownMessage):
        await store.message(said[0].id)
    with pytest.raises(UnknownSession):
        await store.messages(session.id)
    assert await store.search("quokka") == []
    assert (await store.default_session("apollo-ai")).id != session.id


@pytest.mark.parametrize("method", ["get_session", "messages", "delete_session", "conversation", "export"])
async def test_an_unknown_session_is_named(method: str, store: MemoryStore) -> None:
    with pytest.raises(UnknownSession, match="'s-none'") as caught:
        await getattr(store, method)("s-none")
    assert caught.value.code == "unknown_session"


async def test_appending_to_an_unknown_session_fails_alone_among_many(store: MemoryStore) -> None:
    session = await store.create_session("apollo-ai")

    async def append(target: str) -> StoredMessage:
        return await store.append(target, author="you", role="user", content="x")

    results = await asyncio.gather(
        *(append("s-none" if number % 3 == 0 else session.id) for number in range(60)), return_exceptions=True
    )
    assert sum(isinstance(result, UnknownSession) for result in results) == 20
    assert (await store.get_session(session.id)).messages == 40
    assert len(await store.messages(session.id, limit=100)) == 40


async def test_a_conversation_for_one_member_leaves_the_other_members_out(store: MemoryStore) -> None:
    session = await store.default_session(TEAM)
    for author, role in (("you", "user"), ("apollo-ai", "assistant"), ("athena-ai", "assistant")):
        await store.append(session.id, author=author, role=role, content=f"by {author}")  # type: ignore[arg-type]
    seen = await store.context_messages(session.id, for_ai="apollo-ai")
    assert [message.author for message in seen] == ["you", "apollo-ai"]


async def test_a_conversation_counts_what_is_earlier_and_brings_older_pinned_messages(
    store: MemoryStore,
) -> None:
    session = await store.create_session("apollo-ai")
    said = await say(store, session.id, *(f"line {number}" for number in range(12)))
    await store.pin(said[1].id)
    await store.pin(said[11].id)
    found = await store.conversation(session.id, 4)
    assert [m.content for m in found.messages] == ["line 8", "line 9", "line 10", "line 11"]
    assert [m.content for m in found.pinned] == ["line 1"]
    assert (found.earlier, found.session.id) == (8, session.id)
    await store.pin(said[1].id, False)
    assert (await store.conversation(session.id, 4)).pinned == []
    with pytest.raises(UnknownMessage, match="999"):
        await store.pin(999)
