"""More pairs of actions in one moment: what is changed while it waits, moved while it runs, read while it is deleted."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from backend.home import Home
from backend.memory import export
from backend.memory.records import Retention
from backend.orchestration.platform import Platform
from backend.schema.errors import TektonError
from backend.schema.frames import StreamChunk, StreamEnd
from tests.orchestration.running import SLOW, Watcher, do, running, sent, upstream_calls

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def session_of(platform: Platform, owner: str = "apollo") -> str:
    return (await do(platform, "create_session", owner=owner)).id


async def asked(platform: Platform, content: str, session: str, **values: Any) -> str:
    begun = await do(
        platform, "chat", ai_id="apollo", content=content, session_id=session, wait=False, **values
    )
    return begun.request_id


async def test_a_question_with_an_attachment_is_changed_while_it_waits(
    platform: Platform, watcher: Watcher
) -> None:
    session = await session_of(platform)
    slow = await asked(platform, SLOW, session)
    parts = [
        {"type": "text", "text": "helo"},
        {"type": "file", "name": "a.txt", "media_type": "text/plain", "data": "YWxwaGE="},
    ]
    waits = await asked(platform, "", session, parts=parts)
    await do(platform, "edit_turn", target=waits, content="hello")
    await do(platform, "cancel", target=slow)
    await watcher.until(StreamEnd, request_id=waits)
    rows = [
        row
        for row in (await do(platform, "session_messages", id=session)).messages
        if row.request_id == waits
    ]
    assert rows[0].content == "hello" and "hello" in rows[1].content and "helo " not in rows[1].content


async def test_one_console_changes_what_the_other_withdraws(platform: Platform, watcher: Watcher) -> None:
    session = await session_of(platform)
    slow = await asked(platform, SLOW, session)
    waits = await asked(platform, "helo", session)
    edit, _ = await asyncio.gather(
        do(platform, "edit_turn", target=waits, content="hello"),
        do(platform, "cancel", target=waits),
        return_exceptions=True,
    )
    await watcher.until(StreamEnd, request_id=waits)
    assert isinstance(edit, TektonError), edit
    await do(platform, "cancel", target=slow)
    assert not [row for row in await platform.memory.turns.unfinished() if row.request_id == waits]
    assert not [
        row
        for row in (await do(platform, "session_messages", id=session)).messages
        if row.request_id == waits
    ]


async def test_a_session_is_renamed_archived_and_no_longer_the_default_while_it_is_answered_in(
    platform: Platform, watcher: Watcher
) -> None:
    session = await session_of(platform)
    await do(platform, "patch_session", id=session, is_default=True)
    turn = await asked(platform, "[[repeat 5]] [[rate 20]]", session)
    await watcher.until(StreamChunk, request_id=turn)
    for change in ({"title": "renamed"}, {"archived": True}):
        await do(platform, "patch_session", id=session, **change)
    await watcher.until(StreamEnd, request_id=turn)
    row = await do(platform, "get_session", id=session)
    assert (row.title, row.archived, row.messages) == ("renamed", True, 2), row
    other = await do(platform, "chat", ai_id="apollo", content="[[messages]] next")
    assert other.session_id != session and len(sent(other.content)) == 1


async def test_an_export_of_what_is_deleted_meanwhile_is_no_half_of_it(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE_MESSAGES", 2)
    session = await session_of(platform)
    for number in range(3):
        await do(platform, "chat", ai_id="apollo", content=f"word{number}", session_id=session)
    read, pages = platform.memory.messages.read, 0

    async def reading(*args: Any, **values: Any) -> Any:
        nonlocal pages
        page, pages = await read(*args, **values), pages + 1
        if pages == 2:
            await do(platform, "delete_session", id=session)
        return page

    monkeypatch.setattr(platform.memory.messages, "read", reading)
    with pytest.raises(TektonError) as gone:
        await do(platform, "export_session", id=session)
    assert gone.value.code == "unknown_session"


async def test_a_merge_is_cancelled_while_the_conversation_of_one_of_its_members_is_deleted(
    platform: Platform, watcher: Watcher
) -> None:
    team = await do(platform, "team_chat", content="hello", target_ids=["apollo", "athena"])
    own = (await do(platform, "chat", ai_id="apollo", content="mine")).session_id
    values = {"ai_id": "apollo", "group": team.request_id, "session_id": team.session_id, "wait": False}
    merge = (await do(platform, "chat", content=SLOW, **values)).request_id
    await watcher.until(StreamChunk, request_id=merge)
    running_ = await asked(platform, SLOW, own)
    await watcher.until(StreamChunk, request_id=running_)
    done = await asyncio.gather(
        do(platform, "cancel", target=team.request_id),
        do(platform, "delete_session", id=own),
        do(platform, "cancel", target=merge),
        return_exceptions=True,
    )
    assert not [one for one in done if isinstance(one, Exception)], done
    assert (await watcher.until(StreamEnd, request_id=merge)).metadata.finish_reason == "cancelled"
    assert not platform.turns.active
    again = await do(platform, "discuss", team_request_id=team.request_id, wait=True)
    assert len(again.responses) == 2
    assert not await platform.memory.turns.unfinished()


async def test_what_is_pinned_while_it_is_pruned_stays_or_is_said_to_be_gone(platform: Platform) -> None:
    session = await session_of(platform)
    for number in range(20):
        await do(platform, "chat", ai_id="apollo", content=f"old {number}", session_id=session)
    rows = (await do(platform, "session_messages", id=session, limit=100)).messages
    pins = [do(platform, "pin_message", message_id=row.id, pinned=True) for row in rows]
    done = await asyncio.gather(
        *pins[:5],
        platform.memory.retain(Retention(messages_days=1), time.time() + 10 * 86_400),
        *pins[5:],
        return_exceptions=True,
    )
    left = {
        row.id: row.pinned for row in (await do(platform, "session_messages", id=session, limit=100)).messages
    }
    pinned = [one for one in done if not isinstance(one, BaseException) and hasattr(one, "pinned")]
    assert {row.id: True for row in pinned} == left
    assert all(
        isinstance(one, TektonError) and one.code == "not_found"
        for one in done
        if isinstance(one, BaseException)
    ), done


def left_by_a_kill(platform: Platform, root: Path) -> Path:
    """Return a home as this moment's `kill -9` of the backend would leave it, without its workers."""
    home = Home(root).prepare()
    with (
        contextlib.closing(sqlite3.connect(platform.home.database)) as source,
        contextlib.closing(sqlite3.connect(home.database)) as copy,
    ):
        source.backup(copy)
    return root


async def test_a_kill_before_and_after_a_session_is_deleted_leaves_no_question_without_an_end(
    platform: Platform, watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await session_of(platform)
    first = await do(
        platform, "chat", ai_id="apollo", content="answered", session_id=session, request_id="d-0"
    )
    await asked(platform, SLOW, session, request_id="d-1")
    await watcher.until(StreamChunk, request_id="d-1")
    for number in (2, 3):
        await asked(platform, f"waits {number}", session, request_id=f"d-{number}")
    await do(
        platform,
        "pipeline",
        pipeline="apollo",
        input="piped",
        session_id=session,
        wait=False,
        request_id="d-4",
    )
    homes = [left_by_a_kill(platform, tmp_path / "under way")]
    delete = platform.memory.sessions.delete

    async def deleting(session_id: str) -> None:
        homes.append(left_by_a_kill(platform, tmp_path / "ended"))
        await delete(session_id)
        homes.append(left_by_a_kill(platform, tmp_path / "deleted"))

    monkeypatch.setattr(platform.memory.sessions, "delete", deleting)
    await do(platform, "delete_session", id=session)
    names = [f"d-{number}" for number in range(5)]
    for home in homes:
        async with running(home, "apollo") as next_life:
            assert not await next_life.memory.turns.unfinished()
            calls = upstream_calls(next_life)
            gone = home.name == "deleted"
            if gone:
                with pytest.raises(TektonError):
                    await do(next_life, "get_session", id=session)
            else:
                rows = (await do(next_life, "session_messages", id=session)).messages
                assert [row.content for row in rows[:2]] == ["answered", first.content]
                for row in rows:
                    if row.role == "user":
                        ends = [
                            one
                            for one in rows
                            if one.request_id == row.request_id and one.role == "assistant"
                        ]
                        assert len(ends) == 1, (home.name, row, ends)
            for name in names[1:2]:
                outcome: Any = await asyncio.gather(
                    do(next_life, "chat", ai_id="apollo", content=SLOW, session_id=session, request_id=name),
                    return_exceptions=True,
                )
                assert isinstance(outcome[0], TektonError), outcome
            assert upstream_calls(next_life) == calls, home.name


async def test_a_bulk_is_taken_up_by_the_next_backend_and_asks_only_what_was_never_asked(
    platform: Platform, watcher: Watcher, tmp_path: Path
) -> None:
    texts = ["quick 0", "quick 1", SLOW, "never 3", "never 4"]
    items = [{"specialist_id": "apollo", "message": text} for text in texts]
    bulk = asyncio.create_task(do(platform, "bulk", requests=items, max_concurrency=1, request_id="b-1"))
    await watcher.until(StreamChunk, request_id="b-1/2")
    home = left_by_a_kill(platform, tmp_path / "next")
    await do(platform, "cancel", target="b-1")
    await bulk
    async with running(home, "apollo") as next_life:
        for _ in range(2):
            report = await do(next_life, "bulk", requests=items, request_id="b-1")
            assert [row.outcome.code for row in report.results] == [None, None, "backend_lost", None, None]
            assert [row.outcome.content for row in report.results][:2] == [
                "You said: quick 0",
                "You said: quick 1",
            ]
            assert upstream_calls(next_life) == 2
        for other in ([*items, items[0]], [items[0]], [{**items[0], "message": "other"}, *items[1:]]):
            with pytest.raises(TektonError) as refused:
                await do(next_life, "bulk", requests=other, request_id="b-1")
            assert refused.value.code == "conflict"
        assert upstream_calls(next_life) == 2 and not await next_life.memory.turns.unfinished()
