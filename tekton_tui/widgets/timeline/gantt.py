"""The bars of turns with a cursor: one row a specialist, drawn line by line; time moves and scales by keys."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from backend.schema.history import SAMPLE_EVERY_S, TurnRecord
from tekton_tui.clock import gateway_time
from tekton_tui.runtime.frame_scheduler import app_of, frame_scheduler
from tekton_tui.runtime.tokens import tokens_of
from tekton_tui.safe_text import one_line
from tekton_tui.stores import Stores
from tekton_tui.verbs import bindings
from tekton_tui.widgets.common.line_view import passes
from tekton_tui.widgets.fleet.drawing import Part, area, fitted, step_up, strip
from tekton_tui.widgets.timeline import bars

NAME_CELLS = 14
"""Cells before the bars: cursor, tie, name."""
USUAL_SPAN = 1
PAN_SHARE = 0.25
"""Of the window, that one key moves it."""
TICK_S = 1.0
WIDE = 100
PLOT, PLOT_FROM = 3, 20
"""Rows of the plot of tokens a second, and from how much room on it stands there."""
SMALL = 8
"""With less room than this the signs go unexplained."""


class Gantt(Widget, can_focus=True):
    """Axis, a row for each who had a turn in the window, what stands behind the cursor, and what the signs mean."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("gantt")

    class Moved(Message):
        """Posted when another time is shown, or the cursor went to another turn."""

    class Chosen(Message):
        """Posted when a turn is to be opened."""

        def __init__(self, turn: TurnRecord) -> None:
            super().__init__()
            self.turn = turn

    def __init__(self, stores: Stores, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores = stores
        self._span = USUAL_SPAN
        self._held: float | None = None
        """The end of the window while it does not follow."""
        self._row = ""
        self._turn = ""
        self._top = 0
        self._filter = ""
        self._room = SMALL
        self._plot_rows = 0

    def on_mount(self) -> None:
        self._stores.turn_log.changed.subscribe_widget(self, self._request)
        self.set_interval(TICK_S, self._tick)
        self.watch(app_of(self), "theme", self._restyle, init=False)

    def on_unmount(self) -> None:
        frame_scheduler(app_of(self)).forget(self)

    # what is shown

    @property
    def following(self) -> bool:
        return self._held is None

    @property
    def span_words(self) -> str:
        return bars.SPANS[self._span][1]

    @property
    def window(self) -> bars.Window:
        """The time in view: up to now while something runs, else up to the end of the last turn, so that it rests."""
        span, log = bars.SPANS[self._span][0], self._stores.turn_log
        until = self._held
        if until is None:
            ends = [turn.ended_at for turn in log.turns.values()]
            until = gateway_time() if log.running or not ends else max(ends) + span / 20
        return bars.Window(until - span, until, max(8, self.size.width - NAME_CELLS - 1))

    def in_view(self) -> list[TurnRecord]:
        """Return the turns of the window that pass the filter."""
        window, now = self.window, gateway_time()
        return [
            turn
            for turn in self._stores.turn_log.turns.values()
            if window.holds(turn, now) and self._passes(turn)
        ]

    def _passes(self, turn: TurnRecord) -> bool:
        name = self._stores.fleet.name_of(turn.ai_id)
        return passes(f"{name} {turn.prompt} {turn.code or ''}", self._filter)

    def _rows(self) -> list[tuple[str, str]]:
        return bars.arranged(self.in_view(), list(self._stores.fleet.rows))

    @property
    def cursor_turn(self) -> TurnRecord | None:
        """The turn behind the cursor: the one it was put on, else the newest of its row."""
        turns = [turn for turn in self.in_view() if turn.ai_id == self._here(self._rows())]
        chosen = next((turn for turn in turns if turn.request_id == self._turn), None)
        return chosen or (turns[-1] if turns else None)

    def _here(self, rows: list[tuple[str, str]]) -> str:
        ids = [ai_id for ai_id, _ in rows]
        return self._row if self._row in ids else ids[0] if ids else ""

    def set_filter(self, text: str) -> None:
        """Show only turns whose specialist or question fits."""
        self._filter = text
        self._changed()

    def fit(self, room: int) -> None:
        """Take what the rows need of so many lines."""
        self._room = room
        self._plot_rows = PLOT if room >= PLOT_FROM and self._rates() else 0
        height = max(4 if room >= SMALL else 3, min(len(self._rows()) + self._fixed, room))
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height

    @property
    def _fixed(self) -> int:
        """Lines beside the rows: axis, plot, the turn behind the cursor, and what the signs mean."""
        return 2 + (self._room >= SMALL) + self._plot_rows

    def _rates(self) -> list[float | None]:
        """Return tokens a second for each half cell of the window; empty while none of it is recorded."""
        window = self.window
        slots: list[float | None] = [None] * (2 * window.width)
        half = (window.until - window.since) / len(slots)
        samples = [s for s in self._stores.fleet.history if window.since <= s.timestamp <= window.until]
        ends = [sample.timestamp for sample in samples[1:]] + [window.until]
        for sample, end in zip(samples, ends, strict=False):
            end = min(end, sample.timestamp + 2 * SAMPLE_EVERY_S)
            first = int((sample.timestamp - window.since) / half)
            for at in range(first, min(len(slots), max(first + 1, int((end - window.since) / half)))):
                slots[at] = max(sample.rate, slots[at] or 0.0)
        return slots if samples else []

    # drawing

    def _restyle(self) -> None:
        self.refresh()

    def _request(self) -> None:
        if self.is_attached:
            frame_scheduler(app_of(self)).request(self)

    def frame(self) -> None:
        if self.display and self.is_on_screen:
            self._changed()

    def _tick(self) -> None:
        # at rest, and while a time is held, nothing moves
        if self.is_on_screen and self.following and self._stores.turn_log.running:
            self._changed()

    def _changed(self) -> None:
        self.fit(self._room)
        self.refresh()
        self.post_message(self.Moved())

    @property
    def _shown(self) -> int:
        return max(1, self.size.height - self._fixed)

    def render_line(self, y: int) -> Strip:
        window, rows = self.window, self._rows()
        if y == 0:
            return self._strip([Part(" " * NAME_CELLS), *bars.axis(window)])
        below = y - 1 - self._shown
        if 0 <= below < self._plot_rows:
            return self._strip(self._plot_line(below))
        if below == self._plot_rows:
            return self._strip(self._detail())
        if below > self._plot_rows:
            return self._strip(bars.legend(self.size.width, NAME_CELLS if self.size.width >= WIDE else 1))
        here = self._here(rows)
        place = next((at for at, (ai_id, _) in enumerate(rows) if ai_id == here), 0)
        self._top = max(0, min(self._top, place, len(rows) - self._shown))
        self._top = max(self._top, place - self._shown + 1)
        at = self._top + y - 1
        if at >= len(rows):
            words = "no turn in this time" if not rows and y == 1 else ""
            return self._strip([Part(" " * NAME_CELLS), Part(words, "faint")])
        return self._strip(*self._row_parts(rows[at], window, rows[at][0] == here))

    def _row_parts(self, row: tuple[str, str], window: bars.Window, here: bool) -> tuple[list[Part], bool]:
        ai_id, tie = row
        turns = [turn for turn in self.in_view() if turn.ai_id == ai_id]
        name = one_line(self._stores.fleet.name_of(ai_id), NAME_CELLS - 3)
        return [
            Part("▎" if here else " ", "accent"),
            Part(tie, "steel"),
            *fitted([Part(name, "text bold" if here else "muted")], NAME_CELLS - 2),
            *bars.bars(turns, window, gateway_time(), self._stores.turn_log.recorded_since),
        ], here

    def _plot_line(self, row: int) -> list[Part]:
        rates = self._rates()
        top = step_up(max((rate or 0.0 for rate in rates), default=1.0))
        words = f"tok/s {top:.0f}" if row == 0 else "0" if row == PLOT - 1 else ""
        drawn = area(rates, len(rates) // 2, PLOT, top)[row] if rates else ""
        return [Part(words.rjust(NAME_CELLS - 1) + " ", "faint"), Part(drawn, "accent")]

    def _detail(self) -> list[Part]:
        turn = self.cursor_turn
        if turn is None:
            return []
        begun = time.strftime("%H:%M:%S", time.localtime(turn.started_at))
        told = bars.facts(turn, gateway_time())
        room = self.size.width - len(told) - len(begun) - 7
        prompt = one_line(turn.prompt, room) if room > 8 else ""
        tone = "bad" if turn.code and turn.code != "cancelled" else "text"
        return [
            Part(f" {begun}  ", "faint"),
            Part(f"“{prompt}”  " if prompt else "", "muted"),
            Part(told, tone),
        ]

    def _strip(self, parts: Iterable[Part], here: bool = False) -> Strip:
        tokens = tokens_of(self)
        ground = (tokens.cursor if self.has_focus else tokens.panel) if here else tokens.ground
        return strip(fitted(list(parts), self.size.width), self.size.width, tokens, ground)

    # keys and the mouse

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the row, and on the turn under the pointer; twice opens it."""
        rows = self._rows()
        at = self._top + event.y - 1
        if not (0 < event.y <= self._shown and at < len(rows)):
            return
        self._row, window = rows[at][0], self.window
        cell, now = event.x - NAME_CELLS, gateway_time()
        for turn in self.in_view():
            if turn.ai_id == self._row and window.cell(turn.started_at) <= cell <= window.cell(
                turn.ended_at or now
            ):
                self._turn = turn.request_id
        self._changed()
        if event.chain == 2:
            self.action_open()

    def action_open(self) -> None:
        if (turn := self.cursor_turn) is not None:
            self.post_message(self.Chosen(turn))

    def action_move(self, step: int) -> None:
        ids = [ai_id for ai_id, _ in self._rows()]
        if ids:
            place = ids.index(self._here(self._rows()))
            self._row, self._turn = ids[max(0, min(len(ids) - 1, place + step))], ""
            self._changed()

    def action_turn(self, step: int) -> None:
        """Go to the turn before or after of the same specialist; the time in view moves along where it has to."""
        current = self.cursor_turn
        if current is None:
            self.notify("no turn is under the cursor", markup=False)
            return
        turns = [
            turn
            for turn in self._stores.turn_log.turns.values()
            if turn.ai_id == current.ai_id and self._passes(turn)
        ]
        place = turns.index(current) + step
        if not 0 <= place < len(turns):
            name = one_line(self._stores.fleet.name_of(current.ai_id), 40)
            which = (
                f"first turn read of {name}: ← looks further back" if step < 0 else f"newest turn of {name}"
            )
            self.notify(f"this is the {which}", markup=False)
            return
        self._row, self._turn = current.ai_id, turns[place].request_id
        self._bring_in_view(turns[place])
        self._changed()

    def _bring_in_view(self, turn: TurnRecord) -> None:
        """Move the time in view if a turn is not in it: to what follows, else so that it begins behind the left edge."""
        now = gateway_time()
        if not self.window.holds(turn, now):
            self._held = None
        if not self.window.holds(turn, now):
            self._held = turn.started_at + (1 - PAN_SHARE) * bars.SPANS[self._span][0]

    def action_pan(self, step: int) -> None:
        """Show an earlier time, or a later one; at the end it follows again."""
        window, span = self.window, bars.SPANS[self._span][0]
        until = window.until + step * PAN_SHARE * span
        # beyond the present there is nothing: it follows again
        self._held = until if until < gateway_time() else None
        self._changed()

    def action_scale(self, step: int) -> None:
        """Show more time, or less, around what is seen."""
        self._span = max(0, min(len(bars.SPANS) - 1, self._span + step))
        self._changed()

    def action_follow(self) -> None:
        """Follow what is new, or hold the time that is shown."""
        self._held = self.window.until if self.following else None
        self._changed()

    @property
    def earliest(self) -> float:
        """The beginning of the time in view, in unix seconds."""
        return self.window.since
