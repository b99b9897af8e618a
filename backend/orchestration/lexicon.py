"""The index behind matching: which specialists a request's words and phrases speak for, and how strongly.

Built once from a catalogue. Knows no state of anybody and ranks nobody.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping

from msgspec import Struct

from backend.catalog import Catalog
from backend.orchestration import affinity
from backend.orchestration.vocabulary import CODE, GAP, Phrase, everyday, profile
from backend.orchestration.words import FILL_WORDS, Speller, words
from backend.stemming import stem

TYPO_SHARE = 0.7
"""How much a word counts that was only found as the nearest to a misspelt one."""
TOPIC_SHARE = 0.45
"""How much a word counts after "about": a poem about money is a poem."""
TELLING = 1.0
"""Weight of a word that says what is wanted, so that an "about" behind it begins a topic."""
MEANING_SHARE = 2.5
"""How much nearness in meaning counts beside words that stand in the vocabulary."""
TELLING_PART = 0.15
"""A word that brings a specialist this much nearer is named among the reasons."""
COMMON_SHARE, CROWD = 0.25, 200
"""In a crowd, a word that more than this share of it has says nothing and is not looked up."""
MAX_GAP = 3
MAX_QUERY_WORDS = 300
MAX_QUERY_CHARS = 8_000
_TOPIC_WORDS = frozenset({"about", "regarding", "concerning"})
_CODE = re.compile(
    r"```|Traceback|\b[A-Z]\w*(?:Error|Exception)\b|\b\w+\(\)|\bdef \w+|\bfunction \w*\(|[;{]\s*$|==|!=|=>|->",
    re.MULTILINE,
)


class Evidence(Struct):
    """One word, phrase or meaning of a request: what it adds, `share` times the row, to each specialist's score."""

    rows: Mapping[str, float]
    share: float
    reason: str
    counts: bool = True
    """False for what only explains a score that another piece adds up."""


class Lexicon:
    """Word and phrase index of all specialists."""

    def __init__(self, catalog: Catalog) -> None:
        self._size = len(catalog.components)
        self._words: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._phrases: defaultdict[str, dict[Phrase, dict[str, float]]] = defaultdict(dict)
        self._shipped: dict[str, str] = {}
        entries, spellings = everyday(), set[str]()
        for component in catalog:
            entry = None if component.own else entries.get(component.name)
            if entry is not None:
                self._shipped[component.name] = component.id
            known = profile(component, entry)
            spellings |= known.spellings
            for word, weight in known.weights.items():
                self._words[word][component.id] = weight
            for phrase in known.phrases:
                self._phrases[phrase.stems[0]].setdefault(phrase, {})[component.id] = 1.0
        self._speller = Speller(spellings)
        self._affinity = affinity.shipped()
        self._rarity = {word: _rarity(len(rows), self._size) for word, rows in self._words.items()}
        self._strongest = {word: max(rows.values()) for word, rows in self._words.items()}

    def evidence(self, query: str) -> list[Evidence]:
        """Return what a request says for whom; empty when none of its words is known."""
        query = query[:MAX_QUERY_CHARS]
        spoken = [self._spelled(word) for word in words(query)[:MAX_QUERY_WORDS]]
        stems = [stem(word) for word, _ in spoken]
        topic = self._topic_from([word for word, _ in spoken], stems)
        found: dict[str, Evidence] = {}
        for place, (key, (word, share)) in enumerate(zip(stems, spoken, strict=True)):
            if key not in found and word not in FILL_WORDS and self._tells(key):
                share *= self._rarity[key] * (TOPIC_SHARE if place > topic else 1.0)
                found[key] = Evidence(self._words[key], share, word)
        if _CODE.search(query) and self._tells(CODE):
            found[CODE] = Evidence(self._words[CODE], 1.0, "program text")
        told = [*found.values(), *self._phrase_evidence(stems, topic)]
        said = [word for word, _ in spoken]
        if not told and all(word in FILL_WORDS for word in said):
            return []  # a greeting is meant for nobody in particular
        return [*told, *self._meaning(said)]

    def _tells(self, key: str) -> bool:
        rows = self._words.get(key)
        return rows is not None and (self._size <= CROWD or len(rows) <= COMMON_SHARE * self._size)

    def _spelled(self, word: str) -> tuple[str, float]:
        """Return a word, or the known one it was meant to be, and how sure that is."""
        if word in FILL_WORDS or stem(word) in self._words or self._affinity.knows(word):
            return word, 1.0
        return (near, TYPO_SHARE) if (near := self._speller.nearest(word)) else (word, 1.0)

    def _topic_from(self, spoken: list[str], stems: list[str]) -> int:
        """Return the place after which words only name a topic: an "about" behind something telling."""
        told = 0.0
        for place, word in enumerate(spoken):
            if word in _TOPIC_WORDS and told >= TELLING:
                return place
            if word not in FILL_WORDS:
                told = max(told, self._strongest.get(stems[place], 0.0))
        return len(spoken)

    def _phrase_evidence(self, stems: list[str], topic: int) -> list[Evidence]:
        found: dict[Phrase, Evidence] = {}
        for start, key in enumerate(stems):
            for phrase, rows in self._phrases.get(key, {}).items():
                if phrase not in found and _follows(phrase.stems, stems, start):
                    share = phrase.weight / math.sqrt(len(rows)) * (TOPIC_SHARE if start > topic else 1.0)
                    found[phrase] = Evidence(rows, share, f"“{phrase.text}”")
        return list(found.values())

    def _meaning(self, spoken: list[str]) -> list[Evidence]:
        """Return how much nearer than by chance the words are to each shipped specialist, and which did it."""
        near = self._affinity.nearness(spoken)
        if near is None:
            return []
        chance = -math.log(len(near.log_shares))
        gains = {
            self._shipped[name]: share - chance
            for name, share in near.log_shares.items()
            if share > chance and name in self._shipped
        }
        pieces = [Evidence(gains, MEANING_SHARE, "")]
        for word, parts in near.parts.items():
            if word not in FILL_WORDS:
                rows = {
                    self._shipped[n]: p for n, p in parts.items() if p >= TELLING_PART and n in self._shipped
                }
                pieces.append(Evidence(rows, 1.0, word, counts=False))
        return pieces


def _rarity(having: int, everybody: int) -> float:
    """Return 1 for a word of one specialist, falling to nearly 0 for a word of all."""
    highest = math.log(1 + (everybody - 0.5) / 1.5)
    return math.log(1 + (everybody - having + 0.5) / (having + 0.5)) / highest if highest > 0 else 1.0


def _follows(phrase: tuple[str, ...], stems: list[str], start: int) -> bool:
    """Tell whether a phrase stands at a place; a gap takes one to `MAX_GAP` words."""
    place = start
    for index, part in enumerate(phrase):
        if part == GAP:
            rest = phrase[index + 1 :]
            return any(_follows(rest, stems, place + taken) for taken in range(1, MAX_GAP + 1))
        if place >= len(stems) or stems[place] != part:
            return False
        place += 1
    return True
