"""A conversation is one lane: questions in it are asked one at a time, and each has its own answer."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from backend.orchestration.platform import Platform
from backend.orchestration.turns.history import NO_ANSWER
from backend.schema.errors import TektonError
from backend.schema.events import TeamEnd, TeamQueued, TurnChanged, TurnStarted
from backend.schema.frames import StreamChunk, StreamEnd, StreamError, StreamPhase
from backend.schema.records import LaunchResult, StoredMessage
from tests.orchestration.running import BOUND_S, SLOW, Watcher, do, sent, upstream_calls

Role = Literal["user", "assistant"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def new_session(platform: Platform, owner: str = "apollo") -> str:
    return (await do(platform, "create_session", owner=owner)).id


async def begin(platform: Platform, session: str, content: str, **values: Any) -> str:
    """Ask apollo without waiting and return the request id."""
    values = {"ai_id": "apollo", **values}
    return (await do(platform, "chat", content=content, session_id=session, wait=False, **values)).request_id


async def outcome(platform: Platform, request_id: str) -> Any:
    turn = platform.turns.find(request_id)
    assert turn is not None
    return await asyncio.wait_for(asyncio.shield(turn.done), BOUND_S)


async def history(platform: Platform, session: str) -> list[tuple[str, str]]:
    rows = (await do(platform, "session_messages", id=session)).messages
    return [(row.role, row.content) for row in rows]


async def test_a_second_question_waits_visibly_and_is_sent_the_first_with_its_answer(
    platform: Platform, watcher: Watcher
) -> None:
    session = await new_session(platform)
    first = await begin(platform, session, "[[repeat 12]] [[rate 40]] ONE")
    second = await begin(platform, session, "[[messages]] TWO")
    started = await watcher.until(TurnStarted, request_id=second)
    assert started.prompt == "[[messages]] TWO" and started.message_id == 0
    waiting = await watcher.until(StreamPhase, request_id=second)
    assert (waiting.phase, waiting.position, waiting.detail) == ("queued", 1, "behind your question")
    shown = next(turn for turn in platform.snapshot().turns if turn.request_id == second)
    assert (shown.phase, shown.detail, shown.position) == ("queued", "behind your question", 1)

    one = await outcome(platform, first)
    two = await outcome(platform, second)
    assert sent(two.content) == [
        ("user", "[[repeat 12]] [[rate 40]] ONE"),
        ("assistant", one.content),
        ("user", "[[messages]] TWO"),
    ]
    assert [role for role, _ in await history(platform, session)] == ["user", "assistant"] * 2


async def test_questions_in_two_sessions_do_not_wait_for_each_other(platform: Platform) -> None:
    slow = await begin(platform, await new_session(platform), SLOW)
    quick = await do(
        platform, "chat", ai_id="apollo", content="hello", session_id=await new_session(platform)
    )
    assert quick.content == "You said: hello"
    await do(platform, "cancel", target=slow)


async def test_a_question_that_waits_is_cancelled_without_being_asked_or_stored(
    platform: Platform, watcher: Watcher
) -> None:
    session = await new_session(platform)
    slow = await begin(platform, session, SLOW)
    waiting = await begin(platform, session, "never asked")
    behind = await begin(platform, session, "[[messages]] asked after all")
    await watcher.until(StreamChunk, request_id=slow)
    moved = await watcher.until(StreamPhase, request_id=behind, position=2)
    assert moved.detail == "behind 2 questions"
    calls = upstream_calls(platform)
    assert (await do(platform, "cancel", target=waiting)).confirmed
    ended = await watcher.until(StreamEnd, request_id=waiting)
    assert ended.metadata.finish_reason == "cancelled"
    assert (await watcher.until(StreamPhase, request_id=behind, position=1)).detail == "behind your question"
    assert upstream_calls(platform) == calls
    await do(platform, "cancel", target=slow)
    assert "never asked" not in (await outcome(platform, behind)).content
    assert not any("never asked" in text for _, text in await history(platform, session))
    assert (await outcome(platform, waiting)).code == "cancelled"


async def test_a_question_that_waits_can_be_changed_and_one_that_runs_cannot(
    platform: Platform, watcher: Watcher
) -> None:
    session = await new_session(platform)
    slow = await begin(platform, session, SLOW)
    waiting = await begin(platform, session, "helo")
    await do(platform, "edit_turn", target=waiting, content="hello")
    assert (await watcher.until(TurnChanged, request_id=waiting)).prompt == "hello"
    with pytest.raises(TektonError) as refused:
        await do(platform, "edit_turn", target=slow, content="too late")
    assert refused.value.code == "conflict"
    with pytest.raises(TektonError) as unknown:
        await do(platform, "edit_turn", target="no-such-turn", content="x")
    assert unknown.value.code == "not_found"
    with pytest.raises(TektonError) as empty:
        await do(platform, "edit_turn", target=waiting, content="  ")
    assert empty.value.code == "invalid_request"
    await do(platform, "cancel", target=slow)
    assert (await outcome(platform, waiting)).content == "You said: hello"
    assert (await history(platform, session))[-2:] == [("user", "hello"), ("assistant", "You said: hello")]


async def test_what_keeps_a_waiting_question_from_beginning_is_how_it_ends(
    platform: Platform, watcher: Watcher
) -> None:
    session = await new_session(platform, "athena")
    slow = await begin(platform, session, SLOW, ai_id="athena")
    waiting = await begin(platform, session, "are you there?", ai_id="athena")
    await do(platform, "kill", ids=["athena"], force=True)
    try:
        await watcher.until(StreamError, request_id=slow)
        refused = await watcher.until(StreamError, request_id=waiting)
        assert refused.code == "not_running" and "was not asked" in refused.message
        rows = (await do(platform, "session_messages", id=session)).messages
        assert [(row.role, row.request_id, row.error_code) for row in rows] == [
            ("user", slow, None),
            ("assistant", slow, "worker_lost"),
            ("user", waiting, None),
            ("assistant", waiting, "not_running"),
        ]
    finally:
        await do(platform, "launch", ids=["athena"])


async def test_a_waiting_question_waits_for_a_restart_and_is_asked_once(
    platform: Platform, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never began, so nothing is tried again; it can be changed and withdrawn as before."""
    session = await new_session(platform, "athena")
    slow = await begin(platform, session, SLOW, ai_id="athena")
    await watcher.until(StreamChunk, request_id=slow)
    withdrawn = await begin(platform, session, "never mind", ai_id="athena")
    waiting = await begin(platform, session, "are you there?", ai_id="athena")
    calls = upstream_calls(platform)
    launch, stopped = platform.fleet.launch, asyncio.Event()

    async def launch_late(ids: list[str]) -> list[LaunchResult]:
        await stopped.wait()
        return await launch(ids)

    monkeypatch.setattr(platform.fleet, "launch", launch_late)
    restarting = asyncio.create_task(do(platform, "restart", ids=["athena"]))
    await watcher.until(StreamPhase, request_id=withdrawn, detail="until athena has started")
    await do(platform, "cancel", target=withdrawn)
    await watcher.until(StreamPhase, request_id=waiting, detail="until athena has started")
    await do(platform, "edit_turn", target=waiting, content="still there?")
    stopped.set()
    assert (await restarting).results[0].ok
    assert (await outcome(platform, waiting)).content == "You said: still there?"
    assert upstream_calls(platform) == calls + 1
    rows = (await do(platform, "session_messages", id=session)).messages
    assert [(row.role, row.request_id, row.error_code is None) for row in rows] == [
        ("user", slow, True),
        ("assistant", slow, False),
        ("user", waiting, True),
        ("assistant", waiting, True),
    ]


async def test_a_question_that_comes_while_its_specialist_starts_is_told_when_to_ask(
    platform: Platform,
) -> None:
    restarting = asyncio.create_task(do(platform, "restart", ids=["athena"]))
    told: set[str] = set()
    while not restarting.done():
        try:
            await do(platform, "chat", ai_id="athena", content="hello")
        except TektonError as error:
            assert error.code == "not_running", error
            told.add(error.message)
        await asyncio.sleep(0)
    assert (await restarting).results[0].ok
    assert "athena is being restarted: ask again once it is ready" in told, told
    assert not any("launch it" in one for one in told), told


async def test_a_failed_and_a_cancelled_question_leave_roles_that_alternate(platform: Platform) -> None:
    session = await new_session(platform)
    await do(platform, "chat", ai_id="apollo", content="hello", session_id=session)
    with pytest.raises(TektonError):
        await do(platform, "chat", ai_id="apollo", content="[[fail internal]] What is X?", session_id=session)
    slow = await begin(platform, session, "[[first 60]] What is Y?")
    await do(platform, "cancel", target=slow)
    answer = await do(platform, "chat", ai_id="apollo", content="[[messages]] And Z?", session_id=session)
    assert sent(answer.content) == [
        ("user", "hello"),
        ("assistant", "You said: hello"),
        ("user", "[[fail internal]] What is X?"),
        ("assistant", NO_ANSWER),
        ("user", "[[first 60]] What is Y?"),
        ("assistant", NO_ANSWER),
        ("user", "[[messages]] And Z?"),
    ]


async def test_a_failed_question_asked_again_stands_once(platform: Platform) -> None:
    session = await new_session(platform)
    question = "[[messages]] [[fail internal]] What is X?"
    for _ in range(2):
        with pytest.raises(TektonError):
            await do(platform, "chat", ai_id="apollo", content=question, session_id=session)
    answer = await do(platform, "chat", ai_id="apollo", content="[[messages]] then?", session_id=session)
    assert sent(answer.content) == [
        ("user", question),
        ("assistant", NO_ANSWER),
        ("user", "[[messages]] then?"),
    ]
    with pytest.raises(TektonError):
        await do(platform, "chat", ai_id="apollo", content=question, session_id=session)
    again = await do(
        platform, "chat", ai_id="apollo", content="[[messages]] what failed?", session_id=session
    )
    assert [text for _, text in sent(again.content)].count(question) == 2


async def test_answers_stored_out_of_order_are_sent_behind_their_own_questions(platform: Platform) -> None:
    session = await new_session(platform)
    stored: list[tuple[str, Role, str, str]] = [
        ("you", "user", "Q1", "1"),
        ("you", "user", "Q2", "2"),
        ("apollo-ai", "assistant", "A2", "2"),
        ("apollo-ai", "assistant", "A1", "1"),
    ]
    for author, role, content, number in stored:
        message = StoredMessage(0, session, author, role, content, 1.0, request_id=f"{session}-{number}")
        await platform.memory.messages.append(message)
    answer = await do(platform, "chat", ai_id="apollo", content="[[messages]] Q3", session_id=session)
    assert [text for _, text in sent(answer.content)] == ["Q1", "A1", "Q2", "A2", "[[messages]] Q3"]


@pytest.mark.parametrize("owner", ["athena", "team"])
async def test_a_session_of_somebody_else_is_refused_and_nothing_of_it_is_sent(
    platform: Platform, owner: str
) -> None:
    session = await new_session(platform, owner)
    calls = upstream_calls(platform)
    with pytest.raises(TektonError) as refused:
        await do(platform, "chat", ai_id="apollo", content="what was said here?", session_id=session)
    assert refused.value.code == "invalid_request" and "belongs to" in refused.value.message
    assert upstream_calls(platform) == calls and await history(platform, session) == []


async def test_a_pipeline_that_comes_to_somebody_else_is_refused_before_anybody_is_asked(
    platform: Platform,
) -> None:
    session = await new_session(platform)
    calls = upstream_calls(platform)
    for text in ("apollo | athena", "{apollo, athena}", "athena"):
        with pytest.raises(TektonError, match="belongs to apollo") as refused:
            await do(platform, "pipeline", pipeline=text, input="hello", session_id=session)
        assert refused.value.code == "invalid_request"
    assert upstream_calls(platform) == calls
    assert (await do(platform, "pipeline", pipeline="apollo | apollo", input="hi", session_id=session)).ok


async def test_the_team_is_not_asked_in_a_specialists_session(platform: Platform) -> None:
    session = await new_session(platform)
    with pytest.raises(TektonError) as refused:
        await do(platform, "team_chat", content="who said what?", session_id=session)
    assert refused.value.code == "invalid_request"


async def test_a_second_team_question_waits_for_the_first_and_sees_its_answers(
    platform: Platform, watcher: Watcher
) -> None:
    session = await new_session(platform, "team")
    first = await do(
        platform, "team_chat", content="[[repeat 12]] [[rate 40]] ONE", session_id=session, wait=False
    )
    second = await do(platform, "team_chat", content="[[messages]] TWO", session_id=session, wait=False)
    assert (await watcher.until(TeamQueued, request_id=second.request_id)).ahead == 1
    assert (await watcher.until(TeamQueued, request_id=second.request_id, ahead=0)).ahead == 0
    run = platform.teams.find(second.request_id)
    assert run is not None
    result = await asyncio.wait_for(asyncio.shield(run.done), BOUND_S)
    for answer in result.answers:
        assert [text.rpartition(" ")[2] for role, text in sent(answer.content) if role == "user"] == [
            "ONE",
            "TWO",
        ]
    assert {answer.ai_id for answer in result.answers} == set(first.lanes)


async def test_a_team_question_that_waits_is_cancelled_without_being_asked_or_stored(
    platform: Platform, watcher: Watcher
) -> None:
    session = await new_session(platform, "team")
    first = await do(platform, "team_chat", content=SLOW, session_id=session, wait=False)
    second = await do(platform, "team_chat", content="never asked", session_id=session, wait=False)
    for lane in first.lanes.values():  # all of the first are asked
        await watcher.until(StreamChunk, request_id=lane)
    calls = upstream_calls(platform)
    await do(platform, "cancel", target=second.request_id)
    end = await watcher.until(TeamEnd, request_id=second.request_id)
    assert (end.answered, end.failed, end.cancelled) == (0, 0, len(second.lanes))
    assert upstream_calls(platform) == calls
    await do(platform, "cancel", target=first.request_id)
    assert not any("never asked" in text for _, text in await history(platform, session))


async def test_the_prompt_of_a_judge_is_no_part_of_any_members_conversation(platform: Platform) -> None:
    session = await new_session(platform, "team")
    team = await do(platform, "team_chat", content="Q1", session_id=session)
    for judge in ("athena", "apollo"):
        await do(
            platform,
            "chat",
            ai_id=judge,
            content="The team was asked: Q1\n\nWrite one joint answer from the answers above.",
            session_id=session,
            group=team.request_id,
            request_id=f"{team.request_id}/merge/{judge}",
            context={"previous": [{"specialist_id": "apollo-ai", "content": "You said: Q1"}]},
        )
    again = await do(platform, "team_chat", content="[[messages]] Q2", session_id=session)
    for answer in again.responses:
        assert [text for _, text in sent(answer.content)] == ["Q1", "You said: Q1", "[[messages]] Q2"]
    assert any("Write one joint answer" in text for _, text in await history(platform, session))


async def test_an_answer_asked_for_again_replaces_the_first_which_stays_readable(platform: Platform) -> None:
    session = await new_session(platform, "team")
    team = await do(
        platform, "team_chat", content="[[clock]] when?", session_id=session, target_ids=["apollo"]
    )
    first = team.responses[0].content
    second = await do(platform, "ask_member", team_request_id=team.request_id, ai_id="apollo", wait=True)
    assert second.content != first
    told = await do(
        platform, "team_chat", content="[[messages]] and?", session_id=session, target_ids=["apollo"]
    )
    assert [text for _, text in sent(told.responses[0].content)][1] == second.content
    assert ("assistant", first) in await history(platform, session)


async def test_a_bulk_leaves_no_trace_in_the_conversations_of_those_it_asks(platform: Platform) -> None:
    await do(platform, "chat", ai_id="apollo", content="mine")
    requests = [{"specialist_id": "apollo", "message": f"item {number}"} for number in range(5)]
    report = await do(platform, "bulk", requests=requests)
    assert report.ok == 5
    sessions = {result.outcome.session_id for result in report.results}
    answer = await do(platform, "chat", ai_id="apollo", content="[[messages]] mine too")
    assert answer.session_id not in sessions and "item" not in answer.content
    again = await do(platform, "bulk", requests=requests)
    assert not sessions & {result.outcome.session_id for result in again.results}


async def test_an_archived_default_session_is_replaced(platform: Platform) -> None:
    old = (await do(platform, "chat", ai_id="athena", content="hello")).session_id
    await do(platform, "patch_session", id=old, archived=True)
    new = (await do(platform, "chat", ai_id="athena", content="[[messages]] hello again")).session_id
    assert new != old
    listed = (await do(platform, "list_sessions", owner="athena")).sessions
    assert new in [row.id for row in listed if row.is_default]


async def test_chunks_of_a_question_never_come_before_those_of_the_question_ahead_end(
    platform: Platform, watcher: Watcher
) -> None:
    session = await new_session(platform)
    ids = [await begin(platform, session, f"[[repeat 5]] [[rate 100]] {number}") for number in range(6)]
    await watcher.until(StreamEnd, request_id=ids[-1])
    order = [
        event.request_id
        for event in watcher.seen
        if isinstance(event, StreamChunk) and event.request_id in ids
    ]
    assert [request_id for place, request_id in enumerate(order) if order.index(request_id) == place] == ids
    assert order == [request_id for request_id in ids for _ in range(5)]
