"""Events become the state of the stores: what ended unseen, and which lines of the timeline are bad news."""

from __future__ import annotations

import pytest

from backend.schema.events import (
    Event,
    GatewayCall,
    PipelineEnd,
    PipelineStart,
    SpecialistEvent,
    TeamEnd,
    TeamQueued,
    TeamStart,
    TurnChanged,
    TurnStarted,
    TurnText,
)
from backend.schema.frames import StreamChunk, StreamEnd, StreamMetadata, StreamToolCall, Usage
from backend.schema.records import ActiveTurn, StoredMessage
from tekton_tui.dispatch import dispatch
from tekton_tui.stores import Stores
from tests.tui.fake_client import NOW, live, row, snapshot

TEAM = TeamStart("t1", "s", "Name a risk.", {"apollo-ai": "t1/apollo-ai"}, NOW)
PIPE = PipelineStart("p1", "apollo", ["apollo"], NOW)


def test_the_end_of_a_team_turn_and_of_a_pipeline_is_kept() -> None:
    stores = Stores()
    dispatch(stores, [TEAM, PIPE])
    assert stores.turns.teams["t1"].end is None and stores.pipes.runs["p1"].end is None
    ends = TeamEnd("t1", 1, 0, 0, 2.0), PipelineEnd("p1", True, "so", 2.0)
    dispatch(stores, ends)
    assert (stores.turns.teams["t1"].end, stores.pipes.runs["p1"].end) == ends


def test_what_is_not_in_a_snapshot_any_more_has_ended_unseen() -> None:
    stores = Stores()
    dispatch(stores, [TEAM, PIPE])
    state = snapshot(live("apollo"))
    state.teams, state.pipelines = [TEAM], ["p1"]
    dispatch(stores, [state])
    assert stores.turns.teams["t1"].end is None and stores.pipes.runs["p1"].end is None
    state = snapshot(live("apollo"))
    state.pipelines = []
    dispatch(stores, [state])
    assert stores.turns.teams["t1"].end is not None
    end = stores.pipes.runs["p1"].end
    assert end is not None and "ended while the console was away" in end.error


def test_the_members_of_a_team_question_that_waited_have_ended_unseen_too() -> None:
    """None of them had a turn yet; how each ended is read from the store."""
    stores = Stores()
    dispatch(stores, [TEAM, TeamQueued("t1", 1), snapshot(live("apollo"))])
    team = stores.turns.teams["t1"]
    [turn] = team.lanes.values()
    assert (turn.request_id, turn.ai_id, turn.ended, turn.unseen) == ("t1/apollo-ai", "apollo-ai", True, True)
    assert team.end is not None and (team.end.answered, team.end.failed) == (0, 1)


def test_a_question_that_waits_is_shown_as_it_was_changed() -> None:
    stores = Stores()
    dispatch(stores, [TEAM, TurnStarted("r1", "apollo-ai", "s", "helo", NOW, "")])
    seen: list[str] = []
    stores.turns.reworded.subscribe(lambda turn: seen.append(turn.request_id))
    stores.turns.team_reworded.subscribe(lambda team: seen.append(team.start.request_id))
    stores.turns.reloaded.subscribe(lambda: seen.append("everything"))
    dispatch(stores, [TurnChanged("t1", "Name two."), TurnChanged("r1", "hello"), TurnChanged("gone", "x")])
    assert stores.turns.teams["t1"].start.prompt == "Name two."
    assert stores.turns.turns["r1"].prompt == "hello" and seen == ["t1", "r1"]


def test_a_gateway_that_does_not_name_its_pipelines_ends_none() -> None:
    stores = Stores()
    dispatch(stores, [PIPE, snapshot(live("apollo"))])
    assert stores.pipes.runs["p1"].end is None


@pytest.mark.parametrize(
    ("events", "bad"),
    [
        ([GatewayCall(NOW, "c", "http", "chat", 200)], False),
        ([GatewayCall(NOW, "c", "http", "chat", 403, refusal="no")], True),
        ([SpecialistEvent(row("apollo"), NOW), SpecialistEvent(live("apollo"), NOW)], False),
        ([SpecialistEvent(live("apollo"), NOW), SpecialistEvent(row("apollo", state="killed"), NOW)], True),
    ],
)
def test_only_what_went_wrong_is_bad_in_the_timeline(events: list[Event], bad: bool) -> None:
    stores = Stores()
    dispatch(stores, events)
    assert [line.bad for line in stores.timeline.lines][-1:] == [bad]


def cut_turn(content: str, left_out: int) -> ActiveTurn:
    return ActiveTurn(
        "r1", "apollo-ai", "s", "why", NOW, "streaming", content=content, chunks=9, left_out=left_out
    )


def test_text_that_a_snapshot_left_out_goes_before_what_came_since() -> None:
    """Also where the turn has ended by then, and where a tool was called in it meanwhile."""
    stores, restored = Stores(), list[str]()
    stores.turns.restored.subscribe(lambda turn: restored.append(turn.content))
    dispatch(stores, [snapshot(live("apollo"), turns=[cut_turn("three ", 8)])])
    turn = stores.turns.turns["r1"]
    assert stores.turns.catching_up == 1 and turn.left_out == 8
    chunks = [StreamChunk("r1", "four ", 9), StreamChunk("r1", "five six", 10, pieces=2)]
    dispatch(stores, [*chunks, StreamToolCall("r1", 0, "look", "{}")])
    facts = StreamMetadata(12, 12, 1.9, "apollo-ai", "m", "stop", Usage(20, 12), 210.0)
    dispatch(stores, [StreamEnd("r1", facts), TurnText("r1", "one two ")])
    assert turn.content == "one two three four five six" and restored == [turn.content]
    assert (turn.pieces, turn.left_out, stores.turns.catching_up) == (12, 0, 0)
    assert [call.at for call in turn.calls.values()] == [len(turn.content)]
    dispatch(stores, [TurnText("r1", "one two "), TurnText("gone", "x")])
    assert turn.content == "one two three four five six"


def test_an_answer_that_ended_before_its_text_came_is_read_from_memory_after_a_further_cut() -> None:
    stores = Stores()
    dispatch(stores, [TEAM, snapshot(live("apollo"), turns=[cut_turn("three ", 8)])])
    turn = stores.turns.turns["r1"]
    facts = StreamMetadata(9, 9, 1.9, "apollo-ai", "m", "stop", Usage(20, 9), 210.0)
    dispatch(stores, [StreamEnd("r1", facts), snapshot(live("apollo"))])
    assert turn.unseen and stores.turns.catching_up == 0


def test_text_on_its_way_is_not_put_before_what_memory_gave_whole() -> None:
    """As where another end of its turn was told than memory has, and the view reads it anew."""
    stores = Stores()
    dispatch(stores, [snapshot(live("apollo"), turns=[cut_turn("three ", 8)])])
    turn = stores.turns.turns["r1"]
    turn.recall(StoredMessage(1, "s", "apollo-ai", "assistant", "one two three four", NOW, "r1"))
    dispatch(stores, [TurnText("r1", "one two ")])
    assert turn.content == "one two three four" and stores.turns.catching_up == 0
