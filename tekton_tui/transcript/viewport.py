"""Which rows of a column of messages are in the window: the newest, or those the reader scrolled to. Draws nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tekton_tui.transcript.entry import Entry
from tekton_tui.transcript.flow import Flow, Place
from tekton_tui.transcript.pieces import Piece
from tekton_tui.transcript.rows import BLANK, Row


class Viewport:
    """A window of `height` rows over a `Flow`.

    Two states. *Following*: the last row stays at the bottom when text is added. *Held*: the place at the top
    stays at the top when text is added, a height is corrected or the width changes; only the reader moves it.
    """

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.height = 1
        self.top = 0
        """Row at the top of the window."""
        self._held: Place | None = None
        self._unread: set[int] = set()

    @property
    def following(self) -> bool:
        """Whether new text moves the window."""
        return self._held is None

    @property
    def unread(self) -> int:
        """How many messages got text since the reader left the tail."""
        return len(self._unread)

    @property
    def total(self) -> int:
        """Height of everything; no gap after the last message."""
        return max(0, self.flow.heights.total - (self.flow.look.gap if self.flow.entries else 0))

    def note_news(self, number: int) -> None:
        """Count a message that got text as unread unless the tail is in view."""
        if self._held is not None:
            # a set: a message that streams counts once, however much of it comes
            self._unread.add(number)

    def follow(self) -> None:
        """Go to the tail and stay there."""
        self._held = None
        self._unread.clear()

    def hold(self, place: Place) -> None:
        """Put a place at the top and stay there."""
        self._held = place

    def scrolled(self, row: int) -> None:
        """Put a row at the top, as the reader asked; at the end that means to follow."""
        if row + self.height >= self.total:
            self.follow()
        else:
            self._held = self.flow.place_at(row)

    def resize(self, width: int, height: int) -> None:
        """Change the size of the window; what stands at the top stays there."""
        held = self._held
        if held is not None and width != self.flow.width and self.flow.entries:
            message = self.flow.message(held.number)
            before = message.draw(held.piece, self.flow.width)
            self.flow.set_width(width)
            message = self.flow.message(held.number)
            piece = min(held.piece, len(message.pieces) - 1)
            after = message.draw(piece, width)
            inside = held.row < before
            row = held.row * after // max(1, before) if inside else after + held.row - before
            self._held = Place(held.number, piece, row)
        self.flow.set_width(width)
        self.height = max(1, height)

    def settle(self, *, margin: int = 0) -> int:
        """Draw what is in view and `margin` rows above it, correct heights; return the row at the top."""
        flow = self.flow
        if not flow.entries:
            self.top = 0
            return 0
        top = self._settle(margin)
        if flow.crowded:
            flow.forget(self.numbers())
        return top

    def _settle(self, margin: int) -> int:
        flow = self.flow
        # far from that all cannot fit, and drawing from the first message on would be in vain
        near = self.total <= 2 * self.height
        if (
            self._held is not None
            and near
            and flow.draw_down(flow.place_at(0), self.height + 1) <= self.height
        ):
            # Everything is in view: there is nothing to hold.
            self.follow()
        if self._held is not None:
            if flow.draw_down(self._held, self.height) < self.height:
                # Fewer rows are left than the window has: the end stands at the bottom.
                self._draw_end(margin)
                self.top = max(0, self.total - self.height)
                self._held = flow.place_at(self.top)
                return self.top
            flow.draw_up(self._held, margin)
            self.top = flow.row_of(self._held)
            # A guess may have pointed past the end of its part: from here on it is what the reader sees.
            self._held = flow.place_at(self.top)
            return self.top
        self._draw_end(margin)
        self.top = max(0, self.total - self.height)
        return self.top

    def rows(self) -> Iterator[tuple[int, int, Row, Piece | None]]:
        """Yield message number, row within the message, row and part for each row of the window, top down."""
        flow = self.flow
        shown = 0
        if flow.entries:
            index, row = flow.heights.find(self.top)
            while shown < self.height and index < len(flow.entries):
                number = flow.first + index
                message = flow.message(number)
                height = flow.heights[index]
                while row < height and shown < self.height:
                    drawn, piece = message.row(row, flow.width)
                    yield number, row, drawn, piece
                    row += 1
                    shown += 1
                index, row = index + 1, 0
        while shown < self.height:
            yield flow.end, 0, BLANK, None
            shown += 1

    def numbers(self) -> range:
        """Return the numbers of the messages in the window and one before and after."""
        first = self.flow.first + self.flow.heights.find(self.top)[0]
        last = self.flow.first + self.flow.heights.find(self.top + self.height)[0]
        return range(first - 1, last + 2)

    @property
    def thumb(self) -> range:
        """The lines of the window beside which the scrollbar's thumb is drawn; none when everything fits."""
        total, height = self.total, self.height
        if total <= height:
            return range(0)
        size = max(1, round(height * height / total))
        start = round((height - size) * self.top / (total - height))
        return range(start, start + size)

    def row_at_thumb(self, y: int) -> int:
        """Return the top row that dragging the thumb to line `y` asks for."""
        part = min(1.0, max(0.0, y / max(1, self.height - 1)))
        return round(part * (self.total - self.height))

    def load(self, entries: Sequence[Entry], *, stay: bool = False) -> None:
        """Replace everything and go to the tail; with `stay` a reader who has left it stays at the message that is read."""
        flow, held = self.flow, self._held if stay else None
        key = flow.entries[held.number - flow.first].key if held is not None and flow.entries else ""
        flow.load(entries)
        self.follow()
        if held is not None and entries:
            # a message that is not among them is older than they are: their beginning is the nearest
            at = next((at for at, entry in enumerate(entries) if entry.key == key), -1)
            self._held = Place(at, held.piece, held.row) if at >= 0 else Place(0, 0, 0)

    def _draw_end(self, margin: int) -> None:
        last = self.flow.end - 1
        pieces = len(self.flow.message(last).pieces)
        self.flow.draw_up(Place(last, pieces, 0), self.height + margin)
