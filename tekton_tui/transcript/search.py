"""Finds text in a long conversation a slice at a time, so that searching never holds up the console."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from time import perf_counter
from typing import Final

from tekton_tui.transcript.entry import Entry

SLICE_S: Final = 0.006
"""Time one slice may take."""
STRIDE: Final = 64
"""Messages looked at between two looks at the clock."""


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
        self._hits: list[int] = []

    def over(self, entries: Sequence[Entry], first: int) -> Search:
        """Return the same search begun anew over messages that have been added to."""
        search = Search("", entries, first)
        search.pattern = self.pattern
        return search

    @property
    def done(self) -> bool:
        """Whether everything was looked at."""
        return self._next < 0

    @property
    def numbers(self) -> list[int]:
        """Numbers of the messages that match, so far, rising."""
        return self._hits[::-1]

    @property
    def count(self) -> int:
        """How many messages match, so far."""
        return len(self._hits)

    def scan(self, limit_s: float = SLICE_S) -> bool:
        """Look at more messages for at most `limit_s` seconds; return whether a new one matched."""
        before = len(self._hits)
        deadline = perf_counter() + limit_s
        find = self.pattern.search
        while self._next >= 0 and perf_counter() < deadline:
            stop = max(-1, self._next - STRIDE)
            for index in range(self._next, stop, -1):
                entry = self._entries[index]
                if find(entry.text) or (entry.error and find(entry.error)):
                    self._hits.append(self._first + index)
            self._next = stop
        return len(self._hits) > before

    def place_of(self, number: int | None) -> int:
        """Return which match a message is, counted from 1 at the oldest; 0 when it is none."""
        numbers = self.numbers
        place = bisect_left(numbers, number) if number is not None else len(numbers)
        return place + 1 if place < len(numbers) and numbers[place] == number else 0

    def after(self, number: int) -> int | None:
        """Return the next matching message below a number, if one is known."""
        numbers = self.numbers
        place = bisect_right(numbers, number)
        return numbers[place] if place < len(numbers) else None

    def before(self, number: int) -> int | None:
        """Return the next matching message above a number, if one is known."""
        numbers = self.numbers
        place = bisect_left(numbers, number) - 1
        return numbers[place] if place >= 0 else None
