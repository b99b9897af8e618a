"""The switcher: one list of everybody and every conversation, chosen by a part of a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

from backend.schema.params import ListMessages, ListSessions, MarkSeen
from backend.schema.results import MessageList, SessionList
from tekton_tui.app import TektonApp
from tekton_tui.screens.switcher import SwitcherScreen, entries_of, matching
from tekton_tui.transcript import Transcript
from tekton_tui.widgets.chat.chat_view import ChatView
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live, message, session, unseen
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
SESSIONS = [
    session("s1", title="Which module breaks first?", updated_at=NOW - 60, messages=12),
    session("s2", "team", "Name the riskiest part", updated_at=NOW - 9000, messages=38),
    session("s0", title="the default one", messages=3, is_default=True),
]


async def opened(console: Maker, pilot_size: tuple[int, int] = (120, 30)) -> tuple[TektonApp, FakeClient]:
    app, client = console(live("apollo"), live("athena"))
    client.answers[ListSessions] = SessionList(3, SESSIONS)
    client.answers[ListMessages] = MessageList([message(1, "you", "Which module breaks first?")])
    return app, client


async def press_switch(app: TektonApp, client: FakeClient, pilot: Pilot[Any]) -> SwitcherScreen:
    await settle(pilot)
    app.commands.navigator.open_chat("apollo-ai")
    await settle(pilot, 10)
    client.send(*answer("r9", "athena-ai", "s-athena-ai", "Here?", "Yes."), unseen("r9", "athena-ai"))
    await settle(pilot)
    await pilot.press("ctrl+o")
    await settle(pilot, 10)
    assert isinstance(app.screen, SwitcherScreen)
    return app.screen


async def test_the_cursor_stays_on_its_entry_in_a_terminal_of_another_size(console: Maker) -> None:
    app, client = await opened(console)
    async with app.run_test(size=(80, 24)) as pilot:
        await press_switch(app, client, pilot)
        await pilot.press("down", "down")
        for size in ((120, 30), (60, 18)):
            await pilot.resize_terminal(*size)
            await settle(pilot, 10)
        await pilot.press("enter")
        await settle(pilot, 10)
        assert app.query_one("#chat-apollo-ai", ChatView).session_id == "s1"


async def test_unread_comes_first_and_a_part_of_a_title_finds_its_conversation(console: Maker) -> None:
    app, client = await opened(console)
    async with app.run_test(size=(120, 30)) as pilot:
        screen = await press_switch(app, client, pilot)
        names = [(entry.name, entry.session_id) for entry in screen._shown]
        assert names[:4] == [("athena", ""), ("apollo", ""), ("apollo", "s1"), ("team", "s2")]
        assert "1 unread" in screen_text(app) and "the default one" not in screen_text(app)
        await pilot.press(*"modu")
        await settle(pilot, 10)
        assert screen._shown[0].session_id == "s1"
        assert screen.query_one(Transcript).entries[0].text == "Which module breaks first?"
        await pilot.press("enter")
        await settle(pilot, 10)
        assert app.query_one("#chat-apollo-ai", ChatView).session_id == "s1"


async def test_titles_take_all_the_room_there_is_at_the_smallest_size(console: Maker) -> None:
    app, client = await opened(console)
    async with app.run_test(size=(80, 24)) as pilot:
        await press_switch(app, client, pilot)
        shown = screen_text(app)
        assert "Knowledge Specialist" in shown and "Which module breaks first?" in shown


async def test_enter_goes_to_whom_the_cursor_is_on_and_escape_to_nobody(console: Maker) -> None:
    app, client = await opened(console)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await press_switch(app, client, pilot)
        assert not screen.query_one(Transcript).display
        await pilot.press("escape")
        await settle(pilot)
        assert not isinstance(app.screen, SwitcherScreen) and app.stores.attention.unread()
        await pilot.press("ctrl+o", "down", "up", "enter")
        await settle(pilot, 10)
        assert app.query_one("#chat-athena-ai", ChatView).is_on_screen
        assert client.called(MarkSeen)[-1].who == ["athena-ai"]


def test_what_matches_the_name_comes_before_what_matches_the_words(console: Maker) -> None:
    app, _client = console(live("apollo"), live("athena"))
    entries = entries_of(app.stores, [session("s9", "numa-ai", "apollo told me", messages=2)])
    assert [entry.owner for entry in matching(entries, "apollo")][:1] == [
        "numa-ai"
    ]  # nobody else is known yet
    assert [entry.words for entry in matching(entries, "zzz")] == ["find “zzz” in every conversation"]
    assert matching(entries, " ") == entries


def test_a_word_that_is_meant_as_such_goes_before_letters_that_lie_far_apart(console: Maker) -> None:
    app, client = console(live("apollo"), live("athena"))
    app.stores.fleet.load(client.first)
    entries = entries_of(app.stores, [session("s9", "numa-ai", "Which words of all?", messages=2)])

    def found(query: str) -> list[str]:
        return [entry.name if entry.owner else entry.words[:4] for entry in matching(entries, query)]

    assert found("all")[:4] == ["conv", "numa", "apollo", "find"], "the name, a word, an abbreviation"
    assert found("words")[:3] == ["numa", "conv", "find"]
    assert found("apl")[0] == "apollo" and found("the")[0] == "athena", "what lies in a name is meant as well"
    assert found("rename")[:2] == ["conv", "find"] and found("friday") == ["find"]


async def test_words_that_nobody_is_called_are_sought_in_every_conversation(console: Maker) -> None:
    app, client = await opened(console)
    async with app.run_test(size=(80, 24)) as pilot:
        await press_switch(app, client, pilot)
        await pilot.press(*"friday")
        await settle(pilot)
        assert "find “friday” in every conversation" in screen_text(app)
        await pilot.press("enter")
        await settle(pilot, 10)
        assert ListSessions(query="friday", limit=300) in client.called(ListSessions)
