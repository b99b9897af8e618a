"""Everything that happens, in one order: lifecycle, turns, errors, log lines, calls. Bounded; lost lines are counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import merge

from tekton_tui.stores.signal import Signal

MAX_LINES = 20_000


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `kind` is lifecycle, turn, error, log or call; `text` is foreign text as it came."""

    timestamp: float
    kind: str
    source: str
    text: str
    bad: bool = False


class TimelineStore:
    """Lines in order of arrival. `dropped` counts lines that were discarded here or never sent."""

    def __init__(self) -> None:
        self.lines: deque[Line] = deque(maxlen=MAX_LINES)
        self.dropped = 0
        self.added: Signal[[list[Line]]] = Signal()

    def add(self, *lines: Line) -> None:
        # a full deque drops its oldest without a word: so many are lost with the next line
        self.dropped += max(0, len(self.lines) + len(lines) - MAX_LINES)
        self.lines.extend(lines)
        self.added.emit(list(lines))

    def put_between(self, lines: Iterable[Line]) -> None:
        """Put lines where their time belongs; past the most that are kept the oldest are left out."""
        both = merge(self.lines, sorted(lines, key=_moment), key=_moment)
        self.lines = deque(both, maxlen=MAX_LINES)

    def count_dropped(self, count: int) -> None:
        """Add lines that the backend did not send."""
        self.dropped += count


def _moment(line: Line) -> float:
    return line.timestamp


def joined(read: list[str], came: list[str]) -> list[str]:
    """Return lines as they were read, with those that came meanwhile and that the reading does not end with."""
    both = max(
        (n for n in range(min(len(read), len(came)) + 1) if read[len(read) - n :] == came[:n]), default=0
    )
    return [*read, *came[both:]]
