"""The states as a table, the queue in front of a provider, rows that publish each change once."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import pytest

from backend.schema.events import SpecialistEvent
from backend.schema.frames import Usage
from backend.schema.records import SpecialistStatus, TurnOutcome
from backend.schema.states import SpecialistState
from backend.specialists.state import TRANSITIONS, IllegalTransition, check, loudest
from backend.specialists.status_table import StatusTable
from backend.specialists.turn_stats import TurnStats
from backend.worker.admission_queue import AdmissionQueue


def test_every_state_has_its_edges_and_every_edge_leads_to_a_state() -> None:
    states = set(get_args(SpecialistState))
    assert TRANSITIONS.keys() == states
    assert set().union(*TRANSITIONS.values()) <= states
    for state in states - {"busy"}:
        assert any(state in targets for targets in TRANSITIONS.values())


@pytest.mark.parametrize("state", ["stopped", "exited", "killed", "foreign-port", "lost"])
def test_whatever_ended_can_be_launched_again(state: SpecialistState) -> None:
    check(state, "starting")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("stopped", "busy"),
        ("stopping", "ready"),
        ("exited", "busy"),
        ("starting", "busy"),
        ("stopped", "killed"),
    ],
)
def test_impossible_moves_are_refused(before: SpecialistState, after: SpecialistState) -> None:
    with pytest.raises(IllegalTransition):
        check(before, after)


def test_the_phase_shown_is_the_one_furthest_on_and_a_stall_before_a_wait() -> None:
    assert loudest(["queued", "streaming", "stalled"]) == "streaming"
    assert loudest(["queued", "stalled", "prefill"]) == "stalled"
    assert loudest(["queued", "prefill"]) == "prefill"
    assert loudest([]) is None


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def table(told: list[Any]) -> StatusTable:
    table = StatusTable(lambda event, topic: told.append((topic, event)))
    table.put(SpecialistStatus("apollo-ai", "apollo", "T", "apollo", state="ready", pid=1))
    return table


def test_a_change_is_told_once_and_no_change_not_at_all(table: StatusTable, told: list[Any]) -> None:
    table.update("apollo-ai", detail="x")
    table.update("apollo-ai", detail="x")
    assert [(topic, type(event)) for topic, event in told] == [("fleet", SpecialistEvent)]


def test_a_row_somebody_holds_never_changes_under_them(table: StatusTable) -> None:
    held = table.rows["apollo-ai"]
    table.update("apollo-ai", detail="new")
    assert held.detail == "" and table.rows["apollo-ai"].detail == "new"


def test_turns_move_the_row_between_ready_and_busy_with_phases_and_queue(table: StatusTable) -> None:
    stats = TurnStats(table)
    stats.began("apollo-ai", "r1")
    stats.began("apollo-ai", "r2")
    row = table.rows["apollo-ai"]
    assert (row.state, row.phase, row.queue) == ("busy", "queued", 2)
    stats.phase("apollo-ai", "r1", "streaming")
    began = table.rows["apollo-ai"].phase_since
    stats.phase("apollo-ai", "r2", "queued", position=1)
    row = table.rows["apollo-ai"]
    assert (row.phase, row.phase_since) == ("streaming", began)
    stats.ended("apollo-ai", "r1", TurnOutcome("r1", "apollo-ai", "text"))
    row = table.rows["apollo-ai"]
    assert (row.state, row.phase, row.detail, row.queue) == ("busy", "queued", "1 in line", 1)
    stats.ended("apollo-ai", "r2", TurnOutcome("r2", "apollo-ai", "text"))
    row = table.rows["apollo-ai"]
    assert (row.state, row.phase, row.queue, row.turns) == ("ready", None, 0, 2)


def test_an_outcome_fills_the_figures_and_a_failure_counts_as_one(table: StatusTable) -> None:
    stats = TurnStats(table)
    stats.began("apollo-ai", "r1")
    good = TurnOutcome(
        "r1", "apollo-ai", "x", usage=Usage(10, 21), first_token_ms=500.0, total_time=2.5, chunks=21
    )
    stats.ended("apollo-ai", "r1", good)
    row = table.rows["apollo-ai"]
    assert (row.tokens_in, row.tokens_out, row.first_token_ms, row.tokens_per_second) == (10, 21, 500.0, 10.0)
    assert (row.turns, row.failures, row.avg_response_s) == (1, 0, 2.5)
    stats.began("apollo-ai", "r2")
    stats.ended("apollo-ai", "r2", TurnOutcome("r2", "apollo-ai", "", code="provider_auth", error="no key"))
    stats.began("apollo-ai", "r3")
    stats.ended("apollo-ai", "r3", TurnOutcome("r3", "apollo-ai", "", code="cancelled", error="cancelled"))
    row = table.rows["apollo-ai"]
    assert (row.turns, row.failures, row.last_error_code, row.last_error) == (1, 1, "provider_auth", "no key")


def test_the_time_a_person_took_to_allow_a_call_is_no_speed_of_the_model(table: StatusTable) -> None:
    stats = TurnStats(table)
    for name, waits in (("r1", True), ("r2", False)):
        stats.began("apollo-ai", name)
        if waits:
            stats.phase("apollo-ai", name, "waiting")
        stats.progressed("apollo-ai", name)
        assert len(stats.first_tokens) == (0 if waits else 1)
        outcome = TurnOutcome(
            name, "apollo-ai", "x", usage=Usage(10, 21), first_token_ms=500.0, total_time=2.5, chunks=21
        )
        stats.ended("apollo-ai", name, outcome)
        assert table.rows["apollo-ai"].tokens_per_second == (None if waits else 10.0)


def test_a_turn_that_ends_after_its_worker_died_does_not_bring_the_row_back(table: StatusTable) -> None:
    stats = TurnStats(table)
    stats.began("apollo-ai", "r1")
    table.update("apollo-ai", state="killed", phase=None, cause="killed by signal 9")
    stats.ended("apollo-ai", "r1", TurnOutcome("r1", "apollo-ai", "", code="worker_lost", error="lost"))
    row = table.rows["apollo-ai"]
    assert (row.state, row.phase, row.queue) == ("killed", None, 0)


@pytest.mark.parametrize("broken_first", [False, True])
async def test_a_death_names_the_turns_it_cut_once_whether_the_connection_broke_before_or_after(
    broken_first: bool, table: StatusTable
) -> None:
    stats = TurnStats(table)
    lost = [TurnOutcome(name, "apollo-ai", "", code="worker_lost", error="lost") for name in ("r1", "r2")]
    for outcome in lost:
        stats.began("apollo-ai", outcome.request_id)
    told: list[str] = []
    if broken_first:
        for outcome in lost:
            stats.ended("apollo-ai", outcome.request_id, outcome)
    waiting = [asyncio.create_task(stats.in_death_record("apollo-ai", o.request_id, 20)) for o in lost]
    await asyncio.sleep(0)
    told += stats.lost_turns("apollo-ai")
    if not broken_first:
        for outcome in lost:
            stats.ended("apollo-ai", outcome.request_id, outcome)
    assert await asyncio.gather(*waiting) == [True, True]
    assert sorted(told) == ["r1", "r2"] and stats.lost_turns("apollo-ai") == []


async def test_a_turn_cut_from_a_worker_that_lives_on_is_named_in_no_death(table: StatusTable) -> None:
    stats = TurnStats(table)
    stats.began("apollo-ai", "r1")
    stats.ended("apollo-ai", "r1", TurnOutcome("r1", "apollo-ai", "", code="worker_lost", error="cut"))
    assert not await stats.in_death_record("apollo-ai", "r1", 0.0)
    assert stats.lost_turns("apollo-ai") == []


async def test_a_slot_cancelled_in_the_moment_it_was_given_goes_to_the_next() -> None:
    queue = AdmissionQueue(1)
    entered: list[str] = []
    release = asyncio.Event()

    async def go(name: str) -> None:
        async with queue.slot(lambda position: None):
            entered.append(name)
            await release.wait()

    async with queue.slot(lambda position: None):
        second, third = asyncio.create_task(go("second")), asyncio.create_task(go("third"))
        await asyncio.sleep(0)
        assert queue.waiting == 2
    second.cancel()  # the slot was given to it and it has not run since
    release.set()
    await asyncio.wait([second, third])
    assert entered == ["third"] and queue.running == 0 and queue.waiting == 0
