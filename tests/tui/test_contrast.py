"""What is drawn can be read: the contrast of every pair of colours on the screen, and signs where there are no colours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from rich.cells import cell_len
from rich.color import Color as TerminalColor
from rich.color import ColorSystem
from textual.pilot import Pilot

from tekton_tui.app import TektonApp
from tekton_tui.runtime.preferences import Preferences
from tekton_tui.runtime.themes import DARK_NAME, LIGHT_NAME
from tests.tui.conftest import at_rest, settle
from tests.tui.fake_client import FakeClient, snapshot, ten_minutes
from tests.tui.test_console import screen_text
from tests.tui.test_pictures import MODEL_SERVER, PLACES, STATES, busy_fleet
from tests.tui.test_themes import contrast

READABLE, LARGE = 4.5, 3.0
"""Of words; of what does not act now, and of what is no text: frames, gauges, plots."""
SHAPES = frozenset("─━│┃╭╮╰╯┌┐└┘├┤┬┴┼╸╺╌┊▔▁▂▃▄▅▆▇█▌▐▎▏▊▍░▒▓▪■□ ·…") | {
    chr(code) for code in range(0x2800, 0x2900)
}


DIFFERENT = [place for place in PLACES if place != "team_joint"]
"""Those of which none is drawn from the parts of another: that one is `team_18` with a card above."""


@asynccontextmanager
async def driven(
    state: str, size: tuple[int, int], theme: str = ""
) -> AsyncIterator[tuple[TektonApp, Pilot[Any]]]:
    """Give a console that was driven to a state of the pictures and is at rest there."""
    running, drive = STATES[state]
    rows = busy_fleet() if running else []
    first = snapshot(*rows, services=[MODEL_SERVER], history=ten_minutes()) if running else snapshot()
    client = FakeClient(first)
    app = TektonApp(client.connect, theme=theme)
    async with app.run_test(size=size) as pilot:
        await settle(pilot, 8)
        await drive(app, client, pilot)
        await settle(pilot, 16)
        await at_rest(pilot)
        yield app, pilot


def pairs(app: TektonApp) -> dict[tuple[TerminalColor, TerminalColor], str]:
    """Return each pair of colours on the screen with what was written in it first."""
    found: dict[tuple[TerminalColor, TerminalColor], str] = {}
    for strip in app.screen._compositor.render_strips():
        for segment in strip:
            style = segment.style
            if style is None or style.color is None or style.bgcolor is None or not segment.text.strip():
                continue
            fore, back = (style.bgcolor, style.color) if style.reverse else (style.color, style.bgcolor)
            if not set(segment.text) <= SHAPES:
                found.setdefault((fore, back), segment.text.strip())
    return found


def cells(app: TektonApp) -> list[list[tuple[str, str]]]:
    """Return of each row its characters with their grounds, and with their colours where there is something to see."""
    found: list[list[tuple[str, str]]] = []
    for strip in app.screen._compositor.render_strips():
        row: list[tuple[str, str]] = []
        for text, style, _ in strip:
            ground, colour = (str(style.bgcolor), str(style.color)) if style else ("", "")
            row += [
                (character, ground if character == " " else f"{colour} on {ground}") for character in text
            ]
        found.append(row)
    return found


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(
    "state",
    ["fleet_log", "errors", "timeline", "gateway", "sessions", "chat_tools", "team_18", "team_diff", "needs"],
)
async def test_a_place_switched_to_another_theme_looks_as_one_that_began_in_it(state: str) -> None:
    async with driven(state, (120, 40), DARK_NAME) as (app, pilot):
        app.commands.console.set_preference("theme", LIGHT_NAME)
        await at_rest(pilot)
        switched = cells(app)
    async with driven(state, (120, 40), LIGHT_NAME) as (app, _):
        assert cells(app) == switched


def shown_as(colour: TerminalColor, deep: bool) -> str:
    return (colour if deep else colour.downgrade(ColorSystem.EIGHT_BIT)).get_truecolor().hex


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("state", [*DIFFERENT, "chat_search", "command_line", "new_specialist"])
async def test_every_pair_that_is_drawn_can_be_read_in_each_theme_of_many_colours_and_of_256(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driven(state, (120, 40)) as (app, pilot):
        for deep, theme in ((True, DARK_NAME), (False, LIGHT_NAME), (False, DARK_NAME), (True, LIGHT_NAME)):
            monkeypatch.setattr(TektonApp, "few_colours", not deep)
            app.commands.console.set_preference("theme", theme)
            await at_rest(pilot)
            assert app.theme == theme
            found = pairs(app)
            assert len(found) >= 6
            faint = app.get_css_variables()["text-disabled"]
            weak: list[tuple[str, str, str, float]] = []
            for (fore, back), words in found.items():
                least = LARGE if fore.get_truecolor().hex == faint.lower() else READABLE
                one, other = shown_as(fore, deep), shown_as(back, deep)
                if (ratio := contrast(one, other)) < least:
                    weak.append((words, one, other, round(ratio, 2)))
            assert weak == [], f"{theme}, {'true colour' if deep else '256 colours'}"


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("size", [(80, 24), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", ["fleet", "needs_ask", "team_18"])
async def test_the_same_words_stand_in_the_same_cells_however_many_colours_there_are(
    state: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    for few, none in ((False, False), (True, False), (False, True)):
        with monkeypatch.context() as mode:
            mode.setattr(TektonApp, "few_colours", few)
            if none:
                mode.setenv("NO_COLOR", "1")
            async with driven(state, size) as (app, _):
                texts.append(screen_text(app))
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("state", ["fleet", "needs", "team_18", "timeline"])
async def test_without_colours_the_cursor_and_each_state_have_a_sign(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with driven(state, (120, 40)) as (app, _):
        found, text = pairs(app), screen_text(app)
    assert all(len(set(colour.get_truecolor())) == 1 for pair in found for colour in pair), (
        "grey alone is left"
    )
    assert any(line.lstrip("│").startswith("▎") for line in text.splitlines()), "the cursor has a sign"
    if state == "fleet":
        for sign, word in (
            ("✖", "exited 3"),
            ("◐", "stalled"),
            ("●", "ready"),
            ("◌", "starting"),
            ("○", "stopped"),
        ):
            assert any(sign in line and word in line for line in text.splitlines()), word


SAID = "漢字"
"""Of a person's words on these screens; text of others stays as it is."""


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("state", [*DIFFERENT, "chat", "help", "kill", "switcher", "pipes", "new_specialist"])
async def test_set_to_ascii_every_sign_of_ours_is_ascii_and_no_column_moves(state: str) -> None:
    shown: dict[tuple[tuple[int, int], bool], list[str]] = {}
    async with driven(state, (80, 24)) as (app, pilot):
        for size, ascii_only in (((80, 24), False), ((80, 24), True), ((120, 40), True), ((120, 40), False)):
            app.commands.console.set_preference("ascii", ascii_only)
            await pilot.resize_terminal(*size)
            await at_rest(pilot)
            shown[size, ascii_only] = screen_text(app).splitlines()
    for size in ((80, 24), (120, 40)):
        plain, signs = shown[size, False], shown[size, True]
        assert [line for line in signs if not line.replace(SAID, "").isascii()] == []
        assert [cell_len(line) for line in signs] == [cell_len(line) for line in plain] == [size[0]] * size[1]
        for one, other in zip(plain, signs, strict=True):
            assert all(a == b for a, b in zip(one, other, strict=True) if a.isascii())


async def test_a_console_that_begins_in_ascii_draws_no_other_sign() -> None:
    client = FakeClient(snapshot(*busy_fleet()))
    app = TektonApp(client.connect, preferences=Preferences(ascii=True))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert screen_text(app).isascii()
        app.commands.console.set_preference("ascii", False)
        await settle(pilot)
        assert not screen_text(app).isascii()
