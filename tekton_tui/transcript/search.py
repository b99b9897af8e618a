"""Finds text in a long conversation a slice at a time, so that searching never holds up the console."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Final, NamedTuple

from tekton_tui.transcript.entry import Entry

SLICE_S: Final = 0.006
"""Time one slice may take."""
STRIDE: Final = 64
"""Messages looked at between two looks at the clock."""


class Hit(NamedTuple):
    """One place that matches: a message, and which of its hits, counted from 0."""

    number: int
    ordinal: int


class Search:
    """One pattern over a list of messages, from the newest to the oldest.

    Args:
        pattern: Plain text, matched without regard to case.
        entries: The messages; not copied.
        first: Number of the first of them.
    """

    def __init__(self, pattern: str, entries: Sequence[Entry], first: int) -> None:
        self.pattern = re.compile(re.escape(pattern), re.IGNORECASE)
        self._entries = entries
        self._first = first
        self._next = len(entries) - 1
        self._hits: list[tuple[int, int]] = []
        """Numbers of the messages that match, the newest first, and how many hits each has."""
        self._total = 0

    def extend(self, first: int, added: int) -> None:
        """Search on in the `added` messages that were put before the first, whose number is now `first`."""
        self._first = first
        self._next += added

    @property
    def done(self) -> bool:
        return self._next < 0

    @property
    def count(self) -> int:
        """How many hits there are, so far."""
        return self._total

    @property
    def newest(self) -> Hit | None:
        """The last hit of the newest message that has one."""
        return self._last_of(0) if self._hits else None

    def scan(self, limit_s: float = SLICE_S) -> bool:
        """Look at more messages for at most `limit_s` seconds; return whether a new one matched."""
        before = self._total
        deadline = perf_counter() + limit_s
        find = self.pattern.finditer
        # from the newest on: what is sought was mostly said of late
        while self._next >= 0 and perf_counter() < deadline:
            stop = max(-1, self._next - STRIDE)
            for index in range(self._next, stop, -1):
                entry = self._entries[index]
                hits = _count(find, entry.text) + (_count(find, entry.error) if entry.error else 0)
                if hits:
                    self._hits.append((self._first + index, hits))
                    self._total += hits
            self._next = stop
        return self._total > before

    def place_of(self, hit: Hit | None) -> int:
        """Return which hit this is, counted from 1 at the oldest; 0 when it is none."""
        place = 0
        for number, count in reversed(self._hits):
            if hit is not None and number == hit.number:
                return place + min(hit.ordinal, count - 1) + 1
            place += count
        return 0

    def after(self, hit: Hit) -> Hit | None:
        """Return the next hit below one, if one is known."""
        for number, count in reversed(self._hits):
            if number == hit.number and hit.ordinal + 1 < count:
                return Hit(number, hit.ordinal + 1)
            if number > hit.number:
                return Hit(number, 0)
        return None

    def before(self, hit: Hit) -> Hit | None:
        """Return the next hit above one, if one is known."""
        for place, (number, count) in enumerate(self._hits):
            if number == hit.number and hit.ordinal > 0:
                return Hit(number, min(hit.ordinal, count) - 1)
            if number < hit.number:
                return self._last_of(place)
        return None

    def _last_of(self, place: int) -> Hit:
        number, count = self._hits[place]
        return Hit(number, count - 1)


def _count(find: Callable[[str], Iterator[re.Match[str]]], text: str) -> int:
    return sum(1 for _match in find(text))
