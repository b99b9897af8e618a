"""The composer: enter sends, nothing typed is lost, what can be completed is offered, pastes do no harm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Static

from tekton_tui.widgets.common.text_field import pasted
from tekton_tui.widgets.composer.composer import Choice, Composer, teaching_placeholder
from tekton_tui.widgets.composer.editor import Editor
from tekton_tui.widgets.composer.text import (
    FOLD_PASTE_CHARS,
    Mark,
    Pastes,
    Query,
    marks_of,
    matching,
    query_at,
)

NAMES = (Choice("apollo", "coordinator"), Choice("athena", "knowledge"), Choice("numa", "overseer"))
VERBS = (Choice("attach", "a file as text"), Choice("clear", "new session"))


class ComposerApp(App[None]):
    """A composer under something else."""

    CSS = "Static { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, str]] = []

    def compose(self) -> ComposeResult:
        yield Static("above")
        yield Composer(teaching_placeholder("Ask apollo…"))

    def on_composer_submitted(self, event: Composer.Submitted) -> None:
        self.heard.append(("sent", event.text))

    def on_composer_cancelled(self, event: Composer.Cancelled) -> None:
        self.heard.append(("cancelled", event.composer.draft))


@asynccontextmanager
async def composer_app(
    size: tuple[int, int] = (70, 20),
) -> AsyncIterator[tuple[ComposerApp, Composer, Pilot[None]]]:
    """Run an app with a composer that has the keyboard."""
    app = ComposerApp()
    async with app.run_test(size=size) as pilot:
        composer = app.query_one(Composer)
        composer.names, composer.verbs = NAMES, VERBS
        composer.focus_field()
        await pilot.pause()
        yield app, composer, pilot


async def paste(composer: Composer, pilot: Pilot[None], text: str) -> None:
    """Paste as a terminal does."""
    composer.query_one(Editor).post_message(events.Paste(text))
    await pilot.pause()


async def test_enter_sends_and_empties() -> None:
    async with composer_app() as (app, composer, pilot):
        await pilot.press(*"hi there", "enter")
        assert app.heard == [("sent", "hi there")]
        assert composer.draft == "" and composer.history == ["hi there"]
        await pilot.press("space", "enter")
        assert len(app.heard) == 1


@pytest.mark.parametrize("key", ["shift+enter", "ctrl+j"])
async def test_new_lines_grow_the_field_up_to_eight(key: str) -> None:
    async with composer_app() as (_app, composer, pilot):
        assert composer.query_one(Editor).size.height == 1
        await pilot.press("a", key, "b", key, "c")
        assert composer.draft == "a\nb\nc"
        assert composer.query_one(Editor).size.height == 3
        await pilot.press(*[key] * 20)
        assert composer.query_one(Editor).size.height == 8


async def test_history_at_the_edges_keeps_what_was_begun() -> None:
    async with composer_app() as (_app, composer, pilot):
        composer.history = ["first", "second\nline"]
        await pilot.press(*"new", "up")
        assert composer.draft == "second\nline"
        await pilot.press("up")
        assert composer.draft == "second\nline"
        await pilot.press("up")
        assert composer.draft == "first"
        await pilot.press("up")
        assert composer.draft == "first"
        await pilot.press("down", "down", "down")
        assert composer.draft == "new"


async def test_at_completes_names_and_escape_closes_before_it_cancels() -> None:
    async with composer_app() as (app, composer, pilot):
        await pilot.press(*"ask @at")
        assert composer.choosing
        await pilot.press("tab")
        assert composer.draft == "ask @athena " and not composer.choosing
        await pilot.press(*"@a", "down", "enter")
        assert composer.draft == "ask @athena @athena "
        await pilot.press("@", "escape")
        assert not composer.choosing and app.heard == []
        await pilot.press("escape")
        assert app.heard == [("cancelled", "ask @athena @athena @")]


async def test_slash_completes_verbs_only_at_the_start() -> None:
    async with composer_app() as (_app, composer, pilot):
        await pilot.press(*"a /c")
        assert not composer.choosing
        composer.draft = ""
        await pilot.press(*"/c", "enter")
        assert composer.draft == "/clear "


async def test_stage_after_a_pipe_completes_names() -> None:
    async with composer_app() as (app, composer, pilot):
        await pilot.press(*"apollo | nu", "enter", "enter")
        assert app.heard == [("sent", "apollo | numa ")]
        assert not composer.choosing


async def test_choice_is_taken_with_the_mouse() -> None:
    async with composer_app() as (_app, composer, pilot):
        await pilot.press("@")
        popup = composer.query_one("_Popup")
        await pilot.click(popup, offset=(4, 3))
        assert composer.draft == "@numa "


async def test_long_paste_is_a_chip_and_is_sent_whole() -> None:
    async with composer_app() as (app, composer, pilot):
        text = "0123456789" * 200
        await paste(composer, pilot, text)
        await paste(composer, pilot, text)
        assert composer.query_one(Editor).text == "[pasted 2,000 characters][pasted 2,000 characters #2]"
        assert composer.draft == text * 2
        await pilot.press("backspace", "!", "enter")
        assert app.heard == [("sent", text + "!")]


async def test_pasted_controls_are_shown_and_never_sent() -> None:
    async with composer_app() as (app, composer, pilot):
        await paste(composer, pilot, "a\x1b[2J\x9bb\r\nc\x07\u202e")
        await pilot.press("enter")
        assert app.heard == [("sent", "a␛[2J⟨U+009B⟩b\nc␇⟨U+202E⟩")]


async def test_draft_is_put_back_safely() -> None:
    async with composer_app() as (_app, composer, pilot):
        composer.draft = "kept\x1b[1m [/b] [@click=app.quit]"
        await pilot.pause()
        assert composer.draft == "kept␛[1m [/b] [@click=app.quit]"


async def test_editor_keys_stay_with_the_editor() -> None:
    async with composer_app() as (_app, composer, pilot):
        await pilot.press(*"one two", "ctrl+w", "ctrl+a", *"X", "ctrl+e", *"Y", "ctrl+z", "ctrl+y", "ctrl+u")
        assert composer.draft == ""
        await pilot.press(*"abc", "ctrl+a", "ctrl+d", "ctrl+k")
        assert composer.draft == ""


async def test_cursor_does_not_blink() -> None:
    async with composer_app() as (_app, composer, _pilot):
        assert composer.query_one(Editor).cursor_blink is False


def test_pipes_and_braces_count_only_outside_quotes() -> None:
    assert marks_of('a | "b | {c}" | {x,y}')[0] == [
        Mark(2, 3, "pipe"), Mark(14, 15, "pipe"), Mark(16, 17, "brace"), Mark(20, 21, "brace"),
    ]  # fmt: skip
    assert marks_of('"open |\nstill |" | out') == [[], [Mark(9, 10, "pipe")]]
    assert marks_of("/run @apollo mail@host") == [[Mark(5, 12, "name"), Mark(0, 4, "verb")]]


@pytest.mark.parametrize(
    ("before", "query"),
    [
        ("@ap", Query("name", "ap")),
        ("hi @", Query("name", "")),
        ("mail@ap", None),
        ("/at", Query("verb", "at")),
        ("x /at", None),
        ("apollo | nu", Query("name", "nu")),
        ('echo "a | nu', None),
        ("apollo | {numa,at", Query("name", "at")),
        ("apollo | ", None),
    ],
)
def test_what_is_completed(before: str, query: Query | None) -> None:
    assert query_at(before) == query


def test_matches_begin_before_they_contain() -> None:
    assert [choice.value for choice in matching(NAMES, "a")] == ["apollo", "athena", "numa"]
    assert [choice.value for choice in matching(NAMES, "NU")] == ["numa"]


def test_short_pastes_stay_text_and_unknown_chips_too() -> None:
    pastes = Pastes()
    assert pastes.fold("x" * FOLD_PASTE_CHARS) == "x" * FOLD_PASTE_CHARS
    assert pastes.fold("a\n" * 20) == "[pasted 40 characters]"
    assert pastes.expand("[pasted 9 characters]") == "[pasted 9 characters]"
    assert pasted("a\r\nb\rc") == "a\nb\nc"
