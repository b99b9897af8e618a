"""What cards in a transcript are made of: a frame, and diffs by rows with the numbers of their lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len

from tekton_tui.safe_text import safe
from tekton_tui.transcript.code import class_ink
from tekton_tui.transcript.rows import DIM, Ink, Row, Run
from tekton_tui.transcript.wrap import JOINERS, wrap_runs

FRAME_CELLS: Final = 4
LEAST_CELLS: Final = 24
"""Narrower than this nothing is framed."""
NUMBER_CELLS: Final = 4
"""Of a line's number in a diff."""
TINTS: Final[dict[str, Ink]] = {"+": class_ink("added"), "-": class_ink("removed")}
_hunk: Final = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@").match


class DiffLine(NamedTuple):
    """A line of a unified diff: its number, `+`, `-`, a space, or `@` for the name of a file and other words; its text."""

    number: str
    sign: str
    text: str


def numbered(diff: str) -> Iterator[DiffLine]:
    """Yield the lines of a unified diff. Those of a hunk that begins at line 0 have no numbers: nobody knows them.

    A hunk ends where its head says: a removed line that begins with two dashes is no name of a file.
    """
    old = new = old_left = new_left = 0
    known = True
    for line in safe(diff).splitlines():
        if old_left <= 0 and new_left <= 0:
            if (hunk := _hunk(line)) is not None:
                old, new = int(hunk[1]), int(hunk[3])
                old_left, new_left = int(hunk[2] or 1), int(hunk[4] or 1)
                known = (old > 0 or not old_left) and (new > 0 or not new_left)
            elif not line.startswith(("--- ", "\\")):
                yield DiffLine("", "@", line.removeprefix("+++ "))
            continue
        sign, text = line[:1], line[1:]
        if sign == "+":
            yield DiffLine(str(new) if known else "", "+", text)
            new, new_left = new + 1, new_left - 1
        elif sign == "-":
            yield DiffLine(str(old) if known else "", "-", text)
            old, old_left = old + 1, old_left - 1
        elif sign == "\\":
            yield DiffLine("", " ", text.strip())
        elif sign == "…":  # what is left out has lines that nobody counted
            known = False
            yield DiffLine("", "@", line)
        else:
            yield DiffLine(str(new) if known else "", " ", text)
            old, old_left, new, new_left = old + 1, old_left - 1, new + 1, new_left - 1


def diff_rows(lines: Iterable[DiffLine], width: int) -> list[Row]:
    """Return lines of a diff as rows, tinted to their ends; names of files stand above what changes in them."""
    rows: list[Row] = []
    lines = list(lines)
    cells = NUMBER_CELLS if any(line.number for line in lines) else 0
    for number, sign, line in lines:
        text = line.expandtabs(4)
        if sign == "@":
            rows += wrap_runs([(text, DIM)], width)
            continue
        ink = TINTS.get(sign, DIM)
        lead: list[Run] = [(f"{number:>{cells}} ", DIM), (f"{sign} ", ink)]
        rest: list[Run] = [(" " * (cells + 1), DIM), ("  ", ink)]
        rows += wrap_runs([(text, ink)], width, first=lead, rest=rest, decor=cells + 3, fill=ink)
    return rows


def framed(
    top: Iterable[Run], rows: Iterable[Row], width: int, ink: Ink, below: Sequence[Run] = ()
) -> list[Row]:
    """Return rows in a frame of `width` cells with words in its upper border, and in the lower one at the right end."""
    head: list[Run] = [("╭─ ", ink), *top]
    head.append((f" {'─' * max(0, width - _cells(head) - 2)}╮", ink))
    words = list(below) if _cells(below) + 6 <= width else []
    tail: list[Run] = [("╰" + "─" * max(0, width - _cells(words) - 2 - 3 * bool(words)), ink)]
    tail += [(" ", ink), *words, (" ─", ink)] if words else []
    tail.append(("╯", ink))
    return [plain_row(head), *(_sides(row, width - FRAME_CELLS, ink) for row in rows), plain_row(tail)]


def plain_row(runs: list[Run]) -> Row:
    """Return a row of decoration alone."""
    return Row(tuple(runs), _cells(runs), "\n", sum([len(text) for text, _ in runs]))


def _cells(runs: Iterable[Run]) -> int:
    return cell_len("".join([text for text, _ in runs]))


def _sides(row: Row, width: int, ink: Ink) -> Row:
    """Return a row between the sides of a frame."""
    inside = list(row.runs)
    while inside:  # a joiner would take the cell behind it along
        text, tone = inside.pop()
        if kept := text.rstrip(JOINERS):
            inside.append((kept, tone))
            break
    pad = " " * max(0, width + 2 - cell_len("│ " + "".join([text for text, _ in inside])))
    runs: tuple[Run, ...] = (("│ ", ink), *inside, (pad, row.fill), (" │", ink))
    return Row(runs, width + FRAME_CELLS, row.joint, row.decor + 2)
