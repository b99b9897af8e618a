"""A call of a tool at one of two gateways that share a fleet: who watches at the other one counts, and may answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.client import Client
from backend.schema.errors import TektonError
from backend.schema.events import AskClosed, AskOpened, ServiceEvent, SpecialistEvent
from tests.approvals.test_tools import SERVER
from tests.cluster import ON_REDIS
from tests.cluster.pair import WAIT_S, Heard, Pair

pytestmark = ON_REDIS
CONFIG = f"""
[tools.files]
command = {json.dumps([sys.executable, SERVER])}
[specialists.apollo]
tools = ["files"]
"""


@pytest.fixture
def config() -> str:
    return CONFIG


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
            await _until_asked(client, opened.ask.id)
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


async def _until_asked(client: Client, *ids: str) -> None:
    """Wait until these asks wait at a gateway: what was heard at the other one comes to it a moment later."""
    async with asyncio.timeout(WAIT_S):
        while [one["id"] for one in (await client.request("list_asks", {}))["asks"]] != list(ids):
            pass


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


@pytest.mark.parametrize("fault", ["gone for longer than every lease", "full", "emptied"])
async def test_an_ask_that_waits_while_the_store_has_a_fault_is_asked_once_answered_once_and_told_truly(
    pair: Pair, tmp_path: Path, fault: str
) -> None:
    """Asked at each gateway in turn; answered during the fault at its own gateway, and at the other one at the same time."""
    clients = [await pair.client(1), await pair.client(2)]
    await launched(clients[0])
    desks = [await Heard(await pair.client(place)).begin("asks", "fleet") for place in (1, 2)]
    for here, there in ((0, 1), (1, 0)):
        written = tmp_path / f"by-{here}"
        for desk in desks:
            desk.events.clear()
        talking = asyncio.create_task(chat(clients[here], writes(written)))
        for desk in desks:
            await desk.until(lambda events: [event for event in events if isinstance(event, AskOpened)])
        [opened] = desks[here].of(AskOpened)
        answer = {"id": opened.ask.id, "answer": "allow"}
        answers = list[asyncio.Task[Any]]()
        if fault == "emptied":
            pair.server.empty()
        else:
            await pair.fault(fault)
            if fault != "full":  # which is noticed by who writes
                for desk in desks:
                    await desk.until(_store_is_away)
            with pytest.raises(TektonError, match="Redis"):
                await clients[here].request("answer_ask", answer)
            await _until_asked(clients[here], opened.ask.id)
            answers.append(asyncio.create_task(clients[there].request("answer_ask", answer)))
            await asyncio.sleep(6 if "gone" in fault else 1)  # what is tested is the length of an outage
            assert not written.exists() and not talking.done()
            await pair.mend(fault)
            if fault != "full":
                assert "cannot be reached" in str(answers[0].exception()), "it does not wait in a queue"
                for desk in desks:
                    await desk.until(_store_is_back)
        answers += [asyncio.create_task(client.request("answer_ask", answer)) for client in clients]
        said = await asyncio.wait_for(asyncio.gather(*answers, return_exceptions=True), WAIT_S)
        refused = [str(one) for one in said if isinstance(one, TektonError)]
        assert len(refused) == len(said) - 1, said
        told = ("already allowed by owner", "was just answered", "cannot be reached")
        assert all(any(words in one for words in told) for one in refused), refused
        if fault == "emptied":  # the conversation went with it, which the answer says
            with contextlib.suppress(TektonError):
                await asyncio.wait_for(talking, WAIT_S)
        else:
            assert "wrote 1 characters" in await asyncio.wait_for(talking, WAIT_S)
        assert written.read_text() == "x\n"
        for client in clients:
            await _until_asked(client)
        records = (await clients[there].request("list_tool_calls", {}))["calls"]
        [record] = [one for one in records if one["id"] == opened.ask.id]
        assert (record["state"], record["by"]) == ("done", "owner over WebSocket")


def _store_states(events: list[Any]) -> list[str]:
    rows = [event.status for event in events if isinstance(event, ServiceEvent)]
    return [row.state for row in rows if row.name == "store"]


def _store_is_away(events: list[Any]) -> bool:
    return _store_states(events)[-1:] == ["exited"]


def _store_is_back(events: list[Any]) -> bool:
    return _store_states(events)[-1:] == ["stopped"]
