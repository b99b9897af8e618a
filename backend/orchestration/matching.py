"""Ranked matching of a free request to specialists, with reasons and in order of fallback.

Lexical: words of the request against names, capabilities, everyday vocabulary (`matching.toml`), descriptions and
personas, rare words counting more; misspelt words find their nearest. Live state and speed break near ties and push the
dead behind the living. Knows no model and calls nobody.
"""

from __future__ import annotations

import math
import tomllib
from collections import defaultdict
from importlib import resources

from msgspec import Struct

from backend.catalog import Catalog, Component
from backend.orchestration.words import content_words, nearest, stem
from backend.schema.records import SpecialistStatus

FIELD_WEIGHTS = {
    "name": 8.0,
    "phrases": 4.0,
    "capabilities": 3.0,
    "vocabulary": 3.0,
    "title": 2.0,
    "description": 1.5,
    "persona": 0.6,
}
"""How much a word counts by where it stands in a specialist's texts."""
SATURATION = 1.2
PHRASE_BONUS = 2.5
TYPO_SHARE = 0.7
"""How much a word counts that was only found as the nearest to a misspelt one."""
LIVE_BONUS = 0.04
"""Share of the score by which a free, quick specialist wins a near tie."""
MAX_QUERY_WORDS = 400
AVAILABLE = ("ready", "busy")


class Match(Struct):
    """A specialist for a request. `score` is relative; `why` the words that decided; `available` whether it runs."""

    id: str
    score: float
    why: list[str]
    available: bool


class Matcher:
    """An index over a catalogue. Building it costs milliseconds; matching reads only the words of the request."""

    def __init__(self, catalog: Catalog) -> None:
        self._ids = [component.id for component in catalog]
        self._index: dict[str, dict[str, float]] = defaultdict(dict)
        self._phrases: dict[str, dict[str, str]] = defaultdict(dict)
        self._names: dict[str, str] = {}
        vocabulary = _vocabulary()
        for component in catalog:
            self._add(component, vocabulary.get(component.name, {}) if not component.own else {})
        self._idf = {
            word: math.log(1 + (len(self._ids) - len(rows) + 0.5) / (len(rows) + 0.5))
            for word, rows in self._index.items()
        }

    def match(
        self, query: str, statuses: dict[str, SpecialistStatus] | None = None, limit: int = 5
    ) -> list[Match]:
        """Rank specialists for a request, best first, each with its reasons.

        Those that run come first; one that does not is listed behind them with that reason, so that the order is the
        order of fallback. When no word is known, the platform's coordinator comes first and says so.
        """
        scores, reasons = self._scores(query)
        ranked: list[Match] = []
        for ai_id, score in scores.items():
            status = statuses.get(ai_id) if statuses else None
            available = status is None or status.state in AVAILABLE
            why = (
                reasons[ai_id]
                if available
                else [*reasons[ai_id], f"does not run: {status.state if status else ''}"]
            )
            ranked.append(Match(ai_id, score * (1 + _liveliness(status)), why, available))
        if not ranked:
            ranked = self._unknown(statuses)
        ranked.sort(key=lambda match: (not match.available, -match.score, match.id))
        return ranked[:limit]

    def _scores(self, query: str) -> tuple[dict[str, float], dict[str, list[str]]]:
        words = content_words(query)[:MAX_QUERY_WORDS]
        scores: defaultdict[str, float] = defaultdict(float)
        reasons: defaultdict[str, list[str]] = defaultdict(list)
        stems = [stem(word) for word in words]
        for word, key in dict(zip(words, stems, strict=True)).items():
            share = 1.0
            if key not in self._index:
                key, share = nearest(key, self._index), TYPO_SHARE
            if not key:
                continue
            for ai_id, weight in self._index[key].items():
                scores[ai_id] += share * self._idf[key] * weight * (SATURATION + 1) / (weight + SATURATION)
                reasons[ai_id].append(word)
        self._score_phrases(stems, scores, reasons)
        return scores, {ai_id: list(dict.fromkeys(found))[:6] for ai_id, found in reasons.items()}

    def _score_phrases(
        self, stems: list[str], scores: defaultdict[str, float], reasons: defaultdict[str, list[str]]
    ) -> None:
        for length in (2, 3):
            for start in range(len(stems) - length + 1):
                key = " ".join(stems[start : start + length])
                for ai_id, phrase in self._phrases.get(key, {}).items():
                    scores[ai_id] += PHRASE_BONUS * length
                    reasons[ai_id].insert(0, f"“{phrase}”")

    def _add(self, component: Component, vocabulary: dict[str, list[str]]) -> None:
        fields = {
            "name": " ".join([component.name.replace("_", " "), *component.aliases]),
            "title": component.title,
            "capabilities": " ".join([*component.capabilities, *component.roles]),
            "vocabulary": " ".join(vocabulary.get("words", [])),
            "phrases": " ".join(vocabulary.get("phrases", [])),
            "description": component.description,
            "persona": component.persona,
        }
        weights: dict[str, float] = {}
        for field, text in fields.items():
            for word in map(stem, content_words(text)):
                weights[word] = max(weights.get(word, 0.0), FIELD_WEIGHTS[field])
        for word, weight in weights.items():
            self._index[word][component.id] = weight
        for phrase in [*vocabulary.get("phrases", []), *component.capabilities]:
            stems = [stem(word) for word in content_words(phrase)]
            if len(stems) in (2, 3):
                self._phrases[" ".join(stems)][component.id] = phrase

    def _unknown(self, statuses: dict[str, SpecialistStatus] | None) -> list[Match]:
        """Answer a request none of whose words is known: whoever coordinates, then everybody else."""
        found: list[Match] = []
        for rank, ai_id in enumerate(sorted(self._ids, key=lambda i: (i != "apollo-ai", self._ids.index(i)))):
            status = statuses.get(ai_id) if statuses else None
            available = status is None or status.state in AVAILABLE
            found.append(
                Match(
                    ai_id, 0.001 / (rank + 1), ["no word of the request is known; by general role"], available
                )
            )
        return found


def _liveliness(status: SpecialistStatus | None) -> float:
    """Return a small share for one that is free and quick, less for one with a queue or failures."""
    if status is None or status.state not in AVAILABLE:
        return 0.0
    asked = status.turns + status.failures
    reliability = status.turns / asked if asked else 1.0
    quick = 1 / (1 + (status.first_token_ms or 0.0) / 5_000)
    return LIVE_BONUS * reliability * quick / (1 + status.queue)


def _vocabulary() -> dict[str, dict[str, list[str]]]:
    """Read the everyday words and phrases of the shipped specialists."""
    text = resources.files("backend.orchestration").joinpath("matching.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
