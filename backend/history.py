"""Ten minutes of the fleet's figures: tokens a second, first tokens, the host, what today cost.

Bounded, and one sample is a few sums. Knows neither processes nor turns: who counts is passed in.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median

from backend.schema import history as schema
from backend.schema.history import HISTORY_S, SAMPLE_EVERY_S, Sample
from backend.schema.records import HostFigures, Used
from backend.specialists.turn_stats import TurnStats

FIRST_TOKENS_S = 60.0
"""The median of first tokens is of so many seconds."""


class History:
    """Takes a sample at each `take`; `record` returns those that are kept."""

    def __init__(self, activity: TurnStats, used_today: Callable[[], Used]) -> None:
        self._activity, self._used_today = activity, used_today
        self._samples: deque[Sample] = deque(maxlen=round(HISTORY_S / SAMPLE_EVERY_S))
        self._before = (time.monotonic(), activity.pieces)

    def record(self) -> schema.History:
        return schema.History(SAMPLE_EVERY_S, list(self._samples))

    def take(self, host: HostFigures, now: float | None = None) -> Sample:
        """Add and return the sample of this moment; `now` as `time.monotonic` counts."""
        now = time.monotonic() if now is None else now
        then, pieces = self._before
        self._before = now, self._activity.pieces
        used = self._used_today()
        # sums of different currencies are never added up
        currency = max(used.costs, key=lambda name: used.costs[name], default="")
        total = host.memory_total
        sample = Sample(
            timestamp=round(time.time(), 1),
            rate=round((self._activity.pieces - pieces) / max(now - then, 0.001), 1),
            first_token_ms=self._first_token_ms(now),
            cpu=round(host.cpu, 1),
            memory=round(100 * (total - host.memory_available) / total, 1) if total else 0.0,
            cost=round(used.costs.get(currency, 0.0), 4),
            currency=currency if used.costs.get(currency) else "",
            tokens=used.tokens,
        )
        self._samples.append(sample)
        return sample

    def _first_token_ms(self, now: float) -> float | None:
        recent = [first.ms for first in self._activity.first_tokens if now - first.at <= FIRST_TOKENS_S]
        return round(median(recent), 1) if recent else None
