"""The one door by which text from a model, a log or a network reaches a widget; knows nothing of widgets.

Every character that could steer a terminal, reorder a line or hide text becomes a visible symbol. The mapping
is per character and keeps no state, so a hostile sequence split over two chunks is neutralised like a whole one.
"""

from __future__ import annotations

import re
from typing import Final

from rich.cells import cell_len, split_graphemes
from textual.content import Content
from textual.style import Style

ELLIPSIS: Final = "…"

# Format characters that hide, join or reorder text. U+200C and U+200D stay: scripts and emoji need them.
_HIDDEN_RANGES: Final = (
    (0x80, 0x9F),  # C1: 8-bit CSI, OSC, DCS …
    (0xAD, 0xAD),  # soft hyphen: drawn by some terminals, not by others
    (0x061C, 0x061C),
    (0x180E, 0x180E),
    (0x200B, 0x200B),
    (0x200E, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0x1D173, 0x1D17A),
    (0xD800, 0xDFFF),  # lone surrogates cannot be encoded for the terminal
    (0xE0000, 0xE007F),  # tag characters: text that nobody sees
)
_KEPT_CONTROLS: Final = "\t\n"


def _symbols() -> dict[int, str]:
    table = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in _KEPT_CONTROLS}
    table[0x7F] = "␡"
    for first, last in _HIDDEN_RANGES:
        table.update({code: f"⟨U+{code:04X}⟩" for code in range(first, last + 1)})
    return table


def _character_class(codes: list[int]) -> str:
    """Return a regular-expression class of the codes, written as ranges: it is compiled once and scanned fast."""
    ranges: list[list[int]] = []
    for code in sorted(codes):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges) + "]"


_SYMBOLS: Final = _symbols()
_INLINE_SYMBOLS: Final = {**_SYMBOLS, 0x09: " ", 0x0A: "↵"}
_find_hostile: Final = re.compile(_character_class(list(_SYMBOLS))).search
_runs_of_space: Final = re.compile(r"[ \t\n]+").sub


def safe(text: str) -> str:
    """Return the text with every control, bidi and hidden format character shown as a symbol.

    LF and TAB stay. `safe(a + b) == safe(a) + safe(b)` for every split, and `safe` of its own result changes
    nothing. Text without such characters is returned as it is.
    """
    if text.isprintable() or _find_hostile(text) is None:
        return text
    return text.translate(_SYMBOLS)


def safe_inline(text: str) -> str:
    """Return `safe` text that is certain to stay on one line: LF becomes `↵`, TAB a space."""
    return text if text.isprintable() else text.translate(_INLINE_SYMBOLS)


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
    used = 0
    for start, _end, cells in split_graphemes(line)[0]:
        if used + cells > width:
            return line[:start]
        used += cells
    return line
