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

from backend.schema.events import MessageStored, TurnChanged, TurnStarted
from backend.schema.frames import (
    StreamEnd,
    StreamError,
    StreamMetadata,
    StreamPhase,
    StreamReasoning,
    Usage,
)
from backend.schema.params import (
    Cancel,
    Chat,
    ExportSession,
    GetHistory,
    GetPreference,
    Launch,
    ListMessages,
    MarkSeen,
    PinMessage,
    PutPreference,
)
from backend.schema.records import Export, FleetPlan
from backend.schema.results import CancelResult, History, LaunchReport, MessageList, Preference
from tekton_tui.app import TektonApp
from tekton_tui.transcript import Transcript
from tekton_tui.widgets.chat.sidebar import Sidebar
from tekton_tui.widgets.chat.tabs import ChatTabs
from tekton_tui.widgets.common.search_bar import SearchBar
from tekton_tui.widgets.composer.composer import Composer
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live, message, row, unseen
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
CODE = "Use this:\n\n```python\nprint('queue')\n```\n\nSee [the docs](https://example.org/queue)."


@asynccontextmanager
async def chat(console: Maker) -> AsyncGenerator[tuple[TektonApp, FakeClient, Pilot[Any]]]:
    """Open a conversation of three turns; the transcript has the keys."""
    app, client = console(live("apollo"), live("athena"))
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
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
        assert "3 of 3 hits" in screen_text(app)
        for shown in ("2 of 3", "1 of 3", "1 of 3"):
            await pilot.press("up")
            await settle(pilot)
            assert f"{shown} hits" in screen_text(app)
        await pilot.press("down")
        await settle(pilot)
        assert "2 of 3 hits" in screen_text(app)
        await pilot.press(*"x")
        await settle(pilot)
        assert "no match" in screen_text(app)
        await pilot.press("escape")
        await settle(pilot)
        assert not app.query_one(SearchBar).display and app.query_one(Transcript).has_focus


async def test_a_search_sees_the_whole_conversation_not_only_what_is_loaded(console: Maker) -> None:
    app, client = console(live("apollo"))
    stored = [message(number, "you", f"Question {number} of the queue") for number in range(1, 701)]
    client.answers[GetHistory] = History("apollo-ai", "s", stored[-60:])
    client.answers[ListMessages] = lambda params: MessageList(
        [one for one in stored if one.id < params.before_id][-params.limit :]
    )
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        app.query_one(Transcript).focus()
        await pilot.press("/", *"question 3 of")
        for _ in range(100):
            await settle(pilot, 1)
            if "1 of 1 hits" in screen_text(app):
                break
        assert "1 of 1 hits" in screen_text(app) and "Question 3 of the queue" in screen_text(app)


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
        assert "3 of 3 hits" in screen_text(app)


async def test_reasoning_is_folded_until_asked_for(console: Maker) -> None:
    async with chat(console) as (app, _client, pilot):
        assert "▸ thought" in screen_text(app) and "▾ thought" not in screen_text(app)
        await pilot.press("up", "enter")
        await settle(pilot)
        assert "▾ thought" in screen_text(app) and "A secret thought." in screen_text(app)


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


def waiting(client: FakeClient, *prompts: str, first: str = "tui-1") -> None:
    """Let an answer be written, and these questions wait behind it in its session."""
    client.send(*answer(first, "apollo-ai", "s-apollo-ai", "Slow?", "It ", "takes ", "long")[:-1])
    for number, prompt in enumerate(prompts, 2):
        client.send(TurnStarted(f"tui-{number}", "apollo-ai", "s-apollo-ai", prompt, NOW))
        words = "behind your question" if number == 2 else f"behind {number - 1} questions"
        client.send(StreamPhase(f"tui-{number}", "apollo-ai", "queued", number - 1, words))


def withdrawn(request_id: str) -> StreamEnd:
    return StreamEnd(request_id, StreamMetadata(0, 0, 0.0, "apollo-ai", "", "cancelled", Usage()))


async def test_questions_wait_above_the_composer_and_join_the_conversation_when_they_begin(
    console: Maker,
) -> None:
    async with chat(console) as (app, client, pilot):
        waiting(client, "Second?", "Third?")
        await settle(pilot, 10)
        keys = [entry.key for entry in app.query_one(Transcript).entries]
        assert keys[-2:] == ["ask:tui-1", "tui-1"]
        assert "2 queued  Second?" in screen_text(app) and "Third?   ↑ edit or drop" in screen_text(app)
        client.send(TurnChanged("tui-2", "Second, in other words?"))
        await settle(pilot, 10)
        assert "2 queued  Second, in other words?" in screen_text(app)
        client.send(*answer("tui-1", "apollo-ai", "s-apollo-ai", "")[-1:])
        client.send(*answer("tui-2", "apollo-ai", "s-apollo-ai", "", "Yes.")[1:])
        await settle(pilot, 10)
        keys = [entry.key for entry in app.query_one(Transcript).entries]
        assert keys[-4:] == ["ask:tui-2", "tui-2", "ask:tui-3", "tui-3"]
        assert "queued" not in screen_text(app).split("▎ Third?")[0].rpartition("Second")[2]


async def test_up_in_the_empty_composer_takes_the_last_waiting_question_back(console: Maker) -> None:
    async with chat(console) as (app, client, pilot):
        waiting(client, "Second?", "Third?")
        client.answers[Cancel] = lambda params: CancelResult(params.target, True, 0, 1.0)
        app.query_one(Composer).focus_field()
        await settle(pilot, 10)
        await pilot.press("up")
        client.send(withdrawn("tui-3"))
        await settle(pilot, 10)
        assert client.called(Cancel) == [Cancel("tui-3")] and app.query_one(Composer).draft == "Third?"
        assert "1 queued  Second?" in screen_text(app)
        assert all(entry.key != "tui-3" for entry in app.query_one(Transcript).entries)


async def test_escape_stops_the_answer_and_holds_what_waits_until_enter_sends_it(console: Maker) -> None:
    async with chat(console) as (app, client, pilot):
        waiting(client, "Second?", "Third?")

        def cancel(params: Cancel) -> CancelResult:
            client.send(withdrawn(params.target))
            return CancelResult(params.target, True, 0, 1.0)

        client.answers[Cancel] = cancel
        app.query_one(Composer).focus_field()
        await settle(pilot, 10)
        assert "esc stops the turn" in screen_text(app)
        await pilot.press("escape")
        await settle(pilot, 10)
        assert [params.target for params in client.called(Cancel)] == ["tui-3", "tui-2", "tui-1"]
        assert "2 held    Second?" in screen_text(app) and "⏎ sends the next" in screen_text(app)
        assert "stopped by you · 3 tok" in screen_text(app) and "esc leaves the composer" in screen_text(app)
        await pilot.press("enter")
        await settle(pilot, 10)
        assert [asked.content for asked in client.called(Chat)] == ["Second?"]
        assert "1 held    Third?" in screen_text(app)
        await pilot.press("up")
        assert app.query_one(Composer).draft == "Third?" and "held" not in screen_text(app)


async def test_what_was_held_is_there_in_the_next_console(console: Maker) -> None:
    app, client = console(live("apollo"))
    kept = {"held:apollo-ai": '["Second?"]'}
    client.answers[GetPreference] = lambda params: Preference(
        params.key, kept.get(params.key.removeprefix("draft:"))
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        assert "1 held    Second?" in screen_text(app)


async def test_answers_stand_behind_their_questions_whatever_order_they_were_stored_in(
    console: Maker,
) -> None:
    app, client = console(live("apollo"))
    stored = [
        message(1, "you", "One?", request_id="r1"),
        message(2, "you", "Two?", request_id="r2"),
        message(3, "apollo-ai", "2.", request_id="r2"),
        message(
            4,
            "apollo-ai",
            "1.",
            request_id="r1",
            finish_reason="cancelled",
            usage=Usage(output_tokens=9),
            total_time=4.1,
        ),
    ]
    client.answers[GetHistory] = History("apollo-ai", "s", stored)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        keys = [entry.key for entry in app.query_one(Transcript).entries]
        assert keys == ["ask:r1", "r1", "ask:r2", "r2"]
        assert "stopped · 9 tok · 4.1 s" in screen_text(app)


async def test_a_specialist_that_died_is_started_from_its_error_card(console: Maker) -> None:
    async with chat(console) as (app, client, pilot):
        client.answers[Launch] = LaunchReport(FleetPlan([]))
        client.send(
            *answer("r4", "apollo-ai", "s-apollo-ai", "Again?", "Half")[:-1],
            StreamError("r4", "apollo-ai", "worker_lost", "exited with code 7", ""),
        )
        client.changed(row("apollo", state="exited", exit_code=7))
        await settle(pilot, 10)
        assert "✖ its process ended" in screen_text(app) and "s starts it" in screen_text(app)
        await pilot.press("s")
        await settle(pilot, 10)
        assert client.called(Launch)[-1].ids == ["apollo-ai"]


async def test_an_unread_answer_is_counted_at_its_tab_until_it_is_shown(console: Maker) -> None:
    async with chat(console) as (app, client, pilot):
        client.send(*answer("r9", "athena-ai", "s-athena-ai", "Here?", "Yes."), unseen("r9", "athena-ai"))
        await settle(pilot, 10)
        tabs = app.query_one(ChatTabs)
        assert "athena 1" in tabs.render_line(0).text and "2 Chat 1" in screen_text(app)
        app.commands.navigator.open_chat("athena-ai")
        await settle(pilot, 10)
        assert "athena 1" not in tabs.render_line(0).text and "2 Chat 1" not in screen_text(app)
        assert client.called(MarkSeen)[-1].who == ["athena-ai"]


async def test_an_answer_of_the_team_that_is_on_the_screen_waits_for_nobody(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    client.hang.add(MarkSeen)  # however long the backend takes to hear of it
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("3")
        await settle(pilot, 10)
        client.send(unseen("t1", "team"))
        await settle(pilot)
        assert client.called(MarkSeen)[-1].who == ["team"] and app.stores.waiting() == 0
        assert "Team Chat 1" not in screen_text(app)
        await pilot.press("escape", "escape")
        app.navigator.show("fleet")
        client.send(unseen("t2", "team"))
        await settle(pilot)
        assert app.stores.unread_team() == 2 and "Team Chat 2" in screen_text(app)
        assert app.stores.waiting() == 0, "an answer may be read at leisure"


@pytest.mark.parametrize(
    ("last", "opened"),
    [(None, "numa-ai"), ("athena-ai", "athena-ai"), ("sophia-ai", "numa-ai"), (7, "numa-ai")],
)
async def test_the_first_chat_is_with_the_last_one_or_with_the_platforms_head(
    console: Maker, last: object, opened: str
) -> None:
    app, client = console(live("rhetor"), live("athena"), live("numa"))
    client.answers[GetPreference] = lambda params: Preference(
        params.key, last if params.key == "chat:last" else None
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("2")
        await settle(pilot, 12)
        assert app.query_one(ChatTabs).current == opened
        app.commands.navigator.open_chat("rhetor-ai")
        await settle(pilot, 10)
        assert ("chat:last", "rhetor-ai") in [(put.key, put.value) for put in client.called(PutPreference)]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_notices_cover_neither_the_composer_nor_the_rows_around_it(
    console: Maker, size: tuple[int, int]
) -> None:
    app, _client = console(live("apollo"))
    async with app.run_test(size=size, notifications=True) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        for number in range(3):
            app.notify(f"notice {number}: something that takes more than one row to be told in full")
        await settle(pilot, 10)
        toasts = [toast.region for toast in app.screen.query("Toast")]
        assert len(toasts) == 3 and all(region.height <= 4 for region in toasts)
        kept = [widget.region for kind in ("Composer", ".chat-status", "KeyLine", "Header", "ScreenBar", "ChatTabs")
                for widget in app.screen.query(kind)]  # fmt: skip
        assert len(kept) == 6
        assert not any(toast.overlaps(region) for toast in toasts for region in kept)


async def test_the_panel_opens_and_closes_from_110_columns(console: Maker) -> None:
    async with chat(console) as (app, _client, pilot):
        await pilot.press("f3")
        await settle(pilot)
        assert not app.query(Sidebar) and "110 columns" in screen_text(app)
        await pilot.resize_terminal(120, 30)
        await pilot.press("f3")
        await settle(pilot)
        assert app.query_one(Sidebar).is_on_screen
        await pilot.resize_terminal(100, 30)
        await settle(pilot)
        assert not app.query_one(Sidebar).is_on_screen


async def test_a_message_is_pinned_with_a_mark_and_unpinned_and_what_it_means_is_said_once(
    console: Maker,
) -> None:
    async with chat(console) as (app, client, pilot):
        stored = message(7, "apollo-ai", "The queue breaks.", request_id="r1")
        client.answers |= {ListMessages: MessageList([stored]), PinMessage: stored}
        await pilot.press("g", "down", "p")
        await settle(pilot, 10)
        assert client.called(PinMessage) == [PinMessage(7)]
        assert "▪ pinned" in screen_text(app) and "stays in the context" in screen_text(app)
        app.clear_notifications()
        await pilot.press("p")
        await settle(pilot, 10)
        assert client.called(PinMessage)[1:] == [PinMessage(7, pinned=False)]
        assert "▪ pinned" not in screen_text(app)
        app.clear_notifications()
        await pilot.press("p")
        await settle(pilot, 10)
        assert "▪ pinned" in screen_text(app) and "stays in the context" not in screen_text(app)


async def test_a_message_that_memory_does_not_hold_is_not_pinned_and_says_so(console: Maker) -> None:
    async with chat(console) as (app, client, pilot):
        await pilot.press("p")
        await settle(pilot, 10)
        assert client.called(PinMessage) == []
        assert "not in memory" in screen_text(app)


async def test_an_answer_is_asked_for_again_with_its_own_question(console: Maker) -> None:
    async with chat(console) as (_app, client, pilot):
        await pilot.press("g", "down", "R")
        await settle(pilot)
        assert client.called(Chat) == []
        await pilot.press("left", "enter")
        await settle(pilot)
        assert [asked.content for asked in client.called(Chat)] == ["What breaks?"]


async def test_an_export_never_overwrites_a_file(
    console: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with chat(console) as (app, client, pilot):
        client.answers[ExportSession] = Export("talk.md", "# Talk")
        for _ in range(2):
            await pilot.press("ctrl+s")
            await settle(pilot)
            await pilot.press("enter")
            await settle(pilot)
        assert sorted(os.listdir(tmp_path)) == ["talk-2.md", "talk.md"]
        app.query_one(Composer).draft = "/export json"
        app.query_one(Composer).focus_field()
        await pilot.press("enter")
        await settle(pilot)
        assert [params.format for params in client.called(ExportSession)] == ["md", "md", "json"]


async def test_what_was_being_written_is_kept_when_the_console_ends_at_once(console: Maker) -> None:
    async with chat(console) as (app, client, pilot):
        app.query_one("#chat-apollo-ai Composer", Composer).focus_field()
        await pilot.press(*"half a th")
    assert client.called(PutPreference)[-1] == PutPreference("draft:apollo-ai", "half a th")


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
            assert composer.draft.startswith("/attach") and not client.called(Chat)


async def test_the_tabs_are_drawn_anew_only_when_something_of_them_differs(
    console: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, client = console(live("apollo"), live("athena"))
    drawn: list[str] = []
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        real = ChatTabs.render
        monkeypatch.setattr(ChatTabs, "render", lambda self: drawn.append("") or real(self))
        client.changed(live("athena", tokens_out=7, last_activity=NOW))
        await settle(pilot)
        assert not drawn
        client.changed(live("athena", state="busy", phase="prefill"))
        await settle(pilot)
        assert drawn


async def test_an_answer_that_was_told_as_lost_and_is_stored_whole_after_all_is_shown_so(
    console: Maker,
) -> None:
    async with chat(console) as (app, client, pilot):
        client.send(*answer("r4", "apollo-ai", "s-apollo-ai", "Whole?", "Half an")[:-1])
        client.send(StreamError("r4", "apollo-ai", "backend_lost", "its gateway ended", ""))
        await settle(pilot, 10)
        shown = app.query_one(Transcript).entries[-1]
        assert (shown.text, shown.code) == ("Half an", "backend_lost")
        question = message(1, "you", "Whole?", request_id="r4", session_id="s-apollo-ai")
        whole = message(
            2, "apollo-ai", "Half an answer, and the rest.", request_id="r4", session_id="s-apollo-ai"
        )
        listed = MessageList([question, whole])
        client.answers[GetHistory] = History("apollo-ai", "s-apollo-ai", listed.messages)
        client.answers[ListMessages] = listed
        client.send(MessageStored(whole, corrects=True))
        await settle(pilot, 10)
        shown = app.query_one(Transcript).entries[-1]
        assert (shown.text, shown.code) == (whole.content, "")
