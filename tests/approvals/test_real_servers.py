"""Tool servers that others wrote, with specialists on every provider: `make test-clients` installs them apart and runs this.

`TEKTON_CLIENTS` names the folder: npm's programs in `node_modules`, those of Python in `python/bin`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from backend.home import Home, write_private
from backend.orchestration.opening import open_platform
from backend.orchestration.platform import Platform
from backend.schema.events import AskOpened, SpecialistEvent
from backend.schema.records import TurnOutcome
from backend.specialists.killall import kill_all
from tests.approvals.vendors import KINDS, serve
from tests.orchestration.running import BOUND_S, Watcher, do
from tests.providers.rigs import KEY, ServerRig

pytestmark = [pytest.mark.clients, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
FOLDER = Path(os.environ.get("TEKTON_CLIENTS", "/nonexistent"))
WHO = {"scripted": "apollo", "ollama": "athena", "openai": "rhetor", "anthropic": "hermes"}
"""The specialist on each provider."""


def npm(name: str, *arguments: str) -> str:
    """Return the command of a server from npm, as TOML."""
    return json.dumps([shutil.which("node"), str(FOLDER / "node_modules" / ".bin" / name), *arguments])


def config(root: Path, urls: dict[str, str]) -> str:
    notes = root / "notes"
    names = "".join(
        f'[specialists.{name}]\ntools = ["files"]\nprovider = "{kind}"\n'
        for kind, name in WHO.items()
        if kind != "scripted"
    )
    return f"""
[tools.files]
command = {npm("mcp-server-filesystem", str(notes))}
start_timeout_s = 60.0
[tools.everything]
command = {npm("mcp-server-everything")}
start_timeout_s = 60.0
[tools.memory]
command = {npm("mcp-server-memory")}
env = ["MEMORY_FILE_PATH"]
start_timeout_s = 60.0
[tools.time]
command = {json.dumps([str(FOLDER / "python" / "bin" / "mcp-server-time"), "--local-timezone", "UTC"])}
start_timeout_s = 60.0
[rules]
allow = ["files:read*", "files:list*", "everything:*", "time:*", "memory:read*"]
[providers.ollama]
host = "{urls["ollama"]}"
model = "test-model"
[providers.openai]
base_url = "{urls["openai"]}/v1"
model = "test-model"
[providers.anthropic]
base_url = "{urls["anthropic"]}"
{names}
[specialists.apollo]
tools = ["files", "everything", "memory", "time"]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vendors(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[dict[str, ServerRig]]:
    home = Home(tmp_path_factory.mktemp("vendors")).prepare()
    rigs = {kind: await serve(kind, home) for kind in KINDS}
    yield rigs
    for rig in rigs.values():
        await rig.upstream.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(
    vendors: dict[str, ServerRig], tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Platform]:
    root = tmp_path_factory.mktemp("servers")
    (root / "notes").mkdir()
    home = Home(root / "home").prepare()
    write_private(
        home.config, config(root, {kind: rig.upstream.url for kind, rig in vendors.items()}).encode()
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(root),
        "TEKTON_PROVIDER": "scripted",
        "TEKTON_PORT_PROFILE": "free",
        "MEMORY_FILE_PATH": str(root / "memory.json"),
        "ANTHROPIC_API_KEY": KEY,
        "OPENAI_API_KEY": KEY,
    }
    platform = await open_platform(home, environment)
    try:
        results = (await do(platform, "launch", ids=list(WHO.values()))).results
        assert all(row.ok for row in results), results
        watcher = Watcher(platform, "fleet")
        for name in WHO.values():
            while not _all_told(platform, name):
                watcher.seen.clear()
                await asyncio.wait_for(watcher.until(SpecialistEvent), 2 * BOUND_S)
        watcher.close()
        yield platform
    finally:
        await platform.close(stop_fleet=True)
        await asyncio.to_thread(kill_all, platform.home, grace_s=1.0)


def _all_told(platform: Platform, name: str) -> bool:
    rows = platform.fleet.status(f"{name}-ai").tools
    return bool(rows) and all(row.tools or row.failed for row in rows)


@pytest_asyncio.fixture(loop_scope="module")
async def asked(platform: Platform) -> AsyncGenerator[Watcher]:
    watcher = Watcher(platform, "asks")
    yield watcher
    watcher.close()


async def chat(platform: Platform, name: str, tool: str, **arguments: Any) -> TurnOutcome:
    return await do(platform, "chat", ai_id=name, content=f"[[call {tool} {json.dumps(arguments)}]]")


async def test_every_server_serves_and_says_its_tools(platform: Platform) -> None:
    for name in WHO.values():
        for row in platform.fleet.status(f"{name}-ai").tools:
            assert not row.failed, (name, row)
    shown = {row.server: row.tools for row in platform.fleet.status("apollo-ai").tools}
    assert {"files:read_text_file", "files:write_file"} <= set(shown["files"])
    assert "everything:echo" in shown["everything"] and "memory:create_entities" in shown["memory"]
    assert "time:get_current_time" in shown["time"]


@pytest.mark.parametrize("kind", WHO)
async def test_a_specialist_reads_asks_to_write_is_allowed_writes_and_goes_on_when_denied(
    platform: Platform, asked: Watcher, kind: str
) -> None:
    name, notes = WHO[kind], platform.home.root.parent / "notes"
    (notes / "a.txt").write_text("forty-two")
    read = await chat(platform, name, "files__read_text_file", path=str(notes / "a.txt"))
    assert "The tool said: forty-two" in read.content, read

    path = notes / f"{kind}.txt"
    writing = asyncio.create_task(chat(platform, name, "files__write_file", path=str(path), content="hello"))
    ask = (await asked.until(AskOpened)).ask
    assert (ask.ai_id, ask.tool) == (f"{name}-ai", "files:write_file") and not path.exists()
    assert "+hello" in ask.diff
    await do(platform, "answer_ask", id=ask.id, answer="allow")
    assert "Successfully wrote" in (await writing).content and path.read_text() == "hello"

    asked.seen.clear()
    denied = notes / f"{kind}-denied.txt"
    writing = asyncio.create_task(chat(platform, name, "files__write_file", path=str(denied), content="x"))
    ask = (await asked.until(AskOpened)).ask
    await do(platform, "answer_ask", id=ask.id, answer="deny", words="not today")
    outcome = await writing
    assert "denied: not today" in outcome.content and outcome.finish_reason == "stop" and not denied.exists()
    records = (await do(platform, "list_tool_calls", ai_id=name)).calls
    assert [row.state for row in records[:3]] == ["denied", "done", "done"]

    outside = await chat(platform, name, "files__read_text_file", path="/etc/hostname")
    assert "denied" in outside.content.lower()  # by the server itself, which the model is told


async def test_servers_of_npm_and_of_python_answer_and_remember(platform: Platform, asked: Watcher) -> None:
    echo = await chat(platform, "apollo", "everything__echo", message="hello there")
    assert "hello there" in echo.content
    now = await chat(platform, "apollo", "time__get_current_time", timezone="UTC")
    assert "UTC" in now.content
    entities = [{"name": "Tekton", "entityType": "platform", "observations": ["asks first"]}]
    storing = asyncio.create_task(chat(platform, "apollo", "memory__create_entities", entities=entities))
    ask = (await asked.until(AskOpened)).ask
    await do(platform, "answer_ask", id=ask.id, answer="allow")
    await storing
    assert "asks first" in (await chat(platform, "apollo", "memory__read_graph")).content
