"""Tables that fit a terminal: widths are shared out here, drawn by Rich, which knows how wide characters are.

Gets text that was made safe before; only text objects go to Rich, never markup. Knows no backend.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

LAST_LEAST = 24
"""Cells a wrapped last column gets at least."""
COLUMN_LEAST = 5
"""Cells below which no other column is cut."""
GAP = 2


@dataclass
class Grid:
    """Titles and rows of one table."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]

    def draw(
        self, width: int, *, wrap: bool, tones: Sequence[str], tone_column: int | None, colours: bool
    ) -> str:
        """Return the lines of the table. `tones` are styles, one a row, of the column `tone_column`."""
        widths = [
            max([cell_len(title), *(cell_len(row[index]) for row in self.rows)])
            for index, title in enumerate(self.titles)
        ]
        told_below = wrap and self._last_is_squeezed(widths, width)
        columns = len(widths) - 1 if told_below else len(widths)
        widths = _shared(widths[:columns], width, wrap=wrap and not told_below)
        grid = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
        for index, column in enumerate(widths):
            wrapped = wrap and not told_below and index == columns - 1
            overflow = "fold" if wrapped else "ellipsis"
            grid.add_column(Text(self.titles[index]), width=column, no_wrap=not wrapped, overflow=overflow)
        for row, tone in zip(self.rows, tones, strict=True):
            cells = row[:columns]
            grid.add_row(*(Text(cell, tone if i == tone_column else "") for i, cell in enumerate(cells)))
        return _printed([grid, *(self._below(width) if told_below else ())], width, colours)

    def _below(self, width: int) -> list[Text]:
        """Return what the last column says of each row, with the row's name."""
        told = [f"{row[0]}: {row[-1]}" for row in self.rows if row[-1] not in ("", "-")]
        return [Text(textwrap.fill(text, width, subsequent_indent="  ")) for text in told]

    def _last_is_squeezed(self, widths: Sequence[int], width: int) -> bool:
        others = sum(widths[:-1]) + GAP * (len(widths) - 1)
        return width - others < min(LAST_LEAST, widths[-1])


def _shared(natural: Sequence[int], width: int, *, wrap: bool) -> list[int]:
    """Share a terminal's width out: the last column gives first when it may wrap, then always the widest."""
    widths = list(natural)
    excess = sum(widths) + GAP * (len(widths) - 1) - width
    if excess > 0 and wrap:
        given = min(excess, max(0, widths[-1] - LAST_LEAST))
        widths[-1] -= given
        excess -= given
    while excess > 0 and max(widths) > COLUMN_LEAST:
        widths[widths.index(max(widths))] -= 1
        excess -= 1
    return widths


def _printed(parts: Sequence[Table | Text], width: int, colours: bool) -> str:
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=colours,
        color_system="standard" if colours else None,
        highlight=False,
        legacy_windows=False,
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
