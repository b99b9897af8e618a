"""Ranked matching of a free request to specialists, with reasons and in order of fallback.

Lexical: words and phrases of the request against everyday vocabulary, names, capabilities, descriptions and personas;
rare words count more; misspelt words find their nearest. Live state and speed break near ties and push the dead
behind the living. Knows no model and calls nobody.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import defaultdict

from msgspec import Struct

from backend.catalog import Catalog
from backend.orchestration.stemming import stem
from backend.orchestration.vocabulary import CODE, GAP, Phrase, everyday, profile
from backend.orchestration.words import FILL_WORDS, Speller, words
from backend.schema.records import SpecialistStatus

AVAILABLE = ("ready", "busy")
COORDINATOR = "apollo-ai"
TYPO_SHARE = 0.7
"""How much a word counts that was only found as the nearest to a misspelt one."""
TOPIC_SHARE = 0.45
"""How much a word counts after "about": a poem about money is a poem."""
LIVE_BONUS = 0.04
"""Share of the score by which a free, quick specialist wins a near tie."""
COMMON_SHARE, CROWD = 0.25, 200
"""In a crowd, a word that more than this share of it has says nothing and is not looked up."""
MAX_GAP = 3
MAX_QUERY_WORDS = 300
MAX_QUERY_CHARS = 8_000
MAX_REASONS = 5
QUICK_MS = 5_000.0
_CODE = re.compile(
    r"```|Traceback|\b[A-Z]\w*(?:Error|Exception)\b|\b\w+\(\)|\bdef \w+|\bfunction \w*\(|[;{]\s*$|==|!=|=>|->",
    re.MULTILINE,
)
_TOPIC_WORDS = frozenset({"about", "regarding", "concerning"})


class Match(Struct):
    """A specialist for a request. `score` is relative; `why` the words that decided; `available` whether it runs."""

    id: str
    score: float
    why: list[str]
    available: bool


class _Tally:
    """Scores and reasons of one request."""

    def __init__(self) -> None:
        self.scores: defaultdict[str, float] = defaultdict(float)
        self.reasons: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)

    def add(self, ai_id: str, score: float, reason: str) -> None:
        self.scores[ai_id] += score
        self.reasons[ai_id].append((score, reason))

    def why(self, ai_id: str) -> list[str]:
        """Return the reasons that weigh most, each once."""
        strongest = sorted(self.reasons[ai_id], key=lambda reason: -reason[0])
        return list(dict.fromkeys(text for _, text in strongest))[:MAX_REASONS]


class Matcher:
    """An index over a catalogue. Building it costs milliseconds; matching reads only the words of the request."""

    def __init__(self, catalog: Catalog) -> None:
        self._ids = [component.id for component in catalog]
        self._words: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
        self._phrases: defaultdict[str, dict[Phrase, list[str]]] = defaultdict(dict)
        entries, spellings = everyday(), set[str]()
        for component in catalog:
            known = profile(component, None if component.own else entries.get(component.name))
            spellings |= known.spellings
            for word, weight in known.weights.items():
                self._words[word].append((component.id, weight))
            for phrase in known.phrases:
                self._phrases[phrase.stems[0]].setdefault(phrase, []).append(component.id)
        self._speller = Speller(spellings)
        self._rarity = {word: _rarity(len(rows), len(self._ids)) for word, rows in self._words.items()}

    def match(
        self, query: str, statuses: dict[str, SpecialistStatus] | None = None, limit: int = 5
    ) -> list[Match]:
        """Rank specialists for a request, best first, each with its reasons.

        Those that run come first; one that does not is listed behind them with that reason, so that the order is the
        order of fallback. When no word is known, the platform's coordinator comes first and says so. `statuses` of
        `None` means that state is not asked for.
        """
        tally = self._tally(query[:MAX_QUERY_CHARS])
        if not tally.scores:
            self._guess(tally)
        ranked = [
            (
                not _runs(status := statuses.get(ai_id) if statuses else None, statuses),
                -score * _liveliness(status),
                ai_id,
            )
            for ai_id, score in tally.scores.items()
        ]
        return [
            Match(ai_id, -score, [*tally.why(ai_id), *_absence(ai_id, statuses)], not absent)
            for absent, score, ai_id in heapq.nsmallest(limit, ranked)
        ]

    def _tally(self, query: str) -> _Tally:
        spoken = words(query)[:MAX_QUERY_WORDS]
        tally = _Tally()
        stems, shares = self._read(spoken)
        topic = self._topic_from(spoken, stems)
        seen: set[str] = set()
        for place, key in enumerate(stems):
            if not key or key in seen or spoken[place] in FILL_WORDS:
                continue
            seen.add(key)
            share = shares[place] * self._rarity[key] * (TOPIC_SHARE if place > topic else 1.0)
            self._score_word(tally, key, share, spoken[place])
        if _CODE.search(query):
            self._score_word(tally, CODE, self._rarity.get(CODE, 0.0), "program text")
        self._score_phrases(
            tally, [key if key else stem(word) for word, key in zip(spoken, stems, strict=True)], topic
        )
        return tally

    def _read(self, spoken: list[str]) -> tuple[list[str], list[float]]:
        """Return the known stem of each word, empty when it has none, and how sure the reading is."""
        stems, shares = list[str](), list[float]()
        for word in spoken:
            key, share = stem(word), 1.0
            if key not in self._words and word not in FILL_WORDS:
                key, share = stem(self._speller.nearest(word)), TYPO_SHARE
            stems.append(key if key in self._words else "")
            shares.append(share)
        return stems, shares

    def _topic_from(self, spoken: list[str], stems: list[str]) -> int:
        """Return the place after which words only name a topic: an "about" behind something telling."""
        told = 0.0
        for place, word in enumerate(spoken):
            if word in _TOPIC_WORDS and told >= 1.0:
                return place
            if stems[place] and word not in FILL_WORDS:
                told = max(told, *(weight for _, weight in self._words[stems[place]]))
        return len(spoken)

    def _score_word(self, tally: _Tally, key: str, share: float, word: str) -> None:
        rows = self._words.get(key, [])
        if len(self._ids) > CROWD and len(rows) > COMMON_SHARE * len(self._ids):
            return
        for ai_id, weight in rows:
            tally.add(ai_id, share * weight, word)

    def _score_phrases(self, tally: _Tally, stems: list[str], topic: int) -> None:
        found: dict[Phrase, tuple[float, list[str]]] = {}
        for start, key in enumerate(stems):
            for phrase, ids in self._phrases.get(key, {}).items():
                if phrase not in found and _follows(phrase.stems, stems, start):
                    share = TOPIC_SHARE if start > topic else 1.0
                    found[phrase] = (share * phrase.weight / len(ids) ** 0.5, ids)
        for phrase, (score, ids) in found.items():
            for ai_id in ids:
                tally.add(ai_id, score, f"“{phrase.text}”")

    def _guess(self, tally: _Tally) -> None:
        """Rank for a request none of whose words is known: whoever coordinates, then the others in table order."""
        for rank, ai_id in enumerate(sorted(self._ids, key=lambda ai_id: ai_id != COORDINATOR)):
            tally.add(ai_id, 0.001 / (rank + 1), "no word of the request is known; by general role")


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


def _runs(status: SpecialistStatus | None, statuses: dict[str, SpecialistStatus] | None) -> bool:
    return statuses is None or (status is not None and status.state in AVAILABLE)


def _absence(ai_id: str, statuses: dict[str, SpecialistStatus] | None) -> list[str]:
    """Return the reason why a specialist cannot answer now, if so."""
    status = statuses.get(ai_id) if statuses else None
    if _runs(status, statuses):
        return []
    return [f"does not run: {status.state}" if status else "does not run: never launched"]


def _liveliness(status: SpecialistStatus | None) -> float:
    """Return a factor a little above 1 for one that is free, quick and reliable."""
    if status is None or status.state not in AVAILABLE:
        return 1.0
    asked = status.turns + status.failures
    reliability = status.turns / asked if asked else 1.0
    quick = 1 / (1 + (status.first_token_ms or 0.0) / QUICK_MS)
    return 1.0 + LIVE_BONUS * reliability * quick / (1 + status.queue)
