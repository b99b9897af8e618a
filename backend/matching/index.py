"""The index behind matching: which specialists a request's words and phrases point to, and how strongly.

Built once from a catalogue. Knows no state of anybody and ranks nobody.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping

from msgspec import Struct

from backend.catalog import Catalog
from backend.matching import model
from backend.matching.tokenizer import FILL_WORDS, Speller, stem, words
from backend.matching.vocabulary import CODE, GAP, Phrase, everyday, headline, profile

TYPO_SHARE = 0.7
"""How much a word counts that was only found as the nearest to a misspelt one."""
TOPIC_SHARE = 0.45
"""How much a word counts after "about": a poem about money is a poem."""
SPECIFIC = 1.0
"""Weight from which a word says what is wanted, so that an "about" behind it begins a topic."""
MODEL_SHARE, MODEL_CEILING = 0.5, 5.0
"""The likeliest specialist gets nearly the ceiling, the others less by this share of their log probability, none below 0."""
MODEL_REASON = 0.1
"""How strong a word that only the model knows stands among the reasons: behind those of the vocabulary."""
FIT_CEILING, LEAST_FIT = 5.0, 0.5
"""What the operator's own specialists get in the place of the model, which knows shipped ones only: the first for the whole
request, less for a share of its words, nothing below the second."""
BESIDE_SHARE = 0.5
"""How much of that a word counts that stands neither in their name nor in their title or capabilities."""
OWN_PHRASE = 1.5
"""How much a whole capability of theirs counts: somebody wrote it down for just this."""
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
    """One word or phrase of a request, or the model's opinion: it adds `share` times the row to each score."""

    rows: Mapping[str, float]
    share: float
    reason: str
    counts: bool = True
    """False for what only explains a score that another piece adds up."""


class Index:
    """Words and phrases of all specialists, and the model of the shipped ones."""

    def __init__(self, catalog: Catalog) -> None:
        self._size = len(catalog.components)
        self._words: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._phrases: defaultdict[str, dict[Phrase, dict[str, float]]] = defaultdict(dict)
        self._shipped: dict[str, str] = {}
        self._headlines: defaultdict[str, set[str]] = defaultdict(set)
        """By stem, the operator's own specialists in whose name, title or capabilities it stands."""
        entries, spellings = everyday(), set[str]()
        for component in catalog:
            entry = None if component.own else entries.get(component.name)
            if entry is not None:
                self._shipped[component.name] = component.id
            known = profile(component, entry)
            spellings |= known.spellings
            if entry is None:
                for key in headline(component):
                    self._headlines[key].add(component.id)
            for word, weight in known.weights.items():
                self._words[word][component.id] = weight
            for phrase in known.phrases:
                self._phrases[phrase.stems[0]].setdefault(phrase, {})[component.id] = (
                    OWN_PHRASE if entry is None else 1.0
                )
        self._speller = Speller(spellings)
        self._model = model.shipped()
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
            if key not in found and word not in FILL_WORDS and self._is_specific(key):
                share *= self._rarity[key] * (TOPIC_SHARE if place > topic else 1.0)
                found[key] = Evidence(self._words[key], share, word)
        if _CODE.search(query) and self._is_specific(CODE):
            found[CODE] = Evidence(self._words[CODE], 1.0, "program text")
        pieces = [*found.values(), *self._phrase_evidence(stems, topic)]
        corrected = [word for word, _ in spoken]
        if not pieces and all(word in FILL_WORDS for word in corrected):
            return []  # a greeting is meant for nobody in particular
        asked = [
            key for place, (key, word) in enumerate(zip(stems, corrected, strict=True))
            if word not in FILL_WORDS and place <= topic
        ]  # fmt: skip
        return [*pieces, *self._fit_evidence(list(dict.fromkeys(asked))), *self._model_evidence(corrected)]

    def _is_specific(self, key: str) -> bool:
        """Return whether a stem is known and, in a crowd, not of too many."""
        rows = self._words.get(key)
        return rows is not None and (self._size <= CROWD or len(rows) <= COMMON_SHARE * self._size)

    def _spelled(self, word: str) -> tuple[str, float]:
        """Return a word, or the known one it was meant to be, and how sure that is."""
        if word in FILL_WORDS or stem(word) in self._words or self._model.knows(word):
            return word, 1.0
        return (near, TYPO_SHARE) if (near := self._speller.nearest(word)) else (word, 1.0)

    def _topic_from(self, spoken: list[str], stems: list[str]) -> int:
        """Return the place after which words only name a topic: an "about" behind a specific word."""
        strongest = 0.0
        for place, word in enumerate(spoken):
            if word in _TOPIC_WORDS and strongest >= SPECIFIC:
                return place
            if word not in FILL_WORDS:
                strongest = max(strongest, self._strongest.get(stems[place], 0.0))
        return len(spoken)

    def _phrase_evidence(self, stems: list[str], topic: int) -> list[Evidence]:
        found: dict[Phrase, Evidence] = {}
        for start, key in enumerate(stems):
            for phrase, rows in self._phrases.get(key, {}).items():
                if phrase not in found and _follows(phrase.stems, stems, start):
                    share = phrase.weight / math.sqrt(len(rows)) * (TOPIC_SHARE if start > topic else 1.0)
                    found[phrase] = Evidence(rows, share, f"“{phrase.text}”")
        return list(found.values())

    def _fit_evidence(self, asked: list[str]) -> list[Evidence]:
        """Return how well the operator's own specialists fit what is asked, by the words that are theirs, rare ones more.

        A word that more than a crowd of them have in common says nothing of any one.
        """
        named = {key: ids for key in asked if 0 < len(ids := self._headlines.get(key, ())) <= CROWD}
        weights = {key: self._rarity.get(key, 1.0) for key in asked}
        rows: dict[str, float] = {}
        for ai_id in set[str]().union(*named.values()):
            theirs = sum(
                weight
                * (1.0 if ai_id in named.get(key, ()) else BESIDE_SHARE * (ai_id in self._words.get(key, ())))
                for key, weight in weights.items()
            )
            share = theirs / sum(weights.values())
            if share >= LEAST_FIT:
                rows[ai_id] = FIT_CEILING * share
        return [Evidence(rows, 1.0, "")] if rows else []

    def _model_evidence(self, spoken: list[str]) -> list[Evidence]:
        """Return the model's score of each shipped specialist, and the words that contributed to it."""
        shares = self._model.log_shares(spoken)
        if shares is None:
            return []
        scores = {self._shipped[name]: MODEL_CEILING + MODEL_SHARE * shares[name] for name in self._shipped}
        pieces = [Evidence({ai_id: score for ai_id, score in scores.items() if score > 0}, 1.0, "")]
        for word in spoken:
            if word not in FILL_WORDS:
                named = [self._shipped[n] for n in self._model.specialists_of(word) if n in self._shipped]
                pieces.append(Evidence(dict.fromkeys(named, MODEL_REASON), 1.0, word, counts=False))
        return pieces


def _rarity(having: int, everybody: int) -> float:
    """Return 1 for a word of one specialist, falling to nearly 0 for a word of all."""
    highest = math.log(1 + (everybody - 0.5) / 1.5)
    return math.log(1 + (everybody - having + 0.5) / (having + 0.5)) / highest if highest > 0 else 1.0


def _follows(phrase: tuple[str, ...], stems: list[str], start: int) -> bool:
    """Return whether a phrase stands at a place; a gap takes one to `MAX_GAP` words."""
    place = start
    for index, part in enumerate(phrase):
        if part == GAP:
            rest = phrase[index + 1 :]
            return any(_follows(rest, stems, place + taken) for taken in range(1, MAX_GAP + 1))
        if place >= len(stems) or stems[place] != part:
            return False
        place += 1
    return True
