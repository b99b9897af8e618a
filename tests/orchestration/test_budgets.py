"""Penia's books: what is counted, what persists, and what is refused before any call."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from backend import catalog
from backend.config import Budget, Price, Settings, SpecialistSettings
from backend.home import Home
from backend.memory import SqliteStore
from backend.orchestration.turns.budgets import BudgetExceeded, Budgets, over_limit
from backend.providers.prices import PriceTable
from backend.schema.frames import Usage
from backend.schema.records import ProviderChoice, TurnOutcome, Used
from backend.specialists.supervisor import Supervisor
from tests.stores import use

SONNET = "anthropic:claude-sonnet-5-5"


class Books:
    """Budgets over a real store and a real table of rows, on a day of the test's choice."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root).prepare()
        self.store = SqliteStore(self.home.database)
        self.day = "2026-11-21"

    async def open(self, settings: Settings) -> Budgets:
        choice = ProviderChoice("scripted", "scripted")
        self.fleet = Supervisor(
            self.home, settings, catalog.load(settings), environment=dict(os.environ), choice=choice,
            publish=lambda *_: None, record_error=lambda *_, **__: None,
        )  # fmt: skip
        opened = Budgets(settings, self.store.turns, self.fleet, day=lambda: self.day)
        await opened.open()
        return opened

    async def spend(self, budgets: Budgets, ai_id: str, ended: TurnOutcome) -> None:
        """Book a turn as its end does: counted, and stored."""
        used = await budgets.priced(ai_id, ended)
        if used is not None:
            budgets.count(used)
            await use(self.store, used)


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    made = Books(tmp_path / "home")
    await made.store.open()
    yield made
    await made.store.close()


def limited(tokens: int = 0, cost: float = 0.0, **own: Budget) -> Settings:
    specialists = {name: SpecialistSettings(budget=limit) for name, limit in own.items()}
    return Settings(budget=Budget(tokens, cost), specialists=specialists)


def outcome(tokens_in: int, tokens_out: int, model: str = SONNET, **more: Any) -> TurnOutcome:
    return TurnOutcome("r1", "apollo-ai", "text", model, usage=Usage(tokens_in, tokens_out), **more)


async def test_over_the_budget_of_a_specialist_only_that_one_is_refused(books: Books) -> None:
    kept = await books.open(limited(apollo=Budget(tokens_per_day=100)))
    await books.spend(kept, "apollo-ai", outcome(60, 39))
    await kept.check("apollo-ai")
    await books.spend(kept, "apollo-ai", outcome(1, 0))
    with pytest.raises(BudgetExceeded) as refused:
        await kept.check("apollo-ai")
    assert refused.value.code == "budget_exceeded"
    assert "apollo has used 100 of 100 tokens today" in refused.value.message
    await kept.check("athena-ai")


async def test_over_the_platforms_budget_everybody_is_refused(books: Books) -> None:
    kept = await books.open(limited(cost=0.01))
    await books.spend(kept, "apollo-ai", outcome(0, 1000))  # 10 dollars a million
    with pytest.raises(BudgetExceeded, match=r"the platform has spent 0\.01 of 0\.01 USD today"):
        await kept.check("athena-ai")


async def test_counters_survive_a_restart_and_begin_anew_with_the_day(books: Books) -> None:
    settings = limited(tokens=100)
    await books.spend(await books.open(settings), "apollo-ai", outcome(100, 0))
    again = await books.open(settings)
    with pytest.raises(BudgetExceeded):
        await again.check("athena-ai")
    assert books.fleet.status("apollo-ai").cost == pytest.approx(100 * 2 / 1e6)
    books.day = "2026-11-22"
    await again.check("athena-ai")
    assert (await again.report()).total.tokens == 0 and books.fleet.status("apollo-ai").cost is None
    assert [row.tokens_in for row in await books.store.turns.usage("2026-11-21")] == [100]


async def test_a_failed_turn_is_paid_for_and_one_that_reached_nobody_is_not(books: Books) -> None:
    kept = await books.open(limited())
    await books.spend(kept, "apollo-ai", outcome(10, 5, code="stalled"))
    await books.spend(kept, "apollo-ai", TurnOutcome("r2", "apollo-ai", "", code="provider_unavailable"))
    assert (await kept.report()).total == Used(10, 5, {"USD": cast(float, pytest.approx(70 / 1e6))})


async def test_a_turn_on_another_provider_than_the_specialists_is_priced_as_what_it_was(books: Books) -> None:
    kept = await books.open(limited())
    await books.spend(kept, "apollo-ai", outcome(1_000_000, 0, "openai:unheard-of"))
    await books.spend(kept, "apollo-ai", outcome(1_000_000, 0, "ollama:llama3.3:70b"))
    rows = {(row.provider, row.model): row for row in (await kept.report()).specialists}
    assert rows[("openai", "unheard-of")].unpriced == 1
    assert rows[("ollama", "llama3.3:70b")].unpriced == 0
    assert books.fleet.status("apollo-ai").cost == 0.0


async def test_the_report_says_how_far_each_limit_is_used(books: Books) -> None:
    kept = await books.open(limited(tokens=1000, apollo=Budget(cost_per_day=2.0)))
    await books.spend(kept, "apollo-ai", outcome(250, 250))
    platform, own = (await kept.report()).limits
    assert (platform.name, platform.tokens, platform.tokens_per_day) == ("the platform", 500, 1000)
    assert (own.name, own.cost_per_day, own.over) == ("apollo", 2.0, "")


EURO = Settings(
    prices={"euro-*": Price(0.0, 1000.0, "EUR")},
    budget=Budget(cost_per_day=5.0),
    specialists={
        "apollo": SpecialistSettings(budget=Budget(cost_per_day=1.0, currency="EUR")),
        "athena": SpecialistSettings(budget=Budget(cost_per_day=1.0, currency="GBP")),
    },
)


async def test_currencies_are_kept_apart_and_a_budget_counts_its_own(books: Books) -> None:
    kept = await books.open(EURO)
    await books.spend(kept, "apollo-ai", outcome(0, 1000))
    await books.spend(kept, "apollo-ai", outcome(0, 10_000, "openai:euro-1"))
    await kept.check("athena-ai")
    with pytest.raises(BudgetExceeded, match=r"apollo has spent 10\.00 of 1\.00 EUR today"):
        await kept.check("apollo-ai")
    row = books.fleet.status("apollo-ai")
    assert row.costs == {"USD": pytest.approx(0.01), "EUR": pytest.approx(10.0)}
    assert (row.cost, row.currency) == (pytest.approx(10.0), "EUR")
    report = await kept.report()
    assert report.total.costs == row.costs
    assert {(line.currency, line.turns) for line in report.specialists} == {("USD", 1), ("EUR", 1)}
    platform, own, dead = report.limits
    assert (platform.cost, platform.currency) == (pytest.approx(0.01), "USD")
    assert "10.0000 EUR not counted" in platform.uncounted
    assert (own.cost, own.currency) == (pytest.approx(10.0), "EUR")
    assert "no price is in GBP" in dead.uncounted and "EUR, USD" in dead.uncounted
    facts = await kept.facts()
    assert "10.0000 EUR, 0.0100 USD" in facts and "no price is in GBP" in facts
    again = await books.open(EURO)
    assert books.fleet.status("apollo-ai").costs == row.costs
    with pytest.raises(BudgetExceeded):
        await again.check("apollo-ai")


async def test_a_limit_on_cost_says_which_turns_had_no_price(books: Books) -> None:
    kept = await books.open(limited(cost=1.0))
    await books.spend(kept, "apollo-ai", outcome(1, 1, "openai:unheard-of"))
    [limit] = (await kept.report()).limits
    assert limit.uncounted == "1 turns without a known price not counted" and not limit.over


async def test_a_turn_that_ends_as_midnight_comes_is_of_the_day_it_was_priced_on(books: Books) -> None:
    kept = await books.open(limited(tokens=10))
    used = await kept.priced("apollo-ai", outcome(100, 0))
    books.day = "2026-11-22"
    await kept.check("apollo-ai")
    assert used is not None and used.day == "2026-11-21"
    kept.count(used)
    await kept.check("apollo-ai")


async def test_penia_is_told_use_limits_what_is_left_and_what_has_no_price(books: Books) -> None:
    kept = await books.open(limited(tokens=1000))
    assert "No tokens were used today (2026-11-21)" in await kept.facts()
    await books.spend(kept, "apollo-ai", outcome(250, 50))
    await books.spend(kept, "athena-ai", outcome(20, 0, "openai:unheard-of"))
    facts = await kept.facts()
    for words in (
        "- the platform: 270 tokens in, 50 out, 0.0010 USD",
        "- apollo: 250 tokens in, 50 out, 0.0010 USD",
        "- budget of the platform: 680 of 1000 tokens are left",
        "no price is known for: unheard-of",
    ):
        assert words in facts


def test_prices_are_dated_fit_dated_names_and_the_operators_come_first() -> None:
    table = PriceTable(Settings())
    assert len(table.dated) == 10 and table.dated.startswith("20")
    dated = table.price("claude-haiku-4-5-20251001")
    assert dated is not None and dated == table.price("claude-haiku-4-5")
    assert table.cost("openai", "unheard-of", Usage(1, 1)) is None
    assert table.cost("embedded", "anything", Usage(10**6, 10**6)) == (0.0, "USD")
    own = PriceTable(Settings(prices={"claude-*": Price(1.0, 2.0, "EUR")}))
    assert own.cost("anthropic", "claude-haiku-4-5", Usage(10**6, 10**6)) == (3.0, "EUR")


def test_cached_written_and_long_prompts_have_prices_of_their_own() -> None:
    own = PriceTable(Settings(prices={"m": Price(10.0, 0.0), "n": Price(10.0, 0.0, cached=2.0, written=5.0)}))
    usage = Usage(input_tokens=2_000_000, cached_tokens=1_000_000, written_tokens=1_000_000)
    assert own.cost("openai", "m", usage) == (10 + 12.5 + 1, "USD")
    assert own.cost("openai", "n", usage) == (10 + 5 + 2, "USD")
    short, long = (own.cost("anthropic", "claude-haiku-5-5", Usage(n)) for n in (100_000, 100_001))
    assert short and long and long[0] > 4 * short[0]


def test_no_limit_is_no_limit_and_a_limit_is_reached_not_passed() -> None:
    assert over_limit(Budget(), Used(10**9, 10**9, {"USD": 1e9})) == ""
    assert over_limit(Budget(tokens_per_day=10), Used(5, 4)) == ""
    assert "10 of 10 tokens" in over_limit(Budget(tokens_per_day=10), Used(5, 5))
    assert "1.50 of 1.00" in over_limit(Budget(cost_per_day=1.0), Used(costs={"USD": 1.5}))


async def test_penia_is_told_of_each_limit_what_is_left_of_it_and_never_less_than_nothing(
    books: Books,
) -> None:
    tokens, both = Budget(tokens_per_day=100), Budget(tokens_per_day=100, cost_per_day=1.0)
    kept = await books.open(limited(cost=0.01, apollo=tokens, athena=both))

    async def left() -> list[str]:
        return [line for line in (await kept.facts()).splitlines() if line.startswith("- budget of ")]

    await books.spend(kept, "apollo-ai", outcome(0, 120))
    await books.spend(kept, "athena-ai", outcome(40, 0))
    assert await left() == [
        "- budget of the platform: 0.0087 of 0.01 USD are left",
        "- budget of apollo: 0 of 100 tokens are left",
        "- budget of athena: 60 of 100 tokens are left, 0.9999 of 1.00 USD are left",
    ]
    await books.spend(kept, "athena-ai", outcome(0, 200_000))
    assert await left() == [
        "- budget of the platform: 0.0000 of 0.01 USD are left",
        "- budget of apollo: 0 of 100 tokens are left",
        "- budget of athena: 0 of 100 tokens are left, 0.0000 of 1.00 USD are left",
    ]
