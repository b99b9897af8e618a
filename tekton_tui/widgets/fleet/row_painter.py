"""How one line of the grid looks: its parts, and these in the theme's colours. Knows nothing of what stands where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.segment import Segment
from textual.strip import Strip

from tekton_tui.clock import gateway_time
from tekton_tui.formatting import symbol_of
from tekton_tui.runtime.tokens import Tokens
from tekton_tui.stores import FleetStore
from tekton_tui.widgets.fleet import tiles
from tekton_tui.widgets.fleet.arrangement import Line, hit_offsets
from tekton_tui.widgets.fleet.columns import Column, Facts, row_parts, tone_of
from tekton_tui.widgets.fleet.drawing import Part, fitted, strip

MARKS: Final = 4
"""Cells before the name: cursor, mark, symbol, a blank."""


class RowPainter:
    """Draws lines for the columns, the size and the marks that it was given."""

    def __init__(self, fleet: FleetStore) -> None:
        self._fleet = fleet
        self.columns: list[tuple[Column, int]] = []
        """The columns with their widths."""
        self.wide = True
        self.unread: frozenset[str] = frozenset()
        self.top = 1.0
        """The top of the sparks' scale, in tokens a second."""
        self.filter_text = ""

    def facts(self) -> Facts:
        """Return what cells are made of at this moment."""
        return Facts(self._fleet, gateway_time(), self.wide, self.unread, self.top)

    def parts(self, line: Line, width: int, *, shut: bool = False) -> list[Part]:
        """Return what a line says, without the marks of a row; `shut` says that its group is folded."""
        facts = self.facts()
        if line.kind == "row":
            row = self._fleet.rows[line.key]
            parts = row_parts(self.columns, facts, row)
            return _underlined(parts, hit_offsets(self.filter_text, row.name)) if self.filter_text else parts
        rows = [self._fleet.rows[ai_id] for ai_id in line.ids if ai_id in self._fleet.rows]
        if line.kind == "tiles":
            return [part for row in rows for part in tiles.tile(row, facts)]
        if line.kind == "fold":
            return tiles.stopped(rows, width - 2)
        return tiles.head(line.key[1:], rows, facts, width - 2, shut=shut)

    def head(self, sorted_by: str, *, reverse: bool) -> list[Part]:
        """Return the heads of the columns, with the direction at the one that orders."""
        parts = [Part(" " * MARKS)]
        for column, width in self.columns:
            sorts = column.name == sorted_by
            title = "CTX" if column.name == "context" and not self.wide else column.title
            title = f" {title}" if column.name == "note" else title
            words = f"{title} {'▾' if reverse else '▴'}" if sorts else title
            parts += fitted([Part(words, "accent" if sorts else "muted")], width, right=column.right)
            parts.append(Part(" "))
        return parts

    def line_strip(
        self,
        line: Line,
        parts: Sequence[Part],
        width: int,
        tokens: Tokens,
        ground: str,
        *,
        cursor: str | None,
        lit: bool,
    ) -> Strip:
        """Return a line in its colours; `cursor` is where the cursor stands, `lit` that the keyboard is here."""
        if line.kind == "tiles":
            return self._tiles_strip(line, width, tokens, ground, cursor, lit)
        here = cursor == line.key
        if here:
            ground = tokens.cursor if lit else tokens.panel
        edge = Part("▎" if here else " ", "accent")
        if line.kind != "row":
            return strip([edge, Part(" "), *parts], width, tokens, ground)
        row = self._fleet.rows[line.key]
        mark = Part("▌" if row.id in self._fleet.marked else " ", "you")
        if here:
            parts = [Part(parts[0].text, "text bold"), *parts[1:]] if parts else parts
        return strip([edge, mark, Part(symbol_of(row) + " ", tone_of(row)), *parts], width, tokens, ground)

    def _tiles_strip(
        self, line: Line, width: int, tokens: Tokens, ground: str, cursor: str | None, lit: bool
    ) -> Strip:
        segments = [Segment("  ", tokens.style("text", ground))]
        facts = self.facts()
        for ai_id in line.ids:
            row = self._fleet.rows.get(ai_id)
            if row is None:
                continue
            # of several tiles in a line one is under the cursor: the ground is each tile's own
            under = (tokens.cursor if lit else tokens.panel) if ai_id == cursor else ground
            mark = "▌" if ai_id in self._fleet.marked else ""
            segments += [
                Segment(part.text, tokens.style(part.tone, under))
                for part in tiles.tile(row, facts, mark=mark)
            ]
        return Strip(segments).adjust_cell_length(width, tokens.style("text", ground))


def _underlined(parts: list[Part], offsets: set[int]) -> list[Part]:
    """Return parts with single characters of the first, the name, underlined."""
    if not parts or not offsets:
        return parts
    first, tone = parts[0]
    split = [Part(letter, f"{tone} underline" if at in offsets else tone) for at, letter in enumerate(first)]
    return [*split, *parts[1:]]
