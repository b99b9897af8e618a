"""The row under a conversation's composer: who answers with what model, what it does, and what `esc` does now."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from backend.schema.records import SpecialistStatus
from tekton_tui.formatting import (
    SYMBOLS,
    number,
    phase_words,
    rate,
    spark,
    spent,
    state_words,
    tone_of_state,
    turn_words,
)
from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTurn, Stores

MODEL_CELLS, SHORT_MODEL_CELLS = 26, 12
WIDE = 100
"""From so many cells on everything is said in full."""
SPARK_SAMPLES = 6
GAUGE_CELLS, SHORT_GAUGE_CELLS = 10, 6
STOPS_TURN = "stops the turn"
LEAVES_WAITING = "leaves it waiting"
ALMOST_FULL, FULL = 0.8, 0.95
"""Parts of a model's context from which its gauge warns, and from which the next question may not fit."""


class StatusRow(Static):
    """Drawn from the stores when told to; the owner ticks it while something counts seconds."""

    escape: reactive[str] = reactive("")
    """What the escape key does now."""

    def __init__(self, ai_id: str, stores: Stores) -> None:
        super().__init__("", classes="chat-status")
        self._ai_id, self._stores = ai_id, stores
        self._drawn = ""
        self.effort = ""
        """How hard the model is asked to think; empty for its own way."""
        self.context = 0
        """Tokens that the newest turn took of its model's context, 0 while unknown."""
        self.speed: float | None = None
        """Of the newest answer that ended here, in tokens per second."""

    @property
    def room(self) -> int:
        """How many tokens the model has left for the next question, 0 when that is unknown."""
        row = self._stores.fleet.rows.get(self._ai_id)
        if row is None or not row.context_window:
            return 0
        return max(1, row.context_window - (row.context_used or self.context))

    def show_turns(self, running: Sequence[LiveTurn]) -> None:
        """Draw the row; `running` are the conversation's turns under way."""
        row = self._stores.fleet.rows.get(self._ai_id)
        if row is None or not self.is_attached:
            return
        content = self._content(
            row, running[0] if running else None, self.size.width or self.screen.size.width
        )
        if content.plain != self._drawn:
            self._drawn = content.plain
            self.update(content)

    def _content(self, row: SpecialistStatus, turn: LiveTurn | None, width: int) -> Content:
        wide = width >= WIDE
        right = self._escape_part(wide)
        room = width - cell_len(right.plain) - 1
        parts = [part for part in self._parts(row, turn, wide) if part.plain]
        # who it is and what it does always stay; the rest goes from the right
        while len(parts) > 2 and sum(cell_len(part.plain) + 2 for part in parts) > room:
            del parts[-1]
        if sum(cell_len(part.plain) + 2 for part in parts) > room:
            parts[0] = literal(row.name)
        left = Content("  ").join(parts)
        if cell_len(left.plain) + 1 > room:
            left = left.truncate(max(1, room - 1), ellipsis=True)
        gap = " " * max(1, width - 1 - cell_len(left.plain) - cell_len(right.plain))
        return Content.assemble(" ", left, gap, right)

    def _parts(self, row: SpecialistStatus, turn: LiveTurn | None, wide: bool) -> list[Content]:
        model = one_line(row.model_display or row.model, MODEL_CELLS if wide else SHORT_MODEL_CELLS)
        words = turn_words(turn) if turn else state_words(row)
        tone = tone_of_state(row)
        if turn is not None:
            tone = {"stalled": "text-warning", "waiting": "text-secondary"}.get(turn.phase, "text-primary")
            if not wide:
                words = phase_words(turn.phase, turn.phase_since)
        symbol = "◆" if tone == "text-secondary" else "◐" if turn is not None else SYMBOLS[row.state]
        who = Content.assemble(literal(row.name), literal(f" · {model}" if model else "", "$text-muted"))
        words = one_line(words, 60 if wide else 24)
        if turn is not None and turn.phase == "waiting":
            words = words if self.escape == LEAVES_WAITING else f"{words} · tab answers"
        state = literal(f"{symbol} {words}", f"${tone}")
        speed = turn.rate() if turn is not None else self.speed
        parts = [who, state]
        if self.effort:
            parts.append(Content.assemble(("effort ", "$text-muted"), (self.effort, "$text-primary")))
        if speed is not None:
            samples = list(self._stores.fleet.rates.get(self._ai_id, ()))[-SPARK_SAMPLES:]
            line = spark(samples) if turn is not None else ""
            unit = " tok/s " if wide else "/s "
            parts.append(Content.assemble(rate(speed), (unit, "$text-muted"), (line, "$text-primary")))
        used, window = row.context_used or self.context, row.context_window
        if used:
            parts.append(_context(used, window, GAUGE_CELLS if wide else SHORT_GAUGE_CELLS))
        parts.append(literal(spent(row.costs), "$text-muted"))
        return parts

    def _escape_part(self, wide: bool) -> Content:
        if not self.escape:
            return Content("")
        words = self.escape if wide else self.escape.partition(" the ")[0].removesuffix(" to")
        return Content.assemble(("esc", "bold $text-warning"), f" {words} ")


def escape_words(*, choosing: bool, searching: bool, answering: bool, writing: bool, asked: bool) -> str:
    """Return what the escape key does in a conversation; `writing`: the composer has the keys, and there is what to read;
    `asked`: they are those of a call that waits."""
    if asked:
        return LEAVES_WAITING
    if choosing:
        return "closes the list"
    if searching:
        return "closes the search"
    if answering:
        return STOPS_TURN
    return "leaves the composer" if writing else "back to the fleet"


def _context(used: int, window: int, cells: int) -> Content:
    """Return how much of a model's context the conversation takes, as a gauge where the size of the context is known."""
    if not window:
        return Content.assemble(("context ", "$text-muted"), number(used))
    part = min(1.0, used / window)
    tone = "$text-error" if part >= FULL else "$text-warning" if part >= ALMOST_FULL else "$text-muted"
    halves = max(1, round(part * cells * 2))
    filled = "━" * (halves // 2) + "╸" * (halves % 2)
    return Content.assemble(
        ("context ", "$text-muted"),
        (filled, tone),
        ("─" * (cells - len(filled)), "$text-disabled"),
        f" {number(used)}/{number(window)}",
    )
