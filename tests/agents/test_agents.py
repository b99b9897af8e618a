"""An external agent as a specialist, from its launch to its end: a real one, written with the protocol's own SDK."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from backend.orchestration.platform import Platform
from backend.schema.errors import TektonError
from backend.schema.events import AskOpened, SpecialistEvent
from backend.schema.frames import StreamPhase, StreamToolCall, StreamToolResult
from backend.schema.records import TurnOutcome
from tests.orchestration.running import BOUND_S, Watcher, do, running

VARIABLES = {"FOR_THE_AGENT": "1", "NOT_FOR_IT": "2"}
AGENT = str(Path(__file__).with_name("agent.py"))

pytestmark = pytest.mark.asyncio(loop_scope="module")


def config(folder: Path, name: str = "coder", *words: str, more: str = "") -> str:
    command = json.dumps([sys.executable, AGENT, *words])
    return f'[specialists.{name}]\ntransport = "acp"\ncommand = {command}\ncwd = "{folder}"\n{more}\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> AsyncGenerator[Platform]:
    text = config(folder, more='env = ["FOR_THE_AGENT"]\nmode = "plan"')
    async with running(
        tmp_path_factory.mktemp("agents") / "home", "coder", "apollo", config=text, environment=VARIABLES
    ) as platform:
        await until_agent(platform, "coder-ai", lambda row: row.agent and row.agent.state == "ready")
        yield platform


@pytest_asyncio.fixture(loop_scope="module")
async def desk(shared: Platform) -> AsyncGenerator[Watcher]:
    watcher = Watcher(shared, "asks", "tools", "chat")
    yield watcher
    watcher.close()


async def until_agent(platform: Platform, ai_id: str, fits: Any) -> Any:
    watcher = Watcher(platform, "fleet")
    try:
        while not fits(row := platform.fleet.status(ai_id)):
            watcher.seen.clear()
            await asyncio.wait_for(watcher.until(SpecialistEvent), BOUND_S)
        return row
    finally:
        watcher.close()


async def chat(platform: Platform, text: str, **values: Any) -> TurnOutcome:
    return await do(platform, "chat", ai_id=values.pop("ai_id", "coder"), content=text, **values)


async def failed(asked: Awaitable[TurnOutcome]) -> TektonError:
    with pytest.raises(TektonError) as failure:
        await asyncio.wait_for(asked, BOUND_S)
    return failure.value


async def test_it_answers_thinks_and_says_what_it_is(shared: Platform) -> None:
    outcome = await chat(shared, "think hm\nsay one two three\nplan 2 5\ncost 0.25")
    assert outcome.content == "one two three " and outcome.finish_reason == "stop", outcome
    assert outcome.model == "acp:small" and outcome.usage.input_tokens == 7 and not outcome.usage.estimated
    assert (outcome.cost, outcome.currency) == (0.25, "EUR")
    row = await until_agent(shared, "coder-ai", lambda row: row.agent.plan and row.agent.context_window)
    assert (row.agent.name, row.agent.version, row.agent.remembers) == ("The tester", "1.2", True)
    assert (row.agent.plan_done, len(row.agent.plan)) == (2, 5)
    assert (row.context_used, row.context_window) == (1_000, 8_000)
    assert row.provider == "acp" and row.model == "small" and row.costs["EUR"] == 0.25


async def test_the_mode_of_the_configuration_is_set_and_only_named_variables_are_seen(
    shared: Platform,
) -> None:
    assert (await chat(shared, "mode")).content == "plan"
    seen = (await chat(shared, "env")).content.split()
    assert "FOR_THE_AGENT" in seen and "NOT_FOR_IT" not in seen
    assert [name for name in seen if name.startswith("TEKTON")] == ["TEKTON_SPECIALIST"]


async def test_an_edit_waits_for_a_person_with_its_diff_and_the_agents_options(
    shared: Platform, desk: Watcher, folder: Path
) -> None:
    (folder / "a.txt").write_text("first\n")
    asked = asyncio.create_task(chat(shared, "edit a.txt second"))
    ask = (await desk.until(AskOpened)).ask
    assert ask.tool == "agent:edit" and json.loads(ask.arguments)["path"] == str(folder / "a.txt")
    assert [(one.id, one.kind) for one in ask.options] == [
        ("once", "allow_once"),
        ("ever", "allow_always"),
        ("no", "reject_once"),
        ("never", "reject_always"),
    ]
    assert ask.diff.splitlines()[-2:] == [" first", "+second"]
    assert (folder / "a.txt").read_text() == "first\n"
    await do(shared, "answer_ask", id=ask.id, answer="allow")
    outcome = await asked
    assert "a.txt: once" in outcome.content and (folder / "a.txt").read_text() == "first\nsecond\n"
    assert outcome.changes.startswith("--- a.txt\n+++ a.txt\n") and "+second" in outcome.handed_on
    [call, result, _] = outcome.parts
    assert (call.name, result.is_error) == ("edit", False) and "+second" in result.content
    [record] = [
        row for row in (await do(shared, "list_tool_calls")).calls if row.request_id == outcome.request_id
    ]
    assert (record.tool, record.state) == ("agent:edit", "done")
    row = await until_agent(shared, "coder-ai", lambda row: row.agent.changes)
    assert [(one.added, one.removed) for one in row.agent.changes] == [(1, 0)]


async def test_denied_it_goes_on_and_nothing_was_changed(
    shared: Platform, desk: Watcher, folder: Path
) -> None:
    asked = asyncio.create_task(chat(shared, "edit b.txt x\nsay on"))
    ask = (await desk.until(AskOpened)).ask
    with pytest.raises(TektonError, match="it offers: once"):
        await do(shared, "answer_ask", id=ask.id, answer="allow", option="other")
    await do(shared, "answer_ask", id=ask.id, answer="deny")
    outcome = await asked
    assert outcome.content == "b.txt: no on " and not (folder / "b.txt").exists() and not outcome.changes


async def test_an_option_of_the_agents_own_is_given_as_it_is(
    shared: Platform, desk: Watcher, folder: Path
) -> None:
    asked = asyncio.create_task(chat(shared, "edit c.txt x"))
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "answer_ask", id=ask.id, answer="allow", option="ever")
    assert (await asked).content == "c.txt: ever "


async def test_a_rule_decides_and_nobody_is_asked(shared: Platform, folder: Path) -> None:
    rule = await do(shared, "add_rule", verdict="allow", pattern=f"agent:edit path={folder}/*", scope="coder")
    assert (await chat(shared, "edit d.txt x")).content == "d.txt: once "
    await do(shared, "remove_rule", id=rule.id)
    outcome = await chat(shared, "edit e.txt x")
    assert outcome.content == "e.txt: no "  # nobody watches


async def test_a_cancel_in_a_tool_is_confirmed_and_the_conversation_goes_on(
    shared: Platform, desk: Watcher, folder: Path
) -> None:
    asked = asyncio.create_task(chat(shared, "say hm\nrun sleep 600", request_id="long"))
    await desk.until(StreamPhase, phase="tool")
    row = shared.fleet.status("coder-ai")
    assert (row.state, row.phase, row.detail) == ("busy", "tool", "Run sleep 600")
    await do(shared, "cancel", target="long")
    assert (await failed(asked)).code == "cancelled"
    assert (await chat(shared, "say again")).content == "again "


async def test_a_cancel_while_a_person_is_asked_voids_the_question(
    shared: Platform, desk: Watcher, folder: Path
) -> None:
    asked = asyncio.create_task(chat(shared, "edit f.txt x", request_id="open"))
    await desk.until(AskOpened)
    await do(shared, "cancel", target="open")
    assert (await failed(asked)).code == "cancelled" and shared.snapshot().asks == []
    assert not (folder / "f.txt").exists()


async def test_a_restart_while_a_person_is_asked_voids_the_question_and_nothing_is_done_later(
    shared: Platform, desk: Watcher, folder: Path
) -> None:
    asked = asyncio.create_task(chat(shared, "edit h.txt x", request_id="open-at-restart"))
    ask = (await desk.until(AskOpened)).ask
    await do(shared, "restart", ids=["coder"])
    assert (await failed(asked)).code in ("worker_lost", "cancelled")
    assert shared.snapshot().asks == []
    with pytest.raises(TektonError, match=r"already denied|nothing of the id"):
        await do(shared, "answer_ask", id=ask.id, answer="allow")
    assert (await chat(shared, "say again")).content == "again " and not (folder / "h.txt").exists()
    calls = (await do(shared, "list_tool_calls")).calls
    assert [one.state for one in calls if one.request_id == "open-at-restart"] == ["void"]


async def test_its_model_is_changed_among_those_it_has(shared: Platform) -> None:
    await chat(shared, "say hm")
    [done] = (await do(shared, "set_model", ids=["coder"], model="large")).results
    assert done.ok, done
    assert (await chat(shared, "say hm")).model == "acp:large"
    [done] = (await do(shared, "set_model", ids=["coder"], model="huge")).results
    assert not done.ok and "has no Model 'huge'; it has: small, large" in done.message
    with pytest.raises(TektonError, match="models of its own"):
        await chat(shared, "say hm", model="small")


async def test_pictures_and_files_go_along(shared: Platform) -> None:
    parts = [
        {"type": "text", "text": "kinds"},
        {"type": "image", "media_type": "image/png", "data": "aGk="},
        {"type": "file", "name": "a.txt", "media_type": "text/plain", "data": "aGk="},
    ]
    assert (await chat(shared, "kinds", parts=parts)).content == "text image resource"


async def test_a_pipe_hands_the_diff_on(shared: Platform, folder: Path) -> None:
    rule = await do(shared, "add_rule", verdict="allow", pattern="agent:edit", scope="coder")
    run = await do(
        shared, "pipeline", pipeline='coder | apollo "[[messages]]"', input="edit g.txt seventh", wait=True
    )
    await do(shared, "remove_rule", id=rule.id)
    assert "+seventh" in run.stages[-1].output, run


async def test_what_it_does_is_seen_as_calls_of_tools(shared: Platform, desk: Watcher) -> None:
    await chat(shared, "run true\nsay done")
    call = await desk.until(StreamToolCall)
    assert call.name == "execute" and json.loads(call.arguments)["command"] == "true"
    result = await desk.until(StreamToolResult)
    assert (result.tool, result.content, result.is_error) == ("agent:execute", "done", False)


def until_sleeping(pid: int) -> list[psutil.Process]:
    """Wait until the agent's tool runs below a worker; return all that descends from it."""
    until = time.monotonic() + BOUND_S
    while time.monotonic() < until:
        found = psutil.Process(pid).children(recursive=True)
        if any("601" in one.cmdline() for one in found):
            return found
    raise AssertionError("the tool does not run")


async def test_killed_in_a_tool_its_row_is_true_and_no_process_is_left(
    shared: Platform, desk: Watcher
) -> None:
    asked = asyncio.create_task(chat(shared, "run sleep 601"))
    await desk.until(StreamPhase, phase="tool")
    row = shared.fleet.status("coder-ai")
    left = await asyncio.to_thread(until_sleeping, row.pid)
    assert any(os.getpgid(one.pid) not in (row.pid, os.getpgid(left[0].pid)) for one in left)
    os.kill(row.pid, signal.SIGKILL)
    error = await failed(asked)
    assert error.code == "worker_lost" and "SIGKILL" in error.message
    assert shared.fleet.status("coder-ai").state == "killed"
    _, alive = await asyncio.to_thread(psutil.wait_procs, left, 10)
    assert not alive
    [result] = (await do(shared, "launch", ids=["coder"])).results
    assert result.ok, result


async def test_an_agent_that_ends_ends_its_specialist_the_same_way_with_its_last_words(
    shared: Platform,
) -> None:
    await until_agent(shared, "coder-ai", lambda row: row.agent and row.agent.state == "ready")
    error = await failed(chat(shared, "say hm\nexit 7"))
    assert error.code == "worker_lost"
    row = await until_agent(shared, "coder-ai", lambda row: row.state == "exited")
    assert row.exit_code == 7 and row.agent is None
    errors = [one for one in (await do(shared, "list_errors")).errors if one.where == "coder-ai"]
    assert any("it ends on purpose" in one.evidence for one in errors)
    [result] = (await do(shared, "launch", ids=["coder"])).results
    assert result.ok, result


async def test_a_conversation_goes_on_after_a_restart(shared: Platform) -> None:
    await chat(shared, "remember the answer is 42")
    await do(shared, "restart", ids=["coder"])
    outcome = await chat(shared, "recall")
    assert (outcome.content, outcome.notes) == ("the answer is 42", [])
