"""What waits for the operator: one queue over the whole fleet, kept by the backend, so that all consoles agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from msgspec import Struct

AttentionKind = Literal["asks", "down", "stalled", "error", "budget", "done"]
"""In the order in which they are shown."""


class AttentionItem(Struct, omit_defaults=True):
    """Something that waits for a person.

    `who` is a specialist's id, or a part of the platform. `since` is when it began (unix seconds); an equal thing that
    begins later is another item. `short` says what in a word or two, `why` in full. `errors` are the records of the error
    log behind it, `count` how often it happened. `snoozed_until` is 0 while it is open.
    """

    id: str
    kind: AttentionKind
    who: str
    since: float
    short: str
    why: str
    count: int = 1
    request_id: str = ""
    session_id: str = ""
    errors: list[int] = []
    snoozed_until: float = 0.0


class Waiting(NamedTuple):
    """How much of the queue is what: what waits for a person's doing is not what failed, nor what may be read at leisure."""

    yours: int
    """What goes on only when somebody acts: calls and questions, stalled turns, budgets near their end."""
    failed: int
    unseen: int
    """Answers that nobody has seen."""
    snoozed: int

    @property
    def words(self) -> list[str]:
        """Say what there is, each with its number: "3 wait for you", "2 failed", "1 finished unseen"."""
        whole = ((self.yours, f"wait{'s' * (self.yours == 1)} for you"), (self.failed, "failed"),
                 (self.unseen, "finished unseen"), (self.snoozed, "snoozed"))  # fmt: skip
        return [f"{count} {words}" for count, words in whole if count]


def count_waiting(items: Iterable[AttentionItem], now: float) -> Waiting:
    """Return how much of a queue is what at a time, in unix seconds."""
    items = list(items)
    kinds = Counter(item.kind for item in items if item.snoozed_until <= now)
    failed, unseen = kinds["down"] + kinds["error"], kinds["done"]
    return Waiting(kinds.total() - failed - unseen, failed, unseen, len(items) - kinds.total())
