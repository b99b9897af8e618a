"""The states as a table, the line before a provider, rows that tell each change once."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import pytest

from backend.schema.events import SpecialistEvent
from backend.schema.frames import Usage
from backend.schema.records import SpecialistState, SpecialistStatus, TurnOutcome
from backend.specialists.board import Board
from backend.specialists.gate import Gate
from backend.specialists.state import TRANSITIONS, IllegalTransition, check, loudest
from backend.specialists.turnbook import TurnBook


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
def board(told: list[Any]) -> Board:
    board = Board(lambda event, topic: told.append((topic, event)))
    board.put(SpecialistStatus("apollo-ai", "apollo", "T", "apollo", state="ready", pid=1))
    return board


def test_a_change_is_told_once_and_no_change_not_at_all(board: Board, told: list[Any]) -> None:
    board.change("apollo-ai", detail="x")
    board.change("apollo-ai", detail="x")
    assert [(topic, type(event)) for topic, event in told] == [("fleet", SpecialistEvent)]


def test_a_row_somebody_holds_never_changes_under_them(board: Board) -> None:
    held = board.rows["apollo-ai"]
    board.change("apollo-ai", detail="new")
    assert held.detail == "" and board.rows["apollo-ai"].detail == "new"


def test_turns_move_the_row_between_ready_and_busy_with_phases_and_queue(board: Board) -> None:
    book = TurnBook(board)
    book.began("apollo-ai", "r1")
    book.began("apollo-ai", "r2")
    row = board.rows["apollo-ai"]
    assert (row.state, row.phase, row.queue) == ("busy", "queued", 2)
    book.phase("apollo-ai", "r1", "streaming")
    began = board.rows["apollo-ai"].phase_since
    book.phase("apollo-ai", "r2", "queued", position=1)
    row = board.rows["apollo-ai"]
    assert (row.phase, row.phase_since) == ("streaming", began)
    book.ended("apollo-ai", "r1", TurnOutcome("r1", "apollo-ai", "text"))
    row = board.rows["apollo-ai"]
    assert (row.state, row.phase, row.detail, row.queue) == ("busy", "queued", "1 in line", 1)
    book.ended("apollo-ai", "r2", TurnOutcome("r2", "apollo-ai", "text"))
    row = board.rows["apollo-ai"]
    assert (row.state, row.phase, row.queue, row.turns) == ("ready", None, 0, 2)


def test_an_outcome_fills_the_figures_and_a_failure_counts_as_one(board: Board) -> None:
    book = TurnBook(board)
    book.began("apollo-ai", "r1")
    good = TurnOutcome(
        "r1", "apollo-ai", "x", usage=Usage(10, 21), first_token_ms=500.0, total_time=2.5, chunks=21
    )
    book.ended("apollo-ai", "r1", good)
    row = board.rows["apollo-ai"]
    assert (row.tokens_in, row.tokens_out, row.first_token_ms, row.tokens_per_second) == (10, 21, 500.0, 10.0)
    assert (row.turns, row.failures, row.avg_response_s) == (1, 0, 2.5)
    book.began("apollo-ai", "r2")
    book.ended("apollo-ai", "r2", TurnOutcome("r2", "apollo-ai", "", code="provider_auth", error="no key"))
    book.began("apollo-ai", "r3")
    book.ended("apollo-ai", "r3", TurnOutcome("r3", "apollo-ai", "", code="cancelled", error="cancelled"))
    row = board.rows["apollo-ai"]
    assert (row.turns, row.failures, row.last_error_code, row.last_error) == (1, 1, "provider_auth", "no key")


def test_a_turn_that_ends_after_its_worker_died_does_not_bring_the_row_back(board: Board) -> None:
    book = TurnBook(board)
    book.began("apollo-ai", "r1")
    board.change("apollo-ai", state="killed", phase=None, cause="killed by signal 9")
    book.ended("apollo-ai", "r1", TurnOutcome("r1", "apollo-ai", "", code="worker_lost", error="lost"))
    row = board.rows["apollo-ai"]
    assert (row.state, row.phase, row.queue) == ("killed", None, 0)


@pytest.mark.parametrize("broken_first", [False, True])
async def test_a_death_names_the_turns_it_cut_once_whether_the_connection_broke_before_or_after(
    broken_first: bool, board: Board
) -> None:
    book = TurnBook(board)
    lost = [TurnOutcome(name, "apollo-ai", "", code="worker_lost", error="lost") for name in ("r1", "r2")]
    for outcome in lost:
        book.began("apollo-ai", outcome.request_id)
    told: list[str] = []
    if broken_first:
        for outcome in lost:
            book.ended("apollo-ai", outcome.request_id, outcome)
    waiting = [asyncio.create_task(book.was_named("apollo-ai", o.request_id, 20)) for o in lost]
    await asyncio.sleep(0)
    told += book.named_in_death("apollo-ai")
    if not broken_first:
        for outcome in lost:
            book.ended("apollo-ai", outcome.request_id, outcome)
    assert await asyncio.gather(*waiting) == [True, True]
    assert sorted(told) == ["r1", "r2"] and book.named_in_death("apollo-ai") == []


async def test_a_turn_cut_from_a_worker_that_lives_on_is_named_in_no_death(board: Board) -> None:
    book = TurnBook(board)
    book.began("apollo-ai", "r1")
    book.ended("apollo-ai", "r1", TurnOutcome("r1", "apollo-ai", "", code="worker_lost", error="cut"))
    assert not await book.was_named("apollo-ai", "r1", 0.0)
    assert book.named_in_death("apollo-ai") == []


async def test_a_place_cancelled_in_the_moment_it_was_given_goes_to_the_next() -> None:
    gate = Gate(1)
    entered: list[str] = []
    release = asyncio.Event()

    async def go(name: str) -> None:
        async with gate.place(lambda position: None):
            entered.append(name)
            await release.wait()

    async with gate.place(lambda position: None):
        second, third = asyncio.create_task(go("second")), asyncio.create_task(go("third"))
        await asyncio.sleep(0)
        assert gate.waiting == 2
    second.cancel()  # the place was given to it and it has not run since
    release.set()
    await asyncio.wait([second, third])
    assert entered == ["third"] and gate.inside == 0 and gate.waiting == 0
