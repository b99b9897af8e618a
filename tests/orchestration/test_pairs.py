"""Pairs of actions in one moment, each harmless alone: what is told is true, and nothing goes on that was ended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from backend.memory.errors import StoreFailed
from backend.orchestration import store_later
from backend.orchestration.platform import Platform
from backend.orchestration.teams.moderator import Moderator
from backend.orchestration.teams.team_turn import TeamRequest, TeamRun
from backend.orchestration.turns.request import ChatRequest
from backend.schema.errors import TektonError
from backend.schema.events import TeamEnd, TeamQueued, TeamStart, TurnChanged
from backend.schema.frames import StreamChunk, StreamEnd
from backend.schema.orchestration import Mode
from backend.schema.records import TurnOutcome
from backend.specialists.killall import kill_all
from tests.orchestration.running import BOUND_S, SLOW, Watcher, do, start, upstream_calls

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def ask_team(platform: Platform, content: str, **values: Any) -> Any:
    return await do(platform, "team_chat", content=content, target_ids=["apollo", "athena"], **values)


async def nothing_open(platform: Platform) -> None:
    """Wait until the store knows of no turn under way."""
    async with asyncio.timeout(BOUND_S):
        while await platform.memory.turns.unfinished():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("own", [True, False], ids=["its own session", "sessions its items name"])
async def test_a_bulk_asks_nobody_any_more_in_a_session_that_is_deleted(
    platform: Platform, watcher: Watcher, own: bool
) -> None:
    named = "" if own else (await do(platform, "create_session", owner="apollo")).id
    items = [{"specialist_id": "apollo", "message": f"{SLOW} {n}", "session_id": named} for n in range(6)]
    name = f"bulk-{own}"
    bulk = asyncio.create_task(
        do(platform, "bulk", requests=items, max_concurrency=2, request_id=name), name=name
    )
    for number in range(2):  # both that are asked side by side, so that the calls can be counted
        await watcher.until(StreamChunk, request_id=f"{name}/{number}")
    turn = platform.turns.find(f"{name}/0")
    assert turn is not None
    calls = upstream_calls(platform)
    await do(platform, "delete_session", id=turn.session_id)
    report = await bulk
    codes = {row.outcome.code for row in report.results}
    assert codes <= {"cancelled", "conflict", "unknown_session"}, codes
    assert upstream_calls(platform) == calls and not platform.turns.active
    await nothing_open(platform)


async def test_a_question_without_history_is_refused_while_its_session_is_deleted(platform: Platform) -> None:
    bulk = await do(platform, "bulk", requests=[{"specialist_id": "apollo", "message": "hello"}])
    session = bulk.results[0].outcome.session_id
    calls = upstream_calls(platform)
    async with platform.sessions.closing(session):
        items = [{"specialist_id": "apollo", "message": "again", "session_id": session}]
        report = await do(platform, "bulk", requests=items)
    assert [row.outcome.code for row in report.results] == ["conflict"] or upstream_calls(platform) == calls
    assert upstream_calls(platform) == calls


async def test_a_cancel_of_a_team_turn_ends_who_merges_its_answers_too(
    platform: Platform, watcher: Watcher
) -> None:
    team = await ask_team(platform, "hello")
    values = {"ai_id": "apollo", "group": team.request_id, "session_id": team.session_id, "wait": False}
    merge = (await do(platform, "chat", content=SLOW, **values)).request_id
    await watcher.until(StreamChunk, request_id=merge)
    assert (await do(platform, "cancel", target=team.request_id)).confirmed
    assert (await watcher.until(StreamEnd, request_id=merge)).metadata.finish_reason == "cancelled"
    assert not platform.turns.active


async def test_a_team_question_that_waits_is_changed_by_two_consoles_and_asked_as_it_is_shown(
    platform: Platform, watcher: Watcher
) -> None:
    session = (await do(platform, "create_session", owner="team")).id
    first = (await ask_team(platform, SLOW, session_id=session, wait=False)).request_id
    second = (await ask_team(platform, "helo", session_id=session, wait=False)).request_id
    assert (await watcher.until(TeamStart, request_id=second)).prompt == "helo"
    await watcher.until(TeamQueued, request_id=second, ahead=1)
    words = ["hello", "hello there"]
    await asyncio.gather(*(do(platform, "edit_turn", target=second, content=text) for text in words))
    for text in words:
        await watcher.until(TurnChanged, request_id=second, prompt=text)
    [shown] = [start for start in platform.snapshot().teams if start.request_id == second]
    waiting = {row.waiting for row in await platform.memory.turns.unfinished() if row.waiting}
    assert shown.prompt == words[-1] and waiting == {words[-1]}
    for target, code, text in ((first, "conflict", "late"), (second, "invalid_request", " ")):
        with pytest.raises(TektonError) as refused:
            await do(platform, "edit_turn", target=target, content=text)
        assert refused.value.code == code
    await do(platform, "cancel", target=first)
    await watcher.until(TeamEnd, request_id=second)
    rows = (await do(platform, "session_messages", id=session)).messages
    assert [row.content for row in rows if row.request_id.startswith(second)] == [
        words[-1],
        *[f"You said: {words[-1]}"] * 2,
    ]


async def test_a_pipeline_that_waits_says_that_it_cannot_be_changed(
    platform: Platform, watcher: Watcher
) -> None:
    session = (await do(platform, "create_session", owner="apollo")).id
    values: dict[str, Any] = {"session_id": session, "wait": False}
    slow = (await do(platform, "chat", ai_id="apollo", content=SLOW, **values)).request_id
    run = (await do(platform, "pipeline", pipeline="apollo", input="helo", **values)).request_id
    with pytest.raises(TektonError) as refused:
        await do(platform, "edit_turn", target=run, content="hello")
    assert (refused.value.code, "cancel it" in refused.value.message) == ("conflict", True)
    for name in (run, slow):
        await do(platform, "cancel", target=name)


async def test_what_the_store_does_not_take_of_a_refused_or_withdrawn_question_is_made_up_for_later(
    platform: Platform, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left open, it would be told as lost with the backend by the next start."""
    monkeypatch.setattr(store_later, "STORE_AGAIN_S", 0.05)
    session = (await do(platform, "create_session", owner="team")).id
    slow = (await ask_team(platform, SLOW, session_id=session, wait=False)).request_id
    waits = (await ask_team(platform, "never asked", session_id=session, wait=False)).request_id
    alone = (await do(platform, "create_session", owner="apollo")).id
    ahead, queued = [
        (await do(platform, "chat", ai_id="apollo", content=SLOW, session_id=alone, wait=False)).request_id
        for _ in range(2)
    ]
    full = True
    messages, turns = platform.memory.messages, platform.memory.turns
    append, end = messages.append, turns.end

    async def append_or_fail(message: Any, **values: Any) -> Any:
        if full and message.error_code == "not_running":
            raise StoreFailed("The conversation store failed: disk is full.")
        return await append(message, **values)

    async def end_or_fail(*names: str) -> None:
        if full:
            raise StoreFailed("The conversation store failed: disk is full.")
        await end(*names)

    monkeypatch.setattr(messages, "append", append_or_fail)
    monkeypatch.setattr(turns, "end", end_or_fail)
    for target in (waits, queued):
        assert (await do(platform, "cancel", target=target)).confirmed
    await do(platform, "kill", ids=["athena"], force=True)
    try:
        refused = await do(platform, "team_chat", content="who is there?", target_ids=["athena"])
        assert [row.code for row in refused.failures] == ["not_running"]
        for target in (slow, ahead):
            await do(platform, "cancel", target=target)
        left = {row.request_id for row in await turns.unfinished()}
        assert left == {
            f"{refused.request_id}/athena-ai",
            queued,
            *(f"{waits}/{n}-ai" for n in ("apollo", "athena")),
        }
        full = False
        await nothing_open(platform)
        rows = await messages.read(refused.session_id)
        assert [(row.role, row.error_code) for row in rows][-2:] == [
            ("user", None),
            ("assistant", "not_running"),
        ]
        kept = [row.request_id for name in (session, alone) for row in await messages.read(name)]
        assert waits not in kept and queued not in kept
    finally:
        await do(platform, "launch", ids=["athena"])


async def test_a_pipeline_under_way_when_its_backend_is_killed_is_a_run_that_failed_and_says_so(
    tmp_path: Path,
) -> None:
    """Also one that waits for its place; asked for again, neither is run again."""
    first = await start(tmp_path / "home")
    try:
        await do(first, "launch", ids=["apollo"])
        session = (await do(first, "create_session", owner="apollo")).id
        values: dict[str, Any] = {"pipeline": "apollo | apollo", "session_id": session, "wait": False}
        for name in ("runs", "waits"):
            await do(first, "pipeline", input=SLOW, request_id=name, **values)
        done = await do(first, "pipeline", pipeline="apollo", input="hello", request_id="done")
        # the store as a killed process leaves it: nothing is closed in order
        again = await start(tmp_path / "home")
        try:
            runs = {run.request_id: run for run in (await do(again, "list_pipelines")).runs}
            assert runs.pop("done") == done
            for name in ("runs", "waits"):
                run = runs.pop(name)
                assert (run.ok, run.code, run.failed_stage, run.input) == (False, "backend_lost", 1, SLOW)
                assert [stage.state for stage in run.stages] == ["failed", "not run"]
                calls = upstream_calls(again)
                with pytest.raises(TektonError) as lost:
                    await do(again, "pipeline", input=SLOW, request_id=name, **{**values, "wait": True})
                assert lost.value.code == "backend_lost" and upstream_calls(again) == calls
            assert not runs
            errors = (await do(again, "list_errors")).errors
            assert [one.count for one in errors if one.where == "pipelines"] == [2]
        finally:
            await again.close(stop_fleet=False)
    finally:
        await first.close(stop_fleet=True)
        await asyncio.to_thread(kill_all, first.home, grace_s=1.0)


async def test_a_team_question_is_moderated_as_it_asks_or_else_as_the_settings_say(
    platform: Platform,
) -> None:
    """Whoever asks without an action, as streams do, is treated alike."""
    await do(platform, "configure_orchestration", settings={"moderation_mode": "consensus"})
    try:
        wishes: list[tuple[Mode | None, Mode]] = [
            ("synthesis", "synthesis"),
            (None, "consensus"),
            ("pass_through", "pass_through"),
        ]
        for asked, held in wishes:
            run = await platform.teams.start(TeamRequest("hello", target_ids=["apollo"], mode=asked))
            assert (await asyncio.wait_for(asyncio.shield(run.done), BOUND_S)).mode == held
    finally:
        await do(platform, "configure_orchestration", settings={"moderation_mode": "pass_through"})


async def test_who_asked_before_a_question_was_changed_and_asks_again_means_the_same_question(
    platform: Platform, watcher: Watcher
) -> None:
    """A client whose link dropped sends its call once more, with the words it knows."""
    alone, team = [(await do(platform, "create_session", owner=owner)).id for owner in ("apollo", "team")]
    chat: dict[str, Any] = {"ai_id": "apollo", "session_id": alone, "request_id": "changed"}
    both: dict[str, Any] = {"target_ids": ["apollo"], "session_id": team, "request_id": "changed-team"}
    for action, values, name in (("chat", chat, "changed"), ("team_chat", both, "changed-team")):
        ahead = {key: value for key, value in values.items() if key != "request_id"}
        slow = (await do(platform, action, content=SLOW, wait=False, **ahead)).request_id
        await watcher.until(StreamChunk, request_id=slow if action == "chat" else f"{slow}/apollo-ai")
        await do(platform, action, content="first", wait=False, **values)
        for words in ("second", "third"):
            await do(platform, "edit_turn", target=name, content=words)
        calls = upstream_calls(platform)
        for words in ("first", "third"):
            assert (await do(platform, action, content=words, wait=False, **values)).request_id == name
        for words in ("second", "else"):
            with pytest.raises(TektonError) as other:
                await do(platform, action, content=words, **values)
            assert other.value.code == "conflict"
        assert upstream_calls(platform) == calls
        await do(platform, "cancel", target=slow)
        done = await do(platform, action, content="first", **values)
        assert "You said: third" in str(done)


async def test_a_discussion_whose_session_is_deleted_between_two_rounds_ends_with_what_it_had(
    platform: Platform, watcher: Watcher
) -> None:
    session = (await do(platform, "create_session", owner="team")).id
    holding = asyncio.create_task(
        ask_team(platform, "[[first 0.1]] hello", session_id=session, max_rounds=5, request_id="held")
    )
    await watcher.until(TeamEnd, request_id="held")
    await do(platform, "delete_session", id=session)
    try:
        result = await holding
        assert 1 <= len(result.rounds) < 5
    except TektonError as error:  # it was in the middle of the deletion that the next round would have begun
        assert error.code == "conflict" and "is being deleted" in error.message
    assert not platform.teams.active
    await nothing_open(platform)


async def test_what_was_said_in_a_deleted_session_is_given_to_nobody_any_more(
    platform: Platform, watcher: Watcher
) -> None:
    """Neither to who asks the same again, nor by what waits to be seen, nor by the list of turns."""
    alone, team = [(await do(platform, "create_session", owner=owner)).id for owner in ("apollo", "team")]
    chat: dict[str, Any] = {"ai_id": "apollo", "session_id": alone, "request_id": "secret-alone"}
    both: dict[str, Any] = {"target_ids": ["apollo"], "session_id": team, "request_id": "secret-team"}
    asks = [("chat", chat), ("team_chat", both)]
    for action, values in asks:
        await do(platform, action, content="the secret word", wait=False, **values)
    await watcher.until(StreamEnd, request_id="secret-alone")
    await watcher.until(TeamEnd, request_id="secret-team")
    await platform.attention.look()
    assert {item.session_id for item in platform.attention.items if item.kind == "done"} >= {alone, team}
    for session in (alone, team):
        await do(platform, "delete_session", id=session)
    assert not any("secret word" in item.why for item in platform.attention.items)
    assert not any("secret word" in turn.prompt for turn in (await do(platform, "list_turns")).turns)
    calls = upstream_calls(platform)
    with pytest.raises(TektonError) as gone:
        await do(platform, "chat", content="the secret word", **chat)
    assert gone.value.code == "unknown_session" and "deleted" in gone.value.message
    result = await do(platform, "team_chat", content="the secret word", **both)
    assert result.responses == [] and [row.code for row in result.failures] == ["unknown_session"]
    assert "secret word" not in str(result) + str(gone.value.detail) and upstream_calls(platform) == calls


async def test_a_round_that_cannot_be_asked_is_an_error_and_not_the_end_of_the_discussion(
    platform: Platform,
) -> None:
    await do(platform, "chat", ai_id="apollo", content="hello", request_id="rounds/round-2")
    with pytest.raises(TektonError) as refused:
        await ask_team(platform, "hello", max_rounds=2, request_id="rounds")
    assert refused.value.code == "conflict" and "rounds/round-2" in refused.value.message


@pytest.mark.parametrize("leaves", ["has waited long enough", "goes away"])
async def test_who_asks_what_is_asked_already_does_not_end_it_for_the_first(
    platform: Platform, watcher: Watcher, leaves: str
) -> None:
    name = f"joined-{leaves[:3]}"
    question = {"ai_id": "apollo-ai", "content": "[[repeat 40]] [[rate 40]]", "request_id": name}
    first = asyncio.create_task(do(platform, "chat", **question), name="first")
    await watcher.until(StreamChunk, request_id=name)
    calls = upstream_calls(platform)
    if leaves == "goes away":
        second = asyncio.create_task(do(platform, "chat", **question), name="second")
        await watcher.until(StreamChunk, request_id=name)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
    else:
        with pytest.raises(TektonError, match="somebody else still waits"):
            await do(platform, "chat", **question, timeout_s=0.1)
    answer = await first
    assert answer.content.split() == [f"token{n}" for n in range(40)]
    assert upstream_calls(platform) == calls


@pytest.mark.parametrize("question", ["", "What is a lane?"])
async def test_who_joins_the_answers_of_a_later_round_is_told_the_question_and_not_the_rounds_prompt(
    platform: Platform, question: str
) -> None:
    asked: list[ChatRequest] = []

    class Asked:
        async def ask(self, request: ChatRequest) -> TurnOutcome:
            asked.append(request)
            return TurnOutcome(request.request_id, request.ai_id, "joint")

    request = TeamRequest(content="say it", question=question, request_id="t-1")
    run = TeamRun(request, "s-1", Any, asyncio.get_running_loop().create_future(), asyncio.Semaphore())  # type: ignore[arg-type]
    for name in ("apollo-ai", "athena-ai"):
        run.said[name] = TurnOutcome(f"t-1/{name}", name, "mine")
    moderator = Moderator(Asked(), platform.orchestration)  # type: ignore[arg-type]
    assert await moderator.synthesis(run) == await moderator.consensus(run) == "joint"
    for one in asked:
        assert (question or "say it") in one.content
        assert not question or "say it" not in one.content


async def test_the_only_one_who_waits_for_an_answer_ends_it_by_going_away(
    platform: Platform, watcher: Watcher
) -> None:
    session = (await do(platform, "create_session", owner="apollo")).id
    asking = asyncio.create_task(
        do(platform, "chat", ai_id="apollo", content=SLOW, session_id=session, request_id="leaves")
    )
    await watcher.until(StreamChunk, request_id="leaves")
    asking.cancel()
    end = await watcher.until(StreamEnd, request_id="leaves")
    assert end.metadata.finish_reason == "cancelled" and "leaves" not in platform.turns.active


async def test_the_team_of_nobody_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    alone = await start(tmp_path / "home")
    try:
        for mode in ("pass_through", "directed"):
            with pytest.raises(TektonError) as refused:
                await do(alone, "team_chat", content="hello", mode=mode, request_id=f"nobody-{mode}")
            assert refused.value.code == "not_running"
        assert not (await do(alone, "list_sessions")).sessions and not alone.teams.active
    finally:
        await alone.close(stop_fleet=True)
