"""Whether a day's use is within its budget. Pure arithmetic; who counts and keeps the counts is elsewhere."""

from __future__ import annotations

from msgspec import Struct

from backend.config import Budget


class Used(Struct, frozen=True):
    """What was used in a day; cost in the currency of the prices."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    def plus(self, tokens_in: int, tokens_out: int, cost: float) -> Used:
        return Used(self.tokens_in + tokens_in, self.tokens_out + tokens_out, self.cost + cost)


def check(limit: Budget, used: Used) -> str:
    """Return why no further turn fits, empty when one does. A limit of 0 is none."""
    if limit.tokens_per_day and used.tokens >= limit.tokens_per_day:
        return f"has used {used.tokens:,} of {limit.tokens_per_day:,} tokens today"
    if limit.cost_per_day and used.cost >= limit.cost_per_day:
        return f"has spent {used.cost:.2f} of {limit.cost_per_day:.2f} today"
    return ""
