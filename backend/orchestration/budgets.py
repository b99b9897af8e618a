"""Penia's books: tokens and cost a day, and the refusal of a turn that is over its budget.

Counts persist in memory; prices come from the table of the providers. A refused turn makes no upstream call.
"""

from __future__ import annotations

import time
from typing import Any

from backend.config import Settings
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
    """What was spent today, by specialist. Read once at start, kept in step with memory after."""

    def __init__(self, settings: Settings, memory: MemoryStore, fleet: Supervisor) -> None:
        self._settings, self._memory, self._fleet = settings, memory, fleet
        self._prices = prices.PriceTable(settings)
        self._day = ""
        self._used: dict[str, budget.Used] = {}

    async def open(self) -> None:
        """Read today's counters."""
        self._day = today()
        self._used = {}
        for row in await self._memory.usage(self._day):
            self._add(row.ai_id, row.tokens_in, row.tokens_out, row.cost)

    async def check(self, ai_id: str) -> None:
        """Refuse a turn that is over its specialist's budget or the platform's.

        Raises:
            BudgetExceeded: Before any call is made.
        """
        if self._day != today():
            await self.open()
        own = self._settings.specialists.get(ai_id.removesuffix("-ai"))
        limits = [(PLATFORM, self._settings.budget), (ai_id, own.budget if own else None)]
        for name, limit in limits:
            if limit is not None and (reason := budget.check(limit, self._used.get(name, budget.Used()))):
                whose = "the platform" if name == PLATFORM else name.removesuffix("-ai")
                raise BudgetExceeded(
                    f"over budget: {whose} {reason}. Raise it in config.toml, or wait for tomorrow."
                )

    async def spent(self, ai_id: str, outcome: TurnOutcome) -> None:
        """Count a turn that ended, failed or not: what was generated was paid for."""
        if outcome.usage is None:
            return
        status = self._fleet.status(ai_id)
        model = outcome.model.partition(":")[2] or status.model
        priced = self._prices.cost(status.provider, model, outcome.usage)
        cost = priced[0] if priced else None
        usage = outcome.usage
        self._add(ai_id, usage.input_tokens, usage.output_tokens, cost or 0.0)
        self._fleet.cost_changed(
            ai_id, self._used[ai_id].cost if priced else None, priced[1] if priced else "USD"
        )
        await self._memory.add_usage(
            ai_id, today(), status.provider, model, usage.input_tokens, usage.output_tokens, cost
        )

    async def report(self) -> dict[str, Any]:
        """Return today's tokens and cost by specialist and in sum, with the limits."""
        rows = await self._memory.usage(today())
        return {
            "day": today(),
            "specialists": rows,
            "total": self._used.get(PLATFORM, budget.Used()),
            "budget": self._settings.budget,
            "budgets": {n: s.budget for n, s in self._settings.specialists.items() if s.budget is not None},
            "prices_of": self._prices.dated,
        }

    async def facts(self) -> str:
        """Return the day's books in words, for Penia's context."""
        lines = [f"Tokens and cost today ({today()}), counted by the platform:"]
        for ai_id, used in sorted(self._used.items()):
            name = "all specialists together" if ai_id == PLATFORM else ai_id.removesuffix("-ai")
            cost = f", {used.cost:.4f} USD" if used.cost else ""
            lines.append(f"- {name}: {used.tokens_in} tokens in, {used.tokens_out} out{cost}")
        return "\n".join(lines) if self._used else f"No tokens were used today ({today()})."

    def _add(self, ai_id: str, tokens_in: int, tokens_out: int, cost: float) -> None:
        for name in (ai_id, PLATFORM):
            self._used[name] = self._used.get(name, budget.Used()).plus(tokens_in, tokens_out, cost)


def today() -> str:
    """Return the local day, `YYYY-MM-DD`."""
    return time.strftime("%Y-%m-%d")
