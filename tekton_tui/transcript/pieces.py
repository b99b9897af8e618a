"""The parts a message is drawn from, each keeping its rows for one width; knows nothing of screens or scrolling."""

from __future__ import annotations

import time
from typing import Final

from rich.cells import cell_len

from tekton_tui.safe_text import one_line, safe_inline
from tekton_tui.transcript.blocks import Block
from tekton_tui.transcript.code import CodeRows
from tekton_tui.transcript.entry import Entry
from tekton_tui.transcript.markdown import draw_markdown
from tekton_tui.transcript.rows import BLANK, BOLD, DIM, ERROR, FOLD, ITALIC, SPEAKER, TEXT, Ink, Row, Run
from tekton_tui.transcript.wrap import wrap_runs

FOLD_ROWS: Final = 40
"""A settled code block with more rows is shown folded."""
FOLD_SHOWN: Final = 12
"""Rows shown of a folded block."""
TAB_CELLS: Final = 4
CLOCK_CELLS: Final = 6
MAX_PHASE_CELLS: Final = 200
NARROW: Final = 30
"""A header narrower than this has no clock."""


class Piece:
    """One part of a message: its rows at a width, or an estimate of their number before they are drawn.

    Attributes:
        gap: Blank rows before it.
        foldable: It can be folded and unfolded by hand.
    """

    gap = 0
    foldable = False
    folded = False

    def __init__(self) -> None:
        self._rows: list[Row] | None = None
        self._width = 0

    def rows(self, width: int) -> list[Row]:
        """Return the rows at this width; drawn at most once for each change."""
        if self._rows is None or self._width != width:
            self._rows = self.draw(width)
            self._width = width
        return self._rows

    def height(self, width: int) -> int:
        """Return the number of rows, gap included: exact once drawn, estimated before."""
        if self._rows is not None and self._width == width:
            return self.gap + len(self._rows)
        return self.gap + self.estimate(width)

    def drawn(self, width: int) -> bool:
        """Whether the rows at this width are at hand."""
        return self._rows is not None and self._width == width

    def changed(self) -> None:
        """Forget the rows: what they show has changed."""
        self._rows = None

    def toggle(self) -> None:
        """Fold or unfold."""
        self.folded = not self.folded
        self.changed()

    def draw(self, width: int) -> list[Row]:
        """Draw the rows."""
        raise NotImplementedError

    def estimate(self, width: int) -> int:
        """Guess the number of rows without drawing."""
        raise NotImplementedError

    @property
    def copied(self) -> str:
        """What `y` copies when the cursor is on this part, empty when it has nothing of its own."""
        return ""


class Header(Piece):
    """Who speaks, and when."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self._entry = entry

    def draw(self, width: int) -> list[Row]:
        clock = time.strftime("%H:%M", time.localtime(self._entry.timestamp)) if self._entry.timestamp else ""
        room = width - (CLOCK_CELLS if clock and width >= NARROW else 0)
        name = one_line(self._entry.speaker, max(1, room))
        runs: list[Run] = [(name, SPEAKER | BOLD)]
        cells = cell_len(name)
        if clock and width >= NARROW:
            space = width - cells - len(clock)
            runs += [(" " * space, TEXT), (clock, DIM)]
            cells = width
        return [Row(tuple(runs), cells)]

    def estimate(self, width: int) -> int:
        return 1


class Reasoning(Piece):
    """What a model thought before it answered: one line until it is unfolded."""

    foldable = True
    folded = True

    def __init__(self) -> None:
        super().__init__()
        self._text: list[str] = []
        self._length = 0

    def add(self, text: str) -> None:
        """Take more reasoning, already neutralised."""
        self._text.append(text)
        self._length += len(text)
        self.changed()

    def draw(self, width: int) -> list[Row]:
        mark = "▸" if self.folded else "▾"
        title = one_line(f"{mark} reasoning · {self._length:,} characters", width)
        rows = [Row(((title, FOLD),), cell_len(title), "\n", len(title))]
        if not self.folded:
            rows.extend(_plain_rows("".join(self._text), width, DIM | ITALIC, indent="  "))
        return [*rows, BLANK]

    def estimate(self, width: int) -> int:
        return 2 if self.folded else 2 + self._length // max(1, width)

    @property
    def copied(self) -> str:
        return "".join(self._text)


class Waiting(Piece):
    """Holds the place of an answer that has not begun, and says what it waits for."""

    def __init__(self) -> None:
        super().__init__()
        self._phase = ""

    def say(self, phase: str) -> None:
        """Show another phase."""
        if phase != self._phase:
            self._phase = phase
            self.changed()

    def draw(self, width: int) -> list[Row]:
        return _plain_rows(one_line(self._phase, MAX_PHASE_CELLS), width, DIM) if self._phase else [BLANK]

    def estimate(self, width: int) -> int:
        return 1


class Body(Piece):
    """One block of an answer."""

    def __init__(self, block: Block, *, fold: bool, gap: int) -> None:
        super().__init__()
        self.block = block
        self.gap = gap
        self._code: CodeRows | None = None
        self._fold_when_long = fold
        self.foldable = False

    @property
    def is_code(self) -> bool:
        """Whether this is a fenced code block, which can be copied alone."""
        return self.block.info is not None

    def draw(self, width: int) -> list[Row]:
        block = self.block
        if block.info is None:
            return draw_markdown(block.source, width)
        if self._code is None or self._width != width:
            self._code = CodeRows(block.info, width)
        rows = self._code.rows(block.lines, settled=block.settled)
        if block.settled:
            self._code = None
        if len(rows) > FOLD_ROWS and block.settled:
            self.foldable = True
            if self._fold_when_long:
                self.folded, self._fold_when_long = True, False
        return _folded(rows, width) if self.folded else rows

    def estimate(self, width: int) -> int:
        if self.block.info is not None:
            lines = len(self.block.lines) + bool(self.block.info)
            return FOLD_SHOWN + 1 if self._fold_when_long and lines > FOLD_ROWS else max(1, lines)
        return max(1, sum([1 + (len(line) - 1) // max(1, width) for line in self.block.lines]))

    @property
    def copied(self) -> str:
        return self.block.source.removesuffix("\n") if self.is_code else ""


class Plain(Piece):
    """Text shown as it was written: a question, a note, the raw source of a message."""

    def __init__(self, text: str, ink: Ink = TEXT, *, fold: bool = False) -> None:
        super().__init__()
        self._text = text
        self._ink = ink
        self._fold_when_long = fold

    def draw(self, width: int) -> list[Row]:
        rows = _plain_rows(self._text, width, self._ink)
        if len(rows) > FOLD_ROWS:
            self.foldable = True
            if self._fold_when_long:
                self.folded, self._fold_when_long = True, False
        return _folded(rows, width) if self.folded else rows

    def estimate(self, width: int) -> int:
        rows = 1 + self._text.count("\n") + len(self._text) // max(1, width)
        return FOLD_SHOWN + 1 if self._fold_when_long and rows > FOLD_ROWS else rows

    @property
    def copied(self) -> str:
        return self._text


class Failure(Piece):
    """Why a turn failed, under the text that came before."""

    def __init__(self, code: str, text: str, *, gap: int) -> None:
        super().__init__()
        self.gap = gap
        self._code = one_line(code)
        self._text = text

    def draw(self, width: int) -> list[Row]:
        rows = wrap_runs([(f"✖ {self._code}", ERROR | BOLD)], width)
        return rows + (_plain_rows(self._text, width, ERROR) if self._text else [])

    def estimate(self, width: int) -> int:
        return 1 + (1 + len(self._text) // max(1, width) if self._text else 0)

    @property
    def copied(self) -> str:
        return f"{self._code}: {self._text}" if self._text else self._code


class Footer(Piece):
    """Facts about a finished turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def draw(self, width: int) -> list[Row]:
        text = one_line(self._text, width)
        return [Row(((text, DIM),), cell_len(text), "\n", len(text))]

    def estimate(self, width: int) -> int:
        return 1


def _plain_rows(text: str, width: int, ink: Ink, indent: str = "") -> list[Row]:
    prefix: list[Run] = [(indent, ink)] if indent else []
    rows: list[Row] = []
    for line in text.expandtabs(TAB_CELLS).split("\n"):
        rows.extend(
            wrap_runs([(safe_inline(line), ink)], width, first=prefix, rest=prefix, decor=len(indent))
        )
    while len(rows) > 1 and not rows[-1].runs:
        rows.pop()
    return rows


def _folded(rows: list[Row], width: int) -> list[Row]:
    """Return the head of a long block and a line that says how much is hidden."""
    text = "  " + one_line(f"▸ {len(rows) - FOLD_SHOWN:,} more lines", max(1, width - 2))
    fill = rows[0].fill
    return [*rows[:FOLD_SHOWN], Row(((text, FOLD | fill),), cell_len(text), "\n", len(text), fill)]
