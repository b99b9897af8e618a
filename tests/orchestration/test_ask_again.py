"""One member of a team turn asked again: what it says stands from then on, whether the others still answer or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from backend.home import Home, write_private
from backend.orchestration.actions import ACTIONS
from backend.orchestration.opening import open_platform
from backend.orchestration.platform import Platform
from backend.orchestration.teams.team_turn import TeamRun
from backend.schema.errors import TektonError
from backend.specialists.killall import kill_all

pytestmark = pytest.mark.asyncio(loop_scope="module")
BOUND_S = 60.0
RULES = """
[[answer]]
when = "show what you were sent"
messages = true
[[answer]]
when = "We discuss this question"
messages = true
[[answer]]
when = "athena takes her time"
who = "athena"
say = "athena, at last"
first = 600
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    home = Home(tmp_path_factory.mktemp("again") / "home").prepare()
    (home.root / "rules.toml").write_text(RULES)
    write_private(home.config, b'[providers.scripted]\nscript = "rules.toml"\n')
    environment = {"PATH": "/usr/bin:/bin", "TEKTON_PROVIDER": "scripted", "TEKTON_PORT_PROFILE": "free"}
    platform = await open_platform(home, environment)
    try:
        results = (await do(platform, "launch", ids=["apollo", "athena"])).results
        assert all(row.ok for row in results), results
        yield platform
    finally:
        await platform.close(stop_fleet=True)
        await asyncio.to_thread(kill_all, home, grace_s=1.0)


async def do(platform: Platform, action: str, **values: Any) -> Any:
    verb = ACTIONS[action]
    return await asyncio.wait_for(verb.run(platform, verb.read_params(values)), BOUND_S)


async def begin(platform: Platform, content: str, *members: str) -> TeamRun:
    """Start a team turn and return it while it runs."""
    started = await do(platform, "team_chat", content=content, target_ids=list(members), wait=False)
    run = platform.teams.find(started.request_id)
    assert run is not None
    return run


async def again(platform: Platform, run: TeamRun, member: str, **values: Any) -> Any:
    return await do(platform, "ask_member", team_request_id=run.request.request_id, ai_id=member, **values)


async def test_a_member_that_failed_is_asked_again_and_then_takes_part_in_the_discussion(
    platform: Platform,
) -> None:
    run = await begin(platform, "which colour?", "apollo", "athena", "sophia")
    outcome = await asyncio.wait_for(run.done, BOUND_S)
    assert [failure.ai_id for failure in outcome.failures] == ["sophia-ai"]
    with pytest.raises(TektonError) as still:
        await again(platform, run, "sophia", wait=True)
    assert still.value.code == "not_running"
    await do(platform, "launch", ids=["sophia"])
    try:
        answer = await again(platform, run, "sophia", wait=True, request_id="once-more")
        assert answer.request_id == f"{run.request.request_id}/sophia-ai/once-more"
        assert answer.content == "You said: which colour?"
        assert (await again(platform, run, "sophia", wait=True, request_id="once-more")) == answer
        discussed = await do(platform, "discuss", team_request_id=run.request.request_id, wait=True)
    finally:
        await do(platform, "kill", ids=["sophia"])
    seen = {row.socket_id: json.loads(row.content)[-1]["content"] for row in discussed.responses}
    assert seen.keys() == {"apollo-ai", "athena-ai", "sophia-ai"}
    assert all('from="sophia-ai"' in seen[name] for name in ("apollo-ai", "athena-ai"))


async def test_a_failure_leaves_the_earlier_answer_standing(platform: Platform) -> None:
    run = await begin(platform, "which colour?", "apollo", "athena")
    await asyncio.wait_for(run.done, BOUND_S)
    before = {answer.ai_id: answer.content for answer in run.answers}
    await do(platform, "kill", ids=["athena"])
    try:
        with pytest.raises(TektonError):
            await again(platform, run, "athena", wait=True)
    finally:
        await do(platform, "launch", ids=["athena"])
    assert {answer.ai_id: answer.content for answer in run.answers} == before
    assert run.failures == []


async def test_it_is_sent_the_same_as_the_first_time_not_its_own_answer(platform: Platform) -> None:
    session = await do(platform, "create_session", owner="team")
    question = "show what you were sent"
    first = await do(platform, "team_chat", content=question, target_ids=["apollo"], session_id=session.id)
    run = platform.teams.find(first.request_id)
    assert run is not None
    answer = await again(platform, run, "apollo", wait=True)
    assert answer.content == first.responses[0].content
    stored = (await do(platform, "session_messages", id=session.id)).messages
    assert [message.author for message in stored] == ["you", "apollo-ai", "apollo-ai"]
    assert {message.lane for message in stored[1:]} == {run.request.request_id}


async def test_while_others_answer_the_team_waits_for_it_and_one_that_answers_is_not_asked_twice(
    platform: Platform,
) -> None:
    run = await begin(platform, "athena takes her time", "apollo", "athena")
    await asyncio.wait_for(asyncio.shield(run.asking["apollo-ai"]), BOUND_S)
    answer = await again(platform, run, "apollo", wait=True, request_id="second")
    with pytest.raises(TektonError, match="still answers") as twice:
        await again(platform, run, "athena")
    assert twice.value.code == "conflict"
    with pytest.raises(TektonError, match="still answering"):
        await do(platform, "discuss", team_request_id=run.request.request_id)
    await do(platform, "cancel", request_id=run.request.request_id)
    outcome = run.done.result()
    assert [row.request_id for row in outcome.answers] == [answer.request_id]
    assert [(row.ai_id, row.code) for row in outcome.failures] == [("athena-ai", "cancelled")]


async def test_a_call_is_cancelled_by_the_id_it_came_with(platform: Platform) -> None:
    run = await begin(platform, "which colour?", "apollo", "athena")
    await asyncio.wait_for(run.done, BOUND_S)
    run.request.content = "athena takes her time"
    await again(platform, run, "athena", request_id="mine")
    confirmed = await do(platform, "cancel", request_id="mine")
    assert confirmed.confirmed
    outcome = await asyncio.wait_for(asyncio.shield(run.asking["athena-ai"]), BOUND_S)
    assert outcome.code == "cancelled"


async def test_a_member_is_asked_once_by_a_call_right_behind_the_question(platform: Platform) -> None:
    run = await begin(platform, "athena takes her time", "athena")
    with pytest.raises(TektonError, match="still answers"):
        await again(platform, run, "athena")
    await do(platform, "cancel", target=run.request.request_id)
    assert [failure.code for failure in run.done.result().failures] == ["cancelled"]


async def test_a_member_that_waits_for_a_slot_is_cancelled_at_once_and_never_asked(
    platform: Platform,
) -> None:
    await do(platform, "configure_orchestration", settings={"max_concurrent_specialists": 1})
    try:
        run = await begin(platform, "athena takes her time", "athena", "apollo")
        assert (await do(platform, "cancel", target=run.start.lanes["apollo-ai"])).confirmed
        outcome = await asyncio.wait_for(asyncio.shield(run.asking["apollo-ai"]), BOUND_S)
        assert outcome.code == "cancelled" and not run.asking["athena-ai"].done()
        assert platform.turns.find(run.start.lanes["apollo-ai"]) is None, "it was asked"
        await do(platform, "cancel", target=run.request.request_id)
    finally:
        await do(platform, "configure_orchestration", settings={"max_concurrent_specialists": 20})


async def test_an_item_of_a_bulk_that_waits_for_a_slot_is_cancelled_alone(platform: Platform) -> None:
    items = [
        {"specialist_id": name, "message": "athena takes her time"} for name in ("athena", "apollo", "apollo")
    ]
    bulk = asyncio.create_task(do(platform, "bulk", requests=items, request_id="b1", max_concurrency=1))
    async with asyncio.timeout(BOUND_S):
        while platform.turns.find("b1/0") is None:  # noqa: ASYNC110 - a short wait for one of several tasks
            await asyncio.sleep(0)
    assert (await do(platform, "cancel", target="b1/1")).confirmed
    await do(platform, "cancel", target="b1/0")
    report = await asyncio.wait_for(bulk, BOUND_S)
    assert [result.outcome.code for result in report.results] == ["cancelled", "cancelled", None]


async def test_who_is_no_member_and_a_turn_nobody_knows_are_named(platform: Platform) -> None:
    run = await begin(platform, "which colour?", "apollo")
    await asyncio.wait_for(run.done, BOUND_S)
    with pytest.raises(TektonError, match="its members: apollo") as stranger:
        await again(platform, run, "athena")
    assert stranger.value.code == "not_found"
    with pytest.raises(TektonError, match="no team turn 'never'") as unknown:
        await do(platform, "ask_member", team_request_id="never", ai_id="apollo")
    assert unknown.value.code == "not_found"
