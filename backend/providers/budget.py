"""Whether a day's use is within its budget. Pure arithmetic; who counts and keeps the counts is elsewhere."""

from __future__ import annotations

from msgspec import Struct

from backend.config import Budget
from backend.schema import money


class Used(Struct, frozen=True):
    """What was used in a day; `costs` by currency, `unpriced` turns have none."""

    tokens_in: int = 0
    tokens_out: int = 0
    costs: dict[str, float] = {}
    unpriced: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    def plus(self, tokens_in: int, tokens_out: int, cost: float, currency: str, unpriced: int = 0) -> Used:
        return Used(
            self.tokens_in + tokens_in,
            self.tokens_out + tokens_out,
            money.added(self.costs, currency, cost),
            self.unpriced + unpriced,
        )


def check(limit: Budget, used: Used) -> str:
    """Return why no further turn fits, empty when one does. A limit of 0 is none; only its own currency counts."""
    if limit.tokens_per_day and used.tokens >= limit.tokens_per_day:
        return f"has used {used.tokens:,} of {limit.tokens_per_day:,} tokens today"
    spent = used.costs.get(limit.currency, 0.0)
    if limit.cost_per_day and spent >= limit.cost_per_day:
        return f"has spent {spent:.2f} of {limit.cost_per_day:.2f} {limit.currency} today"
    return ""


def uncounted(limit: Budget, used: Used, priced_in: set[str]) -> str:
    """Return what a limit on cost does not see, empty when it sees all: other currencies, turns without a price."""
    if not limit.cost_per_day:
        return ""
    parts: list[str] = []
    if limit.currency not in priced_in:
        known = ", ".join(sorted(priced_in))
        parts.append(f"no price is in {limit.currency}, so this limit stops nothing: prices are in {known}")
    others = {currency: cost for currency, cost in used.costs.items() if currency != limit.currency}
    if spent := money.in_words(others):
        parts.append(f"{spent} not counted: the limit is in {limit.currency}")
    if used.unpriced:
        parts.append(f"{used.unpriced} turns without a known price not counted")
    return "; ".join(parts)
