"""Ranked matching of a free request to specialists, with reasons and in order of fallback.

Words and phrases of the request count against everyday vocabulary, names, capabilities, descriptions and personas, rare
words more; misspelt words are corrected. For the shipped specialists a small model of how people ask counts too. State and
speed break near ties; who does not run stands behind those who do. Calls no language model.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from backend.catalog import Catalog
from backend.matching.index import Evidence, Index
from backend.schema.records import SpecialistStatus
from backend.schema.results import MatchedSpecialist
from backend.schema.states import LIVE

COORDINATOR = "apollo-ai"
LIVE_BONUS = 0.04
"""Share of the score by which a free, quick specialist wins a near tie."""
QUICK_MS = 5_000.0
"""First-token time at which half of the bonus for quickness is gone."""
LONG_ROWS = 800
"""Rows longer than this raise those already found by a rarer word, and bring nobody new."""
MAX_REASONS = 5
BY_MODEL = "asked like what it is usually asked"
UNKNOWN = "no word of the request is known; by general role"

Statuses = Mapping[str, SpecialistStatus]


class Matcher:
    """Ranks the specialists of one catalogue. Built in milliseconds; a match reads only the request's words."""

    def __init__(self, catalog: Catalog) -> None:
        self._ids = [component.id for component in catalog]
        self._index = Index(catalog)

    def match(self, query: str, statuses: Statuses | None = None, limit: int = 5) -> list[MatchedSpecialist]:
        """Rank specialists for a request, best first, each with its reasons.

        Those that run come first; one that does not is listed behind them with that reason, so that the order is the
        order of fallback. When no word is known, the platform's coordinator comes first and says so. Without `statuses`
        everybody counts as available.
        """
        evidence = self._index.evidence(query)
        scores = _scores(evidence)
        if not scores:
            order = sorted(self._ids, key=lambda ai_id: ai_id != COORDINATOR)
            scores = {ai_id: 0.001 / (rank + 1) for rank, ai_id in enumerate(order)}
            evidence = [Evidence(dict.fromkeys(order, 1.0), 1.0, UNKNOWN)]
        ranked = heapq.nsmallest(limit, (_rank(ai_id, score, statuses) for ai_id, score in scores.items()))
        return [
            MatchedSpecialist(
                ai_id, -score, [*_reasons(ai_id, evidence), *_absence(ai_id, statuses)], not absent
            )
            for absent, score, ai_id in ranked
        ]


def _scores(evidence: list[Evidence]) -> dict[str, float]:
    """Add the evidence up, the rarest first: a word of a whole crowd then raises only those already found."""
    scores: dict[str, float] = {}
    for piece in sorted(evidence, key=lambda piece: len(piece.rows)):
        if not piece.counts:
            continue
        share = piece.share
        if scores and len(piece.rows) > LONG_ROWS:
            known = (scores.keys() & piece.rows.keys()) if len(scores) < len(piece.rows) else scores
            for ai_id in known:
                scores[ai_id] += share * piece.rows.get(ai_id, 0.0)
            continue
        for ai_id, weight in piece.rows.items():
            scores[ai_id] = scores.get(ai_id, 0.0) + share * weight
    return scores


def _rank(ai_id: str, score: float, statuses: Statuses | None) -> tuple[bool, float, str]:
    """Return a key that sorts the best first: who runs, by score, near ties by liveliness."""
    if statuses is None:
        return False, -score, ai_id
    status = statuses.get(ai_id)
    return not _runs(status), -score * _liveliness(status), ai_id


def _reasons(ai_id: str, evidence: list[Evidence]) -> list[str]:
    """Return the words and phrases that brought a specialist most, each once, strongest first."""
    weighed = [(piece.share * piece.rows[ai_id], piece.reason) for piece in evidence if ai_id in piece.rows]
    strongest = sorted(weighed, key=lambda part: -part[0])
    return list(dict.fromkeys(reason for _, reason in strongest if reason))[:MAX_REASONS] or [BY_MODEL]


def _runs(status: SpecialistStatus | None) -> bool:
    return status is not None and status.state in LIVE


def _absence(ai_id: str, statuses: Statuses | None) -> list[str]:
    """Return the reason why a specialist cannot answer now, if so."""
    if statuses is None or _runs(status := statuses.get(ai_id)):
        return []
    return [f"does not run: {status.state}" if status else "does not run"]


def _liveliness(status: SpecialistStatus | None) -> float:
    """Return a factor a little above 1 for one that is free, quick and reliable."""
    if status is None or status.state not in LIVE:
        return 1.0
    asked = status.turns + status.failures
    reliability = status.turns / asked if asked else 1.0
    quick = 1 / (1 + (status.first_token_ms or 0.0) / QUICK_MS)
    return 1.0 + LIVE_BONUS * reliability * quick / (1 + status.queue)
