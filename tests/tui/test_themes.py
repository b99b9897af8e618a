"""Every text of our own themes can be read on every ground it stands on, and every theme can be chosen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.color import Color as TerminalColor
from rich.color import ColorSystem
from textual.app import App
from textual.color import Color
from textual.theme import Theme

from tekton_tui.app import TektonApp
from tekton_tui.runtime.themes import THEMES
from tekton_tui.runtime.tokens import cursor_of, tokens_from
from tests.tui.conftest import settle
from tests.tui.fake_client import FakeClient, answer, live, team

TEXTS = (
    "foreground",
    "text-primary",
    "text-secondary",
    "text-muted",
    "text-success",
    "text-warning",
    "text-error",
)
GROUNDS = ("background", "surface")
GREYS = (
    *GROUNDS,
    "panel",
    "scrollbar",
    "scrollbar-hover",
    "text-muted",
    "text-disabled",
    "footer-description-foreground",
)
READABLE = 4.5


def colours_of(theme: Theme) -> dict[str, str]:
    """Return the colours an app with this theme hands to its style sheets."""
    app = App[None]()
    app.register_theme(theme)
    app.theme = theme.name
    return app.get_css_variables()


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, as WCAG 2 defines it."""
    lighter, darker = sorted((_luminance(Color.parse(one)), _luminance(Color.parse(other))), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Color) -> float:
    parts = [part / 255 for part in colour.rgb]
    red, green, blue = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def in_256_colours(colours: dict[str, str]) -> dict[str, str]:
    """Return the colours as a terminal of 256 colours shows them."""
    shown: dict[str, str] = {}
    for name in {*TEXTS, *GREYS, "primary", "warning", *(part for pair in FILLED for part in pair)}:
        colour = TerminalColor.from_rgb(*Color.parse(colours[name]).rgb).downgrade(ColorSystem.EIGHT_BIT)
        shown[name] = colour.get_truecolor().hex
    return shown


FILLED = (
    ("foreground", "panel"),
    ("text-warning", "panel"),
    ("block-cursor-foreground", "block-cursor-background"),
    ("footer-foreground", "footer-background"),
    ("background", "primary"),
    ("background", "warning"),
)


@pytest.mark.parametrize("deep", [True, False], ids=["true colour", "256 colours"])
@pytest.mark.parametrize("theme", THEMES, ids=[theme.name for theme in THEMES])
def test_every_text_stands_out_from_every_ground(theme: Theme, deep: bool) -> None:
    colours = colours_of(theme) if deep else in_256_colours(colours_of(theme))
    weak = [
        (text, ground, round(contrast(colours[text], colours[ground]), 1))
        for text in TEXTS
        for ground in GROUNDS
        if contrast(colours[text], colours[ground]) < READABLE
    ]
    assert weak == []


@pytest.mark.parametrize("deep", [True, False], ids=["true colour", "256 colours"])
@pytest.mark.parametrize("theme", THEMES, ids=[theme.name for theme in THEMES])
def test_what_is_filled_can_be_read_too(theme: Theme, deep: bool) -> None:
    colours = colours_of(theme) if deep else in_256_colours(colours_of(theme))
    assert [pair for pair in FILLED if contrast(colours[pair[0]], colours[pair[1]]) < READABLE] == []


@pytest.mark.parametrize("theme", THEMES, ids=[theme.name for theme in THEMES])
def test_grounds_and_greys_keep_no_tint_and_stay_apart_in_256_colours(theme: Theme) -> None:
    shown = in_256_colours(colours_of(theme))
    tinted = {name: shown[name] for name in GREYS if len(set(Color.parse(shown[name]).rgb)) > 1}
    assert tinted == {}
    assert len({shown[name] for name in (*GROUNDS, "panel")}) == 3


@pytest.mark.parametrize("theme", THEMES, ids=[theme.name for theme in THEMES])
def test_at_most_two_accents(theme: Theme) -> None:
    assert len({theme.primary, theme.secondary, theme.accent}) <= 2


SPOKEN = ("text", "muted", "faint", "accent", "you", "good", "warn", "bad", "steel")
PLOTTED = ("teal", "sand")
"""Tokens of words, and of plots alone, which are large."""
LARGE = 3.0


@pytest.mark.parametrize("deep", [True, False], ids=["true colour", "256 colours"])
@pytest.mark.parametrize("theme", THEMES, ids=[theme.name for theme in THEMES])
def test_every_token_is_read_on_the_grounds_it_is_drawn_on(theme: Theme, deep: bool) -> None:
    """Words at 4.5 on ground, bar and the row under the cursor, where greys rise by one; plots at 3."""
    colours = colours_of(theme)
    cursor = cursor_of(colours["background"], colours["primary"], few_colours=not deep)
    tokens = tokens_from({**colours, "cursor-row": cursor})
    weak: list[tuple[str, str, float]] = []
    for tone in (*SPOKEN, *PLOTTED):
        for ground in (tokens.ground, tokens.bar, tokens.cursor):
            style = tokens.style(tone, ground)
            assert style.color is not None and style.bgcolor is not None
            pair = [style.color, style.bgcolor]
            shown = [
                (colour if deep else colour.downgrade(ColorSystem.EIGHT_BIT)).get_truecolor().hex
                for colour in pair
            ]
            ratio = contrast(*shown)
            if ratio < (READABLE if tone in SPOKEN else LARGE):
                weak.append((tone, ground, round(ratio, 2)))
    assert weak == []


async def test_every_theme_that_can_be_chosen_draws_every_place(
    console: Callable[..., tuple[TektonApp, FakeClient]],
) -> None:
    """Textual's own give `auto` for some greys, which is no colour of a border."""
    app, client = console(live("apollo"), live("numa"))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot, 1)
        client.send(team("t1", "Name a risk.", "apollo", "numa"))
        for name in ("apollo", "numa"):
            client.send(*answer(f"t1/{name}-ai", f"{name}-ai", "s-team", "", "Late.", group="t1"))
        for key in "612345":
            await pilot.press(key)
            await settle(pilot, 1)
        for at, theme in enumerate(sorted(app.available_themes)):
            app.theme = theme
            await pilot.press(str(1 + at % 6))
            await settle(pilot, 1)
            assert app.is_running and app.current_theme.name == theme
