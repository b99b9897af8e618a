"""Once a day old conversations are compressed or let go, and what was learned of tokens outlives the backend."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backend.config import Memory
from backend.events import EventStream
from backend.memory import Retention, SqliteStore, StoreFailed, TokenEstimator
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.maintenance import DAY_S, Maintenance
from tests.stores import say

NOW = 1_800_000_000.0
LONG = "a sentence that is said again and again. " * 40


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "engram.sqlite3")
    await opened.open()
    yield opened
    await opened.close()


def keeper(store: SqliteStore, settings: Memory, estimator: TokenEstimator | None = None) -> Maintenance:
    return Maintenance(store, ErrorLog(store.errors, EventStream()), settings, estimator or TokenEstimator())


async def test_the_retention_runs_once_a_day_by_the_settings(store: SqliteStore) -> None:
    session = await store.sessions.create("apollo-ai")
    for days in (100, 50, 1):
        await say(store, session.id, LONG, created_at=NOW - days * DAY_S)
    chores = keeper(store, Memory(retention_days=90, compress_after_days=30))
    await chores.look(NOW)
    assert chores.report is not None
    assert chores.report.messages_deleted == 1
    assert len(await store.messages.read(session.id)) == 2
    first = chores.report
    await chores.look(NOW + DAY_S / 2)
    assert chores.report is first, "a day has one retention"
    await chores.look(NOW + 20 * DAY_S)
    await chores.look(NOW + 45 * DAY_S)
    assert (chores.report.messages_deleted, chores.report.sessions_packed) == (1, 1)
    assert chores.report.bytes_packed > 1_000
    assert [row.content for row in await store.messages.read(session.id)] == [LONG]


async def test_the_day_is_counted_across_restarts(store: SqliteStore) -> None:
    await keeper(store, Memory()).look(NOW)
    again = keeper(store, Memory())
    await again.look(NOW + 100)
    assert again.report is None
    await again.look(NOW + DAY_S + 1)
    assert again.report is not None


async def test_a_clock_set_back_does_not_stop_the_retention(store: SqliteStore) -> None:
    chores = keeper(store, Memory())
    await chores.look(NOW + 1_000 * DAY_S)
    chores.report = None
    await chores.look(NOW)
    assert chores.report is not None


@pytest.mark.parametrize("leap_days", [32, 730, 36_500])
async def test_a_clock_that_leaps_ahead_deletes_nothing_until_a_person_says_that_it_is_right(
    store: SqliteStore, leap_days: int
) -> None:
    session = await store.sessions.create("apollo-ai")
    await say(store, session.id, LONG, created_at=NOW)
    log = ErrorLog(store.errors, EventStream())
    await log.open()
    log.record("apollo-ai", "internal", "seen by nobody")
    keeps = {"retention_days": 30, "errors_days": 1, "unseen_errors_days": 365, "compress_after_days": 1}
    chores = Maintenance(store, log, Memory(**keeps), TokenEstimator())
    await chores.look(NOW)
    chores.report = None
    later = NOW + leap_days * DAY_S
    for _ in range(3):
        await chores.look(later)
        await log.flush()
    assert chores.report is None and len(await store.messages.read(session.id)) == 1
    told, kept = await store.errors.find()
    today = time.strftime("%Y-%m-%d", time.localtime(later))
    assert (told.code, told.count, kept.message) == ("clock_leapt", 1, "seen by nobody")
    assert f'clock_checked = "{today}"' in told.message and f"the clock says {today}" in told.message

    earlier = time.strftime("%Y-%m-%d", time.localtime(NOW))
    await Maintenance(store, log, Memory(**keeps, clock_checked=earlier), TokenEstimator()).look(later)
    assert len(await store.messages.read(session.id)) == 1, "what was said before the leap is not about it"
    await chores.look(NOW + DAY_S)
    assert chores.report is not None and len(await store.messages.read(session.id)) == 1, (
        "the clock is right again"
    )
    agreed = Maintenance(store, log, Memory(**keeps, clock_checked=today), TokenEstimator())
    await agreed.look(later + 3 * DAY_S)
    assert agreed.report is not None and agreed.report.messages_deleted == 1
    await log.close()


async def test_learned_token_counts_outlive_the_backend(store: SqliteStore) -> None:
    estimator = TokenEstimator()
    first = keeper(store, Memory(), estimator)
    await first.open()
    estimator.learn("ollama:llama", [LONG], 900)
    await first.close()
    later = TokenEstimator()
    await keeper(store, Memory(), later).open()
    assert later.factors == estimator.factors != {}
    assert later.count(LONG, "ollama:llama") == estimator.count(LONG, "ollama:llama")


async def test_a_stored_count_that_cannot_be_true_is_bounded(store: SqliteStore) -> None:
    await store.settings.put("housekeeping:token_factors", {"m": 900.0, "n": "much"})
    estimator = TokenEstimator()
    await keeper(store, Memory(), estimator).open()
    assert list(estimator.factors) == ["m"]
    assert estimator.factors["m"] <= 4


async def test_a_retention_that_fails_is_in_the_ledger_and_not_tried_again_that_day(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    async def full(ages: Retention, now: float) -> None:
        asked.append(now)
        raise StoreFailed("the disk is full. Free some disk space and try again.")

    monkeypatch.setattr(store, "retain", full)
    ledger = ErrorLog(store.errors, EventStream())
    await ledger.open()
    chores = Maintenance(store, ledger, Memory(), TokenEstimator())
    await chores.look(NOW)
    await chores.look(NOW + 60)
    await ledger.flush()
    assert asked == [NOW]
    (error,) = await store.errors.find()
    assert error.where == "memory"
    assert "disk is full" in error.message
    await ledger.close()
