"""Full-text search, memories for hints, exports."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.memory import MemoryStore
from backend.memory.search import HIT_END, HIT_START


async def fill(store: MemoryStore) -> dict[str, str]:
    """Store a few lines for two owners; return the session ids."""
    apollo = await store.create_session("apollo-ai", "Builds")
    numa = await store.create_session("numa-ai", "Watch")
    for session, lines in (
        (apollo, ["The build fails on the C++ linker step.", "Linkers need symbols, e.g. foo_bar::baz()."]),
        (
            numa,
            ["Disk usage grew by 12 GB yesterday.", "Café opening hours: 9–17.", "The linker was replaced."],
        ),
    ):
        for line in lines:
            await store.append(session.id, author="you", role="user", content=line)
    return {"apollo": apollo.id, "numa": numa.id}


async def test_hits_carry_message_session_and_a_marked_snippet(store: MemoryStore) -> None:
    ids = await fill(store)
    hit = (await store.search("disk usage"))[0]
    assert hit.message.session_id == ids["numa"]
    assert hit.session_title == "Watch"
    assert f"{HIT_START}Disk{HIT_END} {HIT_START}usage{HIT_END}" in hit.snippet
    assert hit.score > 0


async def test_words_are_found_by_stem_beginning_and_without_accents(store: MemoryStore) -> None:
    await fill(store)
    assert len(await store.search("linkers")) == 3
    assert len(await store.search("yester")) == 1
    assert len(await store.search("cafe")) == 1
    assert len(await store.search("foo_bar")) == 1


async def test_search_can_be_limited_to_an_owner_a_session_and_a_number(store: MemoryStore) -> None:
    ids = await fill(store)
    assert {h.message.session_id for h in await store.search("linker", owner="numa-ai")} == {ids["numa"]}
    assert len(await store.search("linker", session_id=ids["apollo"])) == 2
    assert len(await store.search("linker", limit=1)) == 1


async def test_messages_with_all_words_come_before_those_with_some(store: MemoryStore) -> None:
    await fill(store)
    hits = await store.search("the build linker replaced yesterday")
    assert hits
    first = await store.search("linker replaced")
    assert first[0].message.content == "The linker was replaced."
    assert len(first) > 1


async def test_a_quoted_phrase_must_stand_as_written(store: MemoryStore) -> None:
    await fill(store)
    assert [h.message.content for h in await store.search('"linker step"')] == [
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
    assert isinstance(await store.search(query), list)
    assert isinstance(await store.recall([query]), list)
    assert isinstance(await store.sessions(query=query), list)


@given(query=st.text(max_size=60))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_text_at_all_makes_search_raise(query: str, store: MemoryStore) -> None:
    assert isinstance(await store.search(query), list)


async def test_recall_returns_what_fits_the_hints_from_other_sessions(store: MemoryStore) -> None:
    ids = await fill(store)
    hits = await store.recall(["how much did the disk grow?", "what about the linker?"], limit=2)
    assert hits[0].content == "Disk usage grew by 12 GB yesterday."
    assert (hits[0].who, hits[0].session_id) == ("you", ids["numa"])
    assert "inker" in hits[1].content
    hidden = await store.recall(["disk"], exclude_session=ids["numa"])
    assert hidden == []
    assert await store.recall([]) == []


async def test_recall_gives_equal_texts_once_and_cuts_long_ones_visibly(store: MemoryStore) -> None:
    session = await store.create_session("apollo-ai")
    for _ in range(3):
        await store.append(session.id, author="you", role="user", content="walrus " * 900)
    hits = await store.recall(["walrus"], limit=3)
    assert len(hits) == 1
    assert hits[0].content.endswith("[…]")
    assert len(hits[0].content) < 1300


async def test_a_markdown_export_is_readable_and_cannot_drive_a_terminal(store: MemoryStore) -> None:
    session = await store.create_session("apollo-ai", "Über: a/b?")
    await store.append(session.id, author="you", role="user", content="Hi\n\n```py\nx\n```", created_at=0)
    await store.append(
        session.id,
        author="apollo-ai",
        role="assistant",
        content="half \x1b]52;c;x\x07\u202e",
        error_code="stalled",
        error="no token",
        model="tiny",
        pinned=True,
    )
    export = await store.export(session.id, "md")
    assert export.filename.endswith("uber-a-b.md") and export.filename.startswith("apollo-")
    assert export.content.startswith("# Über: a/b?\n")
    assert "## you · 1970-01-01 00:00:00 UTC\n\nHi\n\n```py\nx\n```\n" in export.content
    assert "tiny · pinned" in export.content
    assert "> **stalled**: no token" in export.content
    assert not {"\x1b", "\x07", "\u202e"} & set(export.content)
    assert "half ␛]52;c;x␇⟨202E⟩" in export.content


async def test_a_json_export_holds_everything_and_parses(store: MemoryStore) -> None:
    session = await store.create_session("apollo-ai", "J")
    for number in range(5):
        await store.append(session.id, author="you", role="user", content=f"n{number} \x9b\u202e")
    export = await store.export(session.id, "json")
    assert not {"\x9b", "\u202e"} & set(export.content)
    document = json.loads(export.content)
    assert document["session"]["id"] == session.id
    assert [m["content"] for m in document["messages"]] == [f"n{n} \x9b\u202e" for n in range(5)]
