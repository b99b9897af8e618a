"""The console's own signs in ASCII, for terminals and fonts that do not have them. Text of others stays as it is.

Each sign is replaced by as many characters as it has cells, so that no column moves.
"""

from __future__ import annotations

from typing import Final

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_LINES: Final = {
    "-": "─╌━╸╺┄▔–—−",
    "|": "│┃┊▎▌▏▊▍▐",
    "+": "╭╮╰╯┌┐└┘├┤┬┴┼╋",
    "#": "█▇▆▪■◆",
    "=": "▅▄▃═",
    "_": "▁▂",
    "*": "●★◉•",
    "o": "○◌◯",
    "%": "◐",
    "v": "✓▾",
    ">": "▸›→▶➤",
    "<": "‹←",
    "^": "▴↑",
    "V": "↓",
    ".": "·…⋮░▒",
    '"': "“”",
    "'": "‘’",
    "~": "≠≈",
    "@": "⏎",
    "L": "↳",
    "x": "✖⊘✗×",
}
_BRAILLE: Final = {
    # the more dots a braille cell has, the denser its letter
    code: " .:#"[min(3, (bin(code - 0x2800).count("1") + 2) // 3)]
    for code in range(0x2800, 0x2900)
}
TABLE: Final = {ord(sign): letter for letter, signs in _LINES.items() for sign in signs} | _BRAILLE
TABLE[ord("🔎")] = "> "  # of Textual's palette


class AsciiSigns(LineFilter):
    """Draws every line of every widget with ASCII in the place of our signs."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.text.isascii()
            else Segment(segment.text.translate(TABLE), segment.style, segment.control)
            for segment in segments
        ]
