"""The status grid: one row a specialist, drawn line by line so that a thousand rows cost what is seen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style as RichStyle
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from backend.schema.records import SpecialistStatus
from tekton_tui.hearing import hear
from tekton_tui.stores import FleetStore
from tekton_tui.stores.fleet import BROKEN
from tekton_tui.transcript import frame_tick
from tekton_tui.widgets.columns import COLUMNS, SORT_KEYS, Column, cell_text, fitting
from tekton_tui.wording import TICKING

CLOCK_S = 1.0
LOOK_ALL = 10
"""Rows whose words count minutes are looked at with every tenth tick."""


class FleetGrid(ScrollView, can_focus=True):
    """Rows with a cursor, marks, an order and a filter. The store says what is in them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="grid.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="grid.down"),
        Binding("pageup", "move(-10)", "Page up", show=False, id="grid.page-up"),
        Binding("pagedown", "move(10)", "Page down", show=False, id="grid.page-down"),
        Binding("home,g", "move(-100000)", "First", show=False, id="grid.first"),
        Binding("end,G", "move(100000)", "Last", show=False, id="grid.last"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "grid--head", "grid--row", "grid--cursor", "grid--cursor-blurred", "grid--muted",
        "grid--text-success", "grid--text-warning", "grid--text-error", "grid--text-primary", "grid--text-muted",
    }  # fmt: skip

    class Highlighted(Message):
        """Posted when the cursor came to another row, `None` when there is none."""

        def __init__(self, ai_id: str | None) -> None:
            super().__init__()
            self.ai_id = ai_id

    class Chosen(Message):
        """Posted when a row was clicked twice."""

        def __init__(self, ai_id: str) -> None:
            super().__init__()
            self.ai_id = ai_id

    def __init__(self, fleet: FleetStore, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._fleet = fleet
        self._ids: list[str] = []
        self._places: dict[str, int] = {}
        """Where each shown id stands in `_ids`."""
        self._groups: dict[str, int] = {}
        self._columns: list[tuple[Column, int]] = []
        self._far = False
        """Whether a specialist runs on another host."""
        self._lines: dict[str, list[str]] = {}
        self._dirty: set[str] = set()
        self._cursor_id: str | None = None
        self._ticks = 0
        self.sort_column = ""
        self.sort_reverse = False
        self.filter_text = ""
        self.hidden = 0

    @property
    def cursor_row(self) -> SpecialistStatus | None:
        """The row under the cursor."""
        return self._fleet.rows.get(self._cursor_id) if self._cursor_id else None

    @property
    def shown_ids(self) -> list[str]:
        return list(self._ids)

    def on_mount(self) -> None:
        self._leave = hear(self, self._fleet.changed, self._changed)
        self.set_interval(CLOCK_S, self._tick)
        self.rearrange()

    def on_unmount(self) -> None:
        self._leave()
        frame_tick(self.app).forget(self)

    def on_resize(self, event: events.Resize) -> None:
        self._fit()

    def _fit(self) -> None:
        """Choose the columns anew."""
        self._columns = fitting(self.scrollable_content_region.width or self.size.width, far=self._far)
        self._lines.clear()
        self.refresh()

    def go_to(self, ai_id: str) -> None:
        """Put the cursor on a row, if it is shown."""
        if ai_id in self._places:
            self._set_cursor(ai_id)

    def set_filter(self, text: str) -> None:
        """Show rows that match a regular expression; `!` in front inverts it. A broken one is taken as words."""
        self.filter_text = text
        self.rearrange()

    def sort_by(self, column: str) -> None:
        """Order by a column; the same again reverses; a third time restores the first order."""
        if self.sort_column != column:
            self.sort_column, self.sort_reverse = column, False
        elif not self.sort_reverse:
            self.sort_reverse = True
        else:
            self.sort_column, self.sort_reverse = "", False
        self._lines.clear()
        self.rearrange()

    def rearrange(self) -> None:
        """Work the order and the filter out anew; the cursor stays on its row.

        Unsorted, those that broke come first, then those that live, then the stopped, each as in the catalogue.
        """
        matches = _matcher(self.filter_text)
        rows = [row for row in self._fleet.rows.values() if matches(row)]
        self.hidden = len(self._fleet.rows) - len(rows)
        self._groups = {row.id: _group(row) for row in rows}
        rows.sort(key=_group)
        column = next((c for c in COLUMNS if c.name == self.sort_column), None)
        if column is not None and column.sort is not None:
            order = column.sort
            rows.sort(key=lambda row: order(self._fleet, row), reverse=self.sort_reverse)  # type: ignore[arg-type,return-value]
        cursor_seen = self._cursor_id in self._seen_ids()
        self._ids = [row.id for row in rows]
        self._places = {ai_id: place for place, ai_id in enumerate(self._ids)}
        width = self.size.width
        self.virtual_size = Size(width, len(self._ids) + 1)
        if self._cursor_id not in self._places:
            self._set_cursor(self._ids[0] if self._ids else None)
        elif cursor_seen:
            self._bring_in_sight(self._places[self._cursor_id])
        self.refresh()

    def frame(self) -> None:
        """Draw the rows that changed since the last frame."""
        dirty, self._dirty = self._dirty, set()
        if not self._far and any(row.launcher != "local" for row in self._fleet.rows.values()):
            self._far = True
            self._fit()
        if (
            dirty - self._lines.keys() - self._places.keys()
            or self.sort_column
            or self.filter_text
            or not self._ids
            or any(
                self._groups[ai_id] != _group(self._fleet.rows[ai_id])
                for ai_id in dirty & self._groups.keys()
            )
        ):
            self._lines.clear()
            self.rearrange()
            return
        for ai_id in dirty:
            self._redraw(ai_id)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return self._head(width)
        index = y - 1 + round(self.scroll_offset.y)
        if index >= len(self._ids):
            return Strip.blank(width, self.rich_style)
        return self._row_strip(self._ids[index], width)

    def action_move(self, step: int) -> None:
        if not self._ids:
            return
        index = self._places.get(self._cursor_id or "", 0)
        self._set_cursor(self._ids[max(0, min(len(self._ids) - 1, index + step))])

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            self._sort_at(event.x)
            return
        index = event.y - 1 + round(self.scroll_offset.y)
        if index < len(self._ids):
            self._set_cursor(self._ids[index])
            if event.chain == 2:
                self.post_message(self.Chosen(self._ids[index]))

    def _sort_at(self, x: int) -> None:
        at = 0
        for column, width in self._columns:
            if at <= x < at + width + 1:
                self.sort_by(column.name)
                return
            at += width + 1

    def _changed(self, ids: set[str]) -> None:
        self._dirty |= ids
        frame_tick(self.app).request(self)

    def _tick(self) -> None:
        """Move the clocks of rows whose words count seconds, and now and then of all."""
        self._ticks += 1
        if not self.is_on_screen:
            return
        all_due = self._ticks % LOOK_ALL == 0
        for ai_id in self._seen_ids():
            row = self._fleet.rows.get(ai_id)
            if row is not None and (all_due or row.state in TICKING):
                self._redraw(ai_id)

    def _redraw(self, ai_id: str) -> None:
        """Refresh a row's line when its words changed; of one out of sight only forget the words."""
        place = self._places.get(ai_id)
        if place is None or not self._columns:
            return
        y = place + 1 - round(self.scroll_offset.y)
        if not 1 <= y < self.size.height:
            self._lines.pop(ai_id, None)
            return
        cells = self._cells(ai_id)
        if cells != self._lines.get(ai_id):
            self._lines[ai_id] = cells
            self.refresh(Region(0, y, self.size.width, 1))

    def _seen_ids(self) -> list[str]:
        """Return the ids whose rows are in sight; what is cached of the others is forgotten, for clocks go on."""
        top = round(self.scroll_offset.y)
        seen = self._ids[top : top + max(0, self.size.height - 1)]
        self._lines = {ai_id: self._lines[ai_id] for ai_id in seen if ai_id in self._lines}
        return seen

    def _cells(self, ai_id: str) -> list[str]:
        row = self._fleet.rows[ai_id]
        return [cell_text(column, width, self._fleet, row) for column, width in self._columns]

    def _set_cursor(self, ai_id: str | None) -> None:
        if ai_id == self._cursor_id:
            return
        self._cursor_id = ai_id
        self.refresh()
        if ai_id is not None:
            self._bring_in_sight(self._places[ai_id])
        self.post_message(self.Highlighted(ai_id))

    def _bring_in_sight(self, index: int) -> None:
        page = self.size.height - 1
        top = round(self.scroll_offset.y)
        if index < top:
            self.scroll_to(y=index, animate=False)
        elif index >= top + page:
            self.scroll_to(y=index - page + 1, animate=False)

    def _head(self, width: int) -> Strip:
        style = self.get_component_rich_style("grid--head")
        parts: list[str] = []
        for column, cell_width in self._columns:
            arrow = ("▼" if self.sort_reverse else "▲") if column.name == self.sort_column else ""
            title = f"  {column.title}" if column.name == "name" else column.title
            title = f"{title}{arrow}"[:cell_width]
            parts.append(title.rjust(cell_width) if column.right else title.ljust(cell_width))
        return Strip([Segment(" ".join(parts), style)]).adjust_cell_length(width, style)

    def _row_strip(self, ai_id: str, width: int) -> Strip:
        row = self._fleet.rows[ai_id]
        cells = self._lines.get(ai_id)
        if cells is None:
            cells = self._lines[ai_id] = self._cells(ai_id)
        base = self.get_component_rich_style("grid--row")
        if ai_id == self._cursor_id:
            base = self.get_component_rich_style("grid--cursor" if self.has_focus else "grid--cursor-blurred")
        elif row.state == "stopped":
            base = self.get_component_rich_style("grid--muted")
        segments: list[Segment] = []
        for (column, _), text in zip(self._columns, cells, strict=True):
            style = base
            if column.tone is not None and not (ai_id == self._cursor_id and self.has_focus):
                tone = self.get_component_rich_style(f"grid--{column.tone(row)}", partial=True)
                style = base + RichStyle(color=tone.color)
            segments += [Segment(text, style), Segment(" ", base)]
        return Strip(segments).adjust_cell_length(width, base)


def _group(row: SpecialistStatus) -> int:
    """Return where a row stands unless a column orders them: what broke, what lives, what is stopped."""
    if row.state in BROKEN:
        return 0
    return 2 if row.state == "stopped" else 1


def _matcher(text: str) -> Callable[[SpecialistStatus], bool]:
    """Return what tells whether a row passes the filter."""
    if not text:
        return lambda row: True
    wanted, inverse = (text[1:], True) if text.startswith("!") else (text, False)
    try:
        pattern = re.compile(wanted, re.IGNORECASE)
    except re.error:
        pattern = re.compile(re.escape(wanted), re.IGNORECASE)
    return lambda row: (pattern.search(_words(row)) is not None) != inverse


def _words(row: SpecialistStatus) -> str:
    """Return what the filter looks at."""
    facts = [row.name, row.title, row.state, row.phase or "", row.model_display, row.provider, row.host]
    return " ".join([*facts, *row.capabilities, *row.groups])


__all__ = ["SORT_KEYS", "FleetGrid"]
