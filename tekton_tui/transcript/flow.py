"""The column of messages behind a transcript: which of them are laid out, and how high each is.

Heights far from the view are estimates. A message that comes near the view is drawn and its height corrected, so
a place is named by message, part and row within the part, never by its row from the start. Knows no widget.
"""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from tekton_tui.clock import gateway_time
from tekton_tui.transcript.entry import Ending, Entry, ToolRow
from tekton_tui.transcript.heights import Heights
from tekton_tui.transcript.message import Look, Message

MAX_ROWS_HELD: Final = 3_000
"""Drawn rows kept in memory, about 6 MB; the least recently seen messages are forgotten first."""

LAID_STEP: Final = 32
"""Messages laid out between two looks at what is held."""


class Place(NamedTuple):
    """A row by what stands there: message, part, row within the part.

    `number` counts messages from the first one loaded and goes below zero for older ones added before it, so it
    stays the same when history is prepended.
    """

    number: int
    piece: int
    row: int


class Flow:
    """Messages in order, and their heights at the current width."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.width = 80
        self.entries: list[Entry] = []
        self.first = 0
        """Number of the first entry."""
        self.heights = Heights()
        # numbers side by side: as lists of ints 100,000 messages would cost several times as much
        self._lengths = array("L")
        self._lines = array("L")
        self._laid: OrderedDict[int, Message] = OrderedDict()
        self._streaming: dict[str, int] = {}
        self._raw: set[int] = set()
        self._looked_at = 0

    # What is in it

    def load(self, entries: Sequence[Entry]) -> None:
        self._laid.clear()
        self._looked_at = 0
        self._streaming.clear()
        self._raw.clear()
        self.entries = list(entries)
        self.first = 0
        self._lengths, self._lines = _shapes(self.entries)
        self.heights = Heights(self._estimates())

    def prepend(self, entries: Sequence[Entry]) -> None:
        """Put older entries before the first."""
        first = self.first
        self.entries[:0] = entries
        self.first -= len(entries)
        lengths, lines = _shapes(entries)
        self._lengths, self._lines = lengths + self._lengths, lines + self._lines
        self.heights.prepend(self._estimates(len(entries)))
        # The first message has another before it now, and so perhaps no line with its day any more.
        if (message := self._laid.get(first)) is not None:
            message.set_day(self._day(first))
            self.measure(first)

    def append(self, entry: Entry, *, streaming: bool = False) -> int:
        """Add an entry at the end; return its number."""
        number = self.first + len(self.entries)
        self.entries.append(entry)
        lengths, lines = _shapes([entry])
        self._lengths += lengths
        self._lines += lines
        if streaming:
            self._streaming[entry.key] = number
            self._laid[number] = Message(entry, self.look, day=self._day(number), streaming=True)
            self.heights.append(self._laid[number].height(self.width))
        else:
            self.heights.append(self._fixed + lines[0] + lengths[0] // max(1, self.width))
        return number

    def streaming(self, key: str) -> Message | None:
        """Return the message of a stream that has not ended."""
        number = self._streaming.get(key)
        return None if number is None else self._laid[number]

    def settle_streams(self) -> list[int]:
        """Lay out the text that gathered in all streams; return the numbers of the messages that got some."""
        grown = [number for number in self._streaming.values() if self._laid[number].settle_pending()]
        for number in self._streaming.values():
            self.measure(number)
        return grown

    def end_stream(self, key: str, ending: Ending) -> int | None:
        """End a stream and lay it out; return its number, `None` if there is no such stream."""
        number = self._streaming.pop(key, None)
        if number is None:
            return None
        message = self._laid[number]
        message.entry.end(ending)
        message.finish()
        self.measure(number)
        lengths, lines = _shapes([message.entry])
        self._lengths[number - self.first], self._lines[number - self.first] = lengths[0], lines[0]
        return number

    def set_tool(self, key: str, row: ToolRow) -> int | None:
        """Show a tool call in a stream; return the message's number, `None` if there is no such stream."""
        if (message := self.streaming(key)) is not None:
            message.set_tool(row)
        return self._streaming.get(key)

    def _day(self, number: int) -> str:
        """Return the day of a message in words when it is another than that of the message before; else nothing."""
        if not self.look.header or not (moment := self.entry(number).timestamp):
            return ""
        before = self.entry(number - 1).timestamp if number > self.first else gateway_time()
        day, other = time.localtime(moment), time.localtime(before)
        # a message that bears no time says nothing of days
        if day[:3] == other[:3] or not before:
            return ""
        words = time.strftime("%A %d %B", day).replace(" 0", " ")
        return words if day.tm_year == time.localtime().tm_year else f"{words} {day.tm_year}"

    def find_key(self, key: str) -> int | None:
        """Return the number of the entry with this key, the newest first."""
        for index in range(len(self.entries) - 1, -1, -1):
            if self.entries[index].key == key:
                return self.first + index
        return None

    def entry(self, number: int) -> Entry:
        return self.entries[number - self.first]

    def whole_entry(self, number: int) -> Entry:
        """Return an entry by its number, a running stream's with all the text that has come."""
        entry = self.entries[number - self.first]
        if (stream := self.streaming(entry.key)) is not None:
            stream.settle_pending()
        return entry

    @property
    def end(self) -> int:
        """Number after the last entry."""
        return self.first + len(self.entries)

    def set_raw(self, number: int, raw: bool) -> None:
        """Show one message's source, or its Markdown."""
        # kept beside the message, which may be forgotten and laid out again
        (self._raw.add if raw else self._raw.discard)(number)
        self.message(number).set_raw(raw)
        self.measure(number)

    def set_pinned(self, number: int, pinned: bool) -> None:
        """Show one message as pinned, or no longer."""
        self.message(number).set_pinned(pinned)
        self.measure(number)

    # Where things are

    def set_width(self, width: int) -> None:
        """Guess all heights anew for another width; what is laid out is drawn again when it is seen."""
        if width == self.width:
            return
        self.width = width
        for number in [number for number, message in self._laid.items() if not message.streaming]:
            # Each that is kept is measured anew below, so only a few may be.
            if len(self._laid) > 2 * LAID_STEP:
                del self._laid[number]
        self._looked_at = min(self._looked_at, len(self._laid))
        self.heights = Heights(self._estimates())
        for number in self._laid:
            self.measure(number)

    def message(self, number: int) -> Message:
        """Return a message laid out, making it if need be."""
        message = self._laid.get(number)
        if message is None:
            message = self._laid[number] = Message(self.entry(number), self.look, day=self._day(number))
            if number in self._raw:
                message.set_raw(True)
        else:
            self._laid.move_to_end(number)
        return message

    def measure(self, number: int) -> None:
        """Take over a message's height as it is now."""
        self.heights.set(number - self.first, self._laid[number].height(self.width))

    def row_of(self, place: Place) -> int:
        message = self.message(place.number)
        piece = min(place.piece, len(message.pieces) - 1)
        self.measure(place.number)
        return self.heights.offset(place.number - self.first) + message.top(piece, self.width) + place.row

    def place_at(self, row: int) -> Place:
        if not self.entries:
            return Place(0, 0, 0)
        index, inner = self.heights.find(row)
        number = self.first + index
        message = self.message(number)
        return Place(number, *message.at(inner, self.width))

    # Drawing near the view

    def draw_down(self, place: Place, rows: int) -> int:
        """Draw from a place downwards until `rows` rows are exact; return how many there are, if fewer."""
        number, piece, row = place
        found = -row
        while number < self.end:
            message = self.message(number)
            while piece < len(message.pieces) and found < rows:
                found += message.draw(piece, self.width)
                piece += 1
            self.measure(number)
            if found >= rows:
                return rows
            found += self.look.gap
            number, piece = number + 1, 0
        return found

    def draw_up(self, place: Place, rows: int) -> None:
        """Draw from a place upwards until `rows` rows above it are exact."""
        number, piece, row = place
        found = row
        while number >= self.first:
            message = self.message(number)
            piece = min(piece, len(message.pieces))
            while piece > 0 and found < rows:
                piece -= 1
                found += message.draw(piece, self.width)
            self.measure(number)
            if found >= rows:
                return
            number -= 1
            found += self.look.gap
            if number >= self.first:
                piece = len(self.message(number).pieces)

    @property
    def rows_held(self) -> int:
        """How many drawn rows are held in memory."""
        return sum([message.drawn_rows(self.width) for message in self._laid.values()])

    @property
    def crowded(self) -> bool:
        """Whether so many messages were laid out since the last `forget` that it is time for another."""
        return len(self._laid) >= self._looked_at + LAID_STEP

    def forget(self, near: Iterable[int]) -> None:
        """Drop drawn rows beyond the limit, least recently seen first; never those near the view."""
        keep = set(near) | set(self._streaming.values())
        held = self.rows_held
        for number in list(self._laid):
            if held <= MAX_ROWS_HELD:
                break
            if number not in keep:
                held -= self._laid.pop(number).drawn_rows(self.width)
        self._looked_at = len(self._laid)

    def _estimates(self, count: int | None = None) -> list[int]:
        """Guess the heights of the first `count` messages, or of all, from their shapes alone."""
        width, fixed = max(1, self.width), self._fixed
        return [
            fixed + lines + length // width
            for length, lines in zip(self._lengths[:count], self._lines[:count], strict=True)
        ]

    @property
    def _fixed(self) -> int:
        return self.look.header + self.look.gap + 1


def _shapes(entries: Sequence[Entry]) -> tuple[array[int], array[int]]:
    """Return the lengths of the texts in characters, and how many more lines than one each has."""
    lengths = array("L", [len(entry.text) for entry in entries])
    lines = array(
        "L",
        [
            entry.text.count("\n")
            + (1 if entry.footer or entry.pinned else 0)
            + (2 if entry.code else 0)
            + len(entry.tools)
            + bool(entry.files)
            + bool(entry.branch)
            for entry in entries
        ],
    )
    return lengths, lines
