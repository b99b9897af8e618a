"""Penia's books: tokens and cost a day, and the refusal of a turn that is over its budget.

Counts persist in memory; prices come from the table of the providers. A refused turn makes no upstream call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from backend.config import Budget, Settings
from backend.memory import MemoryStore
from backend.providers import budget, prices
from backend.schema.errors import TektonError
from backend.schema.records import TurnOutcome
from backend.specialists.supervisor import Supervisor

PLATFORM = "*"


class BudgetExceeded(TektonError):
    """The day's tokens or cost are used up; the message says which limit, how much, and where it is set."""

    code = "budget_exceeded"


class Budgets:
    """What was spent today, by specialist. Read once at start and at midnight, kept in step with memory after."""

    def __init__(
        self,
        settings: Settings,
        memory: MemoryStore,
        fleet: Supervisor,
        day: Callable[[], str] | None = None,
    ) -> None:
        self._settings, self._memory, self._fleet = settings, memory, fleet
        self._today = day or today
        self._prices = prices.PriceTable(settings)
        self._day = ""
        self._used: dict[str, budget.Used] = {}
        self._unpriced: set[str] = set()
        self._limits = {PLATFORM: settings.budget}
        self._limits |= {f"{n}-ai": s.budget for n, s in settings.specialists.items() if s.budget is not None}

    async def open(self) -> None:
        """Read today's counters."""
        self._day, self._used, self._unpriced = self._today(), {}, set()
        for row in await self._memory.usage(self._day):
            self._add(row.ai_id, row.tokens_in, row.tokens_out, row.cost)
            if row.unpriced:
                self._unpriced.add(row.model)
        for status in self._fleet.statuses():
            self._fleet.cost_changed(status.id, self._of(status.id).cost or None, "USD")

    async def check(self, ai_id: str) -> None:
        """Refuse a turn that is over its specialist's budget or the platform's.

        Raises:
            BudgetExceeded: Before any call is made.
        """
        await self._roll()
        for name in (PLATFORM, ai_id):
            if reason := self._over(name):
                raise BudgetExceeded(
                    f"over budget: {_called(name)} {reason}. Raise it in config.toml, or wait for tomorrow."
                )

    async def spent(self, ai_id: str, outcome: TurnOutcome) -> None:
        """Count a turn that ended, failed or not: what was generated was paid for."""
        if outcome.usage is None:
            return
        await self._roll()
        status = self._fleet.status(ai_id)
        kind, _, model = outcome.model.partition(":")
        kind, model = (kind, model) if model else (status.provider, status.model)
        priced = self._prices.cost(kind, model, outcome.usage)
        cost = priced[0] if priced else None
        usage = outcome.usage
        self._add(ai_id, usage.input_tokens, usage.output_tokens, cost or 0.0)
        if priced is None:
            self._unpriced.add(model)
        self._fleet.cost_changed(
            ai_id,
            self._used[ai_id].cost if priced else self._used[ai_id].cost or None,
            priced[1] if priced else "USD",
        )
        await self._memory.add_usage(
            ai_id, self._day, kind, model, usage.input_tokens, usage.output_tokens, cost
        )

    async def report(self) -> dict[str, Any]:
        """Return today's tokens and cost by specialist and in sum, with the limits and how far each is used."""
        await self._roll()
        return {
            "day": self._day,
            "specialists": await self._memory.usage(self._day),
            "total": self._of(PLATFORM),
            "budget": self._settings.budget,
            "budgets": {name.removesuffix("-ai"): limit for name, limit in self._own_limits().items()},
            "limits": [self._limit_row(name) for name in self._limits if self._is_limited(name)],
            "prices_of": self._prices.dated,
        }

    async def facts(self) -> str:
        """Return the day's books in words, for Penia's context."""
        await self._roll()
        if not self._used:
            return f"No tokens were used today ({self._day})."
        lines = [f"Tokens and cost today ({self._day}), counted by the platform:"]
        lines += [self._fact(name) for name in sorted(self._used, key=lambda n: -self._of(n).tokens)]
        lines += [
            f"- budget of {_called(name)}: {words}" for name in self._limits if (words := self._left(name))
        ]
        if self._unpriced:
            lines.append(f"- no price is known for: {', '.join(sorted(self._unpriced))}")
        lines.append(f"List prices are of {self._prices.dated}; models on own machines cost nothing.")
        return "\n".join(lines)

    async def _roll(self) -> None:
        if self._day != self._today():
            await self.open()

    def _fact(self, name: str) -> str:
        used = self._of(name)
        cost = f", {used.cost:.4f} USD" if used.cost else ""
        return f"- {_called(name)}: {used.tokens_in} tokens in, {used.tokens_out} out{cost}"

    def _left(self, name: str) -> str:
        limit, used = self._limits[name], self._of(name)
        parts: list[str] = []
        if limit.tokens_per_day:
            left = max(0, limit.tokens_per_day - used.tokens)
            parts.append(f"{left} of {limit.tokens_per_day} tokens are left")
        if limit.cost_per_day:
            left = max(0.0, limit.cost_per_day - used.cost)
            parts.append(f"{left:.4f} of {limit.cost_per_day:.2f} USD are left")
        return ", ".join(parts)

    def _limit_row(self, name: str) -> dict[str, Any]:
        limit, used = self._limits[name], self._of(name)
        return {
            "id": name,
            "name": _called(name),
            "tokens": used.tokens,
            "tokens_per_day": limit.tokens_per_day,
            "cost": used.cost,
            "cost_per_day": limit.cost_per_day,
            "over": self._over(name),
        }

    def _own_limits(self) -> dict[str, Budget]:
        return {name: limit for name, limit in self._limits.items() if name != PLATFORM}

    def _is_limited(self, name: str) -> bool:
        return bool(self._limits[name].tokens_per_day or self._limits[name].cost_per_day)

    def _over(self, name: str) -> str:
        limit = self._limits.get(name)
        return budget.check(limit, self._of(name)) if limit is not None else ""

    def _of(self, name: str) -> budget.Used:
        return self._used.get(name, budget.Used())

    def _add(self, ai_id: str, tokens_in: int, tokens_out: int, cost: float) -> None:
        for name in (ai_id, PLATFORM):
            self._used[name] = self._of(name).plus(tokens_in, tokens_out, cost)


def today() -> str:
    """Return the local day, `YYYY-MM-DD`."""
    return time.strftime("%Y-%m-%d")


def _called(name: str) -> str:
    return "the platform" if name == PLATFORM else name.removesuffix("-ai")
