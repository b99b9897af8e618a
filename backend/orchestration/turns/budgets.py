"""Budgets (Penia): tokens and cost per day, and the refusal of a turn that is over its budget.

Counts persist in memory; prices come from the table of the providers. A refused turn makes no upstream call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from backend.config import Settings
from backend.memory import TurnStore
from backend.providers import prices
from backend.schema import money
from backend.schema.errors import TektonError
from backend.schema.frames import Usage
from backend.schema.records import Budget, TurnOutcome, UsageRow, Used
from backend.schema.results import LimitRow, UsageReport
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
        store: TurnStore,
        fleet: Supervisor,
        day: Callable[[], str] | None = None,
    ) -> None:
        self._settings, self._store, self._fleet = settings, store, fleet
        self._today = day or today
        self._prices = prices.PriceTable(settings)
        self._opening = asyncio.Lock()
        self._day = ""
        self._used: dict[str, Used] = {}
        self._unpriced: set[str] = set()
        self._limits = _limits(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Take the limits and prices of other settings; what was used stays."""
        self._settings, self._limits = settings, _limits(settings)
        self._prices = prices.PriceTable(settings)

    async def open(self) -> None:
        """Read today's counters."""
        day = self._today()
        rows = await self._store.usage(day)
        self._day, self._used, self._unpriced = day, {}, set()
        for row in rows:
            self._add(row)
        for status in self._fleet.statuses():
            costs = self._of(status.id).costs
            self._fleet.cost_changed(status.id, costs, max(costs, key=lambda c: costs[c], default="USD"))

    def used_today(self) -> Used:
        """Return what all specialists used today; nothing once midnight has come and no turn since."""
        return self._of(PLATFORM) if self._day == self._today() else Used()

    @property
    def day(self) -> str:
        """The day the counts are of."""
        return self._day

    def limits(self) -> list[LimitRow]:
        """Return how far each budget of today is used; none once midnight has come and no turn since."""
        if self._day != self._today():
            return []
        return [self._limit_row(name) for name in self._limits if self._is_limited(name)]

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

    def over_with(self, ai_id: str, used: Usage) -> str:
        """Return why a turn may not call its model again that used so much already; empty when it may."""
        status = self._fleet.status(ai_id)
        cost, currency = self._prices.cost(status.provider, status.model, used) or (0.0, "")
        for name in (PLATFORM, ai_id):
            if (limit := self._limits.get(name)) is not None:
                before = self._of(name) if self._day == self._today() else Used()
                after = before.plus(used.prompt, used.output_tokens, cost, currency)
                if reason := over_limit(limit, after):
                    return f"{_called(name)} {reason}"
        return ""

    async def priced(self, ai_id: str, outcome: TurnOutcome) -> UsageRow | None:
        """Return what a turn that ended used, to be stored with its answer; `None` when it reached no model.

        Failed or not: what was generated was paid for.
        """
        if outcome.usage is None:
            return None
        await self._roll()
        status, usage = self._fleet.status(ai_id), outcome.usage
        kind, _, model = outcome.model.partition(":")
        kind, model = (kind, model) if model else (status.provider, status.model)
        own = (outcome.cost, outcome.currency) if outcome.cost is not None else None
        price = own or self._prices.cost(kind, model, usage)
        cost, currency = price or (0.0, "")
        return UsageRow(
            self._day, ai_id, kind, model, currency,
            usage.prompt, usage.output_tokens, cost, turns=1, unpriced=int(price is None),
        )  # fmt: skip

    def count(self, row: UsageRow) -> None:
        """Count what was used, stored or not; once midnight has come, yesterday's is in the store alone."""
        if row.day != self._day:
            return
        self._add(row)
        costs = self._of(row.ai_id).costs
        self._fleet.cost_changed(row.ai_id, costs, row.currency or next(reversed(costs), "USD"))

    async def report(self) -> UsageReport:
        """Return today's tokens and cost by specialist and in sum, with the limits and how far each is used."""
        await self._roll()
        return UsageReport(
            day=self._day,
            specialists=await self._store.usage(self._day),
            total=self._of(PLATFORM),
            budget=self._settings.budget,
            budgets={name.removesuffix("-ai"): limit for name, limit in self._own_limits().items()},
            limits=self.limits(),
            prices_of=self._prices.dated,
        )

    async def facts(self) -> str:
        """Return the day's usage as text, for Penia's context."""
        await self._roll()
        if not self._used:
            return f"No tokens were used today ({self._day})."
        lines = [*self._brief(), "", f"Tokens and cost today ({self._day}), counted by the platform:"]
        lines += [self._fact(name) for name in sorted(self._used, key=lambda n: -self._of(n).tokens)]
        lines += [
            f"- budget of {_called(name)}: {words}" for name in self._limits if (words := self._left(name))
        ]
        if self._unpriced:
            lines.append(f"- no price is known for: {', '.join(sorted(self._unpriced))}")
        lines.append(f"List prices are of {self._prices.dated}; models on own machines cost nothing.")
        return "\n".join(lines)

    def _brief(self) -> list[str]:
        """Return who used most and what is left, in plain sentences: a small model gets no more than that."""
        names = sorted((n for n in self._used if n != PLATFORM), key=lambda n: -self._of(n).tokens)
        lines: list[str] = []
        for name in [*names[:3], PLATFORM]:
            used = self._of(name)
            spent = f" and spent {words}" if (words := money.in_words(used.costs)) else ""
            left = f" Of its budget {words}." if name in self._limits and (words := self._left(name)) else ""
            lines.append(f"Today {_called(name)} used {used.tokens} tokens{spent}.{left}")
        return lines

    async def _roll(self) -> None:
        async with self._opening:
            if self._day != self._today():
                await self.open()

    def _fact(self, name: str) -> str:
        used = self._of(name)
        cost = f", {words}" if (words := money.in_words(used.costs)) else ""
        return f"- {_called(name)}: {used.tokens_in} tokens in, {used.tokens_out} out{cost}"

    def _left(self, name: str) -> str:
        limit, used = self._limits[name], self._of(name)
        parts: list[str] = []
        if limit.tokens_per_day:
            left = max(0, limit.tokens_per_day - used.tokens)
            parts.append(f"{left} of {limit.tokens_per_day} tokens are left")
        if limit.cost_per_day:
            rest = max(0.0, limit.cost_per_day - used.costs.get(limit.currency, 0.0))
            parts.append(f"{rest:.4f} of {limit.cost_per_day:.2f} {limit.currency} are left")
        if unseen := self._uncounted(name):
            parts.append(unseen)
        return ", ".join(parts)

    def _limit_row(self, name: str) -> LimitRow:
        limit, used = self._limits[name], self._of(name)
        return LimitRow(
            id=name,
            name=_called(name),
            tokens=used.tokens,
            tokens_per_day=limit.tokens_per_day,
            cost=used.costs.get(limit.currency, 0.0),
            cost_per_day=limit.cost_per_day,
            currency=limit.currency,
            uncounted=self._uncounted(name),
            over=self._over(name),
        )

    def _own_limits(self) -> dict[str, Budget]:
        return {name: limit for name, limit in self._limits.items() if name != PLATFORM}

    def _is_limited(self, name: str) -> bool:
        return bool(self._limits[name].tokens_per_day or self._limits[name].cost_per_day)

    def _over(self, name: str) -> str:
        limit = self._limits.get(name)
        return over_limit(limit, self._of(name)) if limit is not None else ""

    def _of(self, name: str) -> Used:
        return self._used.get(name, Used())

    def _uncounted(self, name: str) -> str:
        return not_counted(self._limits[name], self._of(name), self._prices.currencies)

    def _add(self, row: UsageRow) -> None:
        for name in (row.ai_id, PLATFORM):
            self._used[name] = self._of(name).plus(
                row.tokens_in, row.tokens_out, row.cost, row.currency, row.unpriced
            )
        if row.unpriced:
            self._unpriced.add(row.model)


def _limits(settings: Settings) -> dict[str, Budget]:
    own = {f"{n}-ai": s.budget for n, s in settings.own_specialists.items() if s.budget is not None}
    return {PLATFORM: settings.budget, **own}


def today() -> str:
    """Return the local day, `YYYY-MM-DD`."""
    return time.strftime("%Y-%m-%d")


def _called(name: str) -> str:
    return "the platform" if name == PLATFORM else name.removesuffix("-ai")


def over_limit(limit: Budget, used: Used) -> str:
    """Return why no further turn fits, empty when one does. A limit of 0 means no limit; only its own currency counts."""
    if limit.tokens_per_day and used.tokens >= limit.tokens_per_day:
        return f"has used {used.tokens:,} of {limit.tokens_per_day:,} tokens today"
    spent = used.costs.get(limit.currency, 0.0)
    if limit.cost_per_day and spent >= limit.cost_per_day:
        return f"has spent {spent:.2f} of {limit.cost_per_day:.2f} {limit.currency} today"
    return ""


def not_counted(limit: Budget, used: Used, priced_in: set[str]) -> str:
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
