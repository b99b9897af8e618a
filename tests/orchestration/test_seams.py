"""Two harmless things at once, a store that fails, a start over whatever was stored: nothing is lost, nobody is told else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from backend.memory.errors import StoreFailed
from backend.orchestration import store_later
from backend.orchestration.platform import Platform
from backend.orchestration.turns.turn import Turn
from backend.schema.errors import TektonError
from backend.schema.events import (
    ErrorEntry,
    ErrorsAcknowledged,
    MessageStored,
    PipelineEnd,
    SessionRemoved,
    TeamEnd,
    TeamStart,
)
from backend.schema.frames import StreamChunk, StreamEnd, StreamError, StreamPhase
from backend.schema.records import TurnOutcome
from backend.specialists.killall import kill_all
from tests.orchestration.running import (
    BOUND_S,
    SLOW,
    Watcher,
    disk_full,
    do,
    running,
    start,
    upstream_calls,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def watcher(platform: Platform) -> AsyncIterator[Watcher]:
    watcher = Watcher(platform, "chat", "errors", "pipes")
    yield watcher
    watcher.close()


async def begin(platform: Platform, content: str, **values: Any) -> str:
    values = {"ai_id": "apollo", **values}
    return (await do(platform, "chat", content=content, wait=False, **values)).request_id


async def ended(platform: Platform, request_id: str) -> TurnOutcome:
    turn = platform.turns.find(request_id)
    assert turn is not None
    return await asyncio.wait_for(asyncio.shield(turn.done), BOUND_S)


# deleted while it is answered


async def test_a_session_is_deleted_with_all_that_waits_and_runs_in_it(
    platform: Platform, watcher: Watcher
) -> None:
    session = (await do(platform, "create_session", owner="apollo")).id
    runs = await begin(platform, SLOW, session_id=session)
    await watcher.until(StreamChunk, request_id=runs)
    calls = upstream_calls(platform)
    wait = [await begin(platform, f"waits {number}", session_id=session) for number in range(3)]
    run = await do(platform, "pipeline", pipeline="apollo", input="waits", session_id=session, wait=False)
    wait.append(await begin(platform, "waits behind it", session_id=session))
    await do(platform, "delete_session", id=session)
    assert {(await ended(platform, one)).code for one in (runs, *wait)} == {"cancelled"}
    assert not (await watcher.until(PipelineEnd, request_id=run.request_id)).ok
    assert upstream_calls(platform) == calls  # nobody who waited was asked in the moment the first had ended
    await watcher.until(SessionRemoved, session_id=session)
    assert await platform.memory.turns.unfinished() == []
    with pytest.raises(TektonError) as gone:
        await do(platform, "chat", ai_id="apollo", content="still there?", session_id=session)
    assert gone.value.code == "unknown_session"


async def test_a_team_session_is_deleted_while_the_team_answers(platform: Platform, watcher: Watcher) -> None:
    session = (await do(platform, "create_session", owner="team")).id
    team = await do(platform, "team_chat", content=SLOW, session_id=session, wait=False)
    await do(platform, "delete_session", id=session)
    assert (await watcher.until(TeamEnd, request_id=team.request_id)).cancelled == len(team.lanes)
    assert await platform.memory.turns.unfinished() == []


async def test_a_member_asked_again_in_a_deleted_session_says_that_it_is_gone(platform: Platform) -> None:
    session = (await do(platform, "create_session", owner="team")).id
    team = await do(platform, "team_chat", content="Q", session_id=session)
    await do(platform, "delete_session", id=session)
    with pytest.raises(TektonError) as gone:
        await do(platform, "ask_member", team_request_id=team.request_id, ai_id="apollo", wait=True)
    assert gone.value.code == "unknown_session"


async def test_a_session_is_deleted_for_everybody_though_the_full_disk_keeps_its_rows(
    platform: Platform, watcher: Watcher
) -> None:
    session = (await do(platform, "create_session", owner="apollo")).id
    await do(platform, "chat", ai_id="apollo", content="[[repeat 3000]]", session_id=session)
    async with disk_full(platform):
        await do(platform, "delete_session", id=session)
        await watcher.until(SessionRemoved, session_id=session)
        with pytest.raises(TektonError) as gone:
            await do(platform, "session_messages", id=session)
        assert gone.value.code == "unknown_session"


async def test_a_session_is_deleted_while_a_pipeline_runs_in_it(platform: Platform, watcher: Watcher) -> None:
    session = (await do(platform, "create_session", owner="apollo")).id
    run = await do(platform, "pipeline", pipeline="apollo", input=SLOW, session_id=session, wait=False)
    await do(platform, "delete_session", id=session)
    assert not (await watcher.until(PipelineEnd, request_id=run.request_id)).ok
    assert await platform.memory.turns.unfinished() == []


async def test_who_asks_while_a_session_is_deleted_is_refused(platform: Platform) -> None:
    session = (await do(platform, "create_session", owner="apollo")).id
    async with platform.sessions.closing(session):
        with pytest.raises(TektonError) as refused:
            await do(platform, "chat", ai_id="apollo", content="now?", session_id=session)
        assert refused.value.code == "conflict"
        with pytest.raises(TektonError) as twice:
            await do(platform, "delete_session", id=session)
        assert twice.value.code == "conflict"
    await do(platform, "chat", ai_id="apollo", content="now?", session_id=session)


async def test_who_waited_in_a_session_that_is_not_deleted_after_all_is_asked(platform: Platform) -> None:
    session = (await do(platform, "create_session", owner="apollo")).id
    runs = await begin(platform, SLOW, session_id=session)
    waits = await begin(platform, "waits", session_id=session)
    async with platform.sessions.closing(session):
        await do(platform, "cancel", target=runs)
        turn = platform.turns.find(waits)
        assert turn is not None and turn.place is not None and turn.place.waits
    assert (await ended(platform, waits)).content == "You said: waits"


# started over whatever is stored


async def test_a_start_survives_any_stored_row_and_names_what_it_could_not_read(tmp_path: Path) -> None:
    root = tmp_path / "home"
    first = await start(root)
    store = first.memory
    good = await store.sessions.create("apollo-ai")
    gone = await store.sessions.create("apollo-ai")
    for request_id, ai_id, session in (
        ("lost", "apollo-ai", good.id),
        ("deleted", "apollo-ai", gone.id),
        ("unheard-of", "nobody-ai", "s-unheard-of"),
        ("", "", ""),
    ):
        await store.turns.begin(request_id, ai_id, session)
    await store.sessions.delete(gone.id)
    await store.settings.put("orchestration", {"moderation_mode": 7, "no such": []})
    await store.settings.put("pipeline:bad", {"request_id": 1})
    await store.settings.put("pipelines", [1, 2])
    await store.settings.put("saved-pipeline:bad", {"not": "text"})
    await store.settings.put("housekeeping:token_factors", ["x"])
    await first.close(stop_fleet=True)

    again = await start(root)
    try:
        assert await again.memory.turns.unfinished() == []
        rows = await again.memory.messages.read(good.id)
        assert [(row.request_id, row.error_code) for row in rows] == [("lost", "backend_lost")]
        assert (await do(again, "list_pipelines")).runs == []
        assert (await do(again, "saved_pipelines")).saved == []
        assert (await do(again, "get_orchestration")).moderation_mode == "pass_through"
        errors = (await do(again, "list_errors")).errors
        assert {error.request_id for error in errors} >= {"lost", "deleted", "unheard-of"}
        named = " ".join(error.message for error in errors)
        for key in ("orchestration", "saved-pipeline:bad"):
            assert f"{key!r}" in named
        assert await again.memory.settings.get("set-aside:saved-pipeline:bad") == {"not": "text"}
    finally:
        await again.close(stop_fleet=True)


async def test_a_question_that_waited_when_the_backend_died_is_kept_with_the_word_that_it_was_not_asked(
    tmp_path: Path,
) -> None:
    root = tmp_path / "home"
    first = await start(root)
    try:
        await do(first, "launch", ids=["apollo"])
        session = (await do(first, "create_session", owner="apollo")).id
        runs = await begin(first, SLOW, session_id=session)
        waits = await begin(first, "waits", session_id=session)
        await do(first, "edit_turn", target=waits, content="waits, changed")
        # the store as a killed process leaves it: nothing is closed in order
        again = await start(root)
        try:
            rows = await again.memory.messages.read(session)
            assert [(row.role, row.request_id, row.content, row.error_code) for row in rows] == [
                ("user", runs, SLOW, None),
                ("assistant", runs, "", "backend_lost"),
                ("user", waits, "waits, changed", None),
                ("assistant", waits, "", "backend_lost"),
            ]
            assert rows[-1].error == "the backend ended before this question was asked"
            assert await again.memory.turns.unfinished() == []
        finally:
            await again.close(stop_fleet=False)
    finally:
        await first.close(stop_fleet=True)
        await asyncio.to_thread(kill_all, first.home, grace_s=1.0)


# the same request id


async def test_a_request_id_used_again_gives_the_same_answer_and_asks_nobody(platform: Platform) -> None:
    first = await do(platform, "chat", ai_id="apollo", content="alpha", request_id="k1")
    calls = upstream_calls(platform)
    second = await do(platform, "chat", ai_id="apollo", content="alpha", request_id="k1")
    assert (second.content, second.message_id) == (first.content, first.message_id)
    assert upstream_calls(platform) == calls


@pytest.mark.parametrize(
    ("ai_id", "content"), [("apollo", "beta"), ("athena", "alpha"), ("athena", "transfer 5")]
)
async def test_a_request_id_that_names_another_question_is_refused_and_nothing_is_asked(
    platform: Platform, ai_id: str, content: str
) -> None:
    await do(platform, "chat", ai_id="apollo", content="alpha", request_id="k2")
    calls = upstream_calls(platform)
    with pytest.raises(TektonError) as refused:
        await do(platform, "chat", ai_id=ai_id, content=content, request_id="k2")
    assert refused.value.code == "conflict"
    with pytest.raises(TektonError) as team:
        await do(platform, "team_chat", content=content, request_id="k2", target_ids=[ai_id])
    assert team.value.code == "conflict"
    assert upstream_calls(platform) == calls


async def test_a_pipeline_id_used_again_returns_the_kept_run_and_never_replaces_it(
    platform: Platform,
) -> None:
    first = await do(platform, "pipeline", pipeline="apollo", input="ALPHA", request_id="pp")
    calls = upstream_calls(platform)
    assert await do(platform, "pipeline", pipeline="apollo", input="ALPHA", request_id="pp") == first
    for other in ({"input": "BETA"}, {"input": "ALPHA", "pipeline": "athena"}):
        with pytest.raises(TektonError) as refused:
            await do(platform, "pipeline", request_id="pp", **{"pipeline": "apollo", **other})
        assert refused.value.code == "conflict"
    assert upstream_calls(platform) == calls
    [kept] = (await do(platform, "list_pipelines", run_id="pp")).runs
    assert (kept.input, kept.output) == ("ALPHA", "You said: ALPHA")


async def test_request_ids_mean_the_same_after_a_restart(tmp_path: Path) -> None:
    root = tmp_path / "home"
    items = [{"specialist_id": "apollo", "message": f"item {number}"} for number in range(3)]
    asks: list[tuple[str, dict[str, Any]]] = [
        ("chat", {"ai_id": "apollo", "content": "alpha", "request_id": "c"}),
        ("team_chat", {"content": "beta", "target_ids": ["apollo", "athena"], "request_id": "t"}),
        ("pipeline", {"pipeline": "apollo | athena", "input": "gamma", "request_id": "p"}),
        ("bulk", {"requests": items, "request_id": "b"}),
    ]

    def answers(result: Any) -> list[str]:
        found = msgspec.to_builtins(result)
        rows = found.get("responses") or [row["outcome"] for row in found.get("results", [])] or [found]
        return [row.get("content") or row.get("output") for row in rows]

    first = await start(root)
    await do(first, "launch", ids=["apollo", "athena"])
    before = [answers(await do(first, action, **values)) for action, values in asks]
    calls = upstream_calls(first)
    await first.close(stop_fleet=False)
    again = await start(root)
    try:
        after = [answers(await do(again, action, **values)) for action, values in asks]
        assert [sorted(row) for row in after] == [sorted(row) for row in before]
        for action, values in asks:
            other: dict[str, Any] = {
                "content": "else",
                "input": "else",
                "requests": [{**items[0], "message": "else"}],
            }
            changed = {key: other.get(key, value) for key, value in values.items()}
            with pytest.raises(TektonError) as refused:
                await do(again, action, **changed)
            assert refused.value.code == "conflict", action
        # a member's turn: its question is stored under the team's name
        same = await do(again, "chat", ai_id="apollo", content="beta", request_id="t/apollo-ai")
        assert same.content == "You said: beta"
        for ai_id, content in (("apollo", "else"), ("athena", "beta")):
            with pytest.raises(TektonError) as refused:
                await do(again, "chat", ai_id=ai_id, content=content, request_id="t/apollo-ai")
            assert refused.value.code == "conflict"
        assert upstream_calls(again) == calls
    finally:
        await again.close(stop_fleet=True)
        await asyncio.to_thread(kill_all, again.home, grace_s=1.0)


# endings that are true


async def test_an_observer_that_fails_changes_nothing_of_a_turns_end(platform: Platform) -> None:
    seen: list[str] = []

    def broken(turn: Turn, outcome: TurnOutcome) -> None:
        raise RuntimeError("an observer fell over")

    def later(turn: Turn, outcome: TurnOutcome) -> None:
        assert turn.done.done()
        seen.append(outcome.content)

    platform.turns.on_ended[:0] = [broken, later]
    try:
        answer = await do(platform, "chat", ai_id="apollo", content="observed")
    finally:
        del platform.turns.on_ended[:2]
    assert answer.content == "You said: observed" and seen == [answer.content]
    assert (await do(platform, "get_specialist", id="apollo")).status_row.state == "ready"


async def test_an_answer_the_full_disk_does_not_take_is_named_so_in_its_last_frame_and_stored_later(
    platform: Platform, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_later, "STORE_AGAIN_S", 0.05)
    session = (await do(platform, "create_session", owner="apollo")).id
    slow = await begin(platform, "[[repeat 6000]] [[first 0.5]]", session_id=session)
    async with disk_full(platform):
        end = await watcher.until(StreamEnd, request_id=slow)
        assert not end.metadata.stored and any("not stored" in note for note in end.metadata.notes)
        outcome = await ended(platform, slow)
        assert outcome.code is None and len(outcome.content.split()) == 6000
        listed = (await do(platform, "list_errors")).errors
        assert any(slow == error.request_id and "could not be stored" in error.message for error in listed)
        again = await do(
            platform, "chat", ai_id="apollo", content="[[repeat 6000]] [[first 0.5]]", request_id=slow,
            session_id=session,
        )  # fmt: skip
        assert again.content == outcome.content
    stored = (await watcher.until(MessageStored)).message
    while stored.request_id != slow or stored.role != "assistant":
        watcher.seen = [
            event
            for event in watcher.seen
            if not isinstance(event, MessageStored) or event.message is not stored
        ]
        stored = (await watcher.until(MessageStored)).message
    assert stored.content == outcome.content and stored.error_code is None
    assert await platform.memory.turns.unfinished() == []


async def test_an_answer_whose_session_is_deleted_before_it_is_stored_holds_no_other_one_up(
    platform: Platform, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_later, "STORE_AGAIN_S", 0.5)  # not before the session is deleted
    gone = (await do(platform, "create_session", owner="apollo")).id
    kept = (await do(platform, "create_session", owner="athena")).id
    long = "[[repeat 6000]] [[first {}]]"
    lost = await begin(platform, long.format(0.2), session_id=gone)
    waits = await begin(platform, long.format(0.8), ai_id="athena", session_id=kept)
    closes, full = platform.memory.turns.end, [StoreFailed("The conversation store failed: disk is full.")]

    async def end_or_fail(name: str) -> None:
        """Fail once for the turn whose session is gone, as a full disk may or may not do."""
        if name == lost and full:
            raise full.pop()
        await closes(name)

    monkeypatch.setattr(platform.memory.turns, "end", end_or_fail)
    async with disk_full(platform):
        for name in (lost, waits):  # in this order they wait for the store
            end = await watcher.until(StreamEnd, request_id=name)
            assert not end.metadata.stored
        await do(platform, "delete_session", id=gone)
    async with asyncio.timeout(BOUND_S):
        while len(await platform.memory.messages.of_request(waits)) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await platform.memory.messages.of_request(lost) == []
    async with asyncio.timeout(
        BOUND_S
    ):  # one left open would be told as lost with the backend by the next start
        while await platform.memory.turns.unfinished():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert not await platform.memory.turns.book(lost, None), "what it used is counted all the same"


async def test_turns_of_ones_own_are_not_taken_for_those_of_a_gateway_that_is_gone(
    platform: Platform,
) -> None:
    """Who leads anew looks for what was left open while its own turns run."""
    session = (await do(platform, "create_session", owner="apollo")).id
    runs, waits = [await begin(platform, SLOW, session_id=session) for _ in range(2)]
    await do(platform, "configure_orchestration", settings={"max_concurrent_specialists": 1})
    teams = ["team-runs", "team-waits"]
    for name in teams:
        await do(
            platform,
            "team_chat",
            content=SLOW,
            target_ids=["apollo", "athena"],
            request_id=name,
            wait=False,
        )
    await platform.turns.recover()
    members = {f"{name}/{ai_id}" for name in teams for ai_id in ("apollo-ai", "athena-ai")}
    assert {turn.request_id for turn in await platform.memory.turns.unfinished()} == {runs, waits, *members}
    await do(platform, "configure_orchestration", settings={"max_concurrent_specialists": 20})
    for name in (waits, runs, *reversed(teams)):
        await do(platform, "cancel", target=name)
    answers = [row for row in await platform.memory.messages.read(session) if row.role == "assistant"]
    assert [(row.request_id, row.finish_reason) for row in answers] == [(runs, "cancelled")]


async def test_a_failure_the_store_does_not_take_is_listed_acknowledged_and_stored_later(
    platform: Platform, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_later, "STORE_AGAIN_S", 0.05)
    log = platform.error_log
    before = log.unacknowledged
    evidence = "x" * 8000
    async with disk_full(platform):
        for number in range(40):
            log.record("apollo-ai", "internal", f"fault {number}", evidence=evidence)
        listed = (await do(platform, "list_errors", limit=100)).errors
        assert {f"fault {number}" for number in range(40)} <= {error.message for error in listed}
        waiting = [error for error in listed if error.id < 0]
        assert waiting and log.unacknowledged == before + 40
        for where, found in (("apollo-ai", waiting), ("athena-ai", [])):
            own = (await do(platform, "list_errors", limit=100, where=where)).errors
            assert [error for error in own if error.id < 0] == found
    last = waiting[0]
    await watcher.until(ErrorsAcknowledged, ids=[last.id])
    async with asyncio.timeout(BOUND_S):
        while any(error.id < 0 for error in (await do(platform, "list_errors", limit=100)).errors):
            await watcher.until(ErrorEntry)
            await asyncio.sleep(0)
    assert log.unacknowledged == before + 40
    await do(platform, "acknowledge_errors", all=True)
    assert log.unacknowledged == 0


@pytest.mark.parametrize(
    ("prompt", "cancelled"),
    [
        ("[[first 60]] ", True),
        ("[[repeat 2000]] [[rate 50]] ", True),
        ("[[repeat 9]] [[cut internal]] ", False),
    ],
)
async def test_a_cancelled_and_a_failed_turn_book_the_prompt_they_cost(
    platform: Platform, watcher: Watcher, prompt: str, cancelled: bool
) -> None:
    def spent() -> int:
        return platform.budgets._of("apollo-ai").tokens_in  # pyright: ignore[reportPrivateUsage]

    before = spent()
    session = (await do(platform, "create_session", owner="apollo")).id
    request_id = await begin(platform, prompt + "word " * 3000, session_id=session)
    if cancelled:
        phase = "streaming" if "repeat" in prompt else "prefill"
        await watcher.until(StreamPhase, request_id=request_id, phase=phase)
        await do(platform, "cancel", target=request_id)
    outcome = await ended(platform, request_id)
    assert outcome.usage is not None and outcome.usage.estimated
    assert 2000 < spent() - before < 6000
    [report] = [row for row in (await do(platform, "usage")).specialists if row.ai_id == "apollo-ai"]
    assert report.tokens_in >= spent() - before


async def test_cancel_between_two_rounds_ends_the_discussion(platform: Platform, watcher: Watcher) -> None:
    talk = asyncio.create_task(
        do(
            platform,
            "team_chat",
            content="[[first 0.3]] which?",
            target_ids=["apollo", "athena"],
            max_rounds=3,
            request_id="talk",
        )
    )
    await watcher.until(TeamEnd, request_id="talk")
    assert (await do(platform, "cancel", target="talk")).confirmed
    result = await talk
    assert len(result.rounds) < 3
    assert platform.teams.active == {}


async def test_cancel_in_a_later_round_ends_that_round_and_the_discussion(
    platform: Platform, watcher: Watcher
) -> None:
    asked = {"content": "[[first 0.4]] who?", "target_ids": ["apollo", "athena"], "max_rounds": 4}
    talk = asyncio.create_task(do(platform, "team_chat", request_id="talk-on", **asked))
    await watcher.until(TeamStart, request_id="talk-on/round-2")
    assert (await do(platform, "cancel", target="talk-on")).confirmed
    assert len((await talk).rounds) == 2
    assert platform.teams.active == {}


async def test_what_a_worker_still_sends_of_a_turn_that_ended_is_neither_shown_nor_stored(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "home", "apollo") as platform:
        watcher = Watcher(platform, "chat")
        request_id = await begin(platform, SLOW)
        await watcher.until(StreamChunk, request_id=request_id)
        await platform.turns.close()
        assert (await watcher.until(StreamError, request_id=request_id)).code == "backend_lost"
        watcher.close()
        later = platform.events.subscribe(["chat"])
        assert await platform.fleet.channel("apollo-ai").cancel(request_id, timeout_s=BOUND_S)
        await platform.turns.close()  # waits for whatever that would have begun
        shown = [json.loads(line) for line in later.pending()]
        later.close()
        assert [event for event in shown if event.get("request_id") == request_id] == []
        stored = await platform.memory.messages.of_request(request_id)
        assert [(row.role, row.error_code) for row in stored] == [
            ("user", None),
            ("assistant", "backend_lost"),
        ]
