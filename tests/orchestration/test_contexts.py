"""What a turn is sent, over a real worker: histories that no line to a worker could carry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from backend.home import Home
from backend.orchestration.actions import ACTIONS
from backend.orchestration.platform import Platform, open_platform
from backend.schema.errors import TektonError
from backend.specialists.killall import kill_all
from backend.wire import MAX_LINE_BYTES

pytestmark = pytest.mark.asyncio(loop_scope="module")
BOUND_S = 20.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    home = Home(tmp_path_factory.mktemp("contexts") / "home")
    environment = {"PATH": "/usr/bin:/bin", "TEKTON_PROVIDER": "scripted", "TEKTON_PORT_PROFILE": "free"}
    platform = await open_platform(home, environment)
    try:
        [result] = (await _do(platform, "launch", ids=["apollo"]))["results"]
        assert result.ok, result
        yield platform
    finally:
        await platform.close(stop_fleet=True)
        await asyncio.to_thread(kill_all, home, grace_s=1.0)


async def _do(platform: Platform, action: str, **values: Any) -> Any:
    verb = ACTIONS[action]
    return await asyncio.wait_for(verb.run(platform, verb.read_params(values)), BOUND_S)


async def _begin(platform: Platform) -> str:
    return (await _do(platform, "create_session", owner="apollo")).id


async def _ask(platform: Platform, session: str, text: str) -> Any:
    return await _do(platform, "chat", ai_id="apollo", content=text, session_id=session, wait=True)


async def test_a_conversation_goes_on_behind_a_question_of_megabytes(platform: Platform) -> None:
    session = await _begin(platform)
    long = "m" * 5_000_000
    assert (await _ask(platform, session, long)).content == f"You said: {long}"
    told = await _ask(platform, session, "[[messages]] and now?")
    sent = [message["content"] for message in msgspec.json.decode(told.content)]
    assert len(sent) == 1 and sent[0].endswith("and now?") and len(sent[0]) < 1000
    assert "- you: mmm" in sent[0], "the summary of what was left out is missing"
    assert any("pruned" in note for note in told.notes)


async def test_what_is_pinned_and_short_is_sent_though_megabytes_came_after_it(platform: Platform) -> None:
    session = await _begin(platform)
    await _ask(platform, session, "the port is 4711")
    page = (await _do(platform, "session_messages", id=session))["messages"]
    await _do(platform, "pin_message", message_id=page[0].id)
    await _ask(platform, session, '"' * 3_000_000)  # twice as long on the line: each is escaped
    told = await _ask(platform, session, "[[messages]] which port?")
    sent = [message["content"] for message in msgspec.json.decode(told.content)]
    assert sent[-1].endswith("which port?") and "the port is 4711" in sent[0]
    assert sum(map(len, sent)) < 2000


async def test_a_question_no_line_can_carry_is_refused_by_the_cap_and_spoils_nothing(
    platform: Platform,
) -> None:
    session = await _begin(platform)
    with pytest.raises(TektonError) as refused:
        outcome = await _ask(platform, session, "m" * (MAX_LINE_BYTES + 1))
        raise TektonError(outcome.error, code=outcome.code)
    assert refused.value.code == "too_large" and f"{MAX_LINE_BYTES:,}" in refused.value.message
    assert (await _ask(platform, session, "still there?")).content.endswith("still there?")
