"""A call that waits stands as a card in its conversation: all of it is read there, and its keys answer it there alone."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len

from backend.schema.events import AskClosed, AskOpened
from backend.schema.frames import StreamChunk, StreamPhase, StreamToolUse
from backend.schema.params import AnswerAsk
from backend.schema.tools import QUESTION, Ask, AskOption
from tekton_tui.app import TektonApp
from tekton_tui.commands.undo import Undo
from tekton_tui.screens.ask import AskDialog
from tekton_tui.transcript.ask_card import MOST_ROWS, card_fits, card_rows
from tekton_tui.transcript.cards import numbered
from tekton_tui.transcript.entry import AskCard
from tekton_tui.widgets.chat.ask_cards import AskKeys
from tekton_tui.widgets.composer.composer import Composer
from tests.tui.conftest import settle
from tests.tui.fake_client import NOW, FakeClient, answer, live
from tests.tui.test_asks import answered
from tests.tui.test_console import screen_text

Maker = Callable[..., tuple[TektonApp, FakeClient]]
Press = Callable[..., Awaitable[str]]
"""Presses keys, waits until the console has acted on them, and returns what is on the screen."""
DIFF = "--- /srv/notes.md as it is\n+++ /srv/notes.md with this text\n@@ -7,3 +7,4 @@\n one\n--- two\n+two\n+++ three\n four\n"
ASK = Ask(
    "t-1", "apollo-ai", "r1", "s-apollo-ai", "files:write", '{"path": "/srv/notes.md"}', NOW, NOW + 600,
    always="files:write path=/srv/notes.md", why="Write it.", reason="no rule covers files:write", diff=DIFF,
)  # fmt: skip
LONG = replace(ASK, arguments=json.dumps({"text": "\n".join(f"line {at}" for at in range(60))}), diff="")
OPTIONS = [AskOption("0", "tea", "allow_once"), AskOption("1", "none", "reject_once")]
QUESTION_ASK = replace(ASK, tool=QUESTION, diff="", arguments='{"question": "Which drink?"}', options=OPTIONS)


@asynccontextmanager
async def waiting(
    console: Maker, *asks: Ask, size: tuple[int, int] = (80, 24)
) -> AsyncGenerator[tuple[TektonApp, FakeClient, Press]]:
    """Run a console that shows a conversation in which calls wait, the focus in the composer."""
    app, client = console(live("apollo"))
    client.answers[AnswerAsk] = answered
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        app.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        client.send(
            *answer("r1", "apollo-ai", "s-apollo-ai", "Write it.")[:2], StreamChunk("r1", "I write.", 0)
        )
        for at, ask in enumerate(asks or (ASK,)):
            client.send(StreamToolUse("r1", "apollo-ai", at, ask.tool, ask.arguments), AskOpened(ask))
        client.send(StreamPhase("r1", "apollo-ai", "waiting", 0, ASK.tool))

        async def press(*keys: str) -> str:
            await pilot.press(*keys)
            await settle(pilot)
            return screen_text(app)

        await settle(pilot)
        yield app, client, press


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
@pytest.mark.usefixtures("still")
async def test_all_that_is_to_be_known_stands_on_the_card(console: Maker, size: tuple[int, int]) -> None:
    other = replace(ASK, id="t-2", arguments='{"path": "b"}')
    async with waiting(console, ASK, other, size=size) as (_, _, press):
        shown = await press("tab")
        for words in (
            "apollo asks to call files:write", "waits 0 s of 10 m", "path  /srv/notes.md", "  8 - -- two", "  9 + ++ three",
            "behind it  1 call of this answer", "asked because  no rule covers files:write",
            "A always means  allow files:write path=/srv/notes.md for apollo", "a  once", "A  always", "x  no", "i  no, because",
        ):  # fmt: skip
            assert words in shown, words


@pytest.mark.parametrize(
    ("key", "verdict", "always"), [("a", "allow", ""), ("A", "allow", ASK.always), ("x", "deny", "")]
)
async def test_a_key_of_the_card_answers_its_call_and_the_next_is_written(
    console: Maker, key: str, verdict: str, always: str
) -> None:
    async with waiting(console) as (app, client, press):
        await press("tab", key)
        [sent] = client.called(AnswerAsk)
        assert (sent.id, sent.answer, sent.always) == ("t-1", verdict, always)
        client.send(AskClosed("t-1", "apollo-ai", verdict, "owner"))
        await press("a", "x")
        assert app.query_one("#chat-apollo-ai Composer", Composer).draft == "ax"
        assert len(client.called(AnswerAsk)) == 1 and "asks to call" not in screen_text(app)


async def test_letters_and_enter_answer_nothing_while_the_card_has_not_the_keys(console: Maker) -> None:
    async with waiting(console) as (app, client, press):
        await press("a", "A", "x", *["backspace"] * 3, "shift+tab", "down", "a", "A")
        app.query_one("#chat-apollo-ai Composer", Composer).focus_field()
        await press("tab", "enter")  # shown alone: Enter answers nothing there either
        assert client.called(AnswerAsk) == [] and list(app.stores.asks.asks) == ["t-1"]


async def test_keys_typed_before_it_could_be_read_do_not_answer_it(
    console: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AskKeys, "EARLY_S", 3600.0)
    async with waiting(console) as (_, client, press):
        await press("tab", "a", "A", "x")
        assert client.called(AnswerAsk) == []


async def test_an_answer_is_taken_back_while_it_is_held(
    console: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Undo, "GRACE_S", 3600.0)
    async with waiting(console) as (_, client, press):
        held = await press("tab", "a")
        assert "allowed · u takes it back" in held and "asks to call" not in held
        assert "allowed" in await press("a", "x")  # it is answered: no key answers it again
        back = await press("u")
        assert client.called(AnswerAsk) == [] and "asks to call files:write" in back


async def test_a_call_that_no_card_holds_is_shown_alone(console: Maker) -> None:
    async with waiting(console, LONG) as (app, client, press):
        assert "more rows" in screen_text(app) and "line 59" not in screen_text(app)
        await press("tab")
        assert isinstance(app.screen, AskDialog)
        await press("a")
        assert [sent.answer for sent in client.called(AnswerAsk)] == ["allow"]


async def test_no_leaves_it_waiting_and_escape_goes_back_to_writing(console: Maker) -> None:
    async with waiting(console) as (app, client, press):
        assert "leaves it waiting" in await press("tab")
        await press("escape", "h")
        assert app.query_one("#chat-apollo-ai Composer", Composer).draft == "h" and not client.called(
            AnswerAsk
        )


async def test_i_says_no_with_a_word_for_the_model(console: Maker) -> None:
    async with waiting(console) as (_, client, press):
        await press("tab", "i", *"later", "enter")
        [sent] = client.called(AnswerAsk)
        assert (sent.answer, sent.words) == ("deny", "later")


async def test_a_question_is_answered_by_its_numbers_alone(console: Maker) -> None:
    async with waiting(console, QUESTION_ASK) as (_, client, press):
        shown = await press("tab", "a", "A")
        assert client.called(AnswerAsk) == [] and "1  tea" in shown and " x  no" in shown
        await press("1")
        [sent] = client.called(AnswerAsk)
        assert (sent.answer, sent.option) == ("allow", "0")


async def test_a_digit_that_is_no_answer_goes_to_its_place(console: Maker) -> None:
    async with waiting(console) as (app, client, press):
        await press("tab", "4")
        assert app.query_one("#needs").is_on_screen and not client.called(AnswerAsk)


async def test_an_answer_from_elsewhere_takes_the_keys_away(console: Maker) -> None:
    async with waiting(console) as (app, client, press):
        await press("tab")
        client.send(AskClosed("t-1", "apollo-ai", "deny", "alice over HTTP"))
        shown = await press("a")
        assert not client.called(AnswerAsk) and "denied by alice over HTTP" in shown
        assert app.query_one("#chat-apollo-ai Composer", Composer).draft == "a"


@pytest.mark.parametrize("key", ["a", "x"])
async def test_a_click_on_a_key_of_the_card_does_what_the_key_does(console: Maker, key: str) -> None:
    app, client = console(live("apollo"))
    client.answers[AnswerAsk] = answered
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.navigator.open_chat("apollo-ai")
        await settle(pilot, 10)
        client.send(*answer("r1", "apollo-ai", "s-apollo-ai", "Write it.")[:2])
        client.send(StreamToolUse("r1", "apollo-ai", 0, ASK.tool, ASK.arguments), AskOpened(ASK))
        await settle(pilot)
        y, line = next(
            (y, line) for y, line in enumerate(screen_text(app).splitlines()) if " i  no, " in line
        )
        await pilot.click(offset=(line.index(f" {key}  ") + 1, y))
        await settle(pilot)
        [sent] = client.called(AnswerAsk)
        assert sent.answer == {"a": "allow", "x": "deny"}[key]


WORDS = st.text("ab \t\n漢é\u0301👩‍👩‍👧\x1b‮", max_size=60)


@given(
    st.lists(st.tuples(WORDS, WORDS), max_size=4), st.lists(st.tuples(st.just("because"), WORDS), max_size=4), WORDS,
    st.integers(8, 110), st.booleans(),
)  # fmt: skip
def test_every_row_of_a_card_has_its_width_and_what_fits_is_whole(
    arguments: list[tuple[str, str]], notes: list[tuple[str, str]], diff: str, width: int, answering: bool
) -> None:
    card = AskCard("apollo asks", tuple(arguments), diff, tuple(notes), (), (("a", "once"),), NOW, answering)
    rows = card_rows(card, NOW, width)
    assert all(row.cells == cell_len(row.text) == width for row in rows)
    assert len(rows) <= MOST_ROWS + 3 and bool(rows) == (width >= 28)
    assert not any(hostile in row.text for row in rows for hostile in "\x1b‮\n")
    if card_fits(card, width):
        text = "".join(row.text for row in rows)
        assert all(letter in text for _, value in arguments for letter in value if letter in "ab漢")


def test_lines_of_a_diff_have_the_numbers_of_their_files() -> None:
    parsed: list[Any] = list(
        numbered(DIFF + "--- b\n+++ b\n@@ -1 +1 @@\n-x\n+y\n\\ No newline at end of file\n")
    )
    assert parsed == [
        ("", "@", "/srv/notes.md with this text"), ("7", " ", "one"), ("8", "-", "-- two"), ("8", "+", "two"),
        ("9", "+", "++ three"), ("10", " ", "four"), ("", "@", "b"), ("1", "-", "x"), ("1", "+", "y"),
    ]  # fmt: skip
