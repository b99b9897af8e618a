"""Measures how wide this terminal draws what terminals disagree about, and draws it so that both agree.

Textual believes Rich's table of widths; a terminal has its own. Where they differ (tmux 3.3 draws `⚠️` one cell wide,
Rich counts two) every character after it stands in another cell than Textual thinks, and rests of old rows stay on the
screen. So the terminal is asked once, before the first picture: a sample of each kind is written and the cursor's
position requested (CPR). Characters of a kind that is drawn otherwise are left out or replaced in all foreign text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from rich.cells import cell_len

from tekton_tui.safe_text import replace_characters

REGIONAL_INDICATOR_A: Final = 0x1F1E6


class Kind(NamedTuple):
    """A kind of grapheme cluster.

    Attributes:
        sample: One of its kind.
        replaced: What stands for its characters where the terminal's width is another; empty leaves one out.
    """

    sample: str
    replaced: dict[int, str]


KINDS: Final = (
    Kind("⚠\ufe0f", {0xFE0F: ""}),
    Kind("1\ufe0f\u20e3", {0xFE0F: "", 0x20E3: ""}),
    Kind("👩\u200d👧", {0x200D: ""}),
    Kind("👍🏽", dict.fromkeys(range(127995, 128000), "")),
    Kind("🇩🇪", {REGIONAL_INDICATOR_A + n: chr(ord("A") + n) for n in range(26)}),
)
"""Emoji by variation selector, keycaps, joined emoji, skin tones, flags."""
AMBIGUOUS: Final = "●"
"""A sign of our own that terminals may be told to draw two cells wide: then no line of the console is right."""
AMBIGUOUS_PROBLEM: Final = (
    f"this terminal draws {AMBIGUOUS} two cells wide, which shifts rows: make its ambiguous characters narrow"
)

_SAMPLES: Final = (*(kind.sample for kind in KINDS), AMBIGUOUS)
# ESC 7, ESC 8: save and restore the cursor (DECSC, DECRC); CSI 6 n: ask where it is (CPR); CSI K: clear the row
QUESTION: Final = (
    "\x1b7" + "".join(f"\x1b[1;1H{sample}\x1b[6n" for sample in _SAMPLES) + "\x1b[1;1H\x1b[K\x1b8"
)
"""Writes each sample at the upper left corner, asks for the cursor's position, and clears what was written."""


class ClusterWidths:
    """The answers of one terminal, in the order of the question.

    Args:
        write: Writes to the terminal.
        on_problem: Called with a sentence when the terminal's widths cannot be made to agree.
    """

    def __init__(self, write: Callable[[str], object], on_problem: Callable[[str], None]) -> None:
        self._write = write
        self._on_problem = on_problem
        self._answers = 0

    def ask(self) -> None:
        """Ask the terminal. Must come before the first picture: the first row is used and cleared."""
        self._write(QUESTION)

    def answered(self, cells: int) -> None:
        """Note one answer: how many cells right of the corner the cursor stood. More answers than questions are ignored."""
        number, self._answers = self._answers, self._answers + 1
        if number >= len(_SAMPLES) or cells == cell_len(_SAMPLES[number]):
            return
        if number < len(KINDS):
            replace_characters(KINDS[number].replaced)
        else:
            self._on_problem(AMBIGUOUS_PROBLEM)
