"""How like a request is to those that people make of each shipped specialist: naive Bayes over stems and pairs of stems.

The counts in `model.json` are made by `make fit` from the training requests, the vocabulary and the catalogue. Knows no
catalogue and no state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources

import msgspec
from msgspec import Struct

from backend.matching.tokenizer import stem

FILE = "model.json"
PAIR_SHARE = 0.6
"""How much a pair of neighbouring stems counts beside a stem."""
SMOOTHING = 0.3
"""Added to each count, so that a word never seen with a specialist is unlikely, not impossible."""
START, END = "<", ">"


class Model(Struct):
    """`counts` hold, for each stem or pair, how often it was seen with the specialists of these places in `names`."""

    names: list[str]
    totals: list[float]
    counts: dict[str, dict[int, float]]

    def log_shares(self, spoken: list[str]) -> dict[str, float] | None:
        """Return the logarithm of each specialist's probability, by name; `None` when no word is known."""
        known = [(self.counts[text], share) for text, share in features(spoken) if text in self.counts]
        if not known:
            return None
        size = SMOOTHING * len(self.counts)
        seen = sum(share for _, share in known)
        # what a word unseen with a specialist costs is added once for all: then only the counts that exist are walked
        sums = [-seen * math.log(total + size) + seen * math.log(SMOOTHING) for total in self.totals]
        for counts, share in known:
            for place, count in counts.items():
                sums[place] += share * math.log1p(count / SMOOTHING)
        # taken out before the exponential, which would underflow to zero for a long request
        highest = max(sums)
        total = highest + math.log(sum(math.exp(value - highest) for value in sums))
        return {name: value - total for name, value in zip(self.names, sums, strict=True)}

    def specialists_of(self, word: str) -> list[str]:
        """Return the names of the specialists with which a word was seen more often than with most."""
        counts = self.counts.get(stem(word), {})
        return [self.names[place] for place, count in counts.items() if 2 * count > max(counts.values())]

    def knows(self, word: str) -> bool:
        return stem(word) in self.counts


def features(spoken: list[str]) -> Iterator[tuple[str, float]]:
    """Yield each stem of the words and each pair of neighbours once, with how much it counts."""
    stems = [stem(word) for word in spoken]
    for text in dict.fromkeys(stems):
        yield text, 1.0
    pairs = zip([START, *stems], [*stems, END], strict=True)
    for first, second in dict.fromkeys(pairs):
        yield f"{first} {second}", PAIR_SHARE


@lru_cache(maxsize=1)
def shipped() -> Model:
    """Read the shipped model once."""
    data = resources.files("backend.matching").joinpath(FILE).read_bytes()
    return msgspec.json.decode(data, type=Model)
