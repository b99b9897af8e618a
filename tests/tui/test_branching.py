"""Asking anew in the console: a branch, its rule in the transcript, and the keys that walk from one to another."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from backend.schema.branches import KEPT
from backend.schema.content import OpaquePart, TextPart
from backend.schema.events import TurnStarted
from backend.schema.params import Chat, GetHistory, ListMessages
from backend.schema.records import StoredMessage
from backend.schema.results import History, MessageList
from tekton_tui.app import TektonApp
from tekton_tui.transcript import Transcript
from tekton_tui.widgets.composer.composer import Composer
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live, message
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
A = "apollo-ai"


def asked(number: int, request_id: str, text: str, after: str = "") -> list[StoredMessage]:
    parts = [TextPart(text), OpaquePart(KEPT, {"after": after})] if after else []
    return [
        message(number, "you", text, request_id=request_id, parts=parts),
        message(number + 1, A, f"It answers {text}", request_id=request_id),
    ]


TALK = [*asked(1, "q1", "Why flaky?"), *asked(3, "q2", "Fix it."), *asked(5, "q3", "Fix it well.", "q1")]


@asynccontextmanager
async def talking(
    console: Maker, talk: list[StoredMessage], size: tuple[int, int] = (80, 24)
) -> AsyncGenerator[tuple[TektonApp, FakeClient, Pilot[Any]]]:
    app, client = console(live("apollo"))
    client.answers[GetHistory] = lambda params: History(A, "s-apollo-ai", talk)
    client.answers[ListMessages] = lambda params: MessageList(talk)
    async with app.run_test(size=size, notifications=True) as pilot:
        await settle(pilot)
        app.commands.navigator.open_chat(A)
        await settle(pilot, 10)
        app.query_one(Transcript).focus()
        await settle(pilot)
        yield app, client, pilot


async def test_the_newest_branch_is_shown_with_its_place_and_keys_walk_to_the_others(console: Maker) -> None:
    async with talking(console, TALK) as (app, client, pilot):
        text = screen_text(app)
        assert "↳ branch 2 of 2 · { } others · from “Why flaky?”" in text
        assert "It answers Fix it well." in text and "It answers Fix it.\n" not in text
        await pilot.press("left_curly_bracket")
        await settle(pilot, 10)
        text = screen_text(app)
        assert "↳ branch 1 of 2" in text and "Fix it well." not in text and "It answers Why flaky?" in text
        app.query_one(Composer).focus_field()
        await pilot.press(*"go on", "enter")
        await settle(pilot)
        assert client.called(Chat)[-1].after == "q2"
        app.query_one(Transcript).focus()
        await pilot.press("right_curly_bracket")
        await settle(pilot, 10)
        assert "↳ branch 2 of 2" in screen_text(app)


async def test_a_question_written_anew_stands_beside_the_first_and_takes_its_place(console: Maker) -> None:
    talk = TALK[:4]
    async with talking(console, talk) as (app, client, pilot):
        await pilot.press("up", "i")
        await settle(pilot)
        assert app.query_one(Composer).draft == "Fix it." and "writes it anew: a branch" in screen_text(app)
        await pilot.press(*" Well", "enter")
        await settle(pilot)
        [sent] = client.called(Chat)
        assert (sent.content, sent.after) == ("Fix it. Well", "q1") and "writes it anew" not in screen_text(
            app
        )
        talk += [
            message(
                5, "you", "Fix it. Well", request_id="q9", parts=asked(5, "q9", "Fix it. Well", "q1")[0].parts
            )
        ]
        client.send(TurnStarted("q9", A, "s-apollo-ai", "Fix it. Well", NOW, after="q1"))
        await settle(pilot, 10)
        client.send(*answer("q9", A, "s-apollo-ai", "", "Done well.")[1:])
        await settle(pilot, 10)
        text = screen_text(app)
        assert "branch 2 of 2" in text and "Done well." in text and "It answers Fix it." not in text


async def test_emptying_the_field_ends_the_rewriting_and_asking_again_is_a_branch_too(console: Maker) -> None:
    async with talking(console, TALK[:4]) as (app, client, pilot):
        await pilot.press("up", "i")
        await settle(pilot)
        app.query_one(Composer).draft = ""
        await settle(pilot)
        await pilot.press(*"new", "enter")
        await settle(pilot)
        assert client.called(Chat)[-1].after == ""
        app.query_one(Transcript).focus()
        await pilot.press("home", "R")
        await settle(pilot)
        await pilot.press("tab", "enter")
        await settle(pilot)
        assert (client.called(Chat)[-1].content, client.called(Chat)[-1].after) == ("Why flaky?", "start")


async def test_nothing_is_rewritten_or_left_while_an_answer_is_written(console: Maker) -> None:
    async with talking(console, TALK) as (app, client, pilot):
        client.send(*answer("q7", A, "s-apollo-ai", "More?", "It")[:3])
        await settle(pilot)
        for key in ("left_curly_bracket", "i", "R"):
            app.clear_notifications()
            app.query_one(Transcript).focus()
            await pilot.press(key)
            await settle(pilot)
            assert any("it still answers" in str(notice.message) for notice in app._notifications), key  # pyright: ignore[reportPrivateUsage]
        assert not client.called(Chat)


async def test_a_conversation_without_branches_says_how_one_is_made(console: Maker) -> None:
    async with talking(console, TALK[:4]) as (app, _client, pilot):
        await pilot.press("left_curly_bracket")
        await settle(pilot)
        assert "↳" not in screen_text(app)
        assert any("no other branch" in str(notice.message) for notice in app._notifications)  # pyright: ignore[reportPrivateUsage]
