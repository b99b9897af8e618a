"""A drawn line before it has colours: runs of text with an ink each; knows neither themes nor widgets."""

from __future__ import annotations

from typing import Final, NamedTuple

Ink = int
"""What a run of text is: flags below, and in the high bits the number of a code token class."""

TEXT: Final[Ink] = 0
BOLD: Final[Ink] = 1
ITALIC: Final[Ink] = 1 << 1
STRIKE: Final[Ink] = 1 << 2
CODE: Final[Ink] = 1 << 3
LINK: Final[Ink] = 1 << 4
HEADING: Final[Ink] = 1 << 5
TITLE: Final[Ink] = 1 << 6
QUOTE: Final[Ink] = 1 << 7
DIM: Final[Ink] = 1 << 8
BLOCK: Final[Ink] = 1 << 9
"""Text of a code block."""
LABEL: Final[Ink] = 1 << 10
"""The line above a code block."""
BULLET: Final[Ink] = 1 << 11
SPEAKER: Final[Ink] = 1 << 12
ERROR: Final[Ink] = 1 << 13
FOLD: Final[Ink] = 1 << 14
RULE: Final[Ink] = 1 << 15
"""A line that divides."""
GOOD: Final[Ink] = 1 << 16
"""The sign of what went well."""
YOU: Final[Ink] = 1 << 17
"""What waits for the operator."""
KEY: Final[Ink] = 1 << 18
"""A key that answers, where and while it does."""
TOKEN_SHIFT: Final = 19
"""Bits above this hold 1 + the index of a code token class (`code.TOKEN_CLASSES`)."""

Run = tuple[str, Ink]

SOFT_SPACE: Final = " "
"""A row's `joint` when the wrap took the place of a space."""
SOFT_CUT: Final = ""
"""A row's `joint` when a long word goes on in the next row."""
HARD: Final = "\n"
"""A row's `joint` at the end of a line."""


class Row(NamedTuple):
    """One line on the screen, without the speaker's bar.

    Attributes:
        runs: Text with inks, left to right.
        cells: Width of the text.
        joint: What stands between this row and the next when they are copied.
        decor: How many leading characters are decoration and not part of what is copied.
        fill: Ink of the space right of the text.
        bare: It stands between messages, without a speaker's bar.
    """

    runs: tuple[Run, ...]
    cells: int
    joint: str = HARD
    decor: int = 0
    fill: Ink = TEXT
    bare: bool = False

    @property
    def text(self) -> str:
        """The row's characters, decoration included."""
        return "".join([text for text, _ink in self.runs])

    @property
    def copied(self) -> str:
        """The row's characters without decoration."""
        return self.text[self.decor :]


BLANK: Final = Row((), 0)
