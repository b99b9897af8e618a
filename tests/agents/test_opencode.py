"""opencode as a specialist, offline, against a fake upstream: `make test-agents`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import pytest_asyncio

from backend.orchestration.actions import ACTIONS
from backend.orchestration.platform import Platform
from backend.schema.errors import TektonError
from backend.schema.events import AskOpened
from backend.schema.frames import StreamPhase
from tests.agents.upstream import Upstream
from tests.orchestration.running import Watcher, do, running

pytestmark = [pytest.mark.agents, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

SLOW_S = 120.0
"""A cold start on a busy machine takes half a minute."""
PROGRAM = shutil.which("opencode")
ASKS = {"bash": "ask", "edit": "ask"}


class Place(NamedTuple):
    platform: Platform
    upstream: Upstream
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Place]:
    if PROGRAM is None:
        pytest.skip("opencode is not on PATH: `make test-agents` installs it")
    root = tmp_path_factory.mktemp("opencode")
    folder, home = root / "work", root / "agent-home"
    folder.mkdir()
    upstream = Upstream()
    await upstream.start()
    model = {"npm": "@ai-sdk/openai-compatible", "models": {"m": {"name": "m"}}}
    model["options"] = {"baseURL": f"http://127.0.0.1:{upstream.port}/v1", "apiKey": "x"}
    settings = {"model": "fake/m", "small_model": "fake/m", "autoupdate": False, "share": "disabled"}
    (home / ".config/opencode").mkdir(parents=True)
    (home / ".config/opencode/opencode.json").write_text(
        json.dumps({**settings, "permission": ASKS, "provider": {"fake": model}})
    )
    config = f'[specialists.coder]\ntransport = "acp"\ncommand = ["{PROGRAM}", "acp"]\ncwd = "{folder}"\n'
    async with running(
        root / "home",
        "coder",
        "apollo",
        config=config,
        environment={"HOME": str(home), "PATH": os.environ["PATH"]},
    ) as platform:
        yield Place(platform, upstream, folder)
    await upstream.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def desk(place: Place) -> AsyncGenerator[Watcher]:
    watcher = Watcher(place.platform, "asks", "tools", "chat")
    yield watcher
    watcher.close()


async def chat(place: Place, text: str, **values: Any) -> Any:
    verb = ACTIONS["chat"]
    params = verb.read_params({"ai_id": "coder", "content": text, **values})
    return await asyncio.wait_for(verb.run(place.platform, params), SLOW_S)


async def test_it_answers(place: Place) -> None:
    outcome = await chat(place, "hello there")
    assert outcome.content == "You said: hello there" and outcome.finish_reason == "stop"
    row = place.platform.fleet.status("coder-ai")
    assert row.agent is not None and row.agent.remembers and "opencode" in row.agent.name.lower()


async def test_an_edit_is_asked_for_allowed_and_shown(place: Place, desk: Watcher) -> None:
    path = place.folder / "new.txt"
    asked = asyncio.create_task(chat(place, f"write {path} hello"))
    ask = (await desk.until(AskOpened)).ask
    assert ask.tool == "agent:edit" and "+hello" in ask.diff and not path.exists()
    await do(place.platform, "answer_ask", id=ask.id, answer="allow")
    outcome = await asked
    assert (
        path.read_text() == "hello"
        and "+hello" in outcome.changes
        and outcome.content.startswith("The tool said")
    )


async def test_a_command_that_is_denied_does_not_run(place: Place, desk: Watcher) -> None:
    path = place.folder / "made"
    asked = asyncio.create_task(chat(place, f"bash touch {path}"))
    ask = (await desk.until(AskOpened)).ask
    assert ask.tool == "agent:execute" and json.loads(ask.arguments)["command"] == f"touch {path}"
    await do(place.platform, "answer_ask", id=ask.id, answer="deny")
    await asked
    assert not path.exists()


async def test_a_cancel_in_a_tool_ends_the_tool_and_the_next_question_is_answered(
    place: Place, desk: Watcher
) -> None:
    asked = asyncio.create_task(chat(place, "bash sleep 603", request_id="long"))
    ask = (await desk.until(AskOpened)).ask
    await do(place.platform, "answer_ask", id=ask.id, answer="allow")
    await desk.until(StreamPhase, phase="tool")
    await do(place.platform, "cancel", target="long")
    with pytest.raises(TektonError):
        await asked
    assert (await chat(place, "and now")).content == "You said: and now"


async def test_killed_in_a_tool_nothing_is_left_and_the_conversation_goes_on(
    place: Place, desk: Watcher
) -> None:
    asked = asyncio.create_task(chat(place, "bash sleep 604"))
    ask = (await desk.until(AskOpened)).ask
    await do(place.platform, "answer_ask", id=ask.id, answer="allow")
    await desk.until(StreamPhase, phase="tool")
    worker = psutil.Process(place.platform.fleet.status("coder-ai").pid)
    left = [worker, *worker.children(recursive=True)]
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(TektonError):
        await asked
    _, alive = await asyncio.to_thread(psutil.wait_procs, left, 10)
    assert not alive
    assert (await do(place.platform, "launch", ids=["coder"])).results[0].ok
    outcome = await chat(place, "what was before")
    assert outcome.notes == []
    assert any("hello there" in json.dumps(one.get("messages")) for one in place.upstream.seen[-3:])
