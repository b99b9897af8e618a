"""The row of a tool call: its name, arguments and result in a few words; all of them when it is unfolded. Of one that
edited a file a card with what it changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec
from rich.cells import cell_len

from backend.schema.content import read_arguments
from backend.schema.edits import PATHS, edits_of, unplaced
from tekton_tui.clock import gateway_time
from tekton_tui.safe_text import one_line, safe
from tekton_tui.transcript.ask_card import card_fits, card_rows
from tekton_tui.transcript.cards import FRAME_CELLS, LEAST_CELLS, DiffLine, diff_rows, framed, numbered
from tekton_tui.transcript.entry import ToolRow, ToolState
from tekton_tui.transcript.pieces import Piece, plain_rows
from tekton_tui.transcript.rows import (
    BLANK,
    BOLD,
    BULLET,
    DIM,
    ERROR,
    FOLD,
    GOOD,
    RULE,
    TEXT,
    YOU,
    Ink,
    Row,
    Run,
)

UNFOLDED_ROWS: Final = 20
"""Rows shown of an unfolded result; `v` shows all."""
FEW_LINES, MOST_LINES = 6, 200
"""Of a diff: as many are shown of a long one, and once it is unfolded."""
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
        self._times = times
        self.whole = False
        """Whether all of it is shown, as the source of its message is."""
        self._take(row)

    def update(self, row: ToolRow) -> None:
        """Show what it is now; what failed or edited a file a little unfolds."""
        if row.state != self.row.state:
            self._take(row)
        self.row = row
        self.changed()

    def _take(self, row: ToolRow) -> None:
        self.row = row
        self._diff = edited_lines(row)
        self._is_long = len(self._diff) > FEW_LINES
        self.folded = row.state != "failed" and (self._is_long or not self._diff)

    def draw(self, width: int) -> list[Row]:
        card = self.row.card
        if card is not None and not self.whole and (rows := card_rows(card, self.row.since, width)):
            return rows
        if self._is_card and width >= LEAST_CELLS + FRAME_CELLS:
            return self._edit_card(width)
        title = self._title(width)
        if self.folded and not self.whole:
            return [title]
        return [title, *self._body(width, None if self.whole else UNFOLDED_ROWS), BLANK]

    @property
    def _is_card(self) -> bool:
        return bool(self._diff) and not self.whole and (self._is_long or not self.folded)

    def estimate(self, width: int) -> int:
        if self._is_card:
            return 2 + min(len(self._diff), FEW_LINES if self.folded else MOST_LINES)
        return (
            1 if self.folded and not self.whole else 2 + min(UNFOLDED_ROWS, self.row.result.count("\n") + 1)
        )

    def _edit_card(self, width: int) -> list[Row]:
        """Return what it changed: all of it, or of a long diff the first lines and how many there are."""
        row, few = self.row, self.folded
        lines = _near_changes(self._diff)[:FEW_LINES] if few else self._diff[:MOST_LINES]
        left = len(self._diff) - len(lines)
        below: list[Run] = [("⏎", FOLD | BOLD), (f" {left:,} more lines" if few else " fold", DIM)]
        if left and not few:
            below = [(f"{left:,} more lines, ", DIM), ("v", FOLD | BOLD), (" shows all  ", DIM), *below]
        sign, ink = SIGNS[row.state]
        server, colon, tool = one_line(row.name or "a tool", width // 2).rpartition(":")
        counts: list[Run] = [(f"  {text}", tone) for text, tone in self._counts()]
        took = f"  {_seconds(row.took_s)}" if row.took_s >= LEAST_S else ""
        head: list[Run] = [(f"{sign} ", ink | BOLD), (server + colon, DIM), (tool, TEXT | BOLD)]
        head += [(f" ×{self._times}", DIM)] if self._times > 1 else []
        used = sum([cell_len(text) for text, _ in (*head, *counts)]) + len(took)
        path = one_line(" ".join(_paths(_values(row.arguments))), max(0, width - used - 8))
        top: list[Run] = [*head, (f" {path}" if path else "", DIM), *counts, (took, DIM)]
        inner = width - FRAME_CELLS
        return framed([run for run in top if run[0]], diff_rows(lines, inner), width, RULE, below)

    def _counts(self) -> list[Run]:
        """Return how many lines came and went."""
        signs = [line.sign for line in self._diff]
        return [(f"+{signs.count('+')}", GOOD), (f"−{signs.count('-')}", ERROR)]

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
                words = " ".join(text for text, _ in self._counts()) if self._diff else self._result_words()
                return " · ".join(filter(None, (words, took))), DIM
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


_a_diff = re.compile(r"^--- .*\n\+\+\+ (?P<path>.*)\n(?=@@ )", re.MULTILINE).search


def edited_lines(row: ToolRow) -> list[DiffLine]:
    """Return what a call that went well changed in a file, as it says itself, else as its arguments do; empty for no edit."""
    values = _values(row.arguments) if row.state == "done" else {}
    paths = _paths(values)
    if not paths:
        return []
    # what only shows a diff, of some other file, is no edit of this one
    found = _a_diff(row.result)
    if found is not None and any(_file_of(found["path"]) == _file_of(path) for path in paths):
        diff = row.result[found.start() :].partition("\n```")[0]
    else:
        diff = unplaced(paths[0], edits_of(values))
    lines = list(numbered(diff))
    if not any(line.sign in "+-" for line in lines):
        return []
    return lines[1:] if lines[0].sign == "@" and len(paths) == 1 else lines


def _file_of(path: str) -> str:
    return path.partition("\t")[0].rstrip().rpartition("/")[2]


def _near_changes(lines: Sequence[DiffLine]) -> list[DiffLine]:
    """Return the lines of a diff that changed, each with the one before and the one after it."""
    changed = [line.sign != " " for line in lines]
    return [line for at, line in enumerate(lines) if any(changed[max(0, at - 1) : at + 2])]


def _values(arguments: str) -> dict[str, Any]:
    try:
        return read_arguments(arguments)
    except ValueError:
        return {}


def _paths(values: dict[str, Any]) -> list[str]:
    """Return the files that a call names."""
    for name in PATHS:
        if name in values:
            found = values[name]
            each: list[Any] = cast("list[Any]", found) if isinstance(found, list) else [found]
            return [path for path in each if isinstance(path, str)]
    return []


def short_arguments(arguments: str) -> str:
    """Return arguments in one line: of one value the value alone, of several each with its name."""
    if (values := argument_values(arguments)) is None:
        return one_line(arguments[:PREVIEW_CHARS])
    shown = {name: one_line(value[:PREVIEW_CHARS]) for name, value in values.items()}
    if len(shown) == 1:
        return next(iter(shown.values()))
    return "  ".join(f"{one_line(name[:60])}={value}" for name, value in shown.items())


def long_arguments(arguments: str) -> list[str]:
    """Return arguments as lines of text, cleaned: each with its name; what is no JSON object as it is."""
    if (values := argument_values(arguments)) is None:
        return [safe(arguments)] if arguments.strip() else []
    return [safe(f"{name}: {value}") for name, value in values.items()]


def argument_values(arguments: str) -> dict[str, str] | None:
    """Return a call's arguments by name, texts as they are and other values as JSON; `None` for what is no object."""
    try:
        values = msgspec.json.decode(arguments or "{}", type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return {name: _value(bytes(raw)) for name, raw in values.items()}


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
