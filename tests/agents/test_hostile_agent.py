"""An agent that floods, lies, asks after the end, never answers and forks: it costs its own turn and nobody else's."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from backend.orchestration.platform import Platform
from backend.schema.errors import TektonError
from backend.schema.events import AskOpened, SpecialistEvent
from tests.orchestration.running import BOUND_S, Watcher, do, running

ROGUES = ("rogue", "mute", "deaf")
AGENT = str(Path(__file__).with_name("hostile.py"))

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> AsyncGenerator[Platform]:
    command = json.dumps([sys.executable, AGENT])
    text = "".join(
        f'[specialists.{name}]\ntransport = "acp"\ncommand = {command}\ncwd = "{folder}"\n' for name in ROGUES
    )
    async with running(tmp_path_factory.mktemp("rogue") / "home", *ROGUES, "apollo", config=text) as platform:
        yield platform


async def ask(platform: Platform, word: str, ai_id: str = "rogue") -> Any:
    """Ask the rogue, and meanwhile somebody else, who must not notice."""
    other = asyncio.create_task(do(platform, "chat", ai_id="apollo", content=f"[[say beside {word}]]"))
    try:
        return await do(platform, "chat", ai_id=ai_id, content=word)
    finally:
        assert (await other).content == f"beside {word}"


def answers(folder: Path) -> list[dict[str, Any]]:
    path = folder / "answers"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def test_a_flood_and_updates_of_conversations_that_are_not_open_are_taken_or_dropped(
    shared: Platform,
) -> None:
    assert (await ask(shared, "flood")).content == "x" * 10_000


async def test_lies_about_ids_end_the_turn_and_every_question_gets_one_answer(
    shared: Platform, folder: Path
) -> None:
    with pytest.raises(TektonError, match="two requests of the id 7"):
        await ask(shared, "lies")
    assert (await ask(shared, "strange")).content.startswith("fine")
    given = [one for one in answers(folder) if one["id"] in (7, 8)]
    assert sorted(one["id"] for one in given) == [7, 8]
    assert all(one["result"]["outcome"] == {"outcome": "cancelled"} for one in given)


async def test_an_answer_without_an_id_breaks_the_protocol_and_ends_the_turn(shared: Platform) -> None:
    with pytest.raises(TektonError, match="broke the protocol: neither request nor response"):
        await ask(shared, "nobody")


async def test_strange_endings_noise_and_unheard_of_requests_cost_nothing(
    shared: Platform, folder: Path
) -> None:
    outcome = await ask(shared, "strange")
    assert outcome.content == "fine" and outcome.finish_reason == "other"
    assert any("because_i_say_so" in note for note in outcome.notes)
    found = {str(one["id"]): one for one in answers(folder)}
    assert found["w"]["result"] == {}
    assert found["u"]["error"]["code"] == -32601


async def test_a_line_of_a_hundred_megabytes_costs_its_turn_and_no_memory(shared: Platform) -> None:
    with pytest.raises(TektonError, match="a line of more than 16,777,216 bytes"):
        await ask(shared, "huge")
    worker = psutil.Process(shared.fleet.status("rogue-ai").pid)
    assert worker.memory_info().rss < 150 * 1024 * 1024
    assert (await ask(shared, "strange")).content == "fine"


async def test_what_is_asked_under_the_id_of_a_call_that_ended_is_a_call_of_its_own(
    shared: Platform, folder: Path
) -> None:
    watcher = Watcher(shared, "asks")
    try:
        asked = asyncio.create_task(ask(shared, "reused"))
        opened = (await asyncio.wait_for(watcher.until(AskOpened), BOUND_S)).ask
        assert (opened.tool, json.loads(opened.arguments)["command"]) == ("agent:execute", "rm -rf /")
        await do(shared, "answer_ask", id=opened.id, answer="deny")
        await asked
    finally:
        watcher.close()
    [given] = [one for one in answers(folder) if one["id"] == "again"]
    assert given["result"]["outcome"] == {"outcome": "cancelled"}


async def test_what_is_asked_after_the_end_is_void(shared: Platform, folder: Path) -> None:
    await ask(shared, "strange")
    await ask(shared, "strange")  # by now the first one's late question was answered
    late = [one for one in answers(folder) if str(one["id"]).startswith("late")]
    assert late and all(one["result"]["outcome"] == {"outcome": "cancelled"} for one in late)
    assert shared.snapshot().asks == []


async def test_a_cancel_that_is_not_confirmed_says_so_and_the_next_question_begins_anew(
    shared: Platform,
) -> None:
    asked = asyncio.create_task(do(shared, "chat", ai_id="rogue", content="silent", request_id="mute"))
    watcher = Watcher(shared, "fleet")
    while shared.fleet.status("rogue-ai").phase != "prefill":
        watcher.seen.clear()
        await watcher.until(SpecialistEvent)
    watcher.close()
    await do(shared, "cancel", target="mute")
    with pytest.raises(TektonError, match="did not confirm the cancel"):
        await asked
    outcome = await ask(shared, "strange")
    assert outcome.content == "fine" and any("begun anew" in note for note in outcome.notes)


async def test_what_it_asks_while_it_is_being_cancelled_is_void_and_shown_to_nobody(
    shared: Platform, folder: Path
) -> None:
    watcher = Watcher(shared, "asks", "fleet")
    try:
        asked = asyncio.create_task(
            do(shared, "chat", ai_id="rogue", content="late_ask", request_id="greedy")
        )
        while shared.fleet.status("rogue-ai").phase != "prefill":
            await watcher.until(SpecialistEvent)
            watcher.seen.clear()
        await do(shared, "cancel", target="greedy")
        with pytest.raises(TektonError) as ended:
            await asked
        assert ended.value.code == "cancelled"
        assert not any(isinstance(event, AskOpened) for event in watcher.seen) and not shared.snapshot().asks
    finally:
        watcher.close()
    [given] = [one for one in answers(folder) if one["id"] == "while cancelled"]
    assert given["result"]["outcome"] == {"outcome": "cancelled"}
    outcome = await ask(shared, "strange")  # the same conversation goes on
    assert outcome.content == "fine" and not any("anew" in note for note in outcome.notes)


@pytest.mark.parametrize(("name", "pipe"), [("mute", "output"), ("deaf", "input")])
async def test_an_agent_that_closes_one_of_its_pipes_is_ended_and_its_turn_with_it(
    shared: Platform, name: str, pipe: str
) -> None:
    with pytest.raises(TektonError, match=f"closed its {pipe}"):
        await asyncio.wait_for(ask(shared, name, name), BOUND_S)
    watcher = Watcher(shared, "fleet")
    async with asyncio.timeout(BOUND_S):
        while shared.fleet.status(f"{name}-ai").state not in ("killed", "exited"):
            watcher.seen.clear()
            await watcher.until(SpecialistEvent)
    watcher.close()


async def test_what_it_forks_ends_with_it_also_when_it_kills_its_guard(shared: Platform) -> None:
    pid = shared.fleet.status("rogue-ai").pid
    with pytest.raises(TektonError) as failure:
        await asyncio.wait_for(ask(shared, "fork"), BOUND_S)
    assert failure.value.code == "worker_lost"
    watcher = Watcher(shared, "fleet")
    while shared.fleet.status("rogue-ai").state not in ("killed", "exited"):
        watcher.seen.clear()
        await watcher.until(SpecialistEvent)
    watcher.close()
    assert not psutil.pid_exists(pid)
    left = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "602"]]
    _, alive = await asyncio.to_thread(psutil.wait_procs, left, 10)
    assert not alive
