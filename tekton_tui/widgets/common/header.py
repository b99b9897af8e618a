"""The status row: counts by state, what waits for the operator, speed, model, clock; or why all of it may be outdated."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from rich.cells import cell_len
from textual.app import RenderResult
from textual.content import Content
from textual.events import Click
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from backend.schema.states import BROKEN
from tekton_tui.formatting import SYMBOLS, TONES, rate, span
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores
from tekton_tui.widgets.fleet.drawing import Part, changed_runs

BRAND: Final = " tekton "
SHOWN_STATES: Final = ("ready", "busy", "starting", "down")
DOWN: Final = frozenset(BROKEN)
LEAST_MODEL_CELLS: Final = 8
PLACE_CELLS: Final = 24
SHORT_PLACE_CELLS: Final = 10


class _Show(NamedTuple):
    """What of the row is shown; the less room, the more of it is false, in this order."""

    provider: bool = True
    words: bool = True
    clock: bool = True
    model: bool = True
    speed: bool = True
    far: bool = True
    """Where the backend is and how slow the line to it, in full."""


LEVELS: Final = tuple(_Show(*(at >= dropped for at in range(6))) for dropped in range(7))
"""All of the row, then without the provider, the words of the counts, the clock, the model, the speed, most of the place."""


class Header(Widget):
    """One row, drawn from the stores; redrawn when its words change. What waits for the operator is never left out."""

    class ModelChosen(Message):
        """Posted when the name of the model was clicked: another is to be chosen."""

    small: reactive[str] = reactive("")
    """Name of the place that is shown, where no row of places is; empty where there is one."""

    def __init__(self, stores: Stores, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores = stores
        self._drawn = ""
        self._untold: tuple[str | bool | int, ...] = ()
        self._right_cells = 0

    def on_mount(self) -> None:
        stores = self._stores
        turns = stores.turns
        for signal in (
            stores.fleet.summary_changed,
            stores.connection.changed,
            stores.waiting_changed,
            turns.reloaded,
        ):
            signal.subscribe_widget(self, self._redraw)
        turns.restored.subscribe_widget(self, lambda _: self._redraw())
        self.set_interval(1.0, self._tick)

    def _tick(self) -> None:
        """Draw anew when something differs that nobody tells of: clock, speed, delay of the line, seconds since it is lost."""
        connection, fleet = self._stores.connection, self._stores.fleet
        runs = any(row.pid for row in fleet.rows.values())
        behind = self._stores.turns.catching_up
        untold = (time.strftime("%H:%M"), rate(fleet.rate()), connection.slow, runs, behind)
        if untold != self._untold or connection.stale:
            self._untold = untold
            self._redraw()

    def _redraw(self) -> None:
        content = self._line()
        self.set_class(self._stores.connection.stale, "-stale")
        if content.plain != self._drawn:
            before, self._drawn = self._drawn, content.plain
            self._draw_changes(before)

    def _draw_changes(self, before: str) -> None:
        """Have the cells drawn anew in which the row differs; all of it when it became longer or shorter, or its ground changed."""
        words, width = self._drawn, self.size.width
        # a row of wide characters has other cells than characters: it is drawn whole
        whole = len(before) != len(words) or cell_len(words) != len(words) or self._stores.connection.stale
        for at, count in [(0, width)] if whole else changed_runs([Part(before)], [Part(words)]):
            self.refresh(Region(at, 0, count, 1))

    def on_click(self, event: Click) -> None:
        """The right of the row is the model's."""
        if not self._stores.connection.stale and event.x >= self.size.width - self._right_cells:
            self.post_message(self.ModelChosen())

    def render(self) -> RenderResult:
        return self._line()

    def _line(self) -> Content:
        width = self.size.width
        if self._stores.connection.stale:
            return self._stale(width)
        line = Content("")
        for level in LEVELS:
            left, right = self._left(level), self._right(level)
            gap = width - left.cell_length - right.cell_length
            line = Content.assemble(left, " " * max(1, gap), right)
            self._right_cells = right.cell_length
            if gap > 0:
                break
        return line

    def _brand(self, far: bool = True) -> Content:
        brand = Content.styled(BRAND, "bold $background on $primary")
        connection, platform = self._stores.connection, self._stores.fleet.platform
        if connection.place:
            place = one_line(connection.place, PLACE_CELLS if far else SHORT_PLACE_CELLS)
            brand = Content.assemble(brand, literal(f" {place} ", "bold $text-accent"))
        if connection.in_clear or (platform is not None and platform.in_clear):
            brand = Content.assemble(brand, Content.styled(" no TLS ", "bold $text-warning"))
        return Content.assemble(brand, literal(f" {self.small} ", "bold")) if self.small else brand

    def _left(self, show: _Show) -> Content:
        parts: list[Content] = [self._brand(show.far)]
        if self._stores.connection.state == "attaching":
            parts.append(Content.styled("  attaching…", "$text-warning"))
        elif slow := self._stores.connection.slow:
            words = slow if show.words else slow.partition("," if show.far else ":")[0]
            parts.append(Content.styled(f"  {words}", "$text-warning"))
        if behind := self._stores.turns.catching_up:
            answers = f" {behind} answer{'s' * (behind > 1)}" if show.words else ""
            parts.append(Content.styled(f"  catching up{answers}", "$text-warning"))
        states = self._stores.fleet.counts()
        counts = {state: states[state] for state in SHOWN_STATES}
        counts["down"] = sum(states[state] for state in DOWN)
        for state, count in counts.items():
            if count:
                known = "exited" if state == "down" else state
                parts.append(Content.styled(f"  {SYMBOLS[known]} {count}", f"${TONES[known]}"))
                parts.append(literal(f" {state}" if show.words else "", "$text-muted"))
        fleet = self._stores.fleet
        if fleet.platform is not None and show.words and not any(row.pid for row in fleet.rows.values()):
            parts.append(literal("  nothing runs", "$text-muted"))
        if waiting := self._stores.waiting():
            parts.append(
                Content.styled(f"  ◆ {waiting} need{'s' * (waiting == 1)} you", "bold $text-secondary")
            )
        return Content.assemble(*parts)

    def _right(self, show: _Show) -> Content:
        parts: list[Content] = []
        speed = self._stores.fleet.rate()
        if speed and show.speed:
            parts += [Content.styled(rate(speed), "bold"), literal(" tok/s   ", "$text-muted")]
        platform = self._stores.fleet.platform
        if platform is not None and show.model:
            choice = platform.provider
            parts.append(literal(one_line(choice.display or choice.model, 40)))
            if choice.stand_in or choice.provider == "embedded":
                parts.append(Content.styled(" stand-in", "bold $text-warning"))
            if show.provider and (offer := platform.offer) is not None:
                # It stays until it is taken: the notice is gone before somebody who reads an answer looks up.
                parts.append(
                    literal(f" · {one_line(offer.display or offer.model, 20)} is there", "$text-accent")
                )
                parts.append(literal(" :use", "bold $text-accent"))
            elif show.provider:
                parts.append(literal(f" · {choice.provider}", "$text-muted"))
            parts.append(Content("   "))
        if self.small:
            size = self.app.size  # pyright: ignore[reportUnknownMemberType]
            parts.append(
                literal(f"small: {size.width}×{size.height} " if show.speed else "", "$text-warning")
            )
        parts.append(literal(time.strftime("%H:%M ") if show.clock else "", "$text-muted"))
        return Content.assemble(*parts)

    def _stale(self, width: int) -> Content:
        """Say since when the backend is lost, what to do, and why, in place of counts that may be outdated."""
        connection = self._stores.connection
        what = "F5 starts it here" if connection.starts_here else "F5 connects again"
        if connection.state == "lost":
            notice = f"  backend lost {span(time.time() - connection.since)} ago · {what}"
        else:
            notice = f"  no backend · {what}"
        line = Content.assemble(self._brand(), literal(notice, "bold $text-error"))
        room = width - line.cell_length - 3
        why = one_line(connection.reason, room) if connection.reason and room > LEAST_MODEL_CELLS else ""
        return Content.assemble(line, literal(f" · {why}" if why else "", "$text-muted"))
