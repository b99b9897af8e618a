"""MCP servers that keep to no rule: a specialist's tools serve or say why not, and no turn is answered by another's words."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from backend.orchestration.platform import Platform
from backend.schema.events import SpecialistEvent
from backend.schema.tools import ToolState
from tests.orchestration.running import BOUND_S, Watcher, do, running

SERVER = str(Path(__file__).with_name("odd_server.py"))
WAYS = (
    "changing",
    "gone",
    "twice",
    "strangers",
    "shapeless",
    "noise",
    "alike",
    "endless",
    "pictures",
    "mute",
)
TABLES = "".join(
    f'[tools.{way}]\ncommand = ["{sys.executable}", "{SERVER}", "{way}"]\n'
    + ("start_timeout_s = 2.0\n" if way == "mute" else "")
    for way in WAYS
)
CONFIG = f'{TABLES}[rules]\nallow = ["*"]\n[specialists.apollo]\ntools = {json.dumps(WAYS)}\n'
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Platform]:
    async with running(tmp_path_factory.mktemp("odd") / "home", "apollo", config=CONFIG) as platform:
        await until(
            platform, lambda rows: len(rows) == len(WAYS) and all(r.tools or r.failed for r in rows.values())
        )
        yield platform


def rows(platform: Platform) -> dict[str, ToolState]:
    return {row.server: row for row in platform.fleet.status("apollo-ai").tools}


async def until(platform: Platform, true: object) -> None:
    """Wait until the row of the specialist is as it should be."""
    assert callable(true)
    watcher = Watcher(platform, "fleet")
    async with asyncio.timeout(BOUND_S):
        while not true(rows(platform)):
            watcher.seen.clear()
            await watcher.until(SpecialistEvent)
    watcher.close()


async def said_by(platform: Platform, tool: str, text: str = "hello") -> str:
    call = f"[[call {tool} {json.dumps({'text': text})}]]"
    return (await asyncio.wait_for(do(platform, "chat", ai_id="apollo", content=call), BOUND_S)).content


async def offered(platform: Platform) -> dict[str, str]:
    outcome = await do(platform, "chat", ai_id="apollo", content="[[options]]")
    return {tool["name"]: tool.get("description", "") for tool in json.loads(outcome.content)["tools"]}


@pytest.mark.parametrize("way", ["twice", "strangers", "noise", "endless", "alike"])
async def test_a_call_gets_its_own_answer_whatever_else_its_server_says(shared: Platform, way: str) -> None:
    for text in ("one", "two", "three"):
        assert f"The tool said: echo said {text}" in await said_by(shared, f"{way}__echo", text)


@pytest.mark.parametrize(
    ("said", "why"),
    [("text/html iVBORw0KGgo=", "a picture is of a type image/"), ("image/png !!!", "not base64")],
)
async def test_a_picture_that_is_none_is_named_and_not_sent_to_the_model(
    shared: Platform, said: str, why: str
) -> None:
    answer = await said_by(shared, "pictures__echo", said)
    assert "The tool said: seen" in answer and "(a picture that cannot be shown: " in answer and why in answer


async def test_pictures_of_tools_are_left_out_by_number_for_a_model_that_sees_none(
    tmp_path: Path,
) -> None:
    table = f'[tools.pictures]\ncommand = ["{sys.executable}", "{SERVER}", "pictures"]\n'
    config = f'{table}[rules]\nallow = ["*"]\n[specialists.apollo]\ntools = ["pictures"]\n'
    config += '[providers.scripted]\nlacks = ["images"]\n'
    async with running(tmp_path / "home", "apollo", config=config) as platform:
        answer = await said_by(platform, "pictures__echo", "image/png iVBORw0KGgo=")
    assert "seen\n(1 picture left out: scripted:scripted sees none)" in answer


async def test_an_answer_without_a_shape_fails_its_call_and_no_other(shared: Platform) -> None:
    assert "The tool said: shapeless:" in await said_by(shared, "shapeless__echo")
    assert "The tool said: shapeless:" in await said_by(shared, "shapeless__echo")


async def test_tools_that_change_during_a_call_are_read_again_and_offered(shared: Platform) -> None:
    assert (await offered(shared))["changing__echo"] == "the first"
    assert "The tool said: echo said one" in await said_by(shared, "changing__echo", "one")
    await until(shared, lambda rows: rows["changing"].tools == ["changing:echo", "changing:later"])
    now = await offered(shared)
    assert (now["changing__echo"], now["changing__later"]) == ("another", "came with one")
    assert "The tool said: later said two" in await said_by(shared, "changing__later", "two")


async def test_tools_that_went_away_are_offered_no_more_and_their_server_serves(shared: Platform) -> None:
    assert "The tool said: echo said x" in await said_by(shared, "gone__echo", "x")
    await until(shared, lambda rows: rows["gone"].tools == [])
    assert not rows(shared)["gone"].failed and "gone__echo" not in await offered(shared)
    assert "there is no tool 'gone__echo'" in await said_by(shared, "gone__echo")


async def test_tools_of_one_name_and_of_alike_names_are_told_apart(shared: Platform) -> None:
    known = {name: text for name, text in (await offered(shared)).items() if name.startswith("alike")}
    assert known["alike__echo"] == "the first" and len(known) == 4
    assert len({name.lower() for name in known}) == len(known) - 1  # ECHO and echo are two to every vendor


async def test_a_server_that_never_begins_is_a_state_with_its_reason(shared: Platform) -> None:
    row = rows(shared)["mute"]
    assert row.failed and "did not say its tools within 2 s" in row.problem
