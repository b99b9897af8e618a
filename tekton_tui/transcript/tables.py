"""Draws Markdown tables: column widths from their content, cells wrapped where the pane is narrow."""

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
MIN_COLUMN: Final = 4


def draw_table(
    head: Sequence[Cell], body: Sequence[Sequence[Cell]], aligns: Sequence[Align], width: int
) -> list[Row]:
    """Return the rows of a table at most `width` cells wide (wider only when it has too many columns)."""
    widths = _column_widths([head, *body], len(head), width)
    head_cells: list[Cell] = [[(text, ink | BOLD) for text, ink in cell] for cell in head]
    rows = _draw_line(head_cells, aligns, widths)
    rule = (" " * GAP).join("─" * cells for cells in widths)
    rows.append(Row(((rule, DIM),), len(rule), HARD, len(rule)))
    for line in body:
        rows.extend(_draw_line(line, aligns, widths))
    return rows


def _column_widths(lines: Sequence[Sequence[Cell]], columns: int, width: int) -> list[int]:
    """Share the width: columns that fit their share keep their natural width, the rest divide what is left."""
    natural = [1] * columns
    for line in lines:
        for index, cell in enumerate(line[:columns]):
            natural[index] = max(natural[index], cell_len("".join([text for text, _ink in cell])))
    room = max(columns * MIN_COLUMN, width - GAP * (columns - 1))
    widths = [0] * columns
    waiting = list(range(columns))
    while waiting:
        share = max(MIN_COLUMN, room // len(waiting))
        fitting = [index for index in waiting if natural[index] <= share]
        if not fitting:
            for place, index in enumerate(waiting):
                widths[index] = max(MIN_COLUMN, (room + place) // len(waiting))
            break
        for index in fitting:
            widths[index] = natural[index]
            room -= natural[index]
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
        rows.append(Row(tuple(runs), sum([cell_len(text) for text, _ink in runs])))
    return rows
