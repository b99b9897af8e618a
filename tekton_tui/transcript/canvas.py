"""Draws the rows in the window as strips: each is made once and kept while it is in view, so that comparing two
pictures finds the lines to repaint. Knows the window and the theme, not why the window moved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from rich.cells import cell_len
from textual.dom import NoScreen
from textual.errors import NoWidget
from textual.geometry import Region
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from tekton_tui.runtime.frame_scheduler import app_of
from tekton_tui.transcript.cursor import WHOLE, Target
from tekton_tui.transcript.overlay import line_id, match_ranges, put_badge, restyle, with_offsets
from tekton_tui.transcript.palette import BAR_CELLS, SCROLL_CELLS, Palette
from tekton_tui.transcript.pieces import Code, Piece
from tekton_tui.transcript.rows import BOLD, CODE, FOLD, KEY, LABEL, YOU, Row
from tekton_tui.transcript.tool_piece import ToolPiece
from tekton_tui.transcript.viewport import Viewport

COPY_HINT: Final = "y copy "


class Marks(NamedTuple):
    """What is drawn over the text.

    Attributes:
        badge: Short text at the right end of the last line, empty for none.
    """

    cursor: Target | None = None
    selection: Selection | None = None
    pattern: re.Pattern[str] | None = None
    badge: str = ""
    hit: tuple[int, int, int] | None = None
    """Message, row within it and which match of the row: the one hit that is shown."""


class _Line(NamedTuple):
    """What one line of the window shows."""

    number: int
    row: int
    drawn: Row
    piece: Piece | None


class Canvas:
    """Strips of one transcript's window.

    Args:
        widget: Whose styles, size and line filters count.
        bar: Draw the speaker's bar left of each message.
    """

    def __init__(self, widget: Widget, viewport: Viewport, *, bar: bool) -> None:
        self._widget = widget
        self._viewport = viewport
        self._flow = viewport.flow
        self._bar = bar
        self.bar_cells = BAR_CELLS if bar else 0
        self._palette: Palette | None = None
        self._strips: dict[tuple[Row, str, bool, bool], Strip] = {}
        self._before: dict[tuple[Row, str, bool, bool], Strip] = {}
        self._gaps: dict[bool, Strip] = {}
        self._width = 0
        self._pads = (0, 0)
        self._thumb = range(0)
        self._lines: list[_Line] = []
        self._view: list[Strip] = []
        self._badge_cells = 0
        self._number_end = 0
        """Number after the last message at the last update; the lines below it are empty."""

    @property
    def plain(self) -> bool:
        """Whether nothing but rows, and cells beside them, is drawn: no border, tint or opacity of the widget's own."""
        styles = self._widget.styles
        beside = (0, styles.padding.right, 0, styles.padding.left)
        return styles.gutter == beside and styles.opacity == 1.0 and not styles.tint.a

    def forget(self) -> None:
        """Forget everything drawn: theme, width or filters have changed."""
        self._palette = None
        self._strips.clear()
        self._gaps.clear()
        self._view = []

    def update(self, marks: Marks, width: int) -> Iterator[Region]:
        """Draw the window; yield the regions of the content that differ from before."""
        padding = self._widget.styles.padding
        pads = (padding.left, padding.right) if self.plain else (0, 0)
        palette, filters = self._palette, tuple(self._widget.get_line_filters())
        if palette is None or (width, pads, filters) != (self._width, self._pads, palette.filters):
            self.forget()
            self._palette = palette = Palette(self._widget, pads)
            self._width, self._pads = width, pads
        self._lines = [_Line(*line) for line in self._viewport.rows()]
        self._number_end = self._flow.end
        self._thumb = self._viewport.thumb
        # Only what is on screen is kept: a strip is some twenty objects, and collecting garbage stops the loop.
        self._before, self._strips = self._strips, {}
        view = [self._strip(y, line, marks) for y, line in enumerate(self._lines)]
        self._before = {}
        self._badge_cells = len(marks.badge) if marks.badge and view else 0
        if self._badge_cells:
            badge = put_badge(view[-1], marks.badge, palette.part("badge"), pads[0] + width - SCROLL_CELLS)
            view[-1] = palette.filter(badge)
        before, self._view = self._view, view
        return _differences(before, view, -pads[0], width + sum(pads))

    def lines(self, crop: Region) -> list[Strip]:
        """Return the strips of a region of the widget, its padding included."""
        width, view = self._widget.outer_size.width, self._view
        # the usual case, the whole window: nothing has to be cut
        if crop.height == len(view) and crop.width == width == self._width + sum(self._pads):
            return view
        strips = [view[y] if y < len(view) else self._blank(width) for y in crop.line_range]
        if crop.column_span != (0, width):
            strips = [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def _blank(self, width: int) -> Strip:
        # With a look: the filter that NO_COLOR adds fails at a segment that has none.
        return Strip.blank(width, self._widget.rich_style)

    def line(self, y: int) -> Strip:
        """Return one line of the window, without padding."""
        if not 0 <= y < len(self._view):
            return self._blank(self._widget.size.width)
        left = self._pads[0]
        return self._view[y].crop(left, left + self._width)

    def marked_line(self, y: int) -> Strip:
        """Return one line with marks for the mouse."""
        if not 0 <= y < len(self._view):
            return self._blank(self._widget.size.width)
        line = self._lines[y]
        if line.number >= self._number_end:
            return self.line(y)
        return with_offsets(self.line(y), line_id(line.number, line.row), 1 if self._has_bar(line) else 0)

    def number_at(self, y: int) -> int | None:
        """Return the number of the message at a line of the window."""
        if 0 <= y < len(self._lines) and self._lines[y].number < self._number_end:
            return self._lines[y].number
        return None

    def target_at(self, y: int) -> tuple[Target | None, bool]:
        """Return what a click on a line means, and whether the line folds and unfolds."""
        number = self.number_at(y)
        if number is None:
            return None, False
        line = self._lines[y]
        pieces = self._flow.message(number).pieces
        piece = next((index for index, part in enumerate(pieces) if part is line.piece), WHOLE)
        return Target(number, piece), any(ink & FOLD for _text, ink in line.drawn.runs)

    def key_at(self, x: int, y: int) -> str:
        """Return the key that a cell of a card stands for, empty for none."""
        if not 0 <= y < len(self._lines) or not isinstance(self._lines[y].piece, ToolPiece):
            return ""
        at = x - self.bar_cells
        for text, ink in self._lines[y].drawn.runs:
            at -= cell_len(text)
            if at < 0:
                return text.strip() if ink & KEY or ink == CODE | YOU | BOLD else ""
        return ""

    def on_badge(self, x: int, y: int) -> bool:
        """Whether a cell belongs to the badge."""
        begins = self._widget.size.width - self._badge_cells
        return bool(self._badge_cells) and y == len(self._view) - 1 and x >= begins

    def on_scrollbar(self, x: int) -> bool:
        """Whether a column is the scrollbar's, and there is one."""
        return x == self._width - 1 and bool(self._thumb)

    def _has_bar(self, line: _Line) -> bool:
        return self._bar and not self._is_gap(line)

    def _is_gap(self, line: _Line) -> bool:
        """Whether a line lies between two messages."""
        if line.number >= self._number_end:
            return True
        height = self._flow.message(line.number).height(self._flow.width) - self._flow.look.gap
        return line.piece is None and line.row >= height

    def _strip(self, y: int, line: _Line, marks: Marks) -> Strip:
        assert self._palette is not None
        thumb = y in self._thumb
        if self._is_gap(line):
            # all gaps look alike: two strips serve them all, with the scrollbar's thumb and without
            strip = self._gaps.get(thumb)
            if strip is None:
                strip = self._gaps[thumb] = self._palette.gap(self._width, thumb=thumb)
            return strip
        colour = self._flow.entry(line.number).colour
        here = marks.cursor is not None and self._is_here(marks.cursor, line)
        here = here and not line.drawn.bare
        key = (line.drawn, colour, here, thumb)
        # The very same strip where a row did not change: `_differences` then compares by identity.
        strip = self._strips.get(key) or self._before.get(key)
        if strip is None:
            strip = self._palette.strip(
                line.drawn,
                colour,
                self._width,
                self._flow.width,
                bar=self._bar,
                here=here,
                thumb=thumb,
            )
        self._strips[key] = strip
        if here and marks.cursor is not None and self._is_copy_line(marks.cursor, line):
            strip = put_badge(
                strip,
                COPY_HINT,
                self._palette.style(LABEL, colour, here=True),
                self._pads[0] + min(self._width - SCROLL_CELLS, self.bar_cells + self._flow.width),
            )
        return self._overlaid(strip, line, marks)

    def _is_copy_line(self, cursor: Target, line: _Line) -> bool:
        """Whether this is the first row of the code block under the cursor, where the key to copy it is shown."""
        if cursor.piece == WHOLE or not isinstance(line.piece, Code):
            return False
        fits = line.drawn.cells + len(COPY_HINT) <= self._flow.width
        return fits and line.drawn is line.piece.rows(self._flow.width)[0]

    def _overlaid(self, strip: Strip, line: _Line, marks: Marks) -> Strip:
        """Lay search hits and the selection over a row."""
        if marks.pattern is None and marks.selection is None:
            return strip
        assert self._palette is not None
        shift = self.bar_cells + self._pads[0]
        segments = list(strip)
        changed = False
        if marks.pattern is not None:
            ranges = match_ranges(marks.pattern, line.drawn)
            if ranges:
                part = self._palette.part
                shifted = [(start + shift, end + shift) for start, end in ranges]
                segments = restyle(segments, shifted, part("match"))
                if marks.hit is not None and marks.hit[:2] == (line.number, line.row):
                    nth = min(marks.hit[2], len(shifted) - 1)
                    segments = restyle(segments, shifted[nth : nth + 1], part("match-here"))
                changed = True
        if marks.selection is not None:
            span = marks.selection.get_span(line_id(line.number, line.row))
            if span is not None:
                end = len(line.drawn.text) if span[1] < 0 else min(span[1], len(line.drawn.text))
                start = max(span[0], line.drawn.decor)
                if end > start:
                    style = self._widget.screen.get_component_rich_style("screen--selection")
                    segments = restyle(segments, [(start + shift, end + shift)], style)
                    changed = True
        return self._palette.filter(Strip(segments, strip.cell_length)) if changed else strip

    def _is_here(self, cursor: Target, line: _Line) -> bool:
        if cursor.number != line.number:
            return False
        if cursor.piece == WHOLE:
            return True
        pieces = self._flow.message(line.number).pieces
        return cursor.piece < len(pieces) and pieces[cursor.piece] is line.piece


def on_terminal(widget: Widget) -> bool:
    """Return whether any of a widget is on the terminal: only then is it drawn."""
    if not widget.is_attached:  # it is being removed, and text of its turn came still
        return False
    app = app_of(widget)
    try:
        screen = widget.screen
        if not screen.is_current and screen not in app.screen_stack:
            return False
        if not app.screen.is_modal and not screen.is_current:
            return False
        # A widget under a dialog is still drawn; one on a screen beneath another is not.
        return bool(screen.find_widget(widget).visible_region)
    except (NoScreen, NoWidget):
        return False


def _differences(before: list[Strip], after: list[Strip], x: int, width: int) -> Iterator[Region]:
    """Yield the regions of lines that are not the same strip as before."""
    if len(before) != len(after):
        yield Region(x, 0, width, max(len(before), len(after)))
        return
    start: int | None = None
    for y, (old, new) in enumerate(zip(before, after, strict=True)):
        # identity first: it costs nothing, and holds for nearly every row
        if old is not new and old != new:
            start = y if start is None else start
        elif start is not None:
            yield Region(x, start, width, y - start)
            start = None
    if start is not None:
        yield Region(x, start, width, len(after) - start)
