"""Sessions and messages in every store."""

from __future__ import annotations

import asyncio
from operator import attrgetter

import pytest

from backend.memory import TEAM, MemoryStore, OutOfRange, UnknownMessage, UnknownSession, search
from backend.schema.frames import Usage
from backend.schema.records import MAX_INTEGER, Session, StoredMessage
from tests.memory.contract.conftest import Reopen
from tests.stores import say


async def converse(store: MemoryStore, session_id: str, *lines: str) -> list[StoredMessage]:
    """Store lines as a conversation, the operator beginning."""
    return [
        await say(
            store,
            session_id,
            author="apollo-ai" if number % 2 else "you",
            role="assistant" if number % 2 else "user",
            content=line,
        )
        for number, line in enumerate(lines)
    ]


async def test_each_owner_has_one_default_session(store: MemoryStore) -> None:
    asked = await asyncio.gather(*(store.sessions.default("apollo-ai") for _ in range(8)))
    assert len({session.id for session in asked}) == 1
    team = await store.sessions.default(TEAM)
    assert team.id != asked[0].id
    assert (team.owner, team.is_default, team.messages) == (TEAM, True, 0)
    assert len((await store.sessions.find()).sessions) == 2


async def test_a_message_comes_back_as_it_was_stored(store: MemoryStore, again: Reopen) -> None:
    session = await store.sessions.create("apollo-ai", "Review")
    given = await say(
        store,
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
    later = await again()
    assert await later.messages.read(session.id) == [given]
    assert await later.messages.of_request("r1") == [given]
    assert await later.messages.of_request("") == []


async def test_a_text_no_encoding_can_hold_is_stored_with_replacements(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai")
    given = await say(store, session.id, "a\ud800b")
    assert given.content == "a?b"
    assert (await store.messages.read(session.id))[0].content == "a?b"


async def test_messages_are_read_in_windows_oldest_first(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai")
    other = await store.sessions.create("numa-ai")
    ids: list[int] = []
    for number in range(10):
        ids.append((await say(store, session.id, f"n{number}")).id)
        await say(store, other.id, "elsewhere")

    async def window(**bounds: int) -> list[int]:
        return [ids.index(m.id) for m in await store.messages.read(session.id, **bounds)]

    assert await window(limit=3) == [7, 8, 9]
    assert await window(limit=3, before_id=ids[7]) == [4, 5, 6]
    assert await window(limit=3, after_id=ids[1]) == [2, 3, 4]
    assert await window(after_id=ids[2], before_id=ids[5]) == [3, 4]
    assert await window(before_id=ids[0]) == []


async def test_a_session_counts_previews_and_titles_itself_by_its_messages(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai")
    await converse(store, session.id, "Why does\n the   build fail?", "Because of " + "x" * 500)
    session = await store.sessions.get(session.id)
    assert (session.title, session.messages) == ("Why does the build fail?", 2)
    assert session.preview.startswith("Because of xxx") and len(session.preview) <= 120
    assert session.updated_at >= session.created_at


async def test_a_given_title_is_kept_and_renaming_changes_it(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai", "Mine")
    await converse(store, session.id, "hello")
    assert (await store.sessions.get(session.id)).title == "Mine"
    assert (await store.sessions.patch(session.id, title="Our\nplan")).title == "Our plan"


async def test_sessions_are_listed_newest_use_first_and_filtered(store: MemoryStore) -> None:
    old = await store.sessions.create("apollo-ai", "Database migration")
    new = await store.sessions.create("apollo-ai", "Colours")
    numa = await store.sessions.create("numa-ai", "Watch")
    await converse(store, numa.id, "the migration went well")
    await converse(store, old.id, "hello")
    await store.sessions.patch(new.id, archived=True)

    async def names(**filters: object) -> list[str]:
        return [s.title for s in (await store.sessions.find(**filters)).sessions]  # type: ignore[arg-type]

    assert await names() == ["Database migration", "Watch"]
    assert await names(owner="apollo-ai") == ["Database migration"]
    assert await names(owner="apollo-ai", include_archived=True) == ["Database migration", "Colours"]
    assert await names(query="MIGRATION") == ["Database migration", "Watch"]
    assert await names(query="migration", owner="numa-ai") == ["Watch"]
    assert await names(query='"%_\\*(') == []
    assert await names(limit=1) == ["Database migration"]


async def test_a_new_default_takes_the_mark_from_the_old_one(store: MemoryStore) -> None:
    first = await store.sessions.default("apollo-ai")
    second = await store.sessions.create("apollo-ai", "Fresh")
    await store.sessions.patch(second.id, is_default=True, provider="ollama", model="tiny")
    assert (await store.sessions.default("apollo-ai")).id == second.id
    assert not (await store.sessions.get(first.id)).is_default
    assert (await store.sessions.get(second.id)).model == "tiny"


async def test_a_deleted_session_is_gone_with_its_messages_and_found_no_more(store: MemoryStore) -> None:
    session = await store.sessions.default("apollo-ai")
    said = await converse(store, session.id, "the quokka sleeps")
    await store.sessions.delete(session.id)
    with pytest.raises(UnknownMessage):
        await store.messages.pin(said[0].id)
    with pytest.raises(UnknownSession):
        await store.messages.read(session.id)
    assert (await store.messages.search("quokka")).hits == []
    assert (await store.sessions.default("apollo-ai")).id != session.id


@pytest.mark.parametrize(
    "method", ["sessions.get", "sessions.delete", "messages.read", "messages.conversation", "sessions.patch"]
)
async def test_an_unknown_session_is_named(method: str, store: MemoryStore) -> None:
    with pytest.raises(UnknownSession, match="'s-none'") as caught:
        await attrgetter(method)(store)("s-none")
    assert caught.value.code == "unknown_session"


async def test_appending_to_an_unknown_session_fails_alone_among_many(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai")

    async def append(target: str) -> StoredMessage:
        return await say(store, target, "x")

    results = await asyncio.gather(
        *(append("s-none" if number % 3 == 0 else session.id) for number in range(60)), return_exceptions=True
    )
    assert sum(isinstance(result, UnknownSession) for result in results) == 20
    assert (await store.sessions.get(session.id)).messages == 40
    assert len(await store.messages.read(session.id, limit=100)) == 40


async def test_a_conversation_for_one_member_leaves_the_other_members_out(store: MemoryStore) -> None:
    session = await store.sessions.default(TEAM)
    for author, role in (("you", "user"), ("apollo-ai", "assistant"), ("athena-ai", "assistant")):
        await say(store, session.id, author=author, role=role, content=f"by {author}")  # type: ignore[arg-type]
    seen = await store.messages.conversation(session.id, for_ai="apollo-ai")
    assert [message.author for message in seen.messages] == ["you", "apollo-ai"]


async def test_a_members_conversation_brings_what_others_said_and_is_pinned_and_counts_only_its_own(
    store: MemoryStore,
) -> None:
    session = await store.sessions.default(TEAM)
    said: list[StoredMessage] = []
    for number in range(6):
        for author, role in (("you", "user"), ("apollo-ai", "assistant"), ("athena-ai", "assistant")):
            said.append(await say(store, session.id, author=author, role=role, content=f"{author} {number}"))  # type: ignore[arg-type]
    for place in (1, 2, 17):  # apollo and athena at the beginning, athena at the end
        await store.messages.pin(said[place].id)
    found = await store.messages.conversation(session.id, 4, for_ai="apollo-ai")
    assert [m.content for m in found.messages] == ["you 4", "apollo-ai 4", "you 5", "apollo-ai 5"]
    assert [m.content for m in found.pinned] == ["apollo-ai 0", "athena-ai 0", "athena-ai 5"]
    assert found.earlier == 8
    everything = await store.messages.conversation(session.id, 12, for_ai="apollo-ai")
    assert everything.earlier == 0 and len(everything.messages) == 12
    assert [m.content for m in everything.pinned] == ["athena-ai 0", "athena-ai 5"]


async def test_a_conversation_counts_what_is_earlier_and_brings_older_pinned_messages(
    store: MemoryStore,
) -> None:
    session = await store.sessions.create("apollo-ai")
    said = await converse(store, session.id, *(f"line {number}" for number in range(12)))
    await store.messages.pin(said[1].id)
    await store.messages.pin(said[11].id)
    found = await store.messages.conversation(session.id, 4)
    assert [m.content for m in found.messages] == ["line 8", "line 9", "line 10", "line 11"]
    assert [m.content for m in found.pinned] == ["line 1"]
    assert (found.earlier, found.session.id) == (8, session.id)
    await store.messages.pin(said[1].id, False)
    assert (await store.messages.conversation(session.id, 4)).pinned == []
    with pytest.raises(UnknownMessage, match="999"):
        await store.messages.pin(999)


@pytest.mark.parametrize("number", [-1, MAX_INTEGER + 1, 2**70])
async def test_a_number_no_store_can_hold_is_refused_by_name(number: int, store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai")
    calls = {
        "before_id": lambda: store.messages.read(session.id, before_id=number),
        "after_id": lambda: store.messages.read(session.id, after_id=number),
        "message_id": lambda: store.messages.pin(number),
        "id": lambda: store.errors.acknowledge([number]),
    }
    limited = [
        lambda: store.messages.read(session.id, limit=number),
        lambda: store.messages.conversation(session.id, number),
        lambda: store.messages.search("x", limit=number),
        lambda: store.messages.recall(["x"], limit=number),
        lambda: store.sessions.find(limit=number),
        lambda: store.errors.find(limit=number),
    ]
    for name, call in [*calls.items(), *(("limit", call) for call in limited)]:
        with pytest.raises(
            OutOfRange, match=f"^{name}: expected a whole number from 0 to {MAX_INTEGER}"
        ) as caught:
            await call()
        assert caught.value.code == "invalid_request"


async def test_the_largest_number_a_store_can_hold_is_taken(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai")
    said = await say(store, session.id, "x")
    assert await store.messages.read(session.id, before_id=MAX_INTEGER, limit=MAX_INTEGER) == [said]
    assert await store.messages.read(session.id, after_id=MAX_INTEGER) == []
    assert await store.messages.read(session.id, limit=0) == []
    assert (await store.sessions.find(limit=0)).sessions == []
    with pytest.raises(UnknownMessage):
        await store.messages.pin(MAX_INTEGER)


async def test_a_default_session_that_need_not_be_counted_is_never_one_of_before_a_change(
    store: MemoryStore,
) -> None:
    """Whatever was read meanwhile, and although whoever changes it stops waiting."""
    home = await store.sessions.default("apollo-ai")

    async def known() -> Session:
        return await store.sessions.default("apollo-ai", counted=False)

    assert (await known()).id == home.id
    for provider, model in [("openai", "m"), ("ollama", "n")]:
        _, *read = await asyncio.gather(
            store.sessions.patch(home.id, provider=provider, model=model), *(known() for _ in range(20))
        )
        assert {one.provider for one in read} <= {"", "openai", "ollama"}
        now = await known()
        assert (now.provider, now.model) == (provider, model)
    changing = asyncio.create_task(store.sessions.patch(home.id, archived=True))
    await asyncio.sleep(0)
    await known()
    changing.cancel()
    await asyncio.wait([changing])
    counted = await store.sessions.default("apollo-ai")
    if counted.archived:  # it was on its way, and came about
        assert (await known()).archived
    other = await store.sessions.create("apollo-ai")
    await store.sessions.patch(other.id, is_default=True)
    assert (await known()).id == other.id
    await store.sessions.delete(other.id)
    assert (await known()).id != other.id
    (await known()).provider = "spoilt"
    assert (await known()).provider == "", "whoever reads it has a copy"


async def test_a_search_that_stops_early_says_more_and_keeps_the_order_and_archived_ones_apart(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a handful read at once, the first slice is full of archived sessions, which must not count."""
    monkeypatch.setattr(search, "LISTED_AT_ONCE", 4)
    shown = [await store.sessions.create("apollo-ai", f"n{number}") for number in range(12)]
    for number, session in enumerate(shown):
        await say(store, session.id, "a quokka", created_at=1_000.0 + number)
        await store.sessions.patch(session.id, archived=number >= 6)
    titled = await store.sessions.create("apollo-ai", "Überquokka")
    await say(store, titled.id, "nothing", created_at=5.0)

    async def found(limit: int, *, archived: bool = False) -> tuple[list[str], bool]:
        page = await store.sessions.find(query="QUOKKA", limit=limit, include_archived=archived)
        return [session.title for session in page.sessions], page.more

    others = [f"n{number}" for number in range(11, -1, -1)]
    assert await found(3) == (["Überquokka", "n5", "n4"], True)
    assert await found(100) == (["Überquokka", *others[6:]], False)
    assert await found(100, archived=True) == (["Überquokka", *others], False)


async def test_a_title_is_found_whatever_gateway_last_changed_it(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai", "Straße")
    await store.sessions.patch(session.id, title="Größe 東京")
    for query in ("GROSSE", "größe 東", "京"):
        page = await store.sessions.find(query=query)
        assert [one.id for one in page.sessions] == [session.id], query
    assert (await store.sessions.find(query="strasse")).sessions == []


async def test_a_session_is_found_by_the_title_it_has_now_and_only_while_it_is_shown(
    store: MemoryStore,
) -> None:
    """Named by itself, renamed, archived, renamed while archived, back again, unnamed, deleted."""
    session = await store.sessions.create("apollo-ai")

    async def found(query: str, **filters: object) -> bool:
        page = await store.sessions.find(query=query, owner="apollo-ai", **filters)  # type: ignore[arg-type]
        return [one.id for one in page.sessions] == [session.id]

    await say(store, session.id, "Über den Fluss")
    await say(store, (await store.sessions.create("numa-ai", "Flussbett")).id, "elsewhere")
    assert await found("uber den fl")
    await store.sessions.patch(session.id, archived=True)
    assert not await found("fluss") and await found("FLUSS", include_archived=True)
    await store.sessions.patch(session.id, title="Wäldchen")
    assert not await found("aldch") and await found("aldch", include_archived=True)
    await store.sessions.patch(session.id, archived=False, title="Am Wäldchen")
    assert await found("am wald")
    await store.sessions.patch(session.id, title="Feld")
    assert await found("fel") and not await found("aldch")
    await store.sessions.patch(session.id, title="")
    assert not await found("aldchen")
    await store.sessions.patch(session.id, title="Heide")
    assert await found("eid")
    await store.sessions.delete(session.id)
    assert not await found("eid", include_archived=True)
