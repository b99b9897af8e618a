"""The parts a message is drawn from, each keeping its rows for one width; knows nothing of screens or scrolling."""

from __future__ import annotations

import time
from typing import Final

from rich.cells import cell_len

from tekton_tui.clock import gateway_time
from tekton_tui.safe_text import one_line, safe_inline
from tekton_tui.transcript.blocks import MAX_BLOCK_CHARS, MAX_LINE_CHARS, Block
from tekton_tui.transcript.code import CodeRows
from tekton_tui.transcript.entry import Entry
from tekton_tui.transcript.markdown import draw_markdown
from tekton_tui.transcript.rows import (
    BLANK,
    BOLD,
    DIM,
    FOLD,
    HARD,
    ITALIC,
    RULE,
    SPEAKER,
    TEXT,
    YOU,
    Ink,
    Row,
    Run,
)
from tekton_tui.transcript.wrap import wrap_runs

FOLD_ROWS: Final = 40
"""A text or a code block with more rows is shown folded."""
FOLD_SHOWN: Final = 12
"""Rows shown of a folded one."""
TAB_CELLS: Final = 4
MAX_PHASE_CELLS: Final = 200
NARROW: Final = 30
"""A header narrower than this has no clock."""
RULE_LEAD: Final = "─── "
"""What stands before the day in the rule above the first message of a day."""
THINKING_ROWS: Final = 6
THINKING_CHARS: Final = 4_000
"""Of reasoning that still comes, so many of the newest rows and characters are shown."""
FIRST_WORDS: Final = 400
"""Characters of the reasoning looked at for its first words."""


class Piece:
    """One part of a message: its rows at a width, or an estimate of their number before they are drawn.

    Attributes:
        gap: Blank rows before it.
        foldable: It can be folded and unfolded by hand.
        searched: It shows text of the message that a search counts.
    """

    gap = 0
    searched = True
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
        self.folded = not self.folded
        self.changed()

    def draw(self, width: int) -> list[Row]:
        raise NotImplementedError

    def estimate(self, width: int) -> int:
        """Guess the number of rows without drawing."""
        raise NotImplementedError

    @property
    def copied(self) -> str:
        """What `y` copies when the cursor is on this part, empty when it has nothing of its own."""
        return ""


class Header(Piece):
    """Who speaks and as what; when, and short facts at the right; above it a rule with the day where a day begins."""

    searched = False

    def __init__(self, entry: Entry, day: str = "") -> None:
        super().__init__()
        self._entry = entry
        self._day = day

    def set_day(self, day: str) -> None:
        """Show another day in the rule above, none for an empty one."""
        if day != self._day:
            self._day = day
            self.changed()

    def draw(self, width: int) -> list[Row]:
        rows = [self._title(width)]
        if self._day or self._entry.branch:
            day = one_line(self._day, max(1, width - len(RULE_LEAD) - 2))
            room = width - len(RULE_LEAD) - cell_len(day) - 4
            branch = one_line(self._entry.branch, room) if room > 0 else ""
            between = "  " if day and branch else ""
            cells = len(RULE_LEAD) + cell_len(day) + len(between) + cell_len(branch) + 1
            line = "─" * max(0, width - cells)
            runs = ((RULE_LEAD, RULE), (day, DIM), (between, TEXT), (branch, YOU), (" ", TEXT), (line, RULE))
            length = sum([len(text) for text, _ink in runs])
            rows.insert(0, Row(runs, cells + len(line), "\n", length, bare=True))
        return rows

    def _title(self, width: int) -> Row:
        entry = self._entry
        clock = time.strftime("%H:%M", time.localtime(entry.timestamp)) if entry.timestamp else ""
        facts = [clock, *entry.facts] if clock else list(entry.facts)
        name = one_line(entry.speaker, max(1, width))
        role = one_line(entry.role, 60)
        room = width - cell_len(name) - 2
        while facts and (width < NARROW or len(" · ".join(facts)) > room - (cell_len(role) if role else 0)):
            if role and len(facts) == 1 and width >= NARROW and len(facts[0]) <= room:
                role = ""
            else:
                facts.pop()
        right = " · ".join(facts)
        runs: list[Run] = [(name, SPEAKER | BOLD)]
        cells = cell_len(name)
        if role and (beside := room - len(right) - 2) > 3:
            runs.append((f"  {one_line(role, beside)}", DIM))
            cells += cell_len(runs[-1][0])
        if right:
            runs += [(" " * (width - cells - len(right)), TEXT), (right, DIM)]
            cells = width
        return Row(tuple(runs), cells)

    def estimate(self, width: int) -> int:
        return 2 if self._day or self._entry.branch else 1


class Reasoning(Piece):
    """What a model thought before it answered: its newest rows while it comes, then one line until it is unfolded."""

    foldable = True
    folded = True
    searched = False

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self._entry = entry
        self._text: list[str] = []
        self._length = 0
        self.running = False
        """Whether the model still thinks and has not begun to answer."""

    def add(self, text: str) -> None:
        """Take more reasoning, already neutralised."""
        self._text.append(text)
        self._length += len(text)
        self.changed()

    def end(self) -> None:
        """Fold it: the answer has begun, or will not come."""
        if self.running:
            self.running = False
            if self._entry.thought_since:
                self._entry.thought_s = max(0.0, gateway_time() - self._entry.thought_since)
            self.changed()

    def draw(self, width: int) -> list[Row]:
        text = "".join(self._text)
        if self.running and self.folded:
            newest = plain_rows(text[-THINKING_CHARS:], width, DIM | ITALIC, indent="  ")
            return [self._title("▾ thinking", "", width), *newest[-THINKING_ROWS:]]
        took = seconds_in_words(self._entry.thought_s)
        if self.folded:
            title = f"▸ thought for {took}" if took else "▸ thought"
            return [self._title(title, one_line(text[:FIRST_WORDS]), width)]
        title = f"▾ thought for {took}" if took else "▾ thought"
        return [self._title(title, "", width), *plain_rows(text, width, DIM | ITALIC, indent="  "), BLANK]

    @staticmethod
    def _title(title: str, words: str, width: int) -> Row:
        mark, _, name = one_line(title, width).partition(" ")
        runs: list[Run] = [(f"{mark} ", FOLD), (name, DIM | ITALIC)]
        cells = cell_len(mark) + 1 + cell_len(name)
        if words and width - cells > 8:
            runs.append(("  · " + one_line(words, width - cells - 4), DIM))
            cells += cell_len(runs[-1][0])
        return Row(tuple(runs), cells, "\n", sum([len(text) for text, _ink in runs]))

    def estimate(self, width: int) -> int:
        return 1 if self.folded and not self.running else 2 + self._length // max(1, width)

    @property
    def copied(self) -> str:
        return "".join(self._text)


class Waiting(Piece):
    """Holds the place of an answer that has not begun, and says what it waits for."""

    def __init__(self) -> None:
        super().__init__()
        self._phase = ""

    def say(self, phase: str) -> None:
        if phase != self._phase:
            self._phase = phase
            self.changed()

    def draw(self, width: int) -> list[Row]:
        return plain_rows(one_line(self._phase, MAX_PHASE_CELLS), width, DIM) if self._phase else [BLANK]

    def estimate(self, width: int) -> int:
        return 1


class Prose(Piece):
    """One block of an answer's Markdown."""

    def __init__(self, block: Block, *, gap: int) -> None:
        super().__init__()
        self.block = block
        self.gap = gap

    def draw(self, width: int) -> list[Row]:
        rows = draw_markdown(self.block.source, width, indent=self.block.indent)
        if rows and self.block.joint != HARD:
            rows[-1] = rows[-1]._replace(joint=self.block.joint)
        return rows

    def estimate(self, width: int) -> int:
        return max(1, sum([1 + (len(line) - 1) // max(1, width) for line in self.block.lines]))


class Fold:
    """Shared by the parts of one long text: whether only its head is shown.

    Args:
        when_long: Fold it when it turns out to be long; what streamed while it was read stays unfolded.
    """

    def __init__(self, *, when_long: bool) -> None:
        self.parts: list[FoldingPiece] = []
        self.folded = False
        self.when_long = when_long

    @property
    def many(self) -> bool:
        """Whether the text has more than one part: then it is long however its rows are wrapped."""
        return len(self.parts) > 1

    def decide(self, *, is_long: bool) -> None:
        """Fold a long text, once: from then on the reader decides."""
        if is_long and self.when_long:
            self.folded, self.when_long = True, False


class FoldingPiece(Piece):
    """A part of a long text. The first part stands for the whole: it shows the head and how much is hidden."""

    def __init__(self, fold: Fold) -> None:
        super().__init__()
        self._fold = fold
        self._is_first = not fold.parts
        fold.parts.append(self)

    @property
    def folded(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether only the head of the text is shown."""
        return self._fold.folded

    def toggle(self) -> None:
        self._fold.folded = not self._fold.folded
        self._fold.when_long = False
        for part in self._fold.parts:
            part.changed()

    def draw(self, width: int) -> list[Row]:
        fold = self._fold
        # a text of several parts is long, whatever its width makes of it
        if fold.many and self.complete:
            fold.decide(is_long=True)
        if not self._is_first:
            return [] if fold.folded else self.draw_part(width)
        rows = self.draw_part(width)
        self.foldable = self.complete and (fold.many or len(rows) > FOLD_ROWS)
        fold.decide(is_long=self.foldable)
        if not fold.folded:
            return rows
        hidden = len(rows) - FOLD_SHOWN + sum([part.estimate_part(width) for part in fold.parts[1:]])
        text = "  " + one_line(f"▸ {hidden:,} more lines", max(1, width - 2))
        fill = rows[0].fill
        line = Row(((text, FOLD | fill),), cell_len(text), "\n", len(text), fill)
        return [*rows[:FOLD_SHOWN], line]

    def estimate(self, width: int) -> int:
        rows = self.estimate_part(width)
        fold = self._fold
        if fold.folded or (fold.when_long and self.complete and (fold.many or rows > FOLD_ROWS)):
            return FOLD_SHOWN + 1 if self._is_first else 0
        return rows

    @property
    def complete(self) -> bool:
        """Whether no more text will come."""
        raise NotImplementedError

    def draw_part(self, width: int) -> list[Row]:
        raise NotImplementedError

    def estimate_part(self, width: int) -> int:
        """Guess the number of rows of this part without drawing."""
        raise NotImplementedError


class Code(FoldingPiece):
    """A fenced code block of an answer, or a part of a long one."""

    def __init__(self, block: Block, fold: Fold, *, gap: int) -> None:
        super().__init__(fold)
        self.block = block
        self.fold = fold
        self.gap = gap
        self._growing: CodeRows | None = None

    @property
    def complete(self) -> bool:
        return self.block.settled

    def draw_part(self, width: int) -> list[Row]:
        block = self.block
        if self._growing is None or self._width != width:
            self._growing = CodeRows(block.info or "", width, label=not block.continued)
        rows = self._growing.rows(block.lines, settled=block.settled)
        if block.settled:
            self._growing = None
        if rows and block.joint != HARD:
            rows[-1] = rows[-1]._replace(joint=block.joint)
        return rows

    def estimate_part(self, width: int) -> int:
        return max(1, len(self.block.lines) + bool(self.block.info and not self.block.continued))

    @property
    def copied(self) -> str:
        """The source of the whole block, without its fences."""
        parts = [part.block.source for part in self.fold.parts if isinstance(part, Code)]
        return "".join(parts).removesuffix("\n") if self._is_first else ""


class Plain(FoldingPiece):
    """Text shown as it was written, or a part of a long one: a question, a note, the raw source of a message."""

    def __init__(self, text: str, fold: Fold, ink: Ink = TEXT, *, joint: str = HARD) -> None:
        super().__init__(fold)
        self._text = text
        self._ink = ink
        self._joint = joint

    @property
    def complete(self) -> bool:
        return True

    def draw_part(self, width: int) -> list[Row]:
        rows = plain_rows(self._text, width, self._ink)
        rows[-1] = rows[-1]._replace(joint=self._joint)
        return rows

    def estimate_part(self, width: int) -> int:
        return sum([1 + max(0, len(line) - 1) // max(1, width) for line in self._text.split("\n")])

    @property
    def copied(self) -> str:
        """The whole text."""
        if not self._is_first:
            return ""
        parts = [part for part in self._fold.parts if isinstance(part, Plain)]
        return "".join([part._text + part._joint for part in parts[:-1]]) + parts[-1]._text


def plain_pieces(text: str, ink: Ink = TEXT, *, fold: bool) -> list[Plain]:
    """Return the parts of a plain text, cut where Markdown would be cut: at line ends, or in lines that are too long."""
    group = Fold(when_long=fold)
    pieces: list[Plain] = []
    lines: list[str] = []
    size = 0
    for line in text.split("\n"):
        if size + len(line) > MAX_BLOCK_CHARS and lines:
            pieces.append(Plain("\n".join(lines), group, ink))
            lines, size = [], 0
        while len(line) >= MAX_LINE_CHARS:
            at = line.rfind(" ", 1, MAX_LINE_CHARS)
            head, line, joint = (
                (line[:at], line[at + 1 :], " ")
                if at > 0
                else (line[:MAX_LINE_CHARS], line[MAX_LINE_CHARS:], "")
            )
            pieces.append(Plain(head, group, ink, joint=joint))
        lines.append(line)
        size += len(line) + 1
    pieces.append(Plain("\n".join(lines), group, ink))
    return pieces


def plain_rows(text: str, width: int, ink: Ink, indent: str = "") -> list[Row]:
    """Return cleaned text as it was written, wrapped; `indent` stands before every row and is not copied."""
    prefix: list[Run] = [(indent, ink)] if indent else []
    rows: list[Row] = []
    for line in text.expandtabs(TAB_CELLS).split("\n"):
        rows.extend(
            wrap_runs([(safe_inline(line), ink)], width, first=prefix, rest=prefix, decor=len(indent))
        )
    # line ends behind a question are nobody's text
    while len(rows) > 1 and not rows[-1].runs:
        rows.pop()
    return rows


def seconds_in_words(seconds: float) -> str:
    """Return a duration as `6 s` or `2 m`, empty for one too short to speak of."""
    if seconds < 0.5:
        return ""
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} m"
