"""Draws one block of Markdown text as rows; knows neither the message around it nor any theme.

The parser is imported with the first message. HTML is shown as it is written.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from tekton_tui.safe_text import safe_inline
from tekton_tui.transcript.code import CodeRows, highlight
from tekton_tui.transcript.rows import (
    BLANK,
    BOLD,
    BULLET,
    CODE,
    DIM,
    HEADING,
    ITALIC,
    LINK,
    QUOTE,
    STRIKE,
    TEXT,
    TITLE,
    Ink,
    Row,
    Run,
)
from tekton_tui.transcript.tables import Align, Cell, draw_table
from tekton_tui.transcript.wrap import wrap_runs

if TYPE_CHECKING:
    from markdown_it.token import Token

BULLETS: Final = ("•", "◦", "▪")
QUOTE_MARK: Final = "▏ "
MIN_WIDTH: Final = 6
"""Nesting stops taking room when a line would become narrower than this."""
RULE_CELLS: Final = 40

_MARKS: Final[dict[str, Ink]] = {"strong_open": BOLD, "em_open": ITALIC, "s_open": STRIKE}
_MARK_ENDS: Final[dict[str, Ink]] = {"strong_close": BOLD, "em_close": ITALIC, "s_close": STRIKE}
_TASKS: Final = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}


_SAMPLE: Final = "# a\n\n- **b** `c`\n\n| d |\n|---|\n| [e](f) |\n"
_loading = threading.Event()


def warm() -> None:
    """Start loading the parser and the code lexers in a thread, once in a process; return at once.

    Their import takes a fifth of a second: called before a turn begins, its first token need not wait for it.
    """
    if not _loading.is_set():
        _loading.set()
        threading.Thread(target=_load, name="transcript-warm", daemon=True).start()


def _load() -> None:
    draw_markdown(_SAMPLE, 40)
    highlight(["def f(): return 1"], "python")


def draw_markdown(source: str, width: int, *, indent: int = 0) -> list[Row]:
    """Return the rows of a block of Markdown at `width` cells.

    Args:
        indent: Cells kept free at the left, if the width allows.
    """
    # the parser takes many times as long, and most of what streams is prose
    if not indent and _is_prose(source):
        rows: list[Row] = []
        for line in source.split("\n"):
            text = line.strip()
            if text:
                rows.extend(wrap_runs([(text, TEXT)], width))
        return rows
    from tekton_tui.transcript.parser import parser

    return _Painter(width, indent).draw(parser().parse(source))


_PROSE_STOPS: Final = frozenset("*_`[]<>&\\~|#=\t!$")


def _is_prose(source: str) -> bool:
    """Whether the text has nothing in it that Markdown could mean something by; most streamed tails are so."""
    if not _PROSE_STOPS.isdisjoint(source):
        return False
    return all(line[:1].isalpha() and line.isprintable() for line in source.split("\n") if line)


class _Painter:
    """Walks block tokens and gathers rows; keeps the prefixes of open lists and quotes."""

    def __init__(self, width: int, indent: int) -> None:
        self._width = width
        self._rows: list[Row] = []
        self._prefix: list[Run] = []
        """What stands before each row: indents and the bars of quotes."""
        self._first: list[Run] | None = None
        """What stands before the next row instead: it ends with the mark of a list item."""
        self._ink: Ink = TEXT
        if indent and indent + MIN_WIDTH <= width:
            self._prefix = [(" " * indent, TEXT)]

    def draw(self, tokens: Sequence[Token]) -> list[Row]:
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
            self._code(token.content, token.info.strip())
        elif kind == "math_block":
            self._code(token.content, "latex")
        elif kind == "hr":
            cells = min(RULE_CELLS, self._room())
            self._emit([("─" * cells, DIM)])
        elif kind == "table_open":
            self._table(tokens[start + 1 : end])
        elif token.content:
            for line in token.content.split("\n"):
                self._emit([(safe_inline(line.strip()), self._ink)])

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
        mark = _task_box(tokens) or mark
        cells = cell_len(mark)
        outer = self._prefix
        if self._room() - cells >= MIN_WIDTH:
            self._first = [*self._take_prefix(), (mark, BULLET)]
            self._prefix = [*outer, (" " * cells, TEXT)]
        else:
            # There is no room to go further right: the mark stands above its text.
            self._emit([(mark.rstrip(), BULLET)])
        self._siblings(tokens, tight=tight)
        if self._first is not None:
            # An empty item still has its mark.
            self._emit([])
        self._prefix = outer

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

    def _code(self, content: str, language: str) -> None:
        lines = content.splitlines(keepends=True)
        for row in CodeRows(language, self._room()).rows(lines, settled=True):
            self._add(row)

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
            self._add(row)

    def _add(self, row: Row) -> None:
        """Add a row that was drawn for the room beside the prefixes."""
        prefix = self._take_prefix()
        indent = sum([cell_len(text) for text, _ink in prefix])
        decor = row.decor + sum([len(text) for text, _ink in prefix]) if row.decor else 0
        self._rows.append(row._replace(runs=(*prefix, *row.runs), cells=indent + row.cells, decor=decor))

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


def _task_box(tokens: Sequence[Token]) -> str:
    """Return the box of a task list item, which stands in place of its bullet; empty for other items."""
    if len(tokens) > 1 and tokens[1].type == "inline" and tokens[1].children:
        first = tokens[1].children[0]
        box = _TASKS.get(first.content[:4]) if first.type == "text" else None
        if box is not None:
            first.content = first.content[4:]
            return box
    return ""


def _alignment(token: Token) -> Align:
    style = str(token.attrs.get("style", ""))
    if "right" in style:
        return "right"
    return "center" if "center" in style else "left"


def inline_lines(tokens: Sequence[Token], ink: Ink) -> list[list[Run]]:
    """Return the runs of each line of an inline token's children; a line break in the source stays one.

    Args:
        tokens: Children of an inline token.
        ink: Ink of the surrounding block.
    """
    lines: list[list[Run]] = [[]]
    marks = ink
    depths: dict[Ink, int] = {}
    links: list[tuple[str, int]] = []
    for token in tokens:
        kind = token.type
        if kind in ("softbreak", "hardbreak"):
            lines.append([])
        elif kind in _MARKS:
            mark = _MARKS[kind]
            depths[mark] = depths.get(mark, 0) + 1
            marks |= mark
        elif kind in _MARK_ENDS:
            mark = _MARK_ENDS[kind]
            depths[mark] = depths.get(mark, 1) - 1
            if not depths[mark] and not ink & mark:
                marks &= ~mark
        elif kind == "link_open":
            links.append((_address(token, "href"), len(lines[-1])))
            marks |= LINK
        elif kind == "link_close":
            address, first = links.pop()
            marks &= ~LINK
            _add_address(lines[-1], address, first, marks)
        elif kind == "image":
            label = safe_inline(token.content) or "image"
            lines[-1].append((f"[{label}]", marks | LINK))
            _add_address(lines[-1], _address(token, "src"), len(lines[-1]) - 1, marks)
        elif token.content:
            look = marks | CODE if kind in ("code_inline", "math") else marks
            first, *others = token.content.split("\n")
            lines[-1].append((safe_inline(first), look))
            lines.extend([(safe_inline(line), look)] for line in others)
    return lines


def _address(token: Token, attribute: str) -> str:
    """Return where a link or an image leads, its title behind."""
    title = token.attrs.get("title")
    return f'{token.attrs.get(attribute, "")} "{title}"' if title else str(token.attrs.get(attribute, ""))


def _add_address(line: list[Run], address: str, first: int, ink: Ink) -> None:
    """Show where a link leads, unless its text says it already."""
    shown = "".join([text for text, _ink in line[first:]])
    address = safe_inline(address)
    if address and shown not in (address, address.removeprefix("mailto:")):
        line.append((f" ({address})", ink | DIM))
