"""The reading cursor: the message, or the part of one, that keys act on; knows no keys and no colours."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tekton_tui.safe_text import safe
from tekton_tui.transcript.entry import Entry
from tekton_tui.transcript.flow import Place
from tekton_tui.transcript.message import Message
from tekton_tui.transcript.overlay import match_ranges
from tekton_tui.transcript.pieces import Code, Piece
from tekton_tui.transcript.search import Hit
from tekton_tui.transcript.tool_piece import ToolPiece
from tekton_tui.transcript.viewport import Viewport

WHOLE: Final = -1
"""The `piece` of a target that means the whole message."""
CONTEXT_ROWS: Final = 3
"""Rows shown above a match that is brought into view."""


class Target(NamedTuple):
    """A message, or one part of it (`WHOLE` for all of it)."""

    number: int
    piece: int = WHOLE


class Spot(NamedTuple):
    """Where a hit is drawn: message, part, row of the part, and which hit of the row."""

    number: int
    piece: int
    row: int
    nth: int


class Cursor:
    """Where the reader's keys act; moves through messages, their code blocks and what can be folded."""

    def __init__(self, viewport: Viewport) -> None:
        self._viewport = viewport
        self.target: Target | None = None
        self.hit: Spot | None = None
        """The hit of a search that is shown."""

    @property
    def number(self) -> int | None:
        """Number of the message, `None` without a cursor."""
        return None if self.target is None else self.target.number

    def clear(self) -> None:
        """Remove the cursor: keys act on the last message."""
        self.target = self.hit = None

    def put(self, target: Target) -> None:
        """Put the cursor on a message, or on a part of it; a part that keys cannot act on means the message."""
        if target.piece != WHOLE and not _is_stop(self._message(target).pieces[target.piece]):
            target = Target(target.number)
        self.target = target

    def entry(self) -> Entry | None:
        """Return the message that keys act on: the one under the cursor, else the last; `None` without messages."""
        flow = self._viewport.flow
        if not flow.entries:
            return None
        return flow.whole_entry(flow.end - 1 if self.target is None else self.target.number)

    def text(self) -> str:
        """Return the text that keys act on, neutralised: of the part under the cursor, else of the message."""
        entry = self.entry()
        if entry is None:
            return ""
        part = "" if self.target is None or self.target.piece == WHOLE else self._piece(self.target).copied
        return part or safe(entry.text or entry.error)

    def move(self, step: int, lines: int) -> None:
        """Go to the next (`step` 1) or previous stop; scroll `lines` rows while it is farther than the window."""
        flow, viewport = self._viewport.flow, self._viewport
        if not flow.entries:
            return
        if self.target is None:
            # a first step stays in sight: from the bottom up, or from the top down
            rows = [number for number, _row, _drawn, piece in viewport.rows() if piece is not None]
            if rows:
                self.put(Target(rows[-1] if step < 0 else rows[0]))
                self._show(step)
            return
        top, height = self._extent(self.target)
        bottom = viewport.top + viewport.height
        if step > 0 and top + height > bottom:
            viewport.scrolled(min(viewport.top + lines, viewport.total))
            return
        if step < 0 and top < viewport.top:
            viewport.scrolled(max(0, viewport.top - lines))
            return
        following = self._next(self.target, step)
        if following is None:
            if step > 0:
                viewport.follow()
            return
        self.target = following
        self._show(step)

    def reveal(self, pattern: re.Pattern[str], hit: Hit) -> None:
        """Put the cursor on the message of a hit and bring the hit into view.

        Hits are counted in the source; where fewer are drawn (one may lie over the end of a row) the last drawn is taken.
        """
        self.put(Target(hit.number))
        flow, viewport = self._viewport.flow, self._viewport
        message = flow.message(hit.number)
        spots: list[Spot] = []
        for index, piece in enumerate(message.pieces):
            message.draw(index, flow.width)
            if not piece.searched:
                continue
            for row, drawn in enumerate(piece.rows(flow.width)):
                spots += [
                    Spot(hit.number, index, row + piece.gap, nth)
                    for nth in range(len(match_ranges(pattern, drawn)))
                ]
        flow.measure(hit.number)
        if not spots:
            self.hit = None
            viewport.hold(Place(hit.number, 0, 0))
            return
        self.hit = spots[min(hit.ordinal, len(spots) - 1)]
        at = flow.row_of(Place(hit.number, self.hit.piece, self.hit.row))
        if not viewport.top <= at < viewport.top + viewport.height:
            viewport.scrolled(max(0, at - CONTEXT_ROWS))
        elif viewport.following:
            viewport.hold(flow.place_at(viewport.top))

    def card(self) -> ToolPiece | None:
        """Return the call under the cursor whose card waits for an answer."""
        if self.target is None or self.target.piece == WHOLE:
            return None
        piece = self._piece(self.target)
        return piece if isinstance(piece, ToolPiece) and piece.row.card is not None else None

    def show_card(self, number: int, call: int) -> bool:
        """Bring the card of a call into view; return false where not all of it is seen at once."""
        flow, viewport, message = self._viewport.flow, self._viewport, self._viewport.flow.message(number)
        for index, piece in enumerate(message.pieces):
            if isinstance(piece, ToolPiece) and piece.row.number == call and piece.card_is_whole(flow.width):
                height = message.draw(index, flow.width)
                flow.measure(number)
                top = flow.row_of(Place(number, index, 0))
                if top < viewport.top:
                    viewport.scrolled(top)
                elif top + height > viewport.top + viewport.height:
                    viewport.scrolled(top + height - viewport.height)
                return height <= viewport.height
        return False

    def toggle_raw(self) -> None:
        """Show the source of the message that keys act on, or its Markdown again."""
        flow = self._viewport.flow
        if not flow.entries:
            return
        number = flow.end - 1 if self.target is None else self.target.number
        self.put(Target(number))
        flow.set_raw(number, not flow.message(number).raw)

    def toggle_fold(self) -> bool:
        """Fold or unfold the part under the cursor, or the first foldable part of the message; return whether there is one."""
        if self.target is None:
            return False
        message = self._message(self.target)
        pieces = message.pieces if self.target.piece == WHOLE else [self._piece(self.target)]
        for piece in pieces:
            if piece.foldable:
                # the head of what unfolds stays in sight, where following would show its end
                if self._viewport.following:
                    self._viewport.hold(self._viewport.flow.place_at(self._viewport.top))
                piece.toggle()
                message.changed()
                self._viewport.flow.measure(self.target.number)
                return True
        return False

    def _message(self, target: Target) -> Message:
        return self._viewport.flow.message(target.number)

    def _piece(self, target: Target) -> Piece:
        pieces = self._message(target).pieces
        return pieces[min(target.piece, len(pieces) - 1)]

    def _extent(self, target: Target) -> tuple[int, int]:
        """Return the first row of a target and how many rows it has."""
        flow = self._viewport.flow
        message = self._message(target)
        if target.piece == WHOLE:
            stops = _stops(message)
            end = stops[0] if stops else len(message.pieces)
            top = flow.row_of(Place(target.number, 0, 0))
            return top, sum([message.draw(index, flow.width) for index in range(end)])
        top = flow.row_of(Place(target.number, target.piece, 0))
        return top, message.draw(min(target.piece, len(message.pieces) - 1), flow.width)

    def _next(self, target: Target, step: int) -> Target | None:
        flow = self._viewport.flow
        stops = [WHOLE, *_stops(self._message(target))]
        place = (stops.index(target.piece) if target.piece in stops else 0) + step
        if 0 <= place < len(stops):
            return Target(target.number, stops[place])
        number = target.number + step
        if not flow.first <= number < flow.end:
            return None
        if step > 0:
            return Target(number)
        return Target(number, [WHOLE, *_stops(flow.message(number))][-1])

    def _show(self, step: int) -> None:
        """Scroll as little as shows the target, its head when it is taller than the window."""
        if self.target is None:
            return
        viewport = self._viewport
        top, height = self._extent(self.target)
        if top < viewport.top or height > viewport.height:
            viewport.scrolled(
                top if step > 0 or height <= viewport.height else top + height - viewport.height
            )
        elif top + height > viewport.top + viewport.height:
            viewport.scrolled(top + height - viewport.height)
        elif viewport.following and step < 0:
            viewport.hold(viewport.flow.place_at(viewport.top))


def _is_stop(piece: Piece) -> bool:
    return piece.foldable or (isinstance(piece, Code) and not piece.block.continued)


def _stops(message: Message) -> list[int]:
    """Return the parts of a message that keys can act on alone."""
    return [index for index, piece in enumerate(message.pieces) if _is_stop(piece)]
