"""A call of a tool at one of two gateways that share a fleet: who watches at the other one counts, and may answer."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backend.client import Client
from backend.home import Home, write_private
from backend.schema.errors import TektonError
from backend.schema.events import AskClosed, AskOpened, SpecialistEvent
from tests.approvals.test_tools import SERVER
from tests.cluster.pair import WAIT_S, Heard, Pair
from tests.redis_server import NEEDS_REDIS, RedisServer

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(180),
    NEEDS_REDIS,
]
CONFIG = f"""
[tools.files]
command = {json.dumps([sys.executable, SERVER])}
[specialists.apollo]
tools = ["files"]
"""


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    write_private(Home(tmp_path / "home").prepare().config, CONFIG.encode())
    server = RedisServer(tmp_path / "redis").start()
    made = Pair(tmp_path, server)
    try:
        await asyncio.to_thread(made.start, 1)
        await asyncio.to_thread(made.start, 2)
        yield made
    finally:
        await made.close()
        server.kill()


async def launched(client: Client) -> None:
    """Launch apollo and wait for its tools."""
    heard = await Heard(client).begin("fleet")
    await client.request("launch", {"ids": ["apollo"]})
    await heard.until(
        lambda events: [
            tool
            for event in events
            if isinstance(event, SpecialistEvent)
            for row in event.status.tools
            for tool in row.tools
        ]
    )


def writes(path: Path) -> str:
    return f'[[call files__write {{"path": "{path}", "text": "x"}}]]'


async def chat(client: Client, text: str, **more: Any) -> str:
    """Ask apollo in a conversation of its own."""
    session = (await client.request("create_session", {"owner": "apollo"}))["id"]
    values = {"id": "apollo", "message": text, "session_id": session, **more}
    return (await client.request("chat", values))["content"]


async def test_who_watches_at_the_other_gateway_counts_sees_the_ask_and_answers_it(
    pair: Pair, tmp_path: Path
) -> None:
    first, second, desk = await pair.client(1), await pair.client(2), await pair.client(2)
    await launched(first)
    assert "no console is attached" in await chat(first, writes(tmp_path / "a"))
    heard = await Heard(desk).begin("asks")
    for asking, answering, verdict in [
        (first, desk, "allow"),
        (first, second, "deny"),
        (second, first, "allow"),
    ]:
        heard.events.clear()
        talking = asyncio.create_task(chat(asking, writes(tmp_path / "b")))
        await heard.until(lambda events: [event for event in events if isinstance(event, AskOpened)])
        [opened] = heard.of(AskOpened)
        for client in (first, second):
            assert [one["id"] for one in (await client.request("list_asks", {}))["asks"]] == [opened.ask.id]
            assert [one["id"] for one in (await client.request("snapshot", {}))["asks"]] == [opened.ask.id]
            waits = (await client.request("list_attention", {}))["items"]
            assert [one["id"] for one in waits if one["kind"] == "asks"] == [f"asks:{opened.ask.id}"]
        answered = await answering.request("answer_ask", {"id": opened.ask.id, "answer": verdict})
        assert answered["by"] == "owner over WebSocket"
        said = await asyncio.wait_for(talking, WAIT_S)
        assert ("wrote 1 characters" if verdict == "allow" else "owner over WebSocket said no") in said
        with pytest.raises(TektonError, match="already") as late:
            await answering.request("answer_ask", {"id": opened.ask.id, "answer": "allow"})
        assert late.value.code == "conflict"
    assert (tmp_path / "b").read_text() == "x\nx\n" and not (tmp_path / "a").exists()
    await desk.close()
    assert "no console is attached" in await chat(first, writes(tmp_path / "a")), (
        "who has left counts no more"
    )


async def test_a_rule_made_at_one_gateway_holds_at_the_other(pair: Pair, tmp_path: Path) -> None:
    first, second = await pair.client(1), await pair.client(2)
    await launched(first)
    allow = await second.request("add_rule", {"verdict": "allow", "pattern": "files:write"})
    await _until_ruled(first, 1)
    assert "wrote 1 characters" in await chat(first, writes(tmp_path / "a"))
    await first.request("add_rule", {"verdict": "deny", "pattern": f"files:write path={tmp_path}/a*"})
    await _until_ruled(second, 2)
    assert "denied" in await chat(second, writes(tmp_path / "a"))
    await first.request("remove_rule", {"id": allow["id"]})
    await _until_ruled(second, 1)
    assert (tmp_path / "a").read_text() == "x\n"


async def _until_ruled(client: Client, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while (
            len([one for one in (await client.request("list_rules", {}))["rules"] if one.get("id")]) != count
        ):
            pass


async def test_the_ask_of_a_killed_gateway_is_void_at_the_other_and_nothing_of_it_runs(
    pair: Pair, tmp_path: Path
) -> None:
    first, second = await pair.client(1), await pair.client(2)
    await launched(first)
    heard = await Heard(second).begin("asks")
    talking = asyncio.create_task(chat(first, writes(tmp_path / "a")))
    await heard.until(lambda events: [event for event in events if isinstance(event, AskOpened)])
    [opened] = heard.of(AskOpened)
    pair.signal(1, signal.SIGKILL)
    await pair.ended(1)
    await heard.until(lambda events: [event for event in events if isinstance(event, AskClosed)])
    assert (await second.request("list_asks", {}))["asks"] == []
    with pytest.raises(TektonError):
        await second.request("answer_ask", {"id": opened.ask.id, "answer": "allow"})
    talking.cancel()
    await asyncio.wait([talking])
    async with asyncio.timeout(WAIT_S):
        while (await second.request("list_tool_calls", {}))["calls"][0]["state"] != "void":
            pass
    assert not (tmp_path / "a").exists()
