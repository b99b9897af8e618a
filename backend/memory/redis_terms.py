"""The words under which a message is found in Redis, and the reading of hits. Pure.

Words are folded (case, accents) and stemmed, as the embedded store's index does; knows no server.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice

from backend.memory.search import HIT_END, HIT_START, SNIPPET_WORDS
from backend.stemming import stem

MAX_INDEXED_WORDS = 4_000
"""Different words of one message that are findable; a longer text is found by its first ones."""
MAX_WORD_CHARS = 64
LOOKED_AT_WORDS = 5_000
"""Only the beginning of a very long message is searched for its best part."""
_WORD = re.compile(r"[^\W_]+")
_K1, _B, _USUAL_WORDS = 1.2, 0.75, 60
"""BM25's constants, as FTS5 has them, and the length a message is taken to have on the average."""


@lru_cache(maxsize=50_000)
def folded(word: str) -> str:
    """Return a word without case and accents, cut to its stem."""
    word = unicodedata.normalize("NFKD", word.casefold())
    return stem("".join(c for c in word if not unicodedata.combining(c))[:MAX_WORD_CHARS])


def index_terms(text: str) -> list[str]:
    """Return the different words of a text as they are looked up, in order."""
    found: dict[str, None] = {}
    for match in _WORD.finditer(text):
        found[folded(match[0])] = None
        if len(found) == MAX_INDEXED_WORDS:
            break
    return list(found)


def words(text: str) -> list[str]:
    """Return all words of a text as they are looked up."""
    return [folded(word) for word in _WORD.findall(text)]


def has_phrase(text: list[str], phrase: list[str]) -> bool:
    """Tell whether the words of a phrase stand one after another in a text's words."""
    size = len(phrase)
    return any(text[start : start + size] == phrase for start in range(len(text) - size + 1))


def rarity(matches: int, total: int) -> float:
    """Return how telling a word is that stands in `matches` of `total` messages (BM25's idf, at least 1e-6)."""
    return max(math.log((total - matches + 0.5) / (matches + 0.5)), 1e-6)


def score(text: list[str], rarities: Mapping[str, float]) -> float:
    """Return the BM25 score of a message's words for terms of these rarities."""
    long = _K1 * (1 - _B + _B * len(text) / _USUAL_WORDS)
    counts = {term: text.count(term) for term in rarities}
    return sum(rarities[term] * n * (_K1 + 1) / (n + long) for term, n in counts.items() if n)


def snippet(text: str, wanted: Sequence[str]) -> str:
    """Return the part of a text with most of the wanted terms, each hit between U+0002 and U+0003.

    A wanted term that ends in `*` is met by every word that begins with it.
    """
    exact = {term for term in wanted if not term.endswith("*")}
    starts = tuple(term[:-1] for term in wanted if term.endswith("*"))
    found = list(islice(_WORD.finditer(text), LOOKED_AT_WORDS))
    hits = [(w := folded(m[0])) in exact or bool(starts and w.startswith(starts)) for m in found]
    if not found:
        return ""
    last = max(0, len(found) - SNIPPET_WORDS)
    start = max(range(last + 1), key=lambda n: (sum(hits[n : n + SNIPPET_WORDS]), -n)) if any(hits) else 0
    end = min(len(found), start + SNIPPET_WORDS)
    left = found[start].start() if start else 0
    right = found[end - 1].end() if end < len(found) else len(text)
    parts, place = ["…" if start else ""], left
    for match, hit in zip(found[start:end], hits[start:end], strict=True):
        if hit:
            parts += [text[place : match.start()], HIT_START, match[0], HIT_END]
            place = match.end()
    return "".join([*parts, text[place:right], "…" if end < len(found) else ""])
