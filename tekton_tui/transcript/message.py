"""One message laid out at a width: its parts, their heights, the rows in between; grows while it streams.

Knows nothing of the other messages, of scrolling or of colours.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Final, NamedTuple

from tekton_tui.safe_text import safe
from tekton_tui.transcript.blocks import Block, Splitter
from tekton_tui.transcript.entry import Entry
from tekton_tui.transcript.pieces import Body, Failure, Footer, Header, Piece, Plain, Reasoning, Waiting
from tekton_tui.transcript.rows import BLANK, DIM, ERROR, TEXT, Row

TAIL_MARK: Final = "▍"
"""Drawn where the next token will appear."""
PINNED: Final = "◆ pinned"
"""Below a message that stays in the context when the history is pruned."""


class Look(NamedTuple):
    """How a transcript draws its messages.

    Attributes:
        header: Show who speaks above each message.
        gap: Blank rows after each message.
    """

    header: bool = True
    gap: int = 1


class Message:
    """A message's parts in drawing order.

    While it streams, `write` only appends; `settle_pending` hands the gathered text to the splitter, at most
    once a frame.
    """

    def __init__(self, entry: Entry, look: Look, *, streaming: bool = False) -> None:
        self.entry = entry
        self.look = look
        self.streaming = streaming
        self.raw = False
        self.pieces: list[Piece] = []
        self._pending: list[str] = []
        self._pending_reasoning: list[str] = []
        self._splitter: Splitter | None = None
        self._bodies: list[Body] = []
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
        """Say what the turn waits for ("prefill 4.1 s"), until its first token."""
        if self._waiting is not None:
            self._waiting.say(phase)

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
            self.entry.reasoning += text
            self._reason(safe(text))
        if self._pending:
            text = "".join(self._pending)
            self._pending.clear()
            self.entry.text += text
            if self._splitter is not None:
                self._splitter.feed(safe(text))
                self._match_blocks()
        if self.raw or self._splitter is None:
            self._build()
        self._tops = None
        return True

    def finish(self) -> None:
        """Take the end of the stream: error and footer of the entry are shown, the tail mark goes."""
        self.settle_pending()
        self.streaming = False
        if self._splitter is not None and not self.raw:
            self._splitter.finish()
            self._match_blocks()
        self._end_pieces()
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
        self.pieces = [Header(entry)] if self.look.header else []
        self._bodies.clear()
        self._reasoning = None
        self._splitter = None
        if entry.reasoning:
            self._reason(safe(entry.reasoning))
        if self.raw or entry.kind != "answer":
            ink = ERROR if entry.kind == "error" else DIM if entry.kind == "note" else TEXT
            if entry.text or not entry.code:
                self.pieces.append(Plain(safe(entry.text), ink, fold=not self.streaming and not self.raw))
        else:
            self._splitter = Splitter()
            self._splitter.feed(safe(entry.text))
            if not self.streaming:
                self._splitter.finish()
            self._match_blocks()
        if self.streaming:
            self._wait()
        else:
            self._end_pieces()

    def _reason(self, text: str) -> None:
        if self._reasoning is None:
            self._reasoning = Reasoning()
            self.pieces.insert(1 if self.look.header else 0, self._reasoning)
        self._reasoning.add(text)

    def _match_blocks(self) -> None:
        """Follow the splitter: settled blocks keep their part, the growing one is drawn again."""
        assert self._splitter is not None
        blocks = self._splitter.blocks
        while self._bodies and not self._matches(blocks):
            self.pieces.remove(self._bodies.pop())
        if self._bodies:
            self._bodies[-1].changed()
        for block in blocks[len(self._bodies) :]:
            body = Body(block, fold=not self.streaming, gap=1 if self._bodies else 0)
            self._bodies.append(body)
            self.pieces.append(body)
        self._wait()
        self._tops = None

    def _matches(self, blocks: list[Block]) -> bool:
        count = len(self._bodies)
        return count <= len(blocks) and self._bodies[-1].block is blocks[count - 1]

    def _wait(self) -> None:
        """Hold the place of an answer that has not begun."""
        if self.streaming and not self.entry.text:
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
        if entry.code or entry.error:
            self.pieces.append(
                Failure(entry.code or "error", safe(entry.error), gap=1 if self._bodies else 0)
            )
        if facts := " · ".join(filter(None, (PINNED if entry.pinned else "", entry.footer))):
            self.pieces.append(Footer(facts))
        if not self.pieces:
            self.pieces.append(Plain(""))
