"""The answers of a team turn as a list of first sentences: those that finished, then those under way and those that failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from textual import events
from textual.content import Content
from textual.widgets import Static

from tekton_tui.widgets.team.lane import Lane
from tekton_tui.widgets.team.lane_text import Order, heading, more_row, row_of

LEAST_OTHERS = 3
"""Rows kept for those that write or failed, if there are so many, however many have answered."""


class ListRow(NamedTuple):
    """One row: a lane, or the number of lanes it stands for."""

    lane: Lane | None
    more: tuple[int, str, tuple[str, ...]] = (0, "", ())


def rows_for(lanes: Sequence[Lane], current: Lane | None, height: int) -> list[ListRow]:
    """Return what stands on `height` rows: every kind stays in sight, the rest is counted."""
    answered = [lane for lane in lanes if lane.answered]
    others = [lane for lane in lanes if not lane.answered]
    kept = min(len(others), max(LEAST_OTHERS, height - len(answered)))
    upper = _window(answered, current, height - kept, "answered")
    return upper + _window(others, current, height - len(upper), "under way or failed")


def _window(lanes: Sequence[Lane], current: Lane | None, room: int, what: str) -> list[ListRow]:
    """Return the lanes around the current one, and last a row that counts the others."""
    if len(lanes) <= room:
        return [ListRow(lane) for lane in lanes]
    room = max(1, room - 1)
    at = lanes.index(current) if current in lanes else 0
    first = max(0, min(at - room + 1, len(lanes) - room))
    shown = lanes[first : first + room]
    hidden = [lane.name_shown for lane in lanes if lane not in shown]
    return [*(ListRow(lane) for lane in shown), ListRow(None, (len(hidden), what, tuple(hidden)))]


class TeamList(Static):
    """One row a lane; its owner says which and when."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__("", id=id)
        self._rows: list[ListRow] = []
        self._drawn: Content | None = None
        self._shown: tuple[Sequence[Lane], Lane | None, Order, bool] = ((), None, "finish", False)

    def show(self, lanes: Sequence[Lane], current: Lane | None, order: Order, *, focused: bool) -> None:
        """Draw the rows that fit, now and whenever the size changes."""
        self._shown = (lanes, current, order, focused)
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        lanes, current, order, focused = self._shown
        width, height = self.size
        if width < 1 or height < 2:
            return
        self._rows = rows_for(lanes, current, height - 1)
        lines = [heading(order, width, votes=any(lane.votes is not None for lane in lanes))]
        for row in self._rows:
            if row.lane is None:
                lines.append(more_row(*row.more, width))
            else:
                lines.append(row_of(row.lane.facts, width, here=row.lane is current, focused=focused))
        content = Content("\n").join(lines)
        # `==` compares letters alone, and a mark or the cursor changes styles
        if self._drawn is None or not content.is_same(self._drawn):
            self._drawn = content
            self.update(content, layout=False)

    def spots(self) -> list[tuple[int, int, Callable[[], object]]]:
        """Return the rows of lanes, and what chooses each."""
        lanes = [(at, row.lane) for at, row in enumerate(self._rows, 1) if row.lane is not None]
        return [(0, at, partial(lane.post_message, Lane.Clicked(lane, 1))) for at, lane in lanes]

    def on_click(self, event: events.Click) -> None:
        """Choose the lane that was clicked; twice reads it."""
        at = event.y - 1
        if 0 <= at < len(self._rows) and (lane := self._rows[at].lane) is not None:
            lane.post_message(Lane.Clicked(lane, event.chain))
