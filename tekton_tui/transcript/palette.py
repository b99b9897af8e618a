"""Turns inks into terminal styles by the theme's component classes; knows nothing of text."""

from __future__ import annotations

from typing import Final

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from tekton_tui.transcript.code import TINTED_CLASSES, TOKEN_CLASSES
from tekton_tui.transcript.entry import SPEAKER_COLOURS
from tekton_tui.transcript.rows import (
    BLOCK,
    BOLD,
    BULLET,
    CODE,
    DIM,
    ERROR,
    FOLD,
    GOOD,
    HEADING,
    ITALIC,
    KEY,
    LABEL,
    LINK,
    QUOTE,
    RULE,
    SPEAKER,
    STRIKE,
    TITLE,
    TOKEN_SHIFT,
    YOU,
    Ink,
    Row,
)
from tekton_tui.transcript.strips import RowStrip

_PARTS: Final = (
    "title", "heading", "code", "block", "label", "link", "quote", "dim", "bullet", "fold", "error",
    "cursor", "match", "match-here", "badge", "thumb", "rule", "good", "asks", "key",
)  # fmt: skip

COMPONENT_CLASSES: Final = frozenset(
    {f"transcript--{part}" for part in _PARTS}
    | {f"transcript--code-{token_class}" for token_class in TOKEN_CLASSES}
    | {f"transcript--speaker-{colour}" for colour in SPEAKER_COLOURS}
)

DEFAULT_CSS: Final = """
Transcript {
    background: $background;
    color: $foreground;
    overflow-x: hidden;
    overflow-y: hidden;
    & > .transcript--title { color: $text-primary; text-style: bold; }
    & > .transcript--heading { color: $foreground; text-style: bold; }
    & > .transcript--code { color: $foreground; background: $panel; }
    & > .transcript--block { color: $foreground; background: $surface; }
    & > .transcript--label { color: $text-muted; background: $surface; text-style: italic; }
    & > .transcript--link { color: $text-primary; text-style: underline; }
    & > .transcript--quote { color: $text-muted; }
    & > .transcript--dim { color: $text-muted; }
    & > .transcript--bullet { color: $text-primary; }
    & > .transcript--fold { color: $text-primary; }
    & > .transcript--error { color: $text-error; }
    & > .transcript--good { color: $text-success; }
    & > .transcript--asks { color: $text-secondary; }
    & > .transcript--key { color: $background; background: $secondary; text-style: bold; }
    & > .transcript--cursor { background: $foreground 7%; }
    & > .transcript--match { background: $panel; color: $text-warning; text-style: underline; }
    & > .transcript--match-here { background: $warning; color: $background; text-style: bold; }
    & > .transcript--badge { background: $primary; color: $background; text-style: bold; }
    & > .transcript--thumb { color: $scrollbar-hover; }
    & > .transcript--rule { color: $scrollbar-hover; }
    & > .transcript--code-keyword { color: $text-primary; }
    & > .transcript--code-name { color: $foreground; text-style: bold; }
    & > .transcript--code-string { color: $text-muted; }
    & > .transcript--code-number { color: $foreground; }
    & > .transcript--code-comment { color: $text-muted; text-style: italic; }
    & > .transcript--code-operator { color: $foreground; }
    & > .transcript--code-added { color: $text-success; background: $success 14%; }
    & > .transcript--code-removed { color: $text-error; background: $error 14%; }
    & > .transcript--speaker-you { color: $text-secondary; }
    & > .transcript--speaker-specialist { color: $text-primary; }
    & > .transcript--speaker-stalled { color: $text-warning; }
    & > .transcript--speaker-failed { color: $text-error; }
    & > .transcript--speaker-note { color: $text-muted; }
}
"""

_CLASS_OF: Final = (
    # Later ones win where several are set.
    (BLOCK, "transcript--block"),
    (LABEL, "transcript--label"),
    (QUOTE, "transcript--quote"),
    (BULLET, "transcript--bullet"),
    (TITLE, "transcript--title"),
    (HEADING, "transcript--heading"),
    (LINK, "transcript--link"),
    (CODE, "transcript--code"),
    (DIM, "transcript--dim"),
    (FOLD, "transcript--fold"),
    (ERROR, "transcript--error"),
    (RULE, "transcript--rule"),
    (GOOD, "transcript--good"),
    (YOU, "transcript--asks"),
    (KEY, "transcript--key"),
)

BAR_CELLS: Final = 2
SCROLL_CELLS: Final = 1
ROOMY: Final = 40
"""A transcript this wide keeps a cell free before its scrollbar."""
BAR: Final = "▎"
"""The speaker's bar."""
THUMB: Final = "▐"
BAR_HERE: Final = "▌"
"""The bar of what the cursor is on: shown by shape as well as by colour."""


class Palette:
    """Styles of one widget under one theme; make another when the theme changes.

    Args:
        widget: Whose component classes are asked.
        pads: Empty cells left and right of every row.
    """

    def __init__(self, widget: Widget, pads: tuple[int, int] = (0, 0)) -> None:
        self._widget = widget
        self.filters = tuple(widget.get_line_filters())
        self._background = widget.background_colors[1]
        self._base = widget.rich_style
        self._thumb = Segment(THUMB, self._filtered(self._base + self._foreground("transcript--thumb")))
        self._track = Segment(" ", self._filtered(self._base))
        self.pads = pads
        self.no_bar = Segment(" " * BAR_CELLS, self._track.style)
        self._left = [Segment(" " * pads[0], self._track.style)] if pads[0] else []
        self._right = [Segment(" " * pads[1], self._track.style)] if pads[1] else []
        self._styles: dict[tuple[Ink, str, bool], Style] = {}
        self._bars: dict[tuple[str, bool], Segment] = {}

    def style(self, ink: Ink, colour: str, *, here: bool = False) -> Style:
        """Return the style of an ink in a message of a speaker; `here` marks what the cursor is on."""
        key = (ink, colour, here)
        style = self._styles.get(key)
        if style is None:
            style = self._styles[key] = self._filtered(self._mix(ink, colour, here))
        return style

    def part(self, name: str) -> Style:
        """Return the style of a named part, without what lies beneath it."""
        return self._widget.get_component_rich_style(f"transcript--{name}", partial=True)

    def bar(self, colour: str, *, here: bool) -> Segment:
        """Return the two cells left of a message's text."""
        segment = self._bars.get((colour, here))
        if segment is None:
            style = self._base + self._speaker(colour)
            if here:
                style += self._ground("cursor")
            segment = self._bars[colour, here] = Segment(
                (BAR_HERE if here else BAR) + " ", self._filtered(style)
            )
        return segment

    def strip(
        self, row: Row, colour: str, width: int, measure: int, *, bar: bool, here: bool, thumb: bool
    ) -> Strip:
        """Return a row as a strip of `width` cells (bar, text, the scrollbar's column) between the pads.

        The ground of a row ends with the `measure` for which it was wrapped; the cells right of it are empty.
        """
        segments: list[Segment] = []
        if bar:
            segments.append(self.no_bar if row.bare else self.bar(colour, here=here))
        style = self.style
        segments += [Segment(text, style(ink, colour, here=here)) for text, ink in row.runs]
        before = BAR_CELLS if bar else 0
        used = row.cells + before
        room = width - SCROLL_CELLS
        if (end := min(room, measure + before)) > used:
            segments.append(Segment(" " * (end - used), style(row.fill, colour, here=here)))
            used = end
        if used < room:
            segments.append(Segment(" " * (room - used), self._track.style))
        elif used > room:
            segments = list(Strip(segments, used).crop(0, room))
        return self._padded([*segments, self._thumb if thumb else self._track], width)

    def gap(self, width: int, *, thumb: bool) -> Strip:
        """Return an empty row between messages."""
        blank = Segment(" " * (width - SCROLL_CELLS), self._track.style)
        return self._padded([blank, self._thumb if thumb else self._track], width)

    def _padded(self, segments: list[Segment], width: int) -> Strip:
        return RowStrip([*self._left, *segments, *self._right], width + sum(self.pads))

    def filter(self, strip: Strip) -> Strip:
        """Apply the app's filters to a strip that has other styles than the palette's."""
        for line_filter in self.filters:
            strip = strip.apply_filter(line_filter, self._background)
        return strip

    def _filtered(self, style: Style) -> Style:
        """Apply the app's filters to a style, once for all rows that use it."""
        segments = [Segment("x", style)]
        for line_filter in self.filters:
            segments = line_filter.apply(segments, self._background)
        return segments[0].style or Style.null()

    def _speaker(self, colour: str) -> Style:
        # a colour without a class would end the drawing
        name = colour if colour in SPEAKER_COLOURS else "specialist"
        return self._foreground(f"transcript--speaker-{name}")

    def _foreground(self, name: str) -> Style:
        return Style(color=self._widget.get_component_rich_style(name).color)

    def _ground(self, part: str) -> Style:
        return Style(bgcolor=self._widget.get_component_rich_style(f"transcript--{part}").bgcolor)

    def _mix(self, ink: Ink, colour: str, here: bool) -> Style:
        style = self._base
        if here and not ink & (BLOCK | CODE | KEY):
            style += self._ground("cursor")
        for flag, name in _CLASS_OF:
            if not ink & flag:
                continue
            found = self._widget.get_component_rich_style(name)
            # only these have a ground of their own; a heading under the cursor keeps the cursor's
            keeps_ground = flag not in (BLOCK, LABEL, CODE, KEY)
            style += found.without_color + Style(
                color=found.color, bgcolor=None if keeps_ground else found.bgcolor
            )
        token = ink >> TOKEN_SHIFT
        if token:
            name = TOKEN_CLASSES[token - 1]
            found = self._widget.get_component_rich_style(f"transcript--code-{name}")
            style += found.without_color + Style(
                color=found.color, bgcolor=found.bgcolor if name in TINTED_CLASSES else None
            )
        if ink & SPEAKER:
            style += self._speaker(colour)
        return style + Style(
            bold=True if ink & BOLD else None,
            italic=True if ink & ITALIC else None,
            strike=True if ink & STRIKE else None,
        )
