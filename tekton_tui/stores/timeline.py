"""One order of everything that happens: lifecycle, turns, errors, log lines, calls. Bounded; losses are counted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tekton_tui.stores.signal import Signal

MAX_LINES = 20_000


@dataclass(frozen=True, slots=True)
class Line:
    """One happening. `kind` is lifecycle, turn, error, log or call; `text` is not neutralised."""

    timestamp: float
    kind: str
    source: str
    text: str
    bad: bool = False


class TimelineStore:
    """Lines in order of arrival. `dropped` counts those that fell out or never came."""

    def __init__(self) -> None:
        self.lines: deque[Line] = deque(maxlen=MAX_LINES)
        self.dropped = 0
        self.added: Signal[[list[Line]]] = Signal()

    def add(self, *lines: Line) -> None:
        self.dropped += max(0, len(self.lines) + len(lines) - MAX_LINES)
        self.lines.extend(lines)
        self.added.emit(list(lines))

    def lost(self, count: int) -> None:
        self.dropped += count
