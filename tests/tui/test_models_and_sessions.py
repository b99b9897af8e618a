"""Choosing and fetching models; finding an earlier conversation and going on in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.widgets import Input, ProgressBar

from backend.schema.errors import TektonError
from backend.schema.events import ServiceEvent
from backend.schema.params import (
    DeleteSession,
    ListMessages,
    ListModels,
    ListSessions,
    PatchSession,
    PullModel,
)
from backend.schema.records import ServiceStatus, Session
from backend.schema.results import MessageList, ProviderList, ProviderModels, SessionDeleted, SessionList
from tekton_tui.app import TektonApp
from tekton_tui.screens.models import ModelScreen
from tekton_tui.screens.sessions import SessionsPane
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, live, message, session
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
NOTHING = ProviderList([ProviderModels("ollama", True, "", [])])
TALK = MessageList(
    [message(1, "you", "What breaks?"), message(2, "apollo-ai", "The queue."), message(3, "you", "And then?")]
)


async def test_a_fetch_shows_how_far_it_is_in_a_bar(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[ListModels] = NOTHING
    client.hang.add(PullModel)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.navigator.choose_model(["apollo-ai"])
        await settle(pilot)
        await pilot.press("+", *"qwen3:8b", "enter")
        await settle(pilot)
        assert client.called(PullModel) == [PullModel("qwen3:8b")]
        status = ServiceStatus(
            "pull qwen3:8b", "fetching qwen3:8b", "busy", NOW, detail="pulling 61 % of 5.2 GB"
        )
        client.send(ServiceEvent(status, NOW))
        await settle(pilot)
        bar = app.screen.query_one(ProgressBar)
        assert bar.display and bar.percentage == 0.61 and "61 % of 5.2 GB" in screen_text(app)


async def test_a_fetch_that_fails_is_said_and_keeps_the_name_typed(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[ListModels] = NOTHING
    client.answers[PullModel] = TektonError("Ollama has no model 'qwen'", code="model_not_found")
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.navigator.choose_model(["apollo-ai"])
        await settle(pilot)
        await pilot.press("+", *"qwen", "enter")
        await settle(pilot)
        assert app.screen.query_one(Input).value == "qwen"
        assert any("no model 'qwen'" in notice.message for notice in app._notifications)


async def test_providers_that_cannot_be_asked_leave_words_not_a_wait(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers[ListModels] = TektonError("the backend is gone", code="backend_lost")
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.navigator.choose_model(["apollo-ai"])
        await settle(pilot)
        assert "could not be asked" in screen_text(app) and isinstance(app.screen, ModelScreen)
        await pilot.press("escape")
        await settle(pilot)
        assert not isinstance(app.screen, ModelScreen)


async def test_a_conversation_found_by_words_opens_where_they_stand(console: Maker) -> None:
    app, client = console(live("apollo"))
    found = SessionList(1, [session("s1", title="What breaks?", messages=3)])
    client.answers[ListSessions] = lambda params: (
        found if params.query in ("", "queue") else SessionList(0, [])
    )
    client.answers[ListMessages] = TALK
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.show("sessions")
        await settle(pilot)
        await pilot.press("/", *"zzz")
        await settle(pilot)
        assert "Nothing holds “zzz”." in screen_text(app)
        await pilot.press("escape")
        await settle(pilot)
        await pilot.press("/", *"queue")
        await settle(pilot)
        await pilot.press("enter", "enter")
        await settle(pilot, 15)
        assert "1 of 1 hits" in screen_text(app) and "The queue." in screen_text(app)


async def test_the_cursor_stays_where_a_conversation_was_deleted_and_with_one_that_is_renamed(
    console: Maker,
) -> None:
    app, client = console(live("apollo"))
    talks = [session(f"s{at}", title=f"talk {at}", messages=2) for at in range(4)]
    client.answers[ListSessions] = lambda params: SessionList(len(talks), list(talks))
    client.answers[ListMessages] = TALK

    def deleted(params: DeleteSession) -> SessionDeleted:
        talks[:] = [talk for talk in talks if talk.id != params.id]
        return SessionDeleted(params.id)

    def renamed(params: PatchSession) -> Session:
        talks.insert(0, talks.pop(next(at for at, talk in enumerate(talks) if talk.id == params.id)))
        return talks[0]

    client.answers |= {DeleteSession: deleted, PatchSession: renamed}
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.show("sessions")
        await settle(pilot)
        await pilot.press("down", "D")
        await settle(pilot)
        await pilot.press("left", "enter")
        await settle(pilot, 10)
        pane = app.query_one(SessionsPane)
        assert "talk 1" not in screen_text(app)
        assert pane.current is not None and pane.current.id == "s2"
        await pilot.press("r", *" new", "enter")
        await settle(pilot, 10)
        assert pane.current is not None and pane.current.id == "s2" and talks[0].id == "s2"


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_long_title_is_cut_with_a_sign_and_by_the_room_there_is(
    console: Maker, size: tuple[int, int]
) -> None:
    app, client = console(live("apollo"))
    long = session("s1", title="Which of the two repositories is the live one, and who says so?", messages=3)
    client.answers[ListSessions] = SessionList(1, [long])
    client.answers[ListMessages] = TALK
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        app.navigator.show("sessions")
        await settle(pilot)
        row = next(line for line in screen_text(app).splitlines() if line.startswith(" apollo"))
        assert "Which of" in row and "…" in row.partition("│")[0].partition("╭")[0]


async def test_a_list_of_conversations_that_is_cut_says_so(
    console: Maker,
) -> None:
    app, client = console(live("apollo"))
    found = SessionList(1, [session("s1", title="What breaks?", messages=3)], more=True)
    client.answers[ListSessions] = lambda params: (
        SessionList(0, [], more=True)
        if params.query == "zz"
        else found
        if params.query == ""
        else SessionList(0, [])
    )
    client.answers[ListMessages] = TALK
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.navigator.show("sessions")
        await settle(pilot)
        assert "There are more: further words narrow the list." in screen_text(app)
        await pilot.press("/", *"zz")
        await settle(pilot)
        assert "Nothing of the newest messages holds “zz”." in screen_text(app)
