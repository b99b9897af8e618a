"""Draws code blocks: language label, highlighted lines, kept line by line as they arrive; knows no themes.

Pygments is imported with the first code block. Code is lexed in sections of fixed length, so that a block
that is streamed ends exactly as one that was loaded, and the cost of a frame does not follow its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from tekton_tui.safe_text import one_line, safe_inline
from tekton_tui.transcript.rows import BLOCK, LABEL, SOFT_CUT, TOKEN_SHIFT, Ink, Row, Run
from tekton_tui.transcript.wrap import wrap_runs

if TYPE_CHECKING:
    from pygments.lexer import Lexer

TOKEN_CLASSES: Final = ("keyword", "name", "string", "number", "comment", "operator", "added", "removed")
"""Classes of code tokens; the theme gives them their colour (`transcript--code-<class>`)."""

SECTION_LINES: Final = 120
"""Lines lexed in one go; a string that spans two sections loses its colour."""
MAX_LEXED_LINE: Final = 1_000
"""A section with a longer line is not lexed: regular expressions have bad days on data."""
TAB_CELLS: Final = 4
MAX_LABEL_CELLS: Final = 24

_PREFIXES: Final = (
    ("Token.Generic.Inserted", "added"),
    ("Token.Generic.Deleted", "removed"),
    ("Token.Comment", "comment"),
    ("Token.Literal.String.Doc", "comment"),
    ("Token.Keyword", "keyword"),
    ("Token.Operator.Word", "keyword"),
    ("Token.Name.Function", "name"),
    ("Token.Name.Class", "name"),
    ("Token.Name.Decorator", "name"),
    ("Token.Name.Tag", "name"),
    ("Token.Name.Attribute", "name"),
    ("Token.Generic.Heading", "name"),
    ("Token.Generic.Subheading", "name"),
    ("Token.Literal.Number", "number"),
    ("Token.Keyword.Constant", "number"),
    ("Token.Literal", "string"),
    ("Token.Operator", "operator"),
    ("Token.Punctuation", "operator"),
)

LEFT: Final[tuple[Run, ...]] = (("  ", BLOCK),)


@lru_cache(maxsize=64)
def lexer_for(language: str) -> Lexer | None:
    """Return the lexer of a language name as a model writes it, `None` when there is none."""
    from pygments.lexers import (
        get_lexer_by_name,  # pyright: ignore[reportUnknownVariableType]
    )
    from pygments.util import ClassNotFound

    words = language.split()
    if not words:
        return None
    try:
        return get_lexer_by_name(words[0].strip("{}.").lower(), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=512)
def _token_ink(name: str) -> Ink:
    for prefix, token_class in _PREFIXES:
        if name == prefix or name.startswith(prefix + "."):
            return BLOCK | (1 + TOKEN_CLASSES.index(token_class)) << TOKEN_SHIFT
    return BLOCK


def highlight(lines: Sequence[str], language: str) -> list[list[Run]]:
    """Return the runs of each line; plain runs when the language is unknown or a line is too long."""
    plain: list[list[Run]] = [[(line, BLOCK)] for line in lines]
    lexer = lexer_for(language)
    if lexer is None or any(len(line) > MAX_LEXED_LINE for line in lines):
        return plain
    result: list[list[Run]] = [[]]
    for token, text in lexer.get_tokens("\n".join(lines)):
        ink = _token_ink(str(token))
        parts = text.split("\n")
        if parts[0]:
            result[-1].append((parts[0], ink))
        for part in parts[1:]:
            result.append([(part, ink)] if part else [])
    if len(result) == len(lines) + 1 and not result[-1]:
        result.pop()
    return result if len(result) == len(lines) else plain


class CodeRows:
    """The rows of one code block at one width, extended as lines arrive.

    The rows of a full section, and of all lines when the block is settled, are final. Lines of the section that
    still grows are lexed one by one and drawn again when it is full.
    """

    def __init__(self, language: str, width: int) -> None:
        self._language = language
        self._width = width
        self._final: list[Row] = []
        self._final_lines = 0
        self._draft: list[Row] = []
        self._draft_lines = 0

    def rows(self, lines: Sequence[str], *, settled: bool) -> list[Row]:
        """Return the rows of all lines; `lines` is the same list as before, longer.

        Args:
            lines: Source lines; the last may be unfinished while `settled` is false.
            settled: No more lines will come.
        """
        done = len(lines) if settled else max(0, len(lines) - 1)
        while done - self._final_lines >= SECTION_LINES or (settled and self._final_lines < done):
            end = min(done, self._final_lines + SECTION_LINES)
            self._final.extend(self._draw(lines[self._final_lines : end]))
            self._final_lines = end
            self._draft.clear()
            self._draft_lines = 0
        for line in lines[self._final_lines + self._draft_lines : done]:
            self._draft.extend(self._draw([line]))
            self._draft_lines += 1
        # The line that is still written has no colours yet: it would be lexed again with every frame.
        last = self._draw(lines[done:], lex=False) if done < len(lines) else []
        return [*self._label(), *self._final, *self._draft, *last]

    def _label(self) -> list[Row]:
        if not self._language:
            return []
        text = "  " + one_line(self._language.split()[0], min(MAX_LABEL_CELLS, max(1, self._width - 2)))
        return [Row(((text, LABEL),), cell_len(text), "", len(text), BLOCK)]

    def _draw(self, lines: Sequence[str], *, lex: bool = True) -> list[Row]:
        texts = [safe_inline(line.removesuffix("\n").expandtabs(TAB_CELLS)) for line in lines]
        rows: list[Row] = []
        for line, runs in zip(lines, highlight(texts, self._language if lex else ""), strict=True):
            drawn = wrap_runs(runs, self._width, first=LEFT, rest=LEFT, decor=2, fill=BLOCK)
            if not line.endswith("\n") and line is not lines[-1]:
                drawn[-1] = drawn[-1]._replace(joint=SOFT_CUT)
            rows.extend(drawn)
        return rows
