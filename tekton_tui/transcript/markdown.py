"""Draws one block of Markdown text as rows; knows neither the message around it nor any theme.

The parser is imported with the first message. HTML is shown as it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from tekton_tui.transcript.code import CodeRows
from tekton_tui.transcript.inline import inline_lines
from tekton_tui.transcript.rows import (
    BLANK,
    BOLD,
    BULLET,
    DIM,
    HEADING,
    ITALIC,
    QUOTE,
    TEXT,
    TITLE,
    Ink,
    Row,
    Run,
)
from tekton_tui.transcript.tables import Align, Cell, draw_table
from tekton_tui.transcript.wrap import wrap_runs

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

BULLETS: Final = ("•", "◦", "▪")
QUOTE_MARK: Final = "▏ "
MIN_WIDTH: Final = 6
"""Nesting stops taking room when a line would become narrower than this."""
RULE_CELLS: Final = 40

_TASKS: Final = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # A reference definition must stay visible text: blocks are drawn alone, so it could not be resolved.
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("reference")


def draw_markdown(source: str, width: int) -> list[Row]:
    """Return the rows of a block of Markdown at `width` cells."""
    if _is_prose(source):
        rows: list[Row] = []
        for line in source.split("\n"):
            text = line.strip()
            if text:
                rows.extend(wrap_runs([(text, TEXT)], width))
        return rows
    return _Painter(width).draw(_parser().parse(source))


_PROSE_STOPS: Final = frozenset("*_`[]<>&\\~|#=\t!")


def _is_prose(source: str) -> bool:
    """Whether the text has nothing in it that Markdown could mean something by; most streamed tails are so."""
    if not _PROSE_STOPS.isdisjoint(source):
        return False
    return all(line[:1].isalpha() and line.isprintable() for line in source.split("\n") if line)


class _Painter:
    """Walks block tokens and gathers rows; keeps the prefixes of open lists and quotes."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._rows: list[Row] = []
        self._prefix: list[Run] = []
        self._first: list[Run] | None = None
        self._ink: Ink = TEXT
        self._decor = 0
        self._gap = False

    def draw(self, tokens: Sequence[Token]) -> list[Row]:
        """Return the rows of a token list."""
        self._siblings(tokens, tight=False)
        return self._rows

    def _siblings(self, tokens: Sequence[Token], *, tight: bool) -> None:
        """Draw the blocks of one level, a blank row between them unless the level is tight."""
        index = 0
        first = True
        while index < len(tokens):
            end = _closing(tokens, index)
            if not first and not tight:
                self._blank()
            self._block(tokens, index, end)
            first = False
            index = end + 1

    def _block(self, tokens: Sequence[Token], start: int, end: int) -> None:
        token = tokens[start]
        kind = token.type
        if kind == "paragraph_open":
            self._inline(tokens[start + 1], TEXT)
        elif kind == "heading_open":
            self._inline(tokens[start + 1], TITLE | BOLD if token.tag in ("h1", "h2") else HEADING | BOLD)
        elif kind in ("bullet_list_open", "ordered_list_open"):
            self._list(tokens[start + 1 : end], token)
        elif kind == "blockquote_open":
            self._quote(tokens[start + 1 : end])
        elif kind in ("fence", "code_block"):
            self._code(token)
        elif kind == "hr":
            cells = min(RULE_CELLS, self._room())
            self._emit([("─" * cells, DIM)])
        elif kind == "table_open":
            self._table(tokens[start + 1 : end])
        elif token.content:
            for line in token.content.splitlines():
                self._emit([(line, self._ink)])

    def _inline(self, token: Token, ink: Ink) -> None:
        for runs in inline_lines(token.children or [], self._ink | ink):
            self._emit(runs)

    def _list(self, tokens: Sequence[Token], opening: Token) -> None:
        number = int(opening.attrs.get("start", 1) or 0) if opening.tag == "ol" else None
        loose = any(
            t.type == "paragraph_open" and not t.hidden and t.level == opening.level + 2 for t in tokens
        )
        index = 0
        while index < len(tokens):
            end = _closing(tokens, index)
            if index and loose:
                self._blank()
            mark = BULLETS[opening.level // 2 % len(BULLETS)] if number is None else f"{number}."
            if number is not None:
                number += 1
            self._item(mark + " ", tokens[index + 1 : end], tight=not loose)
            index = end + 1

    def _item(self, mark: str, tokens: Sequence[Token], *, tight: bool) -> None:
        cells = cell_len(mark)
        outer, outer_first = self._prefix, self._first
        self._first = [*(outer if outer_first is None else outer_first), (mark, BULLET)]
        if self._room() - cells >= MIN_WIDTH:
            self._prefix = [*outer, (" " * cells, TEXT)]
        _mark_task(tokens)
        self._siblings(tokens, tight=tight)
        if self._first:
            # An empty item still has its mark.
            self._emit([])
        self._prefix = outer
        self._first = None

    def _quote(self, tokens: Sequence[Token]) -> None:
        if self._room() - len(QUOTE_MARK) < MIN_WIDTH:
            self._siblings(tokens, tight=False)
            return
        outer, ink = self._prefix, self._ink
        if self._first is not None:
            self._first = [*self._first, (QUOTE_MARK, DIM)]
        self._prefix = [*outer, (QUOTE_MARK, DIM)]
        self._ink = ink | QUOTE | ITALIC
        self._siblings(tokens, tight=False)
        self._prefix, self._ink = outer, ink

    def _code(self, token: Token) -> None:
        lines = token.content.splitlines(keepends=True)
        for row in CodeRows(token.info.strip(), max(MIN_WIDTH, self._room())).rows(lines, settled=True):
            prefix = self._take_prefix()
            indent = sum([cell_len(text) for text, _ink in prefix])
            decor = row.decor + sum([len(text) for text, _ink in prefix])
            self._rows.append(Row((*prefix, *row.runs), indent + row.cells, row.joint, decor, row.fill))

    def _table(self, tokens: Sequence[Token]) -> None:
        lines: list[list[Cell]] = []
        aligns: list[Align] = []
        for index, token in enumerate(tokens):
            if token.type == "tr_open":
                lines.append([])
            elif token.type in ("th_open", "td_open"):
                runs = inline_lines(tokens[index + 1].children or [], self._ink)
                lines[-1].append([run for line in runs for run in line])
                if token.type == "th_open":
                    aligns.append(_alignment(token))
        if not lines:
            return
        for row in draw_table(lines[0], lines[1:], aligns, self._room()):
            prefix = self._take_prefix()
            indent = sum([cell_len(text) for text, _ink in prefix])
            self._rows.append(row._replace(runs=(*prefix, *row.runs), cells=indent + row.cells))

    def _room(self) -> int:
        """Cells left beside the open prefixes."""
        return max(1, self._width - sum([cell_len(text) for text, _ink in self._prefix]))

    def _take_prefix(self) -> list[Run]:
        prefix = self._prefix if self._first is None else self._first
        self._first = None
        return prefix

    def _emit(self, runs: Sequence[Run]) -> None:
        """Add one logical line."""
        self._rows.extend(wrap_runs(runs, self._width, first=self._take_prefix(), rest=self._prefix))

    def _blank(self) -> None:
        """Add a blank row inside the open quotes."""
        marks = [run for run in self._prefix if run[0] == QUOTE_MARK]
        if not marks:
            self._rows.append(BLANK)
            return
        self._rows.append(Row(tuple(self._prefix), sum([cell_len(text) for text, _ink in self._prefix])))


def _closing(tokens: Sequence[Token], start: int) -> int:
    """Return the index of the token that closes the one at `start`."""
    depth = 0
    for index in range(start, len(tokens)):
        depth += tokens[index].nesting
        if depth == 0:
            return index
    return len(tokens) - 1


def _mark_task(tokens: Sequence[Token]) -> None:
    """Show the box of a task list item as a box."""
    if len(tokens) > 1 and tokens[1].type == "inline" and tokens[1].children:
        first = tokens[1].children[0]
        box = _TASKS.get(first.content[:4]) if first.type == "text" else None
        if box is not None:
            first.content = box + first.content[4:]


def _alignment(token: Token) -> Align:
    style = str(token.attrs.get("style", ""))
    if "right" in style:
        return "right"
    return "center" if "center" in style else "left"
