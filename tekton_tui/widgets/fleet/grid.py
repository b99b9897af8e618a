"""The status grid: one row a specialist, or a wall of tiles, drawn line by line so that a thousand cost what is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from backend.schema.records import SpecialistStatus
from tekton_tui.formatting import TICKING
from tekton_tui.runtime.frame_scheduler import app_of, frame_scheduler
from tekton_tui.runtime.layout_once import RowView
from tekton_tui.runtime.tokens import tokens_of
from tekton_tui.stores import FleetStore
from tekton_tui.verbs import bindings
from tekton_tui.widgets.fleet import tiles
from tekton_tui.widgets.fleet.arrangement import STOPPED, Grouping, Line, arrange, group_of, matcher, need
from tekton_tui.widgets.fleet.columns import BY_NAME, DEFAULTS, NARROW, fitting, size_class
from tekton_tui.widgets.fleet.drawing import Part, changed_runs, step_up, strip
from tekton_tui.widgets.fleet.row_painter import MARKS, RowPainter

CLOCK_S = 1.0
LOOK_ALL = 10
"""Rows whose words count minutes are looked at with every tenth tick."""


class FleetGrid(RowView, can_focus=True):
    """Rows with a cursor, marks, an order and a filter. The store says what is in them."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("grid")

    class Highlighted(Message):
        """Posted when the cursor came to another row, `None` when it is on none."""

        def __init__(self, ai_id: str | None) -> None:
            super().__init__()
            self.ai_id = ai_id

    class Chosen(Message):
        """Posted when a row was clicked twice."""

        def __init__(self, ai_id: str) -> None:
            super().__init__()
            self.ai_id = ai_id

    class Rearranged(Message):
        """Posted when order, grouping, layout or what is hidden changed."""

    class MenuAsked(Message):
        """Posted when a row was clicked with the right button; `ai_id` is empty on the head."""

        def __init__(self, ai_id: str) -> None:
            super().__init__()
            self.ai_id = ai_id

    def __init__(self, fleet: FleetStore, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._fleet = fleet
        self._lines: list[Line] = []
        self._places: dict[str, int] = {}
        """In which line each shown key stands."""
        self._needs: dict[str, tuple[int, str]] = {}
        self._painter = RowPainter(fleet)
        self._drawn: dict[str, list[Part]] = {}
        self._signs: dict[str, object] = {}  # what the sign in front of a line was drawn for
        self._dirty, self._folded = set[str](), set[str]()
        self._cursor: str | None = None
        self._hovered = -1
        self._ticks = 0
        self._fresh, self._fresh_at = (
            set[str](),
            0.0,
        )  # rows drawn in the last frame, and when (monotonic, seconds)
        self._unfolded = False
        self._away = False
        """Whether the wheel took the cursor out of sight: the view then stays where it is."""
        self._room = 0
        self.came = ("", 0.0)
        """Which row came under the cursor when its own went, and when (monotonic, seconds): see `MovesByItself`."""
        self.chosen: dict[str, list[str]] = {}
        """Columns by size class, where the operator chose them."""
        self.sort_column = ""
        self.sort_reverse = False
        self.grouping: Grouping = "need"
        self.wall = False
        self.filter_text = ""
        self.hidden = 0

    @property
    def cursor_row(self) -> SpecialistStatus | None:
        return self._fleet.rows.get(self._cursor) if self._cursor else None

    @property
    def cursor_ids(self) -> list[str]:
        """Whom the line under the cursor stands for: a row, or all of a group or fold."""
        if self._cursor is None or self._cursor in self._fleet.rows:
            return [self._cursor] if self._cursor else []
        place = self._places.get(self._cursor)
        return list(self._lines[place].ids) if place is not None else []

    @property
    def lines_wanted(self) -> int:
        """How many rows would show everything, the head included."""
        return len(self._lines) + self._head_rows

    def set_room(self, rows: int) -> None:
        """Say how many rows it may take at most: with fewer than would show all, the stopped are folded."""
        if rows != self._room:
            self._room = rows
            self.rearrange()

    def on_mount(self) -> None:
        self._fleet.changed.subscribe_widget(self, self._changed)
        self.set_interval(CLOCK_S, self._tick)
        # behind Textual's own handling of the theme: before it the old colours would be drawn once more
        self.watch(app_of(self), "theme", lambda: self.call_next(self.refresh), init=False)
        self.rearrange()

    def on_unmount(self) -> None:
        frame_scheduler(app_of(self)).forget(self)

    def on_resize(self, event: events.Resize) -> None:
        self._fit()
        self.rearrange()

    def watch_show_vertical_scrollbar(self) -> None:
        """Leave the scrollbar its column: rows may come after the first size, and no resize follows then."""
        self._fit()

    @property
    def _is_wide(self) -> bool:
        return app_of(self).size.width >= NARROW

    @property
    def size_class(self) -> str:
        return size_class(app_of(self).size.width)

    def columns_chosen(self) -> list[str]:
        """Return the names of the columns wanted at this size."""
        return self.chosen.get(self.size_class) or list(DEFAULTS[self.size_class])

    def choose_columns(self, names: Sequence[str]) -> None:
        """Show these columns at this size from now on."""
        self.chosen[self.size_class] = list(names)
        self._fit()

    def _fit(self) -> None:
        rows = self._fleet.rows.values()
        extra = [name for name in ("model", "host") if len({getattr(row, _FIELD[name]) for row in rows}) > 1]
        if self.size_class != "wide":
            extra = [name for name in extra if name == "host"]
        width = (self.scrollable_content_region.width or self.size.width) - MARKS
        self._painter.wide = self._is_wide
        self._painter.columns = fitting(width, self.columns_chosen(), wide=self._is_wide, extra=extra)
        self._drawn.clear()
        self.refresh()

    def spots(self) -> list[tuple[int, int, Callable[[], object]]]:
        """Return the lines in sight, and what puts the cursor on each."""
        first = self._head_rows - round(self.scroll_offset.y)
        return [(0, self._places[key] + first, partial(self._set_cursor, key)) for key in self._seen()]

    def go_to(self, ai_id: str, *, unasked: bool = False) -> None:
        """Put the cursor on a row; one that is folded, or came just now, is shown. `unasked`: no key of this moment says so."""
        if ai_id not in self._places and ai_id in self._fleet.rows:
            self.rearrange()
            if ai_id not in self._places and STOPPED in self._places:
                self._unfolded = True
                self.rearrange()
        if ai_id in self._places:
            self._set_cursor(ai_id)
            if unasked:
                self.came = (self._fleet.name_of(ai_id), monotonic())

    def show_unread(self, ids: frozenset[str]) -> None:
        """Mark those whose answers nobody has seen."""
        if ids != self._painter.unread:
            self._painter.unread, changed = ids, ids ^ self._painter.unread
            for ai_id in changed:
                self._redraw(ai_id)

    def set_filter(self, text: str) -> None:
        """Show rows that fit, best first; see `arrangement.matcher`."""
        self.filter_text = self._painter.filter_text = text
        self._drawn.clear()
        self.rearrange()

    def sort_by(self, column: str) -> None:
        """Order by a column; the same again reverses; a third time restores the first order."""
        if self.sort_column != column:
            self.sort_column, self.sort_reverse = column, False
        elif not self.sort_reverse:
            self.sort_reverse = True
        else:
            self.sort_column, self.sort_reverse = "", False
        self.rearrange()

    def group_by(self, grouping: Grouping) -> None:
        """Stand rows under the heads of their groups, or by need as at first."""
        self.grouping = grouping
        self.rearrange()

    def toggle_wall(self) -> None:
        """Show tiles in place of rows, or rows again."""
        self.wall = not self.wall
        self.rearrange()

    def toggle_fold(self) -> bool:
        """Fold or unfold the group under the cursor; return whether there is one."""
        if self._cursor is None or not self._cursor.startswith("·"):
            return False
        if self._cursor == STOPPED:
            self._unfolded = True
        else:
            self._folded ^= {self._cursor}
        self.rearrange()
        return True

    def fold_again(self) -> bool:
        """Fold what was unfolded of the stopped; return whether there was something."""
        was, self._unfolded = self._unfolded, False
        self.rearrange()
        return was

    def rearrange(self) -> None:
        """Work the order and the filter out anew; the cursor stays on its row.

        Unsorted, rows stand by need, each group as in the catalogue.
        """
        score = matcher(self.filter_text)
        scores = {row.id: score(row) for row in self._fleet.rows.values()}
        rows = [row for row in self._fleet.rows.values() if scores[row.id]]
        self.hidden = len(self._fleet.rows) - len(rows)
        self._needs = {row.id: self._place_of(row) for row in rows}
        column = BY_NAME.get(self.sort_column)
        if column is not None and column.sort is not None:
            order = column.sort
            rows.sort(key=lambda row: order(self._fleet, row), reverse=self.sort_reverse)  # type: ignore[arg-type,return-value]
            # sorting is stable: the stopped go to the end, each part in the order just made
            rows.sort(key=lambda row: row.state == "stopped")
        else:
            rows.sort(key=need)
        if self.filter_text:
            rows.sort(key=lambda row: -scores[row.id])
        self._lines = arrange(
            rows,
            grouping=self.grouping,
            folded=self._folded,
            tiles=self._tiles if self.wall else 0,
            room=max(0, self._room - self._head_rows),
            unfolded=self._unfolded or bool(self.filter_text),
            # a row that stops under the cursor stays where it is seen
            keep=self._cursor or "",
        )
        self._places = {}
        for place, line in enumerate(self._lines):
            shown = line.ids if line.kind in ("row", "tiles") else ()
            self._places |= dict.fromkeys((line.key, *shown), place)
        self.set_rows(len(self._lines) + self._head_rows)
        if self._cursor not in self._places:
            self._set_cursor(self._first_key())
        else:
            self._keep_in_sight()
            self.call_after_refresh(self._keep_in_sight)  # once the layout knows how many rows there are
        self._drawn.clear()
        self.refresh()
        self.post_message(self.Rearranged())

    def _first_key(self) -> str | None:
        return next((line.key for line in self._lines if line.kind in ("row", "tiles")), None) or next(
            (line.key for line in self._lines), None
        )

    def _place_of(self, row: SpecialistStatus) -> tuple[int, str]:
        return need(row), "" if self.grouping == "need" else group_of(row, self.grouping)

    @property
    def _tiles(self) -> int:
        return max(1, (self.size.width - 2) // tiles.CELLS)

    @property
    def _head_rows(self) -> int:
        return 0 if self.wall else 1

    def frame(self) -> None:
        """Draw the rows that changed since the last frame."""
        dirty, self._dirty = self._dirty, set[str]()
        rows = self._fleet.rows
        top = step_up(max((max(rates, default=0.0) for rates in self._fleet.rates.values()), default=0.0))
        if top != self._painter.top:
            self._painter.top = top
            # all sparks have one scale: when it changes, so do all of them
            dirty |= rows.keys()
        moved = any(
            ai_id not in rows or self._needs[ai_id] != self._place_of(rows[ai_id])
            for ai_id in dirty & self._needs.keys()
        )
        if (
            moved
            or self.sort_column
            or self.filter_text
            or len(self._needs) + self.hidden != len(rows)
            or not self._lines
        ):
            if len({row.launcher for row in rows.values()}) > 1 or self.size_class == "wide":
                self._fit()
            before = self._cursor
            self.rearrange()
            if before != self._cursor and (row := self.cursor_row) is not None:
                self.came = (row.name, monotonic())
            return
        for ai_id in dirty:
            self._redraw(ai_id)
        self._fresh, self._fresh_at = dirty, monotonic()
        if self.wall or self.grouping != "need":
            for line in self._lines:
                if line.kind != "row" and dirty & set(line.ids):
                    self._redraw(line.key)

    def render_line(self, y: int) -> Strip:
        width, tokens = self.size.width, tokens_of(self)
        if y < self._head_rows:
            sorted_by = self.sort_column or ("state" if self.grouping == "need" else "")
            head = self._painter.head(sorted_by, reverse=self.sort_reverse and bool(self.sort_column))
            return strip(head, width, tokens, tokens.ground)
        index = y - self._head_rows + round(self.scroll_offset.y)
        if index >= len(self._lines):
            return strip([], width, tokens, tokens.ground)
        line = self._lines[index]
        parts = self._drawn.get(line.key)
        if parts is None:
            parts = self._drawn[line.key] = self._parts(line)
        ground = tokens.bar if y == self._hovered else tokens.ground
        return self._painter.line_strip(
            line, parts, width, tokens, ground, cursor=self._cursor, lit=self.has_focus
        )

    def _parts(self, line: Line) -> list[Part]:
        return self._painter.parts(line, self.size.width, shut=line.key in self._folded)

    def action_move(self, step: int) -> None:
        if not self._lines:
            return
        index = self._places.get(self._cursor or "", 0)
        target = self._lines[max(0, min(len(self._lines) - 1, index + step))]
        if target.kind == "tiles" and self._cursor:
            column = self._column_of(self._cursor)
            self._set_cursor(target.ids[min(column, len(target.ids) - 1)])
        else:
            self._set_cursor(target.key)

    def action_side(self, step: int) -> None:
        """Go to the tile beside, in the wall."""
        line = self._lines[self._places[self._cursor]] if self._cursor in self._places else None
        if line is not None and line.kind == "tiles" and self._cursor:
            at = line.ids.index(self._cursor) + step
            if 0 <= at < len(line.ids):
                self._set_cursor(line.ids[at])

    def _column_of(self, key: str) -> int:
        line = self._lines[self._places[key]]
        return line.ids.index(key) if line.kind == "tiles" and key in line.ids else 0

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self._hover(event.y)

    def on_leave(self) -> None:
        self._hover(-1)

    def _hover(self, y: int) -> None:
        before, self._hovered = self._hovered, y
        for row in (before, y) if before != y else ():
            self.refresh(Region(0, row, self.size.width, 1))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        # the rows have moved under the pointer once it is scrolled
        self.call_after_refresh(self._look_away)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.call_after_refresh(self._look_away)

    def _look_away(self) -> None:
        place = self._places.get(self._cursor or "", 0)
        self._away = self._cursor is not None and self._lines[place].key not in self._seen()

    def on_click(self, event: events.Click) -> None:
        y = event.y
        if y < self._head_rows:
            if event.button == 3:
                self.post_message(self.MenuAsked(""))
            else:
                self._sort_at(event.x)
            return
        index = y - self._head_rows + round(self.scroll_offset.y)
        if index >= len(self._lines):
            return
        line = self._lines[index]
        if line.kind in ("head", "fold"):
            self._set_cursor(line.key)
            if event.button != 3:
                self.toggle_fold()
            return
        key = line.key
        if line.kind == "tiles":
            at = (event.x - 2) // tiles.CELLS
            if not 0 <= at < len(line.ids):
                return
            key = line.ids[at]
        self._set_cursor(key)
        if event.button == 3:
            self.post_message(self.MenuAsked(key))
        elif event.chain == 2:
            self.post_message(self.Chosen(key))

    def _sort_at(self, x: int) -> None:
        at = MARKS
        for place, (column, width) in enumerate(self._painter.columns):
            if (at if place else 0) <= x < at + width + 1:
                self.sort_by(column.name)
                return
            at += width + 1

    def _changed(self, ids: set[str]) -> None:
        self._dirty |= ids
        frame_scheduler(app_of(self)).request(self)

    def _tick(self) -> None:
        """Move the clocks of rows whose words count seconds, and now and then of all."""
        self._ticks += 1
        if not self.is_on_screen:
            return
        all_due = self._ticks % LOOK_ALL == 0
        # figures beat each second too: a clock that was drawn with them need not be drawn twice
        fresh = self._fresh if monotonic() < self._fresh_at + CLOCK_S else ()
        for key in self._seen():
            line = self._lines[self._places[key]]
            ids = [ai_id for ai_id in line.ids if ai_id not in fresh]
            ticks = [row.state in TICKING for ai_id in ids if (row := self._fleet.rows.get(ai_id))]
            if all_due or any(ticks):
                self._redraw(key)

    def _redraw(self, key: str) -> None:
        """Refresh of a line the words that changed, all with its sign; of one out of sight only forget the words."""
        place = self._places.get(key)
        if place is None or not self._painter.columns:
            return
        line = self._lines[place]
        y = place + self._head_rows - round(self.scroll_offset.y)
        if not self._head_rows <= y < self.size.height:
            self._drawn.pop(line.key, None)
            return
        parts = self._parts(line)
        if parts != (before := self._drawn.get(line.key, [])):
            self._drawn[line.key] = parts
            sign = [(row.state, row.phase) for ai_id in line.ids if (row := self._fleet.rows.get(ai_id))]
            known, self._signs[line.key] = self._signs.get(line.key), sign
            words = line.kind == "row" and bool(before) and known == sign
            for x, cells in changed_runs(before, parts) if words else [(-MARKS, self.size.width)]:
                self.refresh(Region(x + MARKS, y, cells, 1))

    def _seen(self) -> list[str]:
        """Return the keys of the lines in sight; what is cached of the others is forgotten, for clocks go on."""
        top = round(self.scroll_offset.y)
        seen = [line.key for line in self._lines[top : top + max(0, self.size.height - self._head_rows)]]
        self._drawn = {key: self._drawn[key] for key in seen if key in self._drawn}
        return seen

    def _set_cursor(self, key: str | None) -> None:
        if key == self._cursor:
            return
        self._cursor, self._away, self.came = key, False, ("", 0.0)
        self.refresh()
        if key is not None:
            self._bring_in_sight(self._places[key])
        self.post_message(self.Highlighted(key if key in self._fleet.rows else None))

    def _keep_in_sight(self) -> None:
        if not self._away and self._cursor in self._places:
            self._bring_in_sight(self._places[self._cursor])

    def _bring_in_sight(self, index: int) -> None:
        page = self.size.height - self._head_rows
        top = round(self.scroll_offset.y)
        if index < top:
            self.scroll_to(y=index, animate=False, immediate=True)
        elif index >= top + page > top:
            self.scroll_to(y=index - page + 1, animate=False, immediate=True)


_FIELD = {"model": "model_display", "host": "host"}
