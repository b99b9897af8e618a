"""The design's colours by name, as every line-drawn widget uses them; made of the theme in force.

Two accents (what acts; the operator), three colours of state, steel for gauges, teal and sand for plots only. A theme of
somebody else has the first ones; the others then fall back on those.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from rich.style import Style
from textual.color import Color
from textual.widget import Widget

from tekton_tui.runtime.frame_scheduler import app_of

CURSOR_SHARE = 0.22
"""Of the accent, in the ground of the row under the cursor."""
GREY_CURSORS = ("#303030", "#e4e4e4")
"""The same on a dark and on a light ground, where colours are few."""

ADDED, REMOVED = "$text-success on $success 14%", "$text-error on $error 14%"
"""Lines of a diff outside of a transcript."""


class Tokens(NamedTuple):
    """Colours as `#rrggbb`."""

    ground: str
    bar: str
    panel: str
    line: str
    text: str
    muted: str
    faint: str
    accent: str
    you: str
    good: str
    warn: str
    bad: str
    steel: str
    teal: str
    sand: str
    cursor: str

    def style(self, tone: str, ground: str = "") -> Style:
        """Return the style of a tone: a colour's name, perhaps with `bold` or `underline` behind it."""
        return _style(self, tone, ground)

    def blend(self, tone: str, share: float) -> str:
        return blend(self.ground, getattr(self, tone), share)


def tokens_of(widget: Widget) -> Tokens:
    return tokens_from(app_of(widget).theme_variables)


def tokens_from(variables: Mapping[str, str]) -> Tokens:
    """Return the colours of a theme's variables."""
    return _tokens(tuple(variables.get(name, "") for name in _NAMES))


def blend(ground: str, colour: str, share: float) -> str:
    # in sixty-fourths, so that plots with ever other shares find their colours in the cache
    return _blend(ground, colour, round(share * 64))


def cursor_of(ground: str, primary: str, *, few_colours: bool = False) -> str:
    """Return the ground of the row under the cursor: the accent over the ground, a plain grey where colours are few.

    A terminal of 256 colours would show the tint as teal, on which greys cannot be read.
    """
    if few_colours:
        return GREY_CURSORS[Color.parse(ground).brightness > 0.5]
    return blend(ground, _hex(primary, ground), CURSOR_SHARE)


_NAMES = (
    "background", "surface", "panel", "line", "foreground", "text-muted", "text-disabled", "text-primary",
    "text-secondary", "text-success", "text-warning", "text-error", "steel", "teal", "sand", "primary",
    "cursor-row",
)  # fmt: skip


@lru_cache(maxsize=16)
def _tokens(values: tuple[str, ...]) -> Tokens:
    known = dict(zip(_NAMES, values, strict=True))
    ground = _hex(known["background"], "#121417")
    text = _hex(known["foreground"], "#d7dde8")
    muted = _hex(known["text-muted"], blend(ground, text, 0.7))
    accent = _hex(known["text-primary"], text)
    panel = _hex(known["panel"], blend(ground, text, 0.15))
    return Tokens(
        ground=ground,
        bar=_hex(known["surface"], ground),
        panel=panel,
        line=_hex(known["line"], blend(ground, text, 0.22)),
        text=text,
        muted=muted,
        faint=_hex(known["text-disabled"], muted),
        accent=accent,
        you=_hex(known["text-secondary"], accent),
        good=_hex(known["text-success"], text),
        warn=_hex(known["text-warning"], text),
        bad=_hex(known["text-error"], text),
        steel=_hex(known["steel"], muted),
        teal=_hex(known["teal"], _hex(known["text-success"], accent)),
        sand=_hex(known["sand"], _hex(known["text-warning"], accent)),
        cursor=_hex(known["cursor-row"], cursor_of(ground, known["primary"] or accent)),
    )


def _hex(value: str, otherwise: str) -> str:
    """Return a colour without its alpha; `otherwise` where there is none, or one that depends on its ground."""
    try:
        return Color.parse(value).rgb and Color.parse(value).hex6
    except Exception:  # `auto 87%` and the like are no colours of their own
        return otherwise


@lru_cache(maxsize=4096)
def _blend(ground: str, colour: str, share: int) -> str:
    return Color.parse(ground).blend(Color.parse(colour), share / 64).hex6


@lru_cache(maxsize=4096)
def _style(tokens: Tokens, tone: str, ground: str) -> Style:
    name, _, more = tone.partition(" ")
    colour = name if name.startswith("#") else getattr(tokens, name)
    if ground == tokens.cursor:  # greys that are hard to read on it rise by one
        colour = {tokens.faint: tokens.muted, tokens.steel: tokens.text}.get(colour, colour)
    return Style(
        color=colour, bgcolor=ground or tokens.ground, bold="bold" in more, underline="underline" in more
    )
