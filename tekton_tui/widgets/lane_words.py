"""What a lane says of itself: in its border, and as one row of the compact list. Pure; draws nothing."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len
from textual.content import Content

from tekton_tui.safe_text import literal, one_line
from tekton_tui.stores import LiveTurn
from tekton_tui.wording import milliseconds, number, rate, span, turn_words

NAME_CELLS, STATE_CELLS, FIRST_CELLS, RATE_CELLS = 14, 22, 7, 7
"""Columns of a row; the last line of the answer takes what is left."""
TAIL_PIECES = 60
"""So many of the newest pieces are looked at for the last line."""


class LaneFacts(NamedTuple):
    """What is known of a lane. `place` counts arrivals from 1, 0 before the first token."""

    name: str
    turn: LiveTurn | None
    refusal: str = ""
    marked: bool = False
    picked: bool = False
    place: int = 0


def tone_of(facts: LaneFacts) -> str:
    """Return the colour of a lane's state; symbol and word always stand beside it."""
    turn = facts.turn
    if turn is None:
        return "$text-error" if facts.refusal else "$text-muted"
    if not turn.ended:
        return "$text-warning" if turn.phase == "stalled" else "$text-primary"
    if turn.code:
        return "$text-muted" if turn.code == "cancelled" else "$text-error"
    return "$text-success"


def state_of(facts: LaneFacts) -> str:
    """Say what a lane does or how it ended, its symbol first."""
    turn = facts.turn
    if turn is None:
        return "✖ not asked" if facts.refusal else "○ waiting"
    if turn.ended and turn.code:
        return f"✖ {turn.code}"
    if turn.ended:
        return f"✓ {span(turn.total_time)}"
    return f"◐ {turn_words(turn)}"


def title_of(facts: LaneFacts, width: int) -> Content:
    """Return the upper border: marks, name, state. Details give way first."""
    head = f"{_marks(facts)}{facts.name} {state_of(facts)}"
    if cell_len(head) > width:
        head = head.partition(" · ")[0]
    return literal(one_line(head, max(1, width)), tone_of(facts))


def subtitle_of(facts: LaneFacts, width: int) -> Content:
    """Return the lower border: place of arrival, first token, speed; the first gives way first."""
    turn = facts.turn
    if turn is None:
        return Content("")
    parts = [part for part in (_place(facts), _first(turn), _speed(turn)) if part]
    while len(parts) > 1 and len(" · ".join(parts)) > width:
        del parts[0]
    words = " · ".join(parts)
    return literal(one_line(words, max(1, width)), "$text-muted")


def row_of(facts: LaneFacts, width: int) -> Content:
    """Return a lane as one row: marks, name, state, first token, speed, the last line of its answer."""
    turn = facts.turn
    tone = tone_of(facts)
    first = milliseconds(turn.first_token_ms if turn else None)
    speed = _rate(turn.rate()) if turn else "–"
    room = width - NAME_CELLS - STATE_CELLS - FIRST_CELLS - RATE_CELLS - 5
    failed = tone == "$text-error"
    tail = one_line(_last_line(facts), max(1, room)) if failed else _end_of(_last_line(facts), room)
    cells = (
        literal(_fit(f"{_marks(facts)}{facts.name}", NAME_CELLS), "bold"),
        literal(_fit(state_of(facts), STATE_CELLS), tone),
        literal(_fit(first, FIRST_CELLS, right=True), "$text-muted"),
        literal(_fit(speed, RATE_CELLS, right=True), "$text-muted"),
        literal(f" {tail}" if room > 1 else "", tone if failed else ""),
    )
    return Content(" ").join(cells)


def heading(width: int) -> Content:
    """Return the head of the compact list."""
    first, speed = "FIRST".rjust(FIRST_CELLS), "TOK/S".rjust(RATE_CELLS)
    words = f" {'LANE':<{NAME_CELLS}} {'STATE':<{STATE_CELLS}} {first} {speed}  LAST LINE"
    return literal(words[:width], "$text-muted")


def _marks(facts: LaneFacts) -> str:
    return ("★" if facts.picked else "") + ("▌" if facts.marked else "") + (" " if facts.picked else "")


def _place(facts: LaneFacts) -> str:
    return f"#{facts.place}" if facts.place else ""


def _first(turn: LiveTurn) -> str:
    return "" if turn.first_token_ms is None else f"first {milliseconds(turn.first_token_ms)}"


def _speed(turn: LiveTurn) -> str:
    return "" if turn.rate() is None else f"{_rate(turn.rate())} tok/s"


def _rate(value: float | None) -> str:
    return number(round(value)) if value is not None and value >= 1000 else rate(value)


def _last_line(facts: LaneFacts) -> str:
    turn = facts.turn
    if turn is None:
        return facts.refusal
    if turn.code and turn.code != "cancelled":
        return turn.error
    return "".join(turn.text[-TAIL_PIECES:]).strip() or turn.detail


def _end_of(text: str, cells: int) -> str:
    """Return the end of a text in one line, with a mark where it is cut."""
    if cells < 2:
        return ""
    line = one_line(text, len(text) + 1)
    if cell_len(line) <= cells:
        return line
    cut = line[-(cells - 1) :]
    while cell_len(cut) > cells - 1:
        cut = cut[1:]
    return f"…{cut}"


def _fit(text: str, cells: int, *, right: bool = False) -> str:
    """Return text in exactly so many cells."""
    cut = one_line(text, cells)
    gap = " " * max(0, cells - cell_len(cut))
    return gap + cut if right else cut + gap
