"""What the backend remembers beside its store, bounded by bytes: how much of what, and the newest of something."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from msgspec import Struct

V = TypeVar("V")
MIB = 1024 * 1024


class RememberedBytes(Struct, frozen=True):
    """The shares of `memory.remembered_mib`, in bytes.

    They make up half of it: the other half is for the one newest answer that each of them keeps however long it is, for
    what is under way, and for the copies that writing, encoding and SQLite's caches hold.
    """

    events: int
    turns: int
    teams: int
    results: int
    unstored: int

    @classmethod
    def of(cls, mib: int) -> RememberedBytes:
        """Divide so many MiB."""
        part = mib * MIB // 32
        return cls(events=6 * part, turns=part, teams=part, results=part, unstored=7 * part)


class Recent(Generic[V]):
    """Values by key, oldest first; the oldest are forgotten beyond `max_items` or `max_bytes`, the newest never."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items, self._max_bytes = max_items, max_bytes
        self._items: OrderedDict[str, tuple[V, int]] = OrderedDict()
        self._bytes = 0

    def put(self, key: str, value: V, size: int) -> None:
        """Keep a value of about `size` bytes."""
        self.pop(key)
        self._items[key] = value, size
        self._bytes += size
        while len(self._items) > 1 and (len(self._items) > self._max_items or self._bytes > self._max_bytes):
            _, (_, gone) = self._items.popitem(last=False)
            self._bytes -= gone

    def get(self, key: str) -> V | None:
        found = self._items.get(key)
        return found and found[0]

    def pop(self, key: str) -> V | None:
        """Forget a value and return it."""
        found = self._items.pop(key, None)
        if found is None:
            return None
        self._bytes -= found[1]
        return found[0]

    def values(self) -> list[V]:
        return [value for value, _ in self._items.values()]
