"""Full-text search, memories for hints, exports."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.memory import TEAM, MemoryStore, Retention
from backend.memory.export import export_session
from backend.memory.search import HIT_END, HIT_START
from tests.memory.contract.conftest import Reopen
from tests.stores import say, search_all


async def fill(store: MemoryStore) -> dict[str, str]:
    """Store a few lines for two owners; return the session ids."""
    apollo = await store.sessions.create("apollo-ai", "Builds")
    numa = await store.sessions.create("numa-ai", "Watch")
    for session, lines in (
        (apollo, ["The build fails on the C++ linker step.", "Linkers need symbols, e.g. foo_bar::baz()."]),
        (
            numa,
            ["Disk usage grew by 12 GB yesterday.", "Café opening hours: 9–17.", "The linker was replaced."],
        ),
    ):
        for line in lines:
            await say(store, session.id, line)
    return {"apollo": apollo.id, "numa": numa.id}


async def test_hits_carry_message_session_and_a_marked_snippet(store: MemoryStore) -> None:
    ids = await fill(store)
    hit = (await store.messages.search("disk usage")).hits[0]
    assert hit.message.session_id == ids["numa"]
    assert hit.session_title == "Watch"
    assert f"{HIT_START}Disk{HIT_END} {HIT_START}usage{HIT_END}" in hit.snippet
    assert hit.score > 0


async def test_words_are_found_by_stem_beginning_and_without_accents(store: MemoryStore) -> None:
    await fill(store)
    assert len((await store.messages.search("linkers")).hits) == 3
    assert len((await store.messages.search("yester")).hits) == 1
    assert len((await store.messages.search("cafe")).hits) == 1
    assert len((await store.messages.search("foo_bar")).hits) == 1


async def test_search_can_be_limited_to_an_owner_a_session_and_a_number(store: MemoryStore) -> None:
    ids = await fill(store)
    assert {h.message.session_id for h in (await store.messages.search("linker", owner="numa-ai")).hits} == {
        ids["numa"]
    }
    assert len((await store.messages.search("linker", session_id=ids["apollo"])).hits) == 2
    assert len((await store.messages.search("linker", limit=1)).hits) == 1


async def test_messages_with_all_words_come_before_those_with_some(store: MemoryStore) -> None:
    await fill(store)
    hits = (await store.messages.search("the build linker replaced yesterday")).hits
    assert hits
    first = (await store.messages.search("linker replaced")).hits
    assert first[0].message.content == "The linker was replaced."
    assert len(first) > 1


async def test_a_quoted_phrase_must_stand_as_written(store: MemoryStore) -> None:
    await fill(store)
    assert [h.message.content for h in (await store.messages.search('"linker step"')).hits] == [
        "The build fails on the C++ linker step."
    ]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        '"',
        '""',
        "C++",
        "NEAR(",
        "a AND",
        "content:x",
        "^x",
        "*",
        "-",
        "(",
        "'; DROP",
        "🙂",
        "\x00",
    ],
)
async def test_punctuation_and_syntax_in_a_query_never_raise(query: str, store: MemoryStore) -> None:
    await fill(store)
    assert isinstance((await store.messages.search(query)).hits, list)
    assert isinstance(await store.messages.recall([query]), list)
    assert isinstance((await store.sessions.find(query=query)).sessions, list)


@given(query=st.text(max_size=60))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_text_at_all_makes_search_raise(query: str, store: MemoryStore) -> None:
    assert isinstance((await store.messages.search(query)).hits, list)


async def found(store: MemoryStore, query: str) -> list[str]:
    return [hit.message.content for hit in (await store.messages.search(query)).hits]


FORMS = {
    "Die Straße ist groß und weiß": ["Straße", "STRASSE", "straße", "groß", "GROẞ", "weiss", "straß"],
    "Le café de Zoë, naïve": ["cafe", "CAFÉ", "cafe\u0301", "zoe", "Zoe\u0308", "naive"],
    "cafe\u0301 in decomposed letters": ["café", "cafe"],
    "Ὀδυσσεύς καὶ Σίσυφος": ["οδυσσευς", "ΟΔΥΣΣΕΥΣ", "σισυφοσ", "ΣΙΣΥΦΟΣ"],
    "Søren drove to İstanbul and Łódź": ["soren", "istanbul", "ISTANBUL", "lodz"],
    "今日の天気は晴れです": ["天気", "今日", "晴れです", "気", "の天気は", "す"],
    "我们明天去北京大学看书": ["北京", "大学", "京大", "书", "北京大学"],
    "오늘날씨가 좋습니다": ["날씨", "좋습", "다"],
    "ＦＵＬＬ width ｱﾊﾟｰﾄ": ["full", "アパート", "パー"],
    "วันนี้อากาศดีมาก": ["อากาศ", "ดี"],
    "हिन्दी में मौसम अच्छा है": ["मौसम", "हिन्दी", "मौ"],
    "мой Ёжик": ["ежик", "ЁЖИК", "ёж"],
    "iPhone手机很好用": ["iphone手机", "手机", "iPhone", "机很"],
    "Zeit\u00adung soft hyphen": ["Zeitung"],
}
"""A text, and queries that must each find it and no other one."""


async def test_any_case_any_accent_form_and_the_middle_of_unspaced_text_are_found_and_marked(
    store: MemoryStore,
) -> None:
    session = await store.sessions.create("apollo-ai")
    for text in FORMS:
        await say(store, session.id, text)
    for text, queries in FORMS.items():
        for query in queries:
            hits = (await store.messages.search(query)).hits
            assert text in [hit.message.content for hit in hits], query
            assert all(HIT_START in hit.snippet for hit in hits), query


@pytest.mark.parametrize("query", ["学北", "京学", "天日", "北大"])
async def test_characters_that_do_not_stand_together_are_not_found(query: str, store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai")
    for text in ("北京大学", "今日の天気", "大学と北京", "北の京と大"):
        await say(store, session.id, text)
    assert await found(store, query) == []


async def test_a_list_of_sessions_by_words_that_are_none_is_empty_and_whole(store: MemoryStore) -> None:
    session = (await store.sessions.default("apollo-ai")).id
    await say(store, session, "hello")
    page = await store.sessions.find(query="?!")
    assert (page.sessions, page.more) == ([], False)


async def test_titles_are_found_by_any_part_in_any_case_and_accent_form(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai", "Die Größe der Straße")
    await store.sessions.create("apollo-ai", "other")
    for query in ("GRÖSSE", "grosse", "raß", "e der s"):
        page = await store.sessions.find(query=query)
        assert ([row.id for row in page.sessions], page.more) == ([session.id], False)
    await store.sessions.patch(session.id, title="天気予報")
    assert [row.id for row in (await store.sessions.find(query="気予")).sessions] == [session.id]
    assert (await store.sessions.find(query="Größe")).sessions == []
    titled = await store.sessions.create("apollo-ai")
    await say(store, titled.id, "Ärger mit dem Bauplan")
    await say(store, titled.id, "nothing")
    assert [row.title for row in (await store.sessions.find(query="ARGER")).sessions] == [
        "Ärger mit dem Bauplan"
    ]


async def test_a_word_is_found_at_each_key_while_it_is_typed(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai")
    for text in ("the connections were lost", "happily running ponies"):
        await say(store, session.id, text)
    for word in ("connections", "happily", "running", "ponies"):
        for end in range(1, len(word) + 1):
            assert len(await found(store, word[:end])) == 1, word[:end]
    assert await found(store, '"running pony"') == ["happily running ponies"]


async def test_pages_go_from_the_newest_to_the_oldest_match_and_say_when_there_is_more(
    store: MemoryStore,
) -> None:
    session = await store.sessions.create("apollo-ai")
    other = await store.sessions.create("numa-ai")
    said: list[int] = []
    for number in range(130):
        said.append((await say(store, session.id, f"the walrus number {number}")).id)
        await say(store, other.id, "a walrus too")
    seen: list[int] = []
    before: int | None = None
    while True:
        page = await store.messages.search("walrus number", owner="apollo-ai", before_id=before, limit=50)
        seen += [hit.message.id for hit in page.hits]
        assert page.more == (page.before_id is not None)
        if page.before_id is None:
            break
        before = page.before_id
    assert seen == said[::-1]
    assert not (await store.messages.search("walrus", limit=300)).more
    assert len((await store.messages.search("walrus", limit=300)).hits) == 260
    page = await store.messages.search("walrus zebra", limit=5)
    assert len(page.hits) == 5 and page.more


async def test_a_hit_of_one_owner_is_found_behind_any_number_of_others(store: MemoryStore) -> None:
    mine = await store.sessions.create("apollo-ai", "mine")
    await say(store, mine.id, "the quokka sleeps")
    busy = await store.sessions.create("numa-ai", "busy")
    await asyncio.gather(*(say(store, busy.id, "quokka " * 3) for _ in range(2_100)))
    assert [
        h.message.session_id for h in (await store.messages.search("quokka", owner="apollo-ai")).hits
    ] == [mine.id]
    assert [
        h.message.session_id for h in (await store.messages.search("quokka", session_id=mine.id)).hits
    ] == [mine.id]
    page = await store.sessions.find(query="quokka", owner="apollo-ai")
    assert ([row.id for row in page.sessions], page.more) == ([mine.id], False)
    page = await store.sessions.find(query="quokka")
    assert busy.id in {row.id for row in page.sessions}
    assert page.more, "the older matches were not looked at"


async def test_a_list_that_is_cut_says_so(store: MemoryStore) -> None:
    for number in range(4):
        await store.sessions.create("apollo-ai", f"n{number}")
    assert [(len(p.sessions), p.more) for p in [await store.sessions.find(limit=n) for n in (3, 4)]] == [
        (3, True),
        (4, False),
    ]


async def test_recall_looks_at_the_owners_it_is_given_and_is_not_starved_by_the_current_session(
    store: MemoryStore,
) -> None:
    current = await store.sessions.create("apollo-ai")
    mine = await store.sessions.create("apollo-ai")
    theirs = await store.sessions.create("numa-ai")
    await say(store, mine.id, "the launch code of the quokka is 7421")
    await say(store, theirs.id, "a secret about the quokka")
    await asyncio.gather(*(say(store, current.id, f"quokka launch {n}") for n in range(80)))
    hits = await store.messages.recall(
        ["the quokka launch code"], owners=["apollo-ai", TEAM], exclude_session=current.id
    )
    assert [hit.content for hit in hits] == ["the launch code of the quokka is 7421"]
    everybody = await store.messages.recall(["quokka secret"], exclude_session=current.id)
    assert {hit.session_id for hit in everybody} == {mine.id, theirs.id}


async def test_what_is_said_and_deleted_while_an_index_is_made_anew_is_found_or_gone(
    store: MemoryStore, again: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await store.sessions.create("apollo-ai")
    for number in range(450):
        await say(store, session.id, f"quokka {number}")
    for module in ("sqlite", "redis"):
        monkeypatch.setattr(f"backend.memory.{module}.index.INDEX_VERSION", 9)
    later = await again()
    fresh = await later.sessions.create("apollo-ai")
    newest = await say(later, fresh.id, "quokka newest")
    await later.sessions.delete(session.id)
    assert await search_all(later, "quokka") == [newest.id]


async def test_older_messages_are_found_again_after_the_index_was_made_anew(
    store: MemoryStore, again: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await store.sessions.create("apollo-ai")
    said = [(await say(store, session.id, f"quokka {number}")).id for number in range(450)]
    for module in ("sqlite", "redis"):
        monkeypatch.setattr(f"backend.memory.{module}.index.INDEX_VERSION", 9)
    later = await again()
    async with asyncio.timeout(30):
        while (page := await later.messages.search("quok", limit=1_000)).more:
            assert [hit.message.id for hit in page.hits] == said[::-1][: len(page.hits)], (
                "newest first, no hole"
            )
            await asyncio.sleep(0.01)
    assert [hit.message.id for hit in page.hits] == said[::-1]


async def test_recall_returns_what_fits_the_hints_from_other_sessions(store: MemoryStore) -> None:
    ids = await fill(store)
    hits = await store.messages.recall(["how much did the disk grow?", "what about the linker?"], limit=2)
    assert hits[0].content == "Disk usage grew by 12 GB yesterday."
    assert (hits[0].who, hits[0].session_id) == ("you", ids["numa"])
    assert "inker" in hits[1].content
    hidden = await store.messages.recall(["disk"], exclude_session=ids["numa"])
    assert hidden == []
    assert await store.messages.recall([]) == []


async def test_recall_gives_equal_texts_once_and_cuts_long_ones_visibly(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai")
    for _ in range(3):
        await say(store, session.id, "walrus " * 900)
    hits = await store.messages.recall(["walrus"], limit=3)
    assert len(hits) == 1
    assert hits[0].content.endswith("[…]")
    assert len(hits[0].content) < 1300


async def test_a_markdown_export_is_readable_and_cannot_drive_a_terminal(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai", "Über: a/b?")
    await say(store, session.id, "Hi\n\n```py\nx\n```", created_at=0)
    await say(
        store,
        session.id,
        author="apollo-ai",
        role="assistant",
        content="half \x1b]52;c;x\x07\u202e",
        error_code="stalled",
        error="no token",
        model="tiny",
        pinned=True,
    )
    export = await export_session(store.sessions, store.messages, session.id, "md")
    assert export.filename.endswith("uber-a-b.md") and export.filename.startswith("apollo-")
    assert export.content.startswith("# Über: a/b?\n")
    assert "## you · 1970-01-01 00:00:00 UTC\n\nHi\n\n```py\nx\n```\n" in export.content
    assert "tiny · pinned" in export.content
    assert "> **stalled**: no token" in export.content
    assert not {"\x1b", "\x07", "\u202e"} & set(export.content)
    assert "half ␛]52;c;x␇⟨U+202E⟩" in export.content


async def test_a_json_export_holds_everything_and_parses(store: MemoryStore) -> None:
    session = await store.sessions.create("apollo-ai", "J")
    for number in range(5):
        await say(store, session.id, f"n{number} \x9b\u202e")
    export = await export_session(store.sessions, store.messages, session.id, "json")
    assert not {"\x9b", "\u202e"} & set(export.content)
    document = json.loads(export.content)
    assert document["session"]["id"] == session.id
    assert [m["content"] for m in document["messages"]] == [f"n{n} \x9b\u202e" for n in range(5)]


async def test_a_beginning_of_too_many_words_ends_its_search_where_there_are_few_hits_or_none(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anywhere: in all, in a session, behind a hit, and beside another word; it says that there may be others."""
    for module in ("sqlite", "redis"):
        monkeypatch.setattr(f"backend.memory.{module}.index.MAX_EXPANSIONS", 3)
    full, bare = await store.sessions.create("apollo-ai"), await store.sessions.create("numa-ai")
    said = [await say(store, full.id, f"quokka{number} rests") for number in range(8)]
    await say(store, bare.id, "nothing of it")
    found = await store.messages.search("quokka")
    assert [hit.message.id for hit in found.hits] == [one.id for one in said[2::-1]]
    assert found.more and found.before_id is None
    inside: list[dict[str, object]] = [
        {"session_id": bare.id},
        {"owner": "numa-ai"},
        {"before_id": said[0].id},
    ]
    for scope in inside:
        page = await store.messages.search("quokka", **scope)  # type: ignore[arg-type]
        assert (page.hits, page.more, page.before_id) == ([], True, None), scope
    assert (await store.messages.search("nothing quokka")).more
    assert (await store.sessions.find(query="quokka", owner="numa-ai")).more


@pytest.mark.parametrize("by", ["retention", "deleted session", "forgotten question"])
async def test_words_of_messages_that_are_gone_stand_in_nobodys_way(
    by: str, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The beginning of a word stands for so many words: those that no message has any more are not among them."""
    for module in ("sqlite", "redis"):
        monkeypatch.setattr(f"backend.memory.{module}.index.MAX_EXPANSIONS", 3)
    old, kept = (await store.sessions.create("apollo-ai")), (await store.sessions.create("apollo-ai"))
    for number in range(8):
        await say(store, old.id, f"quokkaa{number} rests", created_at=1_000.0, request_id=f"r{number}")
    said = await say(store, kept.id, "quokkazz rests", created_at=1_000.0 + 50 * 86_400)
    assert (await store.messages.search("quokka")).more, "that there are others is said"
    if by == "retention":
        await store.retain(Retention(messages_days=10), 1_000.0 + 51 * 86_400)
    elif by == "deleted session":
        await store.sessions.delete(old.id)
    else:
        for number in range(8):
            await store.messages.forget(f"r{number}")
    page = await store.messages.search("quokka")
    assert [hit.message.id for hit in page.hits] == [said.id] and not page.more
