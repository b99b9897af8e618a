"""Draws Markdown tables: in columns that wrap, or row by row as records where the columns do not fit the pane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from rich.cells import cell_len

from tekton_tui.transcript.rows import BOLD, DIM, HARD, TEXT, Row, Run
from tekton_tui.transcript.wrap import wrap_runs

Align = Literal["left", "right", "center"]
Cell = list[Run]

GAP: Final = 2
"""Cells between two columns."""
MAX_WORD: Final = 12
"""A column is as wide as its longest word, or so wide: a longer word may be broken."""
MAX_TITLE_SHARE: Final = 3
"""The titles of a record take at most this part of its width."""


def draw_table(
    head: Sequence[Cell], body: Sequence[Sequence[Cell]], aligns: Sequence[Align], width: int
) -> list[Row]:
    """Return the rows of a table, at most `width` cells wide."""
    lines = [head, *body]
    least = [_least_width(index, lines) for index in range(len(head))]
    room = width - GAP * (len(head) - 1)
    if sum(least) > room:
        return _draw_records(head, body, width)
    widths = _share(least, [_natural_width(index, lines) for index in range(len(head))], room)
    rows = _draw_line(_bold(head), aligns, widths)
    rule = (" " * GAP).join("─" * cells for cells in widths)
    rows.append(Row(((rule, DIM),), len(rule), HARD, len(rule)))
    for line in body:
        rows.extend(_draw_line(line, aligns, widths))
    return rows


def _text(cell: Cell) -> str:
    return "".join([text for text, _ink in cell])


def _bold(head: Sequence[Cell]) -> list[Cell]:
    return [[(text, ink | BOLD) for text, ink in cell] for cell in head]


def _natural_width(index: int, lines: Sequence[Sequence[Cell]]) -> int:
    """Return the cells that the longest text of a column takes."""
    return max(1, *[cell_len(_text(line[index])) if index < len(line) else 0 for line in lines])


def _least_width(index: int, lines: Sequence[Sequence[Cell]]) -> int:
    """Return the cells below which a column's words would be broken."""
    words = [word for line in lines if index < len(line) for word in _text(line[index]).split()]
    return min(MAX_WORD, max([1, *map(cell_len, words)]))


def _share(least: Sequence[int], natural: Sequence[int], room: int) -> list[int]:
    """Give each column its least width, then share what is left among those whose text is longer."""
    widths = list(least)
    spare = room - sum(widths)
    waiting = [index for index in range(len(widths)) if widths[index] < natural[index]]
    while waiting and spare > 0:
        # one cell at least, or what is left of the room would never be given away
        share = max(1, spare // len(waiting))
        for index in list(waiting):
            more = min(share, natural[index] - widths[index], spare)
            widths[index] += more
            spare -= more
            if widths[index] == natural[index]:
                waiting.remove(index)
    return widths


def _draw_line(line: Sequence[Cell], aligns: Sequence[Align], widths: Sequence[int]) -> list[Row]:
    wrapped = [
        wrap_runs(line[index] if index < len(line) else [], cells) for index, cells in enumerate(widths)
    ]
    rows: list[Row] = []
    for height in range(max(len(cell) for cell in wrapped)):
        runs: list[Run] = []
        for index, (cell, cells) in enumerate(zip(wrapped, widths, strict=True)):
            row = cell[height] if height < len(cell) else Row((), 0)
            space = max(0, cells - row.cells)
            left = {"left": 0, "right": space, "center": space // 2}[aligns[index]]
            gap = GAP if index < len(widths) - 1 else 0
            if left:
                runs.append((" " * left, TEXT))
            runs.extend(row.runs)
            if space - left + gap:
                runs.append((" " * (space - left + gap), TEXT))
        rows.append(Row(tuple(runs), cell_len("".join([text for text, _ink in runs]))))
    return rows


def _draw_records(head: Sequence[Cell], body: Sequence[Sequence[Cell]], width: int) -> list[Row]:
    """Draw each line of the table as a record: a title and a text for each column, a rule between two records."""
    title_cells = min(max(cell_len(_text(cell)) for cell in head), max(1, width // MAX_TITLE_SHARE))
    rule = Row((("─" * width, DIM),), width, HARD, width)
    rows: list[Row] = []
    for number, line in enumerate(body or [[]]):
        if number:
            rows.append(rule)
        for title, text in zip(_bold(head), [*line, *[[] for _ in head[len(line) :]]], strict=False):
            rows.extend(_draw_field(title, text, title_cells, width))
    return rows


def _draw_field(title: Cell, text: Cell, title_cells: int, width: int) -> list[Row]:
    """Draw one title beside its text, or above it where the text would have no room."""
    room = width - title_cells - GAP
    if room < MAX_WORD:
        return [*wrap_runs(title, width), *wrap_runs(text, width)]
    return _draw_line([title, text], ("left", "left"), (title_cells, room))
