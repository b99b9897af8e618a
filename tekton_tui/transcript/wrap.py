"""Wraps runs of styled text to a number of cells; knows graphemes and wide characters, not what the text means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len, split_graphemes

from tekton_tui.transcript.rows import HARD, SOFT_CUT, SOFT_SPACE, TEXT, Ink, Row, Run

MAX_MARKS: Final = 8
"""Characters kept on a row for each cell of its width; more than that is a pile of combining marks."""

JOINERS: Final = "\u200d\ufe0f"

Cut = tuple[int, int, str]
"""Start and end of a row's characters and the joint after it."""


def wrap_runs(
    runs: Sequence[Run],
    width: int,
    *,
    first: Sequence[Run] = (),
    rest: Sequence[Run] = (),
    decor: int = 0,
    fill: Ink = TEXT,
) -> list[Row]:
    """Wrap one logical line (no LF inside) into rows of at most `width` cells.

    Args:
        runs: The line.
        width: Cells of a row, prefix included; at least one cell is left for text.
        first: Prefix of the first row (a bullet).
        rest: Prefix of the rows after it (an indent of the same width).
        decor: How many characters of the prefix are decoration.
        fill: Ink of the space right of the text.
    """
    runs = _without_leading_joiners([run for run in runs if run[0]])
    text = "".join([run[0] for run in runs])
    prefix_cells = sum([cell_len(part) for part, _ink in first])
    rest_cells = sum([cell_len(part) for part, _ink in rest])
    room = max(1, width - max(prefix_cells, rest_cells))
    if text.isascii():
        if len(text) <= room:
            return [Row((*first, *runs), prefix_cells + len(text), HARD, decor, fill)]
        cuts = _ascii_cuts(text, room)
    else:
        cells = cell_len(text)
        if cells <= room and len(text) <= room * MAX_MARKS:
            return [Row((*first, *runs), _cells(first, text), HARD, decor, fill)]
        cuts = _wide_cuts(text, room)
    rows: list[Row] = []
    slicer = _Slicer(runs)
    prefix = tuple(first)
    for start, end, joint in cuts:
        cells = prefix_cells + end - start if text.isascii() else _cells(prefix, text[start:end])
        rows.append(Row((*prefix, *slicer.slice(start, end)), cells, joint, decor, fill))
        prefix, prefix_cells = tuple(rest), rest_cells
    return rows


def _cells(prefix: Sequence[Run], text: str) -> int:
    """Return the cells of a whole row: a mark at the text's start may join with its prefix."""
    return cell_len("".join([part for part, _ink in prefix]) + text)


def _without_leading_joiners(runs: list[Run]) -> list[Run]:
    """Drop joiners that have nothing before them to join: the ways to measure such text disagree."""
    while runs and runs[0][0][0] in JOINERS:
        text = runs[0][0].lstrip(JOINERS)
        runs = [(text, runs[0][1]), *runs[1:]] if text else runs[1:]
    return runs


def _ascii_cuts(text: str, room: int) -> list[Cut]:
    """Cut text of one-cell characters at its spaces, a word longer than a row where the row ends."""
    cuts: list[Cut] = []
    start, length = 0, len(text)
    while length - start > room:
        space = text.rfind(" ", start, start + room + 1)
        # A space inside the line's own indent is no place to break.
        if space > start and text[start:space].strip(" "):
            end = space
            while end > start and text[end - 1] == " ":
                end -= 1
            cuts.append((start, end, SOFT_SPACE))
            start = space + 1
            while start < length and text[start] == " ":
                start += 1
        else:
            cuts.append((start, start + room, SOFT_CUT))
            start += room
    if start < length or not cuts:
        cuts.append((start, length, HARD))
    else:
        cuts[-1] = (cuts[-1][0], cuts[-1][1], HARD)
    return cuts


def _wide_cuts(text: str, room: int) -> list[Cut]:
    """Cut text between graphemes: at spaces, and before and after wide characters."""
    cuts: list[Cut] = []
    start = used = 0
    place: tuple[int, int, int] | None = None  # end of this row, start of the next, cells before the next
    for begin, end, cells in split_graphemes(text)[0]:
        while (used + cells > room and begin > start) or begin - start >= room * MAX_MARKS:
            if text[begin:end] == " ":
                place = (begin, end, used + 1)
            if place is not None and place[0] > start:
                row_end, next_start, cells_before = place
                cuts.append((start, row_end, SOFT_SPACE if next_start > row_end else SOFT_CUT))
                start, used = next_start, max(0, used - cells_before)
            else:
                cuts.append((start, begin, SOFT_CUT))
                start, used = begin, 0
            place = None
        if begin < start:
            continue
        used += cells
        if text[begin:end] == " ":
            place = (begin, end, used)
        elif cells > 1:
            place = (end, end, used)
    if start < len(text) or not cuts:
        cuts.append((start, len(text), HARD))
    else:
        cuts[-1] = (cuts[-1][0], cuts[-1][1], HARD)
    return cuts


class _Slicer:
    """Cuts pieces out of runs, asked for in rising order."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._index = 0
        self._offset = 0

    def slice(self, start: int, end: int) -> list[Run]:
        """Return the runs of characters `start` to `end`."""
        pieces: list[Run] = []
        while self._index < len(self._runs):
            text, ink = self._runs[self._index]
            stop = self._offset + len(text)
            if self._offset >= end:
                break
            if stop > start:
                piece = text[max(0, start - self._offset) : end - self._offset]
                if piece:
                    pieces.append((piece, ink))
            if stop > end:
                break
            self._offset = stop
            self._index += 1
        return pieces
