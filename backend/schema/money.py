"""Sums of money in words. Currencies are never added up: each is a sum of its own. Knows no prices."""

from __future__ import annotations

from collections.abc import Mapping


def in_words(costs: Mapping[str, float]) -> str:
    """Return `0.0100 USD, 0.2000 EUR`, the largest figure first; empty when nothing was spent."""
    spent = sorted(((cost, currency) for currency, cost in costs.items() if cost), reverse=True)
    return ", ".join(f"{cost:.4f} {currency}" for cost, currency in spent)


def added(costs: Mapping[str, float], currency: str, cost: float) -> dict[str, float]:
    """Return the sums with one more; a cost without a currency is of no price and changes nothing."""
    return {**costs, currency: costs.get(currency, 0.0) + cost} if currency else dict(costs)
