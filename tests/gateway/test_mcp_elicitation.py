"""An MCP client that takes questions is asked what its own call waits for; its answer is one of the desk's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp.types import ElicitResult
from websockets.asyncio.client import connect

from tests.approvals.test_tools import SERVER
from tests.gateway.mcp_clients import BOUND_S, over_http, over_stdio, text_of
from tests.gateway.serving import Backend, start_backend
from tests.gateway.test_websocket import Talk

WAYS = [("http", "legacy"), ("http", "auto"), ("stdio", "legacy"), ("stdio", "auto")]
DONE = "wrote 1 characters"


@pytest.fixture(scope="module")
def tooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    config = (
        f"[tools.files]\ncommand = {json.dumps([sys.executable, SERVER])}\nstart_timeout_s = 120\n"
        '[rules]\nallow = ["files:order"]\n[specialists.apollo]\ntools = ["files"]\n[specialists.athena]\ntools = ["files"]\n'
    )
    backend = start_backend(
        tmp_path_factory.mktemp("asked") / "home", config=config, launch=("apollo", "athena")
    )
    yield backend
    backend.stop()


class Person:
    """Answers what a client is asked, by a rule, and remembers it; `waits` holds answers back until it is set."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []
        self.came = asyncio.Event()
        self.waits = asyncio.Event()
        self.waits.set()
        self.withdrawn = 0

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        self.asked.append(params)
        self.came.set()
        try:
            await self.waits.wait()
        except asyncio.CancelledError:
            self.withdrawn += 1
            raise
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            return ElicitResult(action=answer)  # pyright: ignore[reportArgumentType]
        return ElicitResult(action="accept", content=answer)


ALLOW, DENY = {"answer": "allow"}, {"answer": "deny"}


def connected(backend: Backend, way: str, era: str, person: Any) -> Any:
    if way == "http":
        return over_http(backend, era, asked=person)
    return over_stdio(backend, era, asked=person)


def asking(tool: str, **arguments: Any) -> str:
    return f"[[call files__{tool} {json.dumps(arguments)}]]"


def writes(path: Path) -> str:
    return asking("write", path=str(path), text="x")


async def send(client: Client, backend: Backend, text: str, who: str = "apollo") -> str:
    """Ask in a conversation of its own, so that nothing waits behind another test's question."""
    async with backend.http() as http:
        session = (await http.post("/api/v1/sessions", json={"owner": who})).json()["id"]
    values = {"specialist_id": who, "message": text, "context_id": session}
    result = await client.call_tool("SendMessageToSpecialist", values)
    assert not result.is_error, text_of(result)
    return text_of(result)


async def waiting(backend: Backend) -> list[dict[str, Any]]:
    async with backend.http() as http:
        return (await http.get("/api/v1/asks")).json()["asks"]


async def one_that_waits(backend: Backend) -> dict[str, Any]:
    async with asyncio.timeout(BOUND_S):
        while not (asks := await waiting(backend)):
            pass
    return asks[0]


async def answer(backend: Backend, ask: dict[str, Any], verdict: str) -> None:
    async with backend.http() as http:
        (await http.post(f"/api/v1/asks/{ask['id']}/answer", json={"answer": verdict})).raise_for_status()


@pytest.mark.parametrize(("way", "era"), WAYS)
async def test_a_client_that_takes_questions_answers_those_of_its_call(
    tooled: Backend, tmp_path: Path, way: str, era: str
) -> None:
    person = Person(ALLOW)
    async with connected(tooled, way, era, person) as client:
        assert DONE in await send(client, tooled, writes(tmp_path / "a"))
        assert (tmp_path / "a").read_text() == "x\n"
        [asked] = person.asked
        assert "apollo wants to call files:write" in asked.message and str(tmp_path / "a") in asked.message
        assert asked.requested_schema["required"] == ["answer"]

        for refusal in ("decline", DENY):
            person.answers = [refusal]
            assert "said no" in await send(client, tooled, writes(tmp_path / "b"))
        assert not (tmp_path / "b").exists()

        person.answers, person.asked = [{"drink": "tea", "cups": "many"}, {"drink": "tea", "cups": 2}], []
        told = await send(client, tooled, asking("order"))
        assert 'accept {"drink":"tea","cups":2,"note":""}' in told
        assert [one.message.startswith("That was no answer") for one in person.asked] == [False, True]
        assert "apollo asks by files:question" in person.asked[0].message
        assert person.asked[0].requested_schema["properties"]["drink"]["enum"] == ["tea", "coffee"]

        person.answers, person.asked = [{"answer": "of course"}], []
        talking = asyncio.create_task(send(client, tooled, writes(tmp_path / "b")))
        await answer(tooled, await one_that_waits(tooled), "deny")
        assert "said no" in await asyncio.wait_for(talking, BOUND_S)
        assert len(person.asked) <= 3 and not (tmp_path / "b").exists(), (
            "only the words that were offered allow"
        )
    async with tooled.http() as http:
        calls = (await http.get("/api/v1/tool-calls")).json()["calls"]
    assert {call["by"] for call in calls if call["tool"] == "files:write" and call["at"]} & {
        "owner over MCP",
        "owner over WebSocket",
    }


@pytest.mark.parametrize(("way", "era"), WAYS)
async def test_a_question_that_the_client_dismisses_waits_on_for_somebody_else(
    tooled: Backend, tmp_path: Path, way: str, era: str
) -> None:
    person = Person("cancel")
    async with connected(tooled, way, era, person) as client:
        talking = asyncio.create_task(send(client, tooled, writes(tmp_path / "a")))
        await asyncio.wait_for(person.came.wait(), BOUND_S)
        ask = await one_that_waits(tooled)
        await answer(tooled, ask, "allow")
        assert DONE in await asyncio.wait_for(talking, BOUND_S)
    assert len(person.asked) == 1, "what was dismissed is not asked again"


@pytest.mark.parametrize(("way", "era"), WAYS)
async def test_whoever_answers_first_elsewhere_takes_the_question_back(
    tooled: Backend, tmp_path: Path, way: str, era: str
) -> None:
    person = Person(DENY)
    person.waits.clear()
    async with connected(tooled, way, era, person) as client:
        talking = asyncio.create_task(send(client, tooled, writes(tmp_path / "a")))
        await asyncio.wait_for(person.came.wait(), BOUND_S)
        await answer(tooled, await one_that_waits(tooled), "allow")
        if era == "auto":  # nothing can be taken back there: its answer comes too late
            person.waits.set()
        assert DONE in await asyncio.wait_for(talking, BOUND_S)
        assert (person.withdrawn == 1) == (era == "legacy")
    assert (tmp_path / "a").read_text() == "x\n"


@pytest.mark.parametrize(("way", "era"), WAYS)
async def test_the_team_and_a_pipeline_ask_their_caller_too(
    tooled: Backend, tmp_path: Path, way: str, era: str
) -> None:
    person = Person(ALLOW)
    async with connected(tooled, way, era, person) as client:
        values = {"topic": writes(tmp_path / "a"), "specialists": ["apollo", "athena"]}
        team = await client.call_tool("OrchestrateTeamChat", values)
        assert text_of(team).count(DONE) == 2, text_of(team)
        assert (tmp_path / "a").read_text() == "x\nx\n" and len(person.asked) == 2
        run = await client.call_tool("RunPipeline", {"pipeline": "apollo", "input": writes(tmp_path / "b")})
        assert DONE in text_of(run)
    assert (tmp_path / "b").read_text() == "x\n"
    assert {one.message.split()[0] for one in person.asked} == {"apollo", "athena"}


async def test_who_offers_no_forms_or_may_not_answer_is_asked_nothing(
    tooled: Backend, tmp_path: Path
) -> None:
    person = Person(ALLOW)
    for era in ("legacy", "auto"):
        async with over_http(tooled, era) as client:
            assert "no console is attached" in await send(client, tooled, writes(tmp_path / "a"))
        async with over_http(tooled, era, "chat", asked=person) as client:
            assert "no console is attached" in await send(client, tooled, writes(tmp_path / "a"))
    async with over_stdio(tooled, "legacy", "--scope", "chat", asked=person) as client:
        assert "no console is attached" in await send(client, tooled, writes(tmp_path / "a"))
    assert not person.asked and not (tmp_path / "a").exists()


@pytest.mark.parametrize(("way", "era"), WAYS)
async def test_a_client_that_leaves_in_mid_question_has_answered_nothing(
    tooled: Backend, tmp_path: Path, way: str, era: str
) -> None:
    """Its question is void with its call, or waits for somebody else where nobody can tell that it left."""
    person = Person(ALLOW)
    person.waits.clear()

    async def talk() -> None:
        async with connected(tooled, way, era, person) as client:
            await send(client, tooled, writes(tmp_path / "a"))

    talking = asyncio.create_task(talk())
    await asyncio.wait_for(person.came.wait(), BOUND_S)
    ask = await one_that_waits(tooled)
    talking.cancel()
    await asyncio.wait([talking])
    assert not (tmp_path / "a").exists()
    if still := await waiting(tooled):
        assert [one["id"] for one in still] == [ask["id"]]
        with contextlib.suppress(httpx.HTTPStatusError):  # void in this very moment
            await answer(tooled, ask, "deny")
    async with tooled.http() as http, asyncio.timeout(BOUND_S):
        while True:
            calls = (await http.get("/api/v1/tool-calls")).json()["calls"]
            if all(call["state"] in ("denied", "void") for call in calls if call["id"] == ask["id"]):
                break
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_connection_attends_to_one_conversation_as_long_as_it_lasts(
    tooled: Backend, tmp_path: Path, leaves: bool
) -> None:
    address = f"{tooled.url.replace('http', 'ws')}/ws"
    name = f"attended-{leaves}"
    async with tooled.http() as http:
        session = (await http.post("/api/v1/sessions", json={"owner": "apollo"})).json()["id"]

    async def chat(request_id: str) -> str:
        async with tooled.http() as http:
            body = {"message": writes(tmp_path / "a"), "session_id": session, "request_id": request_id}
            return (await http.post("/api/v1/chat/apollo", json=body, timeout=BOUND_S)).json()["content"]

    async with connect(address, additional_headers=tooled.auth("chat"), proxy=None) as socket:
        talk = Talk(socket)
        await talk.send("attend", request_id="no", conversation=name)
        assert (await talk.until("error", request_id="no"))["code"] == "forbidden"
    async with connect(address, additional_headers=tooled.auth("control"), proxy=None) as socket:
        talk = Talk(socket)
        await talk.send("attend", request_id="1", conversation=name)
        assert (await talk.until("result", request_id="1"))["result"] == {"attends": True}
        assert "no console is attached" in await chat(f"{name}-other"), "of that conversation only"
        if not leaves:
            talking = asyncio.create_task(chat(name))
            await answer(tooled, await one_that_waits(tooled), "deny")
            assert "said no" in await talking
            await talk.send("attend", request_id="2", conversation=name, on=False)
            assert (await talk.until("result", request_id="2"))["result"] == {"attends": False}
            assert "no console is attached" in await chat(f"{name}-2")
    if leaves:
        async with asyncio.timeout(BOUND_S):
            while (await _clients(tooled)) > 0:
                pass
        assert "no console is attached" in await chat(name)
    assert not (tmp_path / "a").exists()


async def _clients(backend: Backend) -> int:
    async with backend.http() as http:
        return len((await http.get("/api/v1/gateway")).json()["clients"])


async def test_what_a_call_asks_after_its_client_left_has_nobody_to_be_asked(
    tooled: Backend, tmp_path: Path
) -> None:
    """The first stage's question waits on for the desk; by the time the second one asks, the client counts no more."""

    def stage(who: str, path: Path) -> str:
        written = writes(path).replace('"', '\\"')
        return f'{who} "{written}"'

    pipeline = f"{stage('apollo', tmp_path / 'a')} | {stage('athena', tmp_path / 'b')}"
    head = {**tooled.auth(), "Accept": "application/json, text/event-stream"}
    async with httpx.AsyncClient(base_url=tooled.url, headers=head, trust_env=False, timeout=BOUND_S) as http:
        declared = {"capabilities": {"elicitation": {}}, "clientInfo": {"name": "raw", "version": "1"}}
        opening = {"protocolVersion": "2025-11-25", **declared}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": opening}
        opened = await http.post("/mcp", json=body)
        session = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        said = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await http.post("/mcp", json=said, headers=session)
        called = {"name": "RunPipeline", "arguments": {"pipeline": pipeline, "input": "go"}}
        body = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": called}
        async with http.stream("POST", "/mcp", json=body, headers=session) as stream:
            async for line in stream.aiter_lines():
                if "elicitation/create" in line:
                    break
        ask = await one_that_waits(tooled)
        for _ in range(
            20
        ):  # whoever answered these has met the end of the other connection, which came before
            await http.get("/health")
        await answer(tooled, ask, "allow")
        async with asyncio.timeout(BOUND_S):
            while True:
                calls = (await http.get("/api/v1/tool-calls", params={"ai_id": "athena"})).json()["calls"]
                mine = [one for one in calls if str(tmp_path) in one["preview"]]
                if mine and mine[0]["state"] not in ("waiting", "running"):
                    break
    assert (mine[0]["state"], mine[0]["by"]) == ("denied", "nobody watches")
    assert (tmp_path / "a").exists() and not (tmp_path / "b").exists()
