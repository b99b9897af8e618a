"""Draws code blocks: language label and highlighted lines, kept line by line as they arrive; knows no themes.

Pygments is imported with the first code block.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from tekton_tui.safe_text import one_line, safe_inline
from tekton_tui.transcript.rows import BLOCK, LABEL, SOFT_CUT, TOKEN_SHIFT, Ink, Row, Run
from tekton_tui.transcript.wrap import wrap_runs

if TYPE_CHECKING:
    from pygments.lexer import Lexer

TOKEN_CLASSES: Final = ("keyword", "name", "string", "number", "comment", "operator", "added", "removed")
"""Classes of code tokens; the theme gives them their colour (`transcript--code-<class>`)."""

TINTED_CLASSES: Final = ("added", "removed")
"""Those whose whole row is tinted."""
MAX_LEXED_LINE: Final = 1_000
"""A block with a longer line is not lexed: regular expressions have bad days on data."""
TAB_CELLS: Final = 4
MARGIN: Final[tuple[Run, ...]] = (("  ", BLOCK),)
NARROW: Final = 12
"""A pane with fewer cells shows code without a margin."""
DIFFS: Final = ("diff", "patch", "udiff")
"""Languages in which the first character of a line says what happened to it."""

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


_DIFF_CLASSES: Final = {"+": "added", "-": "removed"}


# looking for a lexer reads through all of them, also for a name there is none for
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
        # models write `{.python}` and `Python 3` as well
        return get_lexer_by_name(words[0].strip("{}.").lower(), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


def class_ink(token_class: str) -> Ink:
    """Return the ink of a class of code tokens."""
    return BLOCK | (1 + TOKEN_CLASSES.index(token_class)) << TOKEN_SHIFT


@lru_cache(maxsize=512)
def _token_ink(name: str) -> Ink:
    for prefix, token_class in _PREFIXES:
        if name == prefix or name.startswith(prefix + "."):
            return class_ink(token_class)
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
    # Some lexers rewrite what they do not understand: the source goes before its colours.
    whole = ["".join([text for text, _ink in runs]) for runs in result] == list(lines)
    return result if whole else plain


class CodeRows:
    """The rows of one code block at one width, extended as lines arrive.

    While it grows, lines are lexed one by one as they are complete; a settled block is lexed as a whole.

    Args:
        language: The info string of the fence; drawn above the code unless it is empty.
        label: Draw it: false for a block that goes on where another was cut.
    """

    def __init__(self, language: str, width: int, *, label: bool = True) -> None:
        self._language = language
        self._width = width
        self._margin = MARGIN if width >= NARROW else ()
        self._label = self._draw_label() if label and language else []
        self._draft: list[Row] = []
        self._draft_lines = 0

    def rows(self, lines: Sequence[str], *, settled: bool) -> list[Row]:
        """Return the rows of all lines; `lines` is the same list as before, longer.

        Args:
            lines: Source lines; the last may be unfinished while `settled` is false.
            settled: No more lines will come.
        """
        if settled:
            return [*self._label, *self._draw(lines)]
        done = max(0, len(lines) - 1)
        for line in lines[self._draft_lines : done]:
            self._draft.extend(self._draw([line]))
            self._draft_lines += 1
        # The line that is still written has no colours yet: it would be lexed again with every frame.
        return [*self._label, *self._draft, *self._draw(lines[done:], lex=False)]

    def _draw_label(self) -> list[Row]:
        rows = wrap_runs(
            [(one_line(self._language), LABEL)], self._width, first=self._margin, rest=self._margin
        )
        return [row._replace(decor=len(row.text), joint="", fill=BLOCK) for row in rows]

    def _draw(self, lines: Sequence[str], *, lex: bool = True) -> list[Row]:
        texts = [safe_inline(line.removesuffix("\n").expandtabs(TAB_CELLS)) for line in lines]
        diff = self._language.partition(" ")[0].lower() in DIFFS
        rows: list[Row] = []
        for line, runs in zip(lines, highlight(texts, self._language if lex else ""), strict=True):
            margin, fill = self._margin, BLOCK
            if diff and (token_class := _DIFF_CLASSES.get(line[:1])):
                fill = class_ink(token_class)
                runs, margin = [(text, fill) for text, _ink in runs], [(text, fill) for text, _ink in margin]
            drawn = wrap_runs(
                runs,
                self._width,
                first=margin,
                rest=margin,
                decor=sum(len(text) for text, _ink in margin),
                fill=fill,
            )
            if not line.endswith("\n") and line is not lines[-1]:
                drawn[-1] = drawn[-1]._replace(joint=SOFT_CUT)
            rows.extend(drawn)
        return rows
