"""What waits for the operator, as the backend keeps it: the same on every console."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from backend.schema.attention import AttentionItem, AttentionKind
from backend.schema.events import AttentionChanged
from tekton_tui.clock import gateway_time
from tekton_tui.stores.signal import Signal

ORDER: Final[tuple[AttentionKind, ...]] = ("asks", "down", "stalled", "error", "budget", "done")


class AttentionStore:
    """Items by id. `changed` is emitted after every change, `came` with each item that is new."""

    def __init__(self) -> None:
        self.items: dict[str, AttentionItem] = {}
        self.version = 0
        """Counts what the backend has said by itself: an answer asked for before the last of it may be older."""
        self.changed: Signal[[]] = Signal()
        self.came: Signal[[AttentionItem]] = Signal()

    def load(self, items: Iterable[AttentionItem]) -> None:
        """Replace everything by what the backend says waits now."""
        self.version += 1
        self.items = {item.id: item for item in items}
        self.changed.emit()

    def apply(self, event: AttentionChanged) -> None:
        """Take a change in."""
        self.version += 1
        fresh = [item for item in event.items if item.id not in self.items]
        self.items |= {item.id: item for item in event.items}
        for name in event.gone:
            self.items.pop(name, None)
        self.changed.emit()
        for item in fresh:
            self.came.emit(item)

    def open(self) -> list[AttentionItem]:
        """Return what waits now, the most urgent first."""
        return self._ordered(snoozed=False)

    def snoozed(self) -> list[AttentionItem]:
        """Return what was put away for a while."""
        return self._ordered(snoozed=True)

    def unread_of(self, who: str) -> int:
        """Return how many answers of a specialist, or of the `team`, nobody has seen."""
        return sum(item.kind == "done" and item.who == who for item in self.items.values())

    def unread(self) -> frozenset[str]:
        """Return whose answers nobody has seen."""
        return frozenset(item.who for item in self.items.values() if item.kind == "done")

    def _ordered(self, *, snoozed: bool) -> list[AttentionItem]:
        now = gateway_time()
        chosen = [item for item in self.items.values() if (item.snoozed_until > now) == snoozed]
        return sorted(chosen, key=lambda item: (ORDER.index(item.kind), item.since))
