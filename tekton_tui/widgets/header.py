"""The line that is always there: counts, errors, speed, provider and why, gateway, clock, and whether it is stale."""

from __future__ import annotations

import time

from textual.app import RenderResult
from textual.content import Content
from textual.widget import Widget

from tekton_tui.hearing import hear
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import Stores
from tekton_tui.wording import SYMBOLS, TONES, rate, span

SHOWN_STATES = ("ready", "busy", "starting", "exited", "killed", "lost", "foreign-port")
SHORT_WIDTH = 100


class HeaderLine(Widget):
    """One row, drawn from the stores; redrawn when its words change."""

    def __init__(self, stores: Stores, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stores = stores
        self._said = ""

    def on_mount(self) -> None:
        stores = self._stores
        for signal in (stores.fleet.summary_changed, stores.errors.changed, stores.connection.changed):
            hear(self, signal, self._look)
        self.set_interval(1.0, self._look)

    def _look(self) -> None:
        content = self._line()
        self.set_class(self._stores.connection.stale, "-stale")
        if content.plain != self._said:
            self._said = content.plain
            self.refresh()

    def render(self) -> RenderResult:
        return self._line()

    def _line(self) -> Content:
        left, right = self._left(), self._right()
        room = self.size.width - left.cell_length - right.cell_length
        if room < 1:
            return left
        middle = self._middle(room - 2)
        gap = room - middle.cell_length
        return Content.assemble(left, " " * (gap // 2), middle, " " * (gap - gap // 2), right)

    def _left(self) -> Content:
        parts: list[Content] = [Content.styled(" TEKTON ", "bold $text-primary")]
        connection = self._stores.connection
        if connection.state == "attaching":
            parts.append(Content.styled(" attaching…", "$text-warning"))
        elif connection.stale:
            return Content.assemble(*parts, literal(self._fault(), "bold $text-error"))
        counts = self._stores.fleet.counts()
        short = self.size.width < SHORT_WIDTH
        for state in SHOWN_STATES:
            if counts[state]:
                word = "" if short else f" {state}"
                parts.append(Content.styled(f" {SYMBOLS[state]} {counts[state]}{word} ", f"${TONES[state]}"))
        if unseen := self._stores.errors.unacknowledged:
            parts.append(Content.styled(f" {unseen} error{'s' * (unseen != 1)}! ", "bold $text-error"))
        return Content.assemble(*parts)

    def _fault(self) -> str:
        """Say since when the link is gone, why, and what to do; counts that may be untrue give way to it."""
        connection = self._stores.connection
        room = self.size.width - len(" TEKTON ") - 1
        if connection.state == "lost":
            who = " lost" if self.size.width < SHORT_WIDTH else " backend lost"
            gone, what = f"{who} {span(time.time() - connection.since)} ago", " · reconnecting"
            why = one_line(connection.reason, max(0, room - len(gone) - len(what) - 3))
            return f"{gone}: {why}{what}" if why else f"{gone}{what}"
        what = " · f5 tries again"
        return f" {one_line(connection.reason, max(8, room - len(what) - 1))}{what}"

    def _middle(self, room: int) -> Content:
        platform = self._stores.fleet.platform
        if platform is None:
            return Content("")
        provider = platform.provider
        name = provider.display or provider.model
        stand_in = " (small stand-in)" if provider.provider == "embedded" else ""
        full = f"{provider.provider} {name}{stand_in} · {provider.reason}"
        for words in (full, f"{provider.provider} {name}{stand_in}", f"{provider.provider} {name}", name):
            if len(words) <= room:
                return literal(words, "$text-muted")
        return Content("")

    def _right(self) -> Content:
        speed = self._stores.fleet.rate()
        words = f"{rate(speed)} tok/s  " if speed else ""
        platform = self._stores.fleet.platform
        port = platform.gateway.rpartition(":")[2] if platform else ""
        address = f"rhetor :{port}  " if port and self.size.width >= 80 else ""
        return Content.assemble(
            Content.styled(words, "$text-primary"),
            literal(address, "$text-muted"),
            Content.styled(time.strftime("%H:%M "), "$text-muted"),
        )
