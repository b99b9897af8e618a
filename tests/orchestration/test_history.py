"""What the console's plots and its timeline are made of: samples of the fleet, and turns with their phases."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from backend.history import FIRST_TOKENS_S, History
from backend.monitor import host_figures
from backend.orchestration.platform import Platform
from backend.schema.history import HISTORY_S, SAMPLE_EVERY_S
from backend.schema.records import HostFigures, SpecialistStatus, Used
from backend.specialists.status_table import StatusTable
from backend.specialists.turn_stats import FirstToken, TurnStats
from tests.orchestration.running import SLOW, do, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
GIB = 1024**3
HOST = HostFigures(cpu=31.04, cores=2, memory_total=8 * GIB, memory_available=2 * GIB)


def stats() -> TurnStats:
    table = StatusTable(lambda event, topic: None)
    table.rows["apollo-ai"] = SpecialistStatus("apollo-ai", "apollo", "T", "apollo", state="ready")
    return TurnStats(table)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with running(tmp_path_factory.mktemp("history") / "home", "apollo") as platform:
        yield platform


async def test_a_sample_is_what_came_since_the_one_before() -> None:
    activity = stats()
    used = Used(100, 20, {"EUR": 0.1, "USD": 0.25})
    history = History(activity, lambda: used)
    first = history.take(HOST, now=10_000.0)
    activity.began("apollo-ai", "r")
    activity.progressed("apollo-ai", "r", 90)
    sample = history.take(HOST, now=10_002.0)
    assert (first.rate, sample.rate) == (0.0, 45.0)
    assert (sample.cpu, sample.memory) == (31.0, 75.0)
    assert (sample.cost, sample.currency, sample.tokens) == (0.25, "USD", 120)
    assert history.take(HOST, now=10_004.0).rate == 0.0


async def test_first_tokens_are_the_median_of_the_last_minute() -> None:
    activity = stats()
    history = History(activity, Used)
    assert history.take(HOST, now=0.0).first_token_ms is None
    activity.first_tokens += [FirstToken(0.0, 9_000.0), FirstToken(50.0, 100.0), FirstToken(55.0, 300.0)]
    assert history.take(HOST, now=55.0).first_token_ms == 300.0
    assert history.take(HOST, now=FIRST_TOKENS_S + 1).first_token_ms == 200.0
    assert history.take(HOST, now=200.0).first_token_ms is None


async def test_a_sample_holds_no_currency_while_nothing_has_a_price() -> None:
    sample = History(stats(), lambda: Used(10, 5, {"USD": 0.0}, 2)).take(HOST)
    assert (sample.cost, sample.currency, sample.tokens) == (0.0, "", 15)


async def test_the_series_is_bounded_at_ten_minutes() -> None:
    history = History(stats(), Used)
    for beat in range(2_000):
        history.take(HOST, now=float(beat))
    record = history.record()
    assert record.step_s == SAMPLE_EVERY_S
    assert len(record.samples) * record.step_s == HISTORY_S


async def test_an_answered_turn_is_in_row_snapshot_and_log(platform: Platform) -> None:
    await do(platform, "chat", ai_id="apollo", content="[[repeat 30]]", request_id="told")
    platform.monitor.history.take(host_figures())
    seen = platform.snapshot()
    row = next(row for row in seen.specialists if row.id == "apollo-ai")
    assert row.short == "executive"
    assert 0 < row.context_used < row.context_window
    assert seen.history is not None
    newest = seen.history.samples[-1]
    assert newest.first_token_ms is not None and newest.tokens > 0
    found = await do(platform, "list_turns")
    (turn,) = [turn for turn in found.turns if turn.request_id == "told"]
    phases = [phase.phase for phase in turn.phases]
    assert phases[0] == "queued" and phases[-1] == "streaming"
    assert found.recorded_since <= turn.started_at == turn.phases[0].at <= turn.phases[-1].at <= turn.ended_at
    assert (turn.ai_id, turn.code) == ("apollo-ai", None) and turn.tokens_out > 0
    before = await do(platform, "list_turns", until=turn.started_at - 0.001)
    after = await do(platform, "list_turns", since=turn.ended_at + 0.001)
    assert "told" not in [turn.request_id for turn in (*before.turns, *after.turns)]


async def test_a_turn_under_way_is_listed_once_and_says_how_it_ended_after(platform: Platform) -> None:
    await do(platform, "chat", ai_id="apollo", content=SLOW, request_id="slow", wait=False)
    running_now = [turn for turn in (await do(platform, "list_turns")).turns if turn.request_id == "slow"]
    assert [turn.ended_at for turn in running_now] == [0.0]
    await do(platform, "cancel", target="slow")
    ended = [turn for turn in (await do(platform, "list_turns")).turns if turn.request_id == "slow"]
    assert [turn.code for turn in ended] == ["cancelled"] and ended[0].ended_at > 0


async def test_of_a_long_list_the_newest_are_kept_and_it_says_so(platform: Platform) -> None:
    for number in range(3):
        await do(platform, "chat", ai_id="apollo", content="hi", request_id=f"n{number}")
    found = await do(platform, "list_turns", limit=2)
    assert [turn.request_id for turn in found.turns] == ["n1", "n2"] and found.more
