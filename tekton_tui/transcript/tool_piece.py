"""The row of a tool call: its name, arguments and result in a few words; all of them when it is unfolded."""

from __future__ import annotations

from typing import Final

import msgspec
from rich.cells import cell_len

from tekton_tui.clock import gateway_time
from tekton_tui.safe_text import one_line, safe
from tekton_tui.transcript.ask_card import card_fits, card_rows
from tekton_tui.transcript.entry import ToolRow, ToolState
from tekton_tui.transcript.pieces import Piece, plain_rows
from tekton_tui.transcript.rows import BLANK, BOLD, BULLET, DIM, ERROR, FOLD, GOOD, TEXT, YOU, Ink, Row, Run

UNFOLDED_ROWS: Final = 20
"""Rows shown of an unfolded result; `v` shows all."""
PREVIEW_CHARS: Final = 400
"""Characters of arguments and result that are looked at for the row."""
SHORT_RESULT: Final = 36
"""A result of one line and at most so many cells is shown in the row; of a longer one its lines are counted."""
LEAST_ARGUMENTS: Final = 8
LEAST_S: Final = 0.05
"""A shorter run is not worth a figure."""
SIGNS: Final[dict[ToolState, tuple[str, Ink]]] = {
    "calling": ("◐", BULLET), "asking": ("◆", YOU), "running": ("◐", BULLET), "done": ("✓", GOOD),
    "failed": ("✖", ERROR), "denied": ("✖", ERROR), "passed": ("◌", DIM), "ended": ("○", DIM),
}  # fmt: skip


class ToolPiece(Piece):
    """One call, or several equal ones in a row that have ended. What failed is unfolded from the first."""

    foldable = True
    searched = False

    def __init__(self, row: ToolRow, *, times: int = 1) -> None:
        super().__init__()
        self.row = row
        self._times = times
        self.folded = row.state != "failed"
        self.whole = False
        """Whether all of it is shown, as the source of its message is."""

    def update(self, row: ToolRow) -> None:
        """Show what it is now; one that failed unfolds."""
        if row.state == "failed" and self.row.state != "failed":
            self.folded = False
        self.row = row
        self.changed()

    def draw(self, width: int) -> list[Row]:
        card = self.row.card
        if card is not None and not self.whole and (rows := card_rows(card, self.row.since, width)):
            return rows
        title = self._title(width)
        if self.folded and not self.whole:
            return [title]
        return [title, *self._body(width, None if self.whole else UNFOLDED_ROWS), BLANK]

    def estimate(self, width: int) -> int:
        return (
            1 if self.folded and not self.whole else 2 + min(UNFOLDED_ROWS, self.row.result.count("\n") + 1)
        )

    def card_is_whole(self, width: int) -> bool:
        """Whether a card is drawn in which all of the call is read."""
        return self.row.card is not None and not self.whole and card_fits(self.row.card, width)

    @property
    def copied(self) -> str:
        """Its name, arguments and result."""
        parts = (self.row.name, self.row.arguments, self.row.result)
        return safe("\n".join(part for part in parts if part))

    def _title(self, width: int) -> Row:
        row = self.row
        sign, ink = SIGNS[row.state]
        name = one_line(row.name or "a tool", max(4, width // 2))
        server, colon, tool = name.rpartition(":")
        words, tone = self._words()
        times = f" ×{self._times}" if self._times > 1 else ""
        runs: list[Run] = [("▸ " if self.folded and not self.whole else "▾ ", FOLD), (f"{sign} ", ink | BOLD)]
        runs += [(server + colon, DIM), (tool, TEXT | BOLD), (times, DIM)]
        used = 4 + cell_len(name) + len(times)
        words = one_line(words, max(1, width - used - 3)) if words and width - used > 8 else ""
        room = width - used - (cell_len(words) + 3 if words else 0) - 3
        if (arguments := short_arguments(row.arguments)) and room >= LEAST_ARGUMENTS:
            arguments = one_line(arguments, room)
            runs.append((f"   {arguments}", TEXT if row.state == "asking" else DIM))
            used += 3 + cell_len(arguments)
        if words:
            runs.append((f"   {words}", tone))
            used += 3 + cell_len(words)
        runs = [run for run in runs if run[0]]
        return Row(tuple(runs), used, "\n", sum([len(text) for text, _ink in runs]))

    def _words(self) -> tuple[str, Ink]:
        """Return what is said at the end of the row, and how."""
        row = self.row
        clock = _seconds(max(0.0, gateway_time() - row.since)) if row.since else ""
        took = _seconds(row.took_s) if row.took_s >= LEAST_S else ""
        match row.state:
            case "calling":
                return one_line(row.detail, PREVIEW_CHARS) or "calls it", DIM
            case "asking":
                return one_line(row.detail, PREVIEW_CHARS) or f"asks you {clock} · tab answers", YOU
            case "running":
                return " · ".join(filter(None, (one_line(row.detail, 40), clock))), DIM
            case "done":
                return " · ".join(filter(None, (self._result_words(), took))), DIM
            case "failed":
                return " · ".join(
                    filter(None, ((self.folded and _first_line(row.result)) or "failed", took))
                ), ERROR
            case "denied":
                return f"denied: {_first_line(row.result)}".removesuffix(": "), ERROR
            case "passed":
                return "left to the caller's program", DIM
            case "ended":
                return "ended with its turn", DIM

    def _result_words(self) -> str:
        text = self.row.result.strip()
        lines = text.count("\n") + 1
        if not text:
            return "gave nothing"
        if lines == 1 and cell_len(first := one_line(text[:PREVIEW_CHARS])) <= SHORT_RESULT:
            return first
        if lines > 1:
            return f"{lines:,} lines"
        return f"{self.row.size or len(text.encode()):,} bytes"

    def _body(self, width: int, limit: int | None) -> list[Row]:
        rows = [
            drawn
            for line in long_arguments(self.row.arguments)
            for drawn in plain_rows(line, width, DIM, indent="    ")
        ]
        ink = ERROR if self.row.state in ("failed", "denied") else TEXT
        result = plain_rows(safe(self.row.result), width, ink, indent="    ") if self.row.result else []
        if limit is not None:
            rows, result = _first_of(rows, limit, width), _first_of(result, limit, width)
        return rows + result


def short_arguments(arguments: str) -> str:
    """Return arguments in one line: of one value the value alone, of several each with its name."""
    try:
        values = msgspec.json.decode(arguments or "{}", type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeError):
        return one_line(arguments[:PREVIEW_CHARS])
    shown = {name: one_line(_value(bytes(raw))[:PREVIEW_CHARS]) for name, raw in values.items()}
    if len(shown) == 1:
        return next(iter(shown.values()))
    return "  ".join(f"{one_line(name[:60])}={value}" for name, value in shown.items())


def long_arguments(arguments: str) -> list[str]:
    """Return arguments as lines of text, cleaned: each with its name; what is no JSON object as it is."""
    try:
        values = msgspec.json.decode(arguments or "{}", type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeError):
        return [safe(arguments)] if arguments.strip() else []
    return [safe(f"{name}: {_value(bytes(raw))}") for name, raw in values.items()]


def _value(raw: bytes) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.MsgspecError, UnicodeError):
        return raw.decode(errors="replace")


def _first_of(rows: list[Row], limit: int, width: int) -> list[Row]:
    if len(rows) <= limit:
        return rows
    text = "    " + one_line(f"… {len(rows) - limit:,} more lines, v shows all", max(1, width - 4))
    return [*rows[:limit], Row(((text, DIM),), cell_len(text), "\n", len(text))]


def _first_line(text: str) -> str:
    return one_line(text.strip().partition("\n")[0][:PREVIEW_CHARS])


def _seconds(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} m"
