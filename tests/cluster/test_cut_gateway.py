"""A gateway that is cut from the store while another one declares it dead: what it had confirmed meanwhile, and how it comes back."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backend.schema.errors import TektonError
from backend.schema.events import MessageStored, PipelineEnd
from backend.schema.frames import StreamChunk, StreamError
from tests.cluster import ON_REDIS
from tests.cluster.pair import WAIT_S, Heard, Line, Pair, stored_answers
from tests.redis_server import RedisServer

pytestmark = ON_REDIS
ANSWER = "[[repeat 60]] [[rate 25]]"
"""An answer that outlives the cut by two seconds, and by far not the lease."""


@pytest.fixture
async def lines(tmp_path: Path) -> AsyncIterator[dict[int, Line]]:
    """The ways of two gateways to one server."""
    server = RedisServer(tmp_path / "redis").start()
    async with Line(server) as first, Line(server) as second:
        yield {1: first, 2: second}
    server.kill()


@pytest.fixture
async def pair(tmp_path: Path, lines: dict[int, Line]) -> AsyncIterator[Pair]:
    made = Pair(tmp_path, lines[1].server, urls={place: line.url for place, line in lines.items()})
    try:
        await asyncio.to_thread(made.start, 1)
        await asyncio.to_thread(made.start, 2)
        yield made
    finally:
        for line in lines.values():
            line.whole.set()
        if made.server.process is None:
            made.server.start()
        await made.close()


class Cut:
    """Questions asked at gateway 1, each in a conversation of its own, which is then cut from the store."""

    def __init__(self, pair: Pair, line: Line) -> None:
        self._pair, self._line = pair, line
        self.sessions: dict[str, str] = {}
        self.told: dict[str, dict[str, Any]] = {}

    async def begin(self, *names: str) -> Cut:
        """Ask, cut, and wait until the other gateway has ended the turns, and this one has confirmed them all the same."""
        self.first, self.second = await self._pair.client(1), await self._pair.client(2)
        await self.first.request("launch", {"ids": ["apollo"]})
        self.heard = await Heard(self.second).begin("chat", "errors")
        asking: dict[str, asyncio.Task[dict[str, Any]]] = {}
        for name in names:
            self.sessions[name] = (await self.first.request("create_session", {"owner": "apollo"}))["id"]
            asking[name] = asyncio.create_task(self.first.request("chat", self.question(name)))
        await self.heard.until(lambda events: all(_chunks(events, name) > 5 for name in names))
        self._line.whole.clear()
        await self.heard.until(
            lambda events: {e.request_id for e in events if isinstance(e, StreamError)} == {*names}
        )
        for name, task in asking.items():
            self.told[name] = await asyncio.wait_for(task, WAIT_S)
            assert any("not stored yet" in note for note in self.told[name]["notes"])
            assert len((await self.stored(name))[0]["content"]) < len(self.told[name]["content"])
        return self

    def question(self, name: str) -> dict[str, Any]:
        return {
            "id": "apollo",
            "message": f"[[mark {len(name)}]] {ANSWER}",
            "request_id": name,
            "session_id": self.sessions[name],
        }

    async def mend(self) -> None:
        """Let gateway 1 to the store again, and wait until it serves anew."""
        self._line.whole.set()
        await self._pair.says(1, "tekton serves", times=2)

    async def stored(self, name: str) -> list[dict[str, Any]]:
        """Return the answers of a request in its conversation."""
        page = await self.second.request("session_messages", {"id": self.sessions[name], "limit": 200})
        return [
            row for row in page["messages"] if row["role"] == "assistant" and row.get("request_id") == name
        ]

    async def errors(self, words: str) -> list[dict[str, Any]]:
        """Return what waits in the error log that says so."""
        found = (await self.second.request("list_errors", {"unacknowledged": True}))["errors"]
        return [error for error in found if words in error["message"]]


def _chunks(events: list[Any], name: str) -> int:
    return sum(isinstance(event, StreamChunk) and event.request_id == name for event in events)


async def test_what_it_had_confirmed_takes_the_place_of_what_the_other_had_stored_and_both_go_on(
    pair: Pair, lines: dict[int, Line]
) -> None:
    cut = await Cut(pair, lines[1]).begin("kept", "followed", "again")
    lost = {name: (await cut.stored(name))[0]["id"] for name in cut.sessions}
    assert [one["count"] for one in await cut.errors("on its way")] == [3]
    # what others do with the lost answers meanwhile: go on behind one, and send the request of another once more
    more = {"id": "apollo", "message": "go on", "session_id": cut.sessions["followed"], "request_id": "more"}
    await cut.second.request("chat", more)
    with pytest.raises(TektonError) as again:
        await cut.second.request("chat", cut.question("again"))
    assert again.value.code == "backend_lost"

    await cut.mend()
    for name, told in cut.told.items():
        [answer] = await cut.stored(name)
        assert (answer["id"], answer["content"]) == (lost[name], told["content"])
        assert "error_code" not in answer and answer["finish_reason"] == "stop"
        await cut.heard.until(
            lambda events, name=name, told=told: [
                event
                for event in events
                if isinstance(event, MessageStored)
                and (event.message.request_id, event.message.content) == (name, told["content"])
            ]
        )
    assert (await cut.second.request("chat", cut.question("again")))["content"] == cut.told["again"][
        "content"
    ]
    page = await cut.second.request("session_messages", {"id": cut.sessions["followed"], "limit": 200})
    assert [row["request_id"] for row in page["messages"]] == ["followed"] * 2 + ["more"] * 2
    assert not await cut.errors("on its way"), "what told of their loss is settled"
    [began] = await cut.errors("It began anew")
    assert "3 answers" in began["message"]
    assert {process.poll() for process in pair.processes.values()} == {None}
    assert pair.marks() == Counter(str(len(name)) for name in cut.sessions)
    for client in (cut.first, cut.second):
        assert (await client.request("chat", {"id": "apollo", "message": "after"}))["content"]
        gateways = (await client.request("cluster_status", {}))["gateways"]
        assert [row["alive"] for row in gateways] == [True, True]


async def test_what_it_had_confirmed_of_a_team_a_bulk_and_a_pipeline_is_stored_whole_too(
    pair: Pair, lines: dict[int, Line]
) -> None:
    first, second = await pair.client(1), await pair.client(2)
    await first.request("launch", {"ids": ["apollo", "athena"]})
    heard = await Heard(second).begin("chat", "pipes")
    item = {"specialist_id": "athena", "message": ANSWER}
    calls: dict[str, dict[str, Any]] = {
        "team_chat": {"content": ANSWER, "target_ids": ["apollo", "athena"], "request_id": "team"},
        "bulk": {"requests": [item], "request_id": "bulk"},
        "pipeline": {"pipeline": f'apollo "{ANSWER}"', "request_id": "pipe"},
    }
    asking = {name: asyncio.create_task(first.request(name, values)) for name, values in calls.items()}
    await heard.until(lambda events: sum(isinstance(event, StreamChunk) for event in events) > 40)
    lines[1].whole.clear()
    await heard.until(lambda events: any(isinstance(event, PipelineEnd) for event in events))
    team, bulk, run = [await asyncio.wait_for(task, WAIT_S) for task in asking.values()]
    told = {f"team/{one['socket_id']}": one["content"] for one in team["responses"]}
    told["bulk/0"] = bulk["results"][0]["outcome"]["content"]
    told |= {lane["request_id"]: lane["output"] for stage in run["stages"] for lane in stage["lanes"]}
    assert len(told) == 4 and all(len(text.split()) == 60 for text in told.values()), told
    before = await stored_answers(second)
    assert {name: len(texts) for name, texts in before.items()} == dict.fromkeys(told, 1) and before != told
    lines[1].whole.set()
    await pair.says(1, "tekton serves", times=2)
    assert await stored_answers(second) == {name: [text] for name, text in told.items()}
    [kept] = (await second.request("list_pipelines", {"limit": 5}))["runs"]
    assert (kept["request_id"], kept["ok"], kept["output"]) == ("pipe", True, run["output"])


async def test_what_has_no_place_any_more_is_named_as_lost(pair: Pair, lines: dict[int, Line]) -> None:
    cut = await Cut(pair, lines[1]).begin("deleted", "kept")
    await cut.second.request("delete_session", {"id": cut.sessions["deleted"]})
    await cut.mend()
    [answer] = await cut.stored("kept")
    assert answer["content"] == cut.told["kept"]["content"]
    [named] = await cut.errors("an answer that was confirmed as not stored yet is lost")
    assert (named["request_id"], named["where"]) == ("deleted", "apollo-ai")


async def test_one_that_finds_the_store_gone_again_comes_back_when_that_does(
    pair: Pair, lines: dict[int, Line]
) -> None:
    cut = await Cut(pair, lines[1]).begin("kept")
    await pair.fault("full")  # it can be read there that it was declared dead, and not be entered anew
    lines[1].whole.set()
    await pair.says(1, "cannot come back yet")
    assert pair.facts(1)["pid"] == pair.processes[1].pid, "who looks for it finds that it lives"
    await pair.mend("full")
    await pair.says(1, "tekton serves", times=2)
    [answer] = await cut.stored("kept")
    assert answer["content"] == cut.told["kept"]["content"]


async def test_one_that_is_ended_while_it_waits_for_the_store_names_what_ends_with_it(
    pair: Pair, lines: dict[int, Line]
) -> None:
    await Cut(pair, lines[1]).begin("lost")
    await pair.fault("full")
    lines[1].whole.set()
    await pair.says(1, "cannot come back yet")
    pair.signal(1, signal.SIGTERM)
    code, words = await pair.ended(1)
    assert code == 0 and words.count("confirmed and never stored are lost: lost") == 1
    assert not pair.home.facts_of(1).exists()


async def test_one_that_cannot_come_back_names_what_ends_with_it(pair: Pair, lines: dict[int, Line]) -> None:
    cut = await Cut(pair, lines[1]).begin("lost")
    pair.home.config.write_text("[gateway")
    lines[1].whole.set()
    code, words = await pair.ended(1)
    assert code == 2 and "confirmed and never stored are lost: lost" in words
    assert [row["error_code"] for row in await cut.stored("lost")] == ["backend_lost"]
