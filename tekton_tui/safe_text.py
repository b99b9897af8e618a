"""The one place where text from a model, a log or a network becomes content of a widget; knows nothing of widgets.

What is hostile in text stands in `backend.text`: here it is cut to cells and kept from being read as markup, and
characters are replaced that this terminal draws in another width than Textual counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from rich.cells import cell_len, split_graphemes
from textual.content import Content
from textual.style import Style

from backend import text as neutral

ELLIPSIS: Final = "…"
_runs_of_space: Final = re.compile(r"[ \t\n]+").sub
_replaced: dict[int, str] = {}
"""Characters that this terminal draws in another width than is counted, and what is drawn instead."""


def replace_characters(table: Mapping[int, str]) -> None:
    """Draw these characters as others from now on, in the whole process; an empty text leaves one out.

    Text that was drawn before stays as it was.
    """
    _replaced.update(table)


def safe(text: str, before: str = "") -> str:
    """Return text with every hostile character as a symbol (see `backend.text.safe`), fit for this terminal."""
    return _fit(neutral.safe(text, before))


def safe_inline(text: str) -> str:
    """Return `safe` text that is certain to stay on one line: LF becomes `↵`, TAB a space."""
    return _fit(neutral.safe_line(text))


def _fit(text: str) -> str:
    return text.translate(_replaced) if _replaced and not text.isascii() else text


def one_line(text: str, width: int | None = None) -> str:
    """Return the text for a grid cell, a title or a notification: one line, runs of space as one, cut with `…`.

    Args:
        text: Foreign text of any length; only as much of it is read as can be shown.
        width: Cells at most, or `None` for no limit.
    """
    if width is not None:
        if width <= 0:
            return ""
        # Hidden text may be long: no more is looked at than a line could ever hold.
        text = text[: width * 16 + 64]
    line = safe_inline(_runs_of_space(" ", text).strip(" "))
    if width is None or cell_len(line) <= width:
        return line
    return _cut(line, width - 1) + ELLIPSIS


def literal(text: str, style: Style | str = "") -> Content:
    """Return foreign text as content that is never read as markup."""
    return Content.styled(safe(text), style)


def literal_line(text: str, width: int | None = None, style: Style | str = "") -> Content:
    """Return foreign text as one line of content for titles, options and table cells; never markup."""
    return Content.styled(one_line(text, width), style)


def _cut(line: str, width: int) -> str:
    """Return as much of the line as fits `width` cells, cut between graphemes."""
    if line.isascii():
        return line[:width]
    used = 0
    for start, _end, cells in split_graphemes(line)[0]:
        if used + cells > width:
            return line[:start]
        used += cells
    return line
