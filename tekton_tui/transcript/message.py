"""One message laid out at a width: its parts, their heights, the rows in between; grows while it streams.

Knows nothing of the other messages, of scrolling or of colours.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from backend.text import CONTEXT
from tekton_tui.clock import gateway_time
from tekton_tui.safe_text import safe
from tekton_tui.transcript.below import Failure, Files, Footer
from tekton_tui.transcript.blocks import Block, Splitter
from tekton_tui.transcript.entry import Entry, ToolRow
from tekton_tui.transcript.pieces import (
    Code,
    Fold,
    Header,
    Piece,
    Prose,
    Reasoning,
    Waiting,
    plain_pieces,
)
from tekton_tui.transcript.rows import BLANK, DIM, ERROR, TEXT, Row
from tekton_tui.transcript.tool_piece import ToolPiece

TAIL_MARK: Final = "▍"
"""Drawn where the next token will appear."""
PINNED: Final = "▪ pinned"
"""Below a message that stays in the context when the history is pruned."""


class Look(NamedTuple):
    """How a transcript draws its messages.

    Attributes:
        header: Show the author above each message.
        gap: Blank rows after each message.
    """

    header: bool = True
    gap: int = 1


class Message:
    """A message's parts in drawing order.

    While it streams, `write` only appends; `settle_pending` hands the gathered text to the splitter, at most
    once a frame.
    """

    def __init__(self, entry: Entry, look: Look, *, day: str = "", streaming: bool = False) -> None:
        self.entry = entry
        self.look = look
        self.day = day
        self.streaming = streaming
        self.raw = False
        self.pieces: list[Piece] = []
        self._pending: list[str] = []
        self._pending_reasoning: list[str] = []
        self._splitter: Splitter | None = None
        self._bodies: list[Prose | Code] = []
        """The parts of the text since the last tool call."""
        self._reasoning: Reasoning | None = None
        self._waiting: Waiting | None = None
        self._tops: list[int] | None = None
        self._tops_width = 0
        self._build()

    def write(self, text: str) -> None:
        """Take more of the answer; nothing is drawn yet."""
        self._pending.append(text)

    def write_reasoning(self, text: str) -> None:
        """Take more reasoning; nothing is drawn yet."""
        self._pending_reasoning.append(text)

    def set_phase(self, phase: str) -> None:
        """Say what the turn waits for ("prefill 4.1 s"), until it begins; let the clocks of its calls go on."""
        if self._waiting is not None:
            self._waiting.say(phase)
        for piece in self.pieces:
            if isinstance(piece, ToolPiece) and piece.row.counts:
                piece.changed()

    def set_tool(self, row: ToolRow) -> None:
        """Show a tool call that begins, behind the text so far, or how one goes on."""
        self.settle_pending()
        tools = self.entry.tools
        for place, known in enumerate(tools):
            if known.number == row.number:
                tools[place] = row._replace(at=known.at)
                self._tool(row.number).update(tools[place])
                self._tops = None
                return
        row = row._replace(at=len(self.entry.text))
        tools.append(row)
        self._end_segment()
        self.pieces.append(ToolPiece(row))
        self._wait()
        self._tops = None

    def _tool(self, number: int) -> ToolPiece:
        return next(
            piece for piece in self.pieces if isinstance(piece, ToolPiece) and piece.row.number == number
        )

    @property
    def pending(self) -> bool:
        """Whether text waits to be laid out."""
        return bool(self._pending or self._pending_reasoning)

    def settle_pending(self) -> bool:
        """Lay out the text that has gathered; return whether there was any."""
        if not self.pending:
            return False
        if self._pending_reasoning:
            text = "".join(self._pending_reasoning)
            self._pending_reasoning.clear()
            # what came before decides: a sequence may have been cut between two tokens
            shown = safe(text, self.entry.reasoning[-CONTEXT:])
            self.entry.reasoning += text
            self._reason(shown)
        if self._pending:
            text = "".join(self._pending)
            self._pending.clear()
            shown = safe(text, self.entry.text[-CONTEXT:])
            self.entry.text += text
            if self._splitter is not None:
                self._splitter.feed(shown)
                self._match_blocks()
        if self.raw or self._splitter is None:
            self._build()
        self._tops = None
        return True

    def finish(self) -> None:
        """Take the end of the stream: error and footer of the entry are shown, the tail mark goes."""
        self.settle_pending()
        self.streaming = False
        # equal calls become one row now that none of them goes on
        if len(_groups(self.entry.tools)) < len(self.entry.tools):
            self._build()
            return
        if self._splitter is not None and not self.raw:
            self._splitter.finish()
            self._match_blocks()
        if self.look.header:
            self.pieces[0].changed()
        if self._reasoning is not None:
            self._reasoning.end()
        self._end_pieces()
        self._tops = None

    def set_day(self, day: str) -> None:
        """Show a rule with the day above the message, none for an empty one."""
        self.day = day
        if self.pieces and isinstance(header := self.pieces[0], Header):
            header.set_day(day)
            self._tops = None

    def set_raw(self, raw: bool) -> None:
        """Show the source as it came, or as Markdown."""
        self.raw = raw
        self._build()

    def set_pinned(self, pinned: bool) -> None:
        """Show the mark of a pinned message, or take it away."""
        self.entry.pinned = pinned
        self._build()

    def height(self, width: int) -> int:
        """Return the number of rows, the gap after the message included; partly an estimate until drawn."""
        return self._layout(width)[-1] + self.look.gap

    def top(self, piece: int, width: int) -> int:
        """Return the row at which a part begins, its gap included."""
        return self._layout(width)[piece]

    def at(self, row: int, width: int) -> tuple[int, int]:
        """Return the part that holds a row, and the row within it (its gap counts)."""
        tops = self._layout(width)
        piece = max(0, min(bisect_right(tops, row) - 1, len(self.pieces) - 1))
        return piece, row - tops[piece]

    def row(self, row: int, width: int) -> tuple[Row, Piece | None]:
        """Return a row and its part; a blank one between parts and after the last."""
        index, offset = self.at(row, width)
        piece = self.pieces[index]
        rows = piece.rows(width) if piece.drawn(width) else []
        offset -= piece.gap
        if not 0 <= offset < len(rows):
            return BLANK, None
        drawn = rows[offset]
        if (
            self.streaming
            and index == len(self.pieces) - 1
            and offset == len(rows) - 1
            and drawn.cells < width
        ):
            drawn = drawn._replace(runs=(*drawn.runs, (TAIL_MARK, DIM | drawn.fill)), cells=drawn.cells + 1)
        return drawn, piece

    def draw(self, piece: int, width: int) -> int:
        """Draw a part if need be; return its height, gap included."""
        part = self.pieces[piece]
        if not part.drawn(width):
            estimate = part.height(width)
            part.rows(width)
            if part.height(width) != estimate:
                self._tops = None
        return part.height(width)

    def drawn_rows(self, width: int) -> int:
        """Return how many rows are held in memory."""
        return sum([piece.height(width) for piece in self.pieces if piece.drawn(width)])

    def changed(self) -> None:
        """Measure again: a part was folded or unfolded."""
        self._tops = None

    def _layout(self, width: int) -> list[int]:
        """Return the first row of each part, and last the height of all."""
        if self._tops is None or self._tops_width != width:
            self._tops = list(accumulate([piece.height(width) for piece in self.pieces], initial=0))
            self._tops_width = width
        return self._tops

    def _build(self) -> None:
        """Make all parts from the entry."""
        entry, self._tops, self._waiting = self.entry, None, None
        self.pieces = [Header(entry, self.day)] if self.look.header else []
        self._bodies.clear()
        self._reasoning = None
        self._splitter = None
        if entry.reasoning:
            self._reason(safe(entry.reasoning))
        segments = list(self._segments())
        if self.raw or entry.kind != "answer":
            ink = ERROR if entry.kind == "error" else DIM if entry.kind == "note" else TEXT
            fold = not self.streaming and not self.raw
            for text, tools in segments:
                if text or not (entry.code or entry.tools):
                    self.pieces.extend(plain_pieces(safe(text), ink, fold=fold))
                self._add_tools(tools)
        else:
            for text, tools in segments:
                self._splitter = Splitter()
                self._splitter.feed(safe(text))
                if tools or not self.streaming:
                    self._splitter.finish()
                self._match_blocks()
                if tools:
                    self._bodies.clear()
                    self._add_tools(tools)
        if self.streaming:
            self._wait()
        else:
            self._end_pieces()

    def _segments(self) -> Iterator[tuple[str, list[ToolRow]]]:
        """Yield the text up to each place where tools were asked for, and these; last the text behind them."""
        text, start, tools = self.entry.text, 0, list[ToolRow]()
        for row in self.entry.tools:
            if tools and row.at > tools[0].at:
                yield text[start : tools[0].at], tools
                start, tools = tools[0].at, []
            tools.append(row)
        if tools:
            yield text[start : tools[0].at], tools
            start = tools[0].at
        yield text[start:], []

    def _add_tools(self, tools: list[ToolRow]) -> None:
        for group in [[row] for row in tools] if self.streaming or self.raw else _groups(tools):
            piece = ToolPiece(group[-1], times=len(group))
            piece.whole = self.raw
            self.pieces.append(piece)

    def _end_segment(self) -> None:
        """Settle the text so far: what comes next stands behind a tool call."""
        if self._splitter is not None and not self.raw:
            self._splitter.finish()
            self._match_blocks()
            self._splitter = Splitter()
            self._bodies.clear()

    def _reason(self, text: str) -> None:
        if self._reasoning is None:
            self._reasoning = Reasoning(self.entry)
            self._reasoning.running = self.streaming and not self.entry.text and not self.entry.tools
            if self._reasoning.running and not self.entry.thought_since:
                self.entry.thought_since = gateway_time()
            self.pieces.insert(1 if self.look.header else 0, self._reasoning)
            self._wait()
        self._reasoning.add(text)

    def _match_blocks(self) -> None:
        """Follow the splitter: settled blocks keep their part, the growing one is drawn again."""
        assert self._splitter is not None
        blocks = self._splitter.blocks
        # the splitter takes back what it showed of an unfinished line
        while self._bodies and not self._matches(blocks):
            self.pieces.remove(self._bodies.pop())
        if self._bodies:
            self._bodies[-1].changed()
        for block in blocks[len(self._bodies) :]:
            body = self._body(block)
            self._bodies.append(body)
            self.pieces.append(body)
        self._wait()
        self._tops = None

    def _body(self, block: Block) -> Prose | Code:
        before = self._bodies[-1] if self._bodies else None
        gap = 1 if before is not None and not block.continued else 0
        if block.info is None:
            return Prose(block, gap=gap)
        if block.continued and isinstance(before, Code):
            return Code(block, before.fold, gap=gap)
        return Code(block, Fold(when_long=not self.streaming), gap=gap)

    def _matches(self, blocks: list[Block]) -> bool:
        count = len(self._bodies)
        return count <= len(blocks) and self._bodies[-1].block is blocks[count - 1]

    def _wait(self) -> None:
        """Hold the place of an answer of which there is nothing to show yet: it may begin with an empty line."""
        if self._reasoning is not None and (self.entry.text or self.entry.tools):
            self._reasoning.end()
        if self.streaming and all(isinstance(piece, Header | Waiting) for piece in self.pieces):
            if self._waiting is None:
                self._waiting = Waiting()
                self.pieces.append(self._waiting)
        elif self._waiting is not None:
            self.pieces.remove(self._waiting)
            self._waiting = None

    def _end_pieces(self) -> None:
        """Add what stands below a finished message."""
        self._wait()
        entry = self.entry
        if entry.failed:
            self.pieces.append(Failure(entry, raw=self.raw, gap=1 if self._bodies or entry.tools else 0))
        if entry.files:
            self.pieces.append(Files(entry.files))
        below = "" if entry.failed else entry.footer
        if facts := " · ".join(filter(None, (PINNED if entry.pinned else "", below))):
            self.pieces.append(Footer(facts))
        if not self.pieces:
            self.pieces.extend(plain_pieces("", fold=False))


def _groups(tools: list[ToolRow]) -> list[list[ToolRow]]:
    """Return calls in groups of equal ones that follow each other without text between them."""
    groups: list[list[ToolRow]] = []
    for row in tools:
        last = groups[-1][0] if groups else None
        if last is not None and last[1:5] == row[1:5] and row.state != "failed":
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
