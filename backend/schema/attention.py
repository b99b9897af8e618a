"""What waits for the operator: one queue over the whole fleet, kept by the backend, so that all consoles agree."""

from __future__ import annotations

from typing import Literal

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
