"""Choosing and fetching models; finding an earlier conversation and going on in it."""

from __future__ import annotations

from collections.abc import Callable

from textual.widgets import Input, ProgressBar

from backend.schema.errors import TektonError
from backend.schema.events import ServiceEvent
from backend.schema.records import ServiceStatus
from tekton_tui.app import TektonApp
from tekton_tui.screens.models import ModelScreen
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, live
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
NOTHING = {"providers": [{"provider": "ollama", "ok": True, "detail": "", "models": []}]}
TALK = {"messages": [
    {"id": 1, "author": "you", "role": "user", "content": "What breaks?", "created_at": NOW},
    {"id": 2, "author": "apollo-ai", "role": "assistant", "content": "The queue.", "created_at": NOW},
    {"id": 3, "author": "you", "role": "user", "content": "And then?", "created_at": NOW},
]}  # fmt: skip


async def test_a_fetch_shows_how_far_it_is_in_a_bar(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["list_models"] = NOTHING
    client.hang.add("pull_model")
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.choose_model(["apollo-ai"])
        await settle(pilot)
        await pilot.press("+", *"qwen3:8b", "enter")
        await settle(pilot)
        assert client.called("pull_model") == [{"provider": "ollama", "model": "qwen3:8b"}]
        status = ServiceStatus(
            "pull qwen3:8b", "fetching qwen3:8b", "busy", NOW, detail="pulling 61 % of 5.2 GB"
        )
        client.send(ServiceEvent(status, NOW))
        await settle(pilot)
        bar = app.screen.query_one(ProgressBar)
        assert bar.display and bar.percentage == 0.61 and "61 % of 5.2 GB" in screen_text(app)


async def test_a_fetch_that_fails_is_said_and_keeps_the_name_typed(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["list_models"] = NOTHING
    client.answers["pull_model"] = TektonError("Ollama has no model 'qwen'", code="model_not_found")
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.choose_model(["apollo-ai"])
        await settle(pilot)
        await pilot.press("+", *"qwen", "enter")
        await settle(pilot)
        assert app.screen.query_one(Input).value == "qwen"
        assert any("no model 'qwen'" in notice.message for notice in app._notifications)


async def test_providers_that_cannot_be_asked_leave_words_not_a_wait(console: Maker) -> None:
    app, client = console(live("apollo"))
    client.answers["list_models"] = TektonError("the backend is gone", code="backend_lost")
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.commands.choose_model(["apollo-ai"])
        await settle(pilot)
        assert "could not be asked" in screen_text(app) and isinstance(app.screen, ModelScreen)
        await pilot.press("escape")
        await settle(pilot)
        assert not isinstance(app.screen, ModelScreen)


async def test_a_conversation_found_by_words_opens_where_they_stand(console: Maker) -> None:
    app, client = console(live("apollo"))
    rows = {
        "sessions": [
            {"id": "s1", "owner": "apollo-ai", "title": "What breaks?", "updated_at": NOW, "messages": 3}
        ]
    }
    client.answers["list_sessions"] = lambda params: (
        rows if params["query"] in (None, "queue") else {"sessions": []}
    )
    client.answers["session_messages"] = TALK
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.show_pane("sessions")
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
        assert "1 of 1 messages" in screen_text(app) and "The queue." in screen_text(app)
