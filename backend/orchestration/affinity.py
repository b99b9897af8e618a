"""How near a request's words are to each shipped specialist, by a table fitted beforehand.

The table is the whole of a linear model over word meanings and word sequences (see `bench/fit_matching.py`), so that
reading it is adding up rows. Knows the table; no catalogue, no state.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources

import msgspec
from msgspec import Struct

from backend.stemming import stem

TABLE = "affinity.bin"
BEGIN, END, ANY = "<", ">", "*"
"""Marks of a word sequence: the request's ends, and one word whatever it is."""


class Table(Struct):
    """`values` hold one signed byte a specialist for each word, then for each sequence, times `scale`."""

    names: list[str]
    bias: list[float]
    scale: float
    words: str
    sequences: str
    values: bytes


class Nearness(Struct):
    """`log_shares` by specialist name; `parts` what each word added, for reasons."""

    log_shares: dict[str, float]
    parts: dict[str, dict[str, float]]


class Affinity:
    """The table, ready to be asked. Costs some milliseconds and megabytes; one for the whole process."""

    def __init__(self, table: Table) -> None:
        self.names = table.names
        self._bias, self._scale, self._values = table.bias, table.scale, array("b", table.values)
        known = table.words.split("\n")
        self._words = {word: place * len(self.names) for place, word in enumerate(known)}
        offset = len(known) * len(self.names)
        self._sequences = {
            text: offset + place * len(self.names) for place, text in enumerate(table.sequences.split("\n"))
        }
        self._stems: dict[str, int] = {}
        for word, place in self._words.items():
            self._stems.setdefault(stem(word), place)

    def nearness(self, spoken: list[str]) -> Nearness | None:
        """Return how near the words are to each specialist, `None` when no word is known."""
        sums, parts = list(self._bias), dict[str, dict[str, float]]()
        places = {word: place for word in spoken if (place := self._place(word)) is not None}
        if not places:
            return None
        share = self._scale / math.sqrt(sum(word in places for word in spoken))
        for word in spoken:
            if word in places:
                parts[word] = self._add(sums, places[word], share)
        stems = [stem(word) for word in spoken]
        share = self._scale / math.sqrt(len(stems))
        for text in set(sequences(stems)):
            if text in self._sequences:
                self._add(sums, self._sequences[text], share)
        highest = max(sums)
        total = highest + math.log(sum(math.exp(value - highest) for value in sums))
        return Nearness({name: value - total for name, value in zip(self.names, sums, strict=True)}, parts)

    def knows(self, word: str) -> bool:
        """Tell whether a word is spelled like a known one."""
        return self._place(word) is not None

    def _place(self, word: str) -> int | None:
        return self._words.get(word, self._stems.get(stem(word)))

    def _add(self, sums: list[float], place: int, share: float) -> dict[str, float]:
        added: dict[str, float] = {}
        for index, value in enumerate(self._values[place : place + len(self.names)]):
            sums[index] += value * share
            added[self.names[index]] = value * share
        return added


def sequences(stems: list[str]) -> Iterator[str]:
    """Yield the stems, their pairs with the request's ends, and the pairs around one word."""
    yield from stems
    for first, second in zip([BEGIN, *stems], [*stems, END], strict=True):
        yield f"{first} {second}"
    for first, second in zip(stems, stems[2:], strict=False):
        yield f"{first} {ANY} {second}"


@lru_cache(maxsize=1)
def shipped() -> Affinity:
    """Read the shipped table once."""
    data = resources.files("backend.orchestration").joinpath(TABLE).read_bytes()
    return Affinity(msgspec.msgpack.decode(data, type=Table))
