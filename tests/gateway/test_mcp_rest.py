"""The older REST dialect of the tools, met by a client written from PROTOCOLS alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse

from tests.gateway.serving import Backend

BASE = "/api/mcp/v2"
BOUND_S = 60.0
EVENTS = {"connected", "progress", "chunk", "message", "complete", "error", "disconnect"}


async def _process(http: httpx.AsyncClient, tool: str, **arguments: Any) -> Any:
    answer = await http.post(f"{BASE}/process", json={"tool_name": tool, "arguments": arguments})
    body = answer.json()
    assert body.keys() >= {"status", "result", "error"}
    assert (body["status"] == "success") == (answer.status_code == 200) == (body["error"] is None)
    return body


async def _stream(http: httpx.AsyncClient, tool: str, **arguments: Any) -> list[tuple[str, Any]]:
    body = {"tool_name": tool, "arguments": arguments}
    async with aconnect_sse(http, "POST", f"{BASE}/stream", json=body) as source:
        return [(event.event, event.json()) async for event in source.aiter_sse()]


async def test_the_tools_and_what_the_dialect_can_do_are_told(backend: Backend) -> None:
    async with backend.http() as http:
        tools = (await http.get(f"{BASE}/tools")).json()
        assert tools["status"] == "success"
        names = {tool["name"] for tool in tools["result"]["tools"]}
        assert {"ListAISpecialists", "SendMessageToSpecialist", "ConfigureOrchestration"} <= names
        assert tools["result"]["count"] == len(names)
        assert all(
            tool["description"] and tool["parameters"]["type"] == "object"
            for tool in tools["result"]["tools"]
        )
        capabilities = (await http.get(f"{BASE}/capabilities")).json()["result"]
        assert set(capabilities["stream_events"]) == EVENTS
        assert (await http.get(f"{BASE}/health")).json()["result"]["status"] == "healthy"
    async with backend.http("read") as http:
        few = {tool["name"] for tool in (await http.get(f"{BASE}/tools")).json()["result"]["tools"]}
        assert "ListAISpecialists" in few and "KillSpecialist" not in few


async def test_a_tool_is_called_and_its_failure_is_an_envelope_with_the_right_status(
    backend: Backend,
) -> None:
    async with backend.http() as http:
        listed = await _process(http, "ListAISpecialists", active_only=True)
        assert {row["id"] for row in listed["result"]["specialists"]} >= {"apollo-ai", "athena-ai"}
        answer = await _process(http, "SendMessageToSpecialist", specialist_id="apollo", message="hello")
        assert answer["result"]["content"] == "You said: hello"
        history = await _process(http, "GetSpecialistConversationHistory", specialist_id="apollo", limit=2)
        assert [row["content"] for row in history["result"]["messages"]] == ["hello", "You said: hello"]
        same = await _process(http, "ConfigureAIOrchestration", settings={})
        assert same["result"]["applied"] is True
        for tool, arguments, code in (
            ("SendMessage", {}, "not_found"),
            ("SendMessageToSpecialist", {"specialist_id": "apollo"}, "invalid_request"),
            ("SendMessageToSpecialist", {"specialist_id": "nobody", "message": "x"}, "unknown_specialist"),
            ("SendMessageToSpecialist", {"specialist_id": "numa", "message": "x"}, "not_running"),
            ("ConfigureOrchestration", {"settings": {"volume": 11}}, "invalid_request"),
        ):
            failed = await _process(http, tool, **arguments)
            assert failed["result"] is None and failed["error"]["code"] == code and failed["error"]["message"]


async def test_a_stream_tells_by_named_events_what_happens_and_how_it_ends(backend: Backend) -> None:
    async with backend.http() as http:
        events = await _stream(
            http, "SendMessageToSpecialistStream", specialist_id="apollo", message="[[repeat 4]]"
        )
        names = [name for name, _ in events]
        assert names == ["connected", "progress", *["chunk"] * 4, "message", "complete", "disconnect"]
        assert (
            "".join(value["content"] for name, value in events if name == "chunk")
            == "token0 token1 token2 token3"
        )
        assert dict(events)["message"]["content"] == dict(events)["complete"]["result"]["content"]
        events = await _stream(
            http,
            "SendMessageToSpecialist",
            specialist_id="apollo",
            message="[[repeat 9]] [[cut provider_unavailable]]",
        )
        assert [name for name, _ in events][-2:] == ["error", "disconnect"]
        assert dict(events)["error"]["error"]["code"] == "provider_unavailable"
        events = await _stream(http, "OrchestrateTeamChat", topic="hello", specialists=["apollo", "athena"])
        said = {value["specialist_id"]: value["content"] for name, value in events if name == "message"}
        assert said == {"apollo-ai": "You said: hello", "athena-ai": "You said: hello"}
        events = await _stream(http, "RunPipeline", pipeline="apollo | athena", input="hi")
        assert dict(events)["complete"]["result"]["output"] == "You said: You said: hi"
        assert {name for name, _ in await _stream(http, "GetOrchestration")} == {
            "connected",
            "complete",
            "disconnect",
        }


async def test_a_client_that_leaves_ends_what_it_asked_for(backend: Backend) -> None:
    long = {"specialist_id": "apollo", "message": "[[repeat 100000]] [[rate 50]]"}
    body = {"tool_name": "SendMessageToSpecialist", "arguments": long}

    async def until(http: httpx.AsyncClient, *, busy: bool) -> None:
        async with asyncio.timeout(BOUND_S):
            while bool((await http.get("/api/v1/snapshot")).json()["turns"]) != busy:
                pass

    async with backend.http() as http, backend.http() as other:
        async with http.stream("POST", f"{BASE}/stream", json=body) as answer:
            async for line in answer.aiter_lines():
                if line == "event: chunk":
                    break
        await until(other, busy=False)
        asking = asyncio.create_task(http.post(f"{BASE}/process", json=body))
        await until(other, busy=True)
        asking.cancel()
        await asyncio.wait([asking])
        await until(other, busy=False)


async def test_scope_is_the_tool_s_and_a_control_call_is_in_the_audit(backend: Backend) -> None:
    kill = {"tool_name": "KillSpecialist", "arguments": {"specialist_id": "numa"}}
    async with backend.http("chat") as http:
        for path in ("process", "stream"):
            answer = await http.post(f"{BASE}/{path}", json=kill)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    async with backend.http() as http:
        assert (await http.post(f"{BASE}/process", json=kill)).status_code == 200
    audit = [json.loads(line) for line in (backend.home.logs / "control-audit.log").read_text().splitlines()]
    assert [line["status"] for line in audit if line["action"] == "KillSpecialist"][-1] == 200
    async with httpx.AsyncClient(base_url=backend.url, trust_env=False, timeout=60) as http:
        assert (await http.get(f"{BASE}/tools")).status_code == 401
        assert (await http.post(f"{BASE}/process", json=kill)).status_code == 401


@pytest.mark.parametrize("path", ["process", "stream"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"nonsense",
        b'{"tool_name": 7}',
        b'{"tool_name": ""}',
        b'{"tool_name": "GetPlatform", "arguments": []}',
        b'{"tool_name": "GetPlatform", "arguments": {"a": 1}}',
        b'{"tool_name": "' + b"x" * 100_000 + b'"}',
        b'{"tool_name": "GetPlatform", "arguments": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
        b'{"tool_name": "SendMessageToSpecialist", "arguments": {"specialist_id": ["a"], "message": {}}}',
        b"x" * (9 * 1024 * 1024),
    ],
)
async def test_hostile_bodies_are_refused_in_words(backend: Backend, path: str, body: bytes) -> None:
    async with backend.http() as http:
        answer = await http.post(f"{BASE}/{path}", content=body)
        assert answer.status_code in (400, 404, 413), answer.text[:200]
        assert 0 < len(answer.json()["error"]["message"]) < 3000
