"""The chat screen as its operator uses it: searching, folding, quoting, editing, exporting."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from backend.schema.frames import StreamReasoning
from tekton_tui.app import TektonApp
from tekton_tui.transcript import Transcript
from tekton_tui.widgets.composer import Composer
from tekton_tui.widgets.search_bar import SearchBar
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
CODE = "Use this:\n\n```python\nprint('queue')\n```\n\nSee [the docs](https://example.org/queue)."


@asynccontextmanager
async def chat(console: Maker) -> AsyncGenerator[tuple[TektonApp, FakeClient, Pilot[Any]]]:
    """Open a conversation of three turns; the transcript has the keys."""
    app, client = console(live("apollo"), live("athena"))
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        app.commands.open_chat("apollo-ai")
        await settle(pilot, 10)
        client.send(*answer("r1", "apollo-ai", "s-apollo-ai", "What breaks?", "The queue breaks."))
        client.send(*answer("r2", "apollo-ai", "s-apollo-ai", "And then?", "Nothing else."))
        start, *rest = answer("r3", "apollo-ai", "s-apollo-ai", "Show code.", CODE)
        client.send(start, StreamReasoning("r3", "A secret thought."), *rest)
        await settle(pilot, 10)
        app.query_one(Transcript).focus()
        await settle(pilot)
        yield app, client, pilot


async def test_a_search_counts_its_matches_and_walks_through_them(console: Maker) -> None:
    async with chat(console) as (app, _client, pilot):
        await pilot.press("/", *"queue")
        await settle(pilot)
        assert "2 of 2 messages" in screen_text(app)
        await pilot.press("up")
        await settle(pilot)
        assert "1 of 2 messages" in screen_text(app)
        await pilot.press("down")
        await settle(pilot)
        assert "2 of 2 messages" in screen_text(app)
        await pilot.press(*"x")
        await settle(pilot)
        assert "no match" in screen_text(app)
        await pilot.press("escape")
        await settle(pilot)
        assert not app.query_one(SearchBar).display and app.query_one(Transcript).has_focus


async def test_a_slash_is_text_in_every_field(console: Maker) -> None:
    async with chat(console) as (app, _client, pilot):
        await pilot.press("/", *"a/b")
        await settle(pilot)
        assert app.query_one(SearchBar).query_one(Input).value == "a/b"
        app.query_one(Composer).focus_field()
        await pilot.press(*"x/y")
        await settle(pilot)
        assert app.query_one(Composer).draft == "x/y"


async def test_the_verb_searches_as_the_key_does(console: Maker) -> None:
    async with chat(console) as (app, _client, pilot):
        app.query_one(Composer).draft = "/search queue"
        app.query_one(Composer).focus_field()
        await pilot.press("enter")
        await settle(pilot)
        assert "2 of 2 messages" in screen_text(app)


async def test_reasoning_is_folded_until_asked_for(console: Maker) -> None:
    async with chat(console) as (app, _client, pilot):
        assert "▸ reasoning · 17 characters" in screen_text(app) and "A secret thought." not in screen_text(
            app
        )
        await pilot.press("up", "enter")
        await settle(pilot)
        assert "▾ reasoning" in screen_text(app) and "A secret thought." in screen_text(app)


async def test_a_code_block_is_copied_alone_and_links_show_where_they_go(console: Maker) -> None:
    async with chat(console) as (app, _client, pilot):
        assert "(https://example.org/queue)" in screen_text(app)
        await pilot.press("g")
        for _ in range(12):
            await pilot.press("down", "y")
            if app.clipboard == "print('queue')":
                break
        assert app.clipboard == "print('queue')"


async def test_an_answer_is_quoted_and_a_question_edited_in_the_composer(console: Maker) -> None:
    async with chat(console) as (app, _client, pilot):
        await pilot.press("g", "i")
        await settle(pilot)
        composer = app.query_one(Composer)
        assert composer.draft == "What breaks?" and composer.has_focus_within
        composer.draft = ""
        app.query_one(Transcript).focus()
        await pilot.press("g", "down", ">")
        await settle(pilot)
        assert composer.draft == "> The queue breaks.\n\n"


async def test_a_message_is_pinned_with_a_mark_and_unpinned_and_what_it_means_is_said_once(
    console: Maker,
) -> None:
    async with chat(console) as (app, client, pilot):
        stored = {"id": 7, "author": "apollo-ai", "role": "assistant", "content": "The queue breaks.",
                  "created_at": NOW, "request_id": "r1"}  # fmt: skip
        client.answers |= {"session_messages": {"messages": [stored]}, "pin_message": stored}
        await pilot.press("g", "down", "P")
        await settle(pilot, 10)
        assert client.called("pin_message") == [{"message_id": 7, "pinned": True}]
        assert "◆ pinned" in screen_text(app) and "stays in the context" in screen_text(app)
        app.clear_notifications()
        await pilot.press("P")
        await settle(pilot, 10)
        assert client.called("pin_message")[1:] == [{"message_id": 7, "pinned": False}]
        assert "◆ pinned" not in screen_text(app)
        app.clear_notifications()
        await pilot.press("P")
        await settle(pilot, 10)
        assert "◆ pinned" in screen_text(app) and "stays in the context" not in screen_text(app)


async def test_a_message_that_memory_does_not_hold_is_not_pinned_and_says_so(console: Maker) -> None:
    async with chat(console) as (app, client, pilot):
        await pilot.press("P")
        await settle(pilot, 10)
        assert client.called("pin_message") == []
        assert "not in memory" in screen_text(app)


async def test_an_answer_is_asked_for_again_with_its_own_question(console: Maker) -> None:
    async with chat(console) as (_app, client, pilot):
        await pilot.press("g", "down", "R")
        await settle(pilot)
        assert [asked["content"] for asked in client.called("chat")] == ["What breaks?"]


async def test_an_export_never_overwrites_a_file(
    console: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with chat(console) as (app, client, pilot):
        client.answers["export_session"] = {"filename": "talk.md", "content": "# Talk"}
        await pilot.press("S", "S")
        await settle(pilot)
        assert sorted(os.listdir(tmp_path)) == ["talk-2.md", "talk.md"]
        app.query_one(Composer).draft = "/export json"
        app.query_one(Composer).focus_field()
        await pilot.press("enter")
        await settle(pilot)
        assert [params["format"] for params in client.called("export_session")] == ["md", "md", "json"]


async def test_what_was_being_written_is_kept_when_the_console_ends_at_once(console: Maker) -> None:
    async with chat(console) as (app, client, pilot):
        app.query_one("#chat-apollo-ai Composer", Composer).focus_field()
        await pilot.press(*"half a th")
    assert client.called("put_preference")[-1] == {"key": "draft:apollo-ai", "value": "half a th"}


async def test_a_draft_stays_in_its_tab_while_another_is_read(console: Maker) -> None:
    async with chat(console) as (app, _client, pilot):
        app.query_one("#chat-apollo-ai Composer", Composer).focus_field()
        await pilot.press(*"half", "ctrl+pagedown")
        await settle(pilot, 10)
        await pilot.press(*"other")
        await settle(pilot)
        assert app.query_one("#chat-athena-ai Composer", Composer).draft == "other"
        await pilot.press("ctrl+pageup")
        await settle(pilot, 10)
        assert app.query_one("#chat-apollo-ai Composer", Composer).draft == "half"


async def test_a_file_that_cannot_be_attached_is_said_and_the_line_is_kept(
    console: Maker, tmp_path: Path
) -> None:
    async with chat(console) as (app, client, pilot):
        composer = app.query_one("#chat-apollo-ai Composer", Composer)
        for name, words in (("absent.txt", "no such file"), ("", "directory")):
            composer.draft = f"/attach {tmp_path / name} What is it?"
            composer.focus_field()
            await pilot.press("enter")
            await settle(pilot)
            assert any(words in notice.message.lower() for notice in app._notifications)
            assert composer.draft.startswith("/attach") and not client.called("chat")
