"""MCP as its official client sees it: tools, results, progress, cancelling and refusals, in both protocol eras."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from backend.orchestration.actions import ACTIONS
from tests.gateway.mcp_clients import BOUND_S, ERAS, Progress, over_http, over_stdio, text_of
from tests.gateway.serving import Backend

NAMED = {
    "ListAISpecialists",
    "ActivateAISpecialist",
    "SendMessageToSpecialist",
    "SendMessageToSpecialistStream",
    "OrchestrateTeamChat",
    "GetSpecialistConversationHistory",
    "ConfigureOrchestration",
    "KillSpecialist",
    "GetSpecialistLogs",
    "RunPipeline",
    "MatchSpecialists",
}
WAYS = [*(("http", era) for era in ERAS), ("stdio", "legacy"), ("stdio", "auto")]
"""Each stdio client starts a process of its own, so there are few."""


def _open(backend: Backend, way: str, era: str) -> Any:
    return over_http(backend, era) if way == "http" else over_stdio(backend, era)


async def _turns(backend: Backend) -> list[dict[str, Any]]:
    async with backend.http() as http:
        return (await http.get("/api/v1/snapshot")).json()["turns"]


async def _until(backend: Backend, *, busy: bool) -> None:
    async with asyncio.timeout(BOUND_S):
        while bool(await _turns(backend)) != busy:
            pass


@pytest.mark.parametrize(("way", "era"), WAYS)
async def test_a_client_of_either_era_lists_calls_follows_reads_errors_and_gives_up(
    backend: Backend, way: str, era: str
) -> None:
    async with _open(backend, way, era) as client:
        assert client.protocol_version == ("2025-11-25" if era == "legacy" else "2026-07-28")
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() >= NAMED
        assert {action.mcp for action in ACTIONS.values()} <= tools.keys()
        found = await client.call_tool("ListAISpecialists", {"active_only": True})
        assert {row["id"] for row in found.structured_content["specialists"]} >= {"apollo-ai", "athena-ai"}
        progress = Progress()
        answer = await client.call_tool(
            "SendMessageToSpecialist",
            {"specialist_id": "apollo", "message": "[[repeat 5]]"},
            progress_callback=progress,
        )
        assert text_of(answer) == "token0 token1 token2 token3 token4"
        assert answer.structured_content["ai_id"] == "apollo-ai" and not answer.is_error
        assert "".join(text for text in progress.texts if text.startswith("token")) == text_of(answer)
        assert [step for step, _ in progress.told] == sorted({step for step, _ in progress.told})
        for arguments, word in (
            ({"specialist_id": "apollo"}, "message"),
            ({"specialist_id": "apollo", "message": "x", "mesage_type": "y"}, "message_type"),
            ({"specialist_id": "apollo", "message": 7}, "message"),
            ({"specialist_id": "nobody", "message": "x"}, "nobody"),
        ):
            refused = await client.call_tool("SendMessageToSpecialist", arguments)
            assert refused.is_error and word in text_of(refused)
            assert text_of(refused).partition(":")[0] in ("invalid_request", "unknown_specialist")
        with pytest.raises(MCPError, match="SendMessageToSpecialist"):
            await client.call_tool("SendMessageToSpecialists", {})
        await _is_given_up(client, backend)


async def _is_given_up(client: Client, backend: Backend) -> None:
    """A call that its client cancels ends its turn, and the connection lives on."""
    calling = asyncio.create_task(_message(client, "[[repeat 100000]] [[rate 50]]"))
    await _until(backend, busy=True)
    calling.cancel()
    await asyncio.wait([calling])
    await _until(backend, busy=False)
    assert not (await client.call_tool("GetOrchestration", {})).is_error


async def test_schemas_are_whole_and_say_what_is_needed(backend: Backend) -> None:
    async with over_http(backend) as client:
        for tool in (await client.list_tools()).tools:
            schema = tool.input_schema
            assert schema["type"] == "object" and schema["additionalProperties"] is False
            assert set(schema.get("required", ())) <= schema["properties"].keys()
            assert tool.description and tool.annotations is not None
            for name in re.findall(r"'#/\$defs/(\w+)'", str(schema)):
                assert name in schema["$defs"], f"{tool.name} speaks of {name}"
    by_name = {tool.name: tool.input_schema for tool in (await _tools(backend))}
    assert by_name["SendMessageToSpecialist"]["required"] == ["specialist_id", "message"]
    assert {"topic", "specialists", "initial_prompt", "max_rounds", "orchestration_style"} <= by_name[
        "OrchestrateTeamChat"
    ]["properties"].keys()
    settings = by_name["ConfigureOrchestration"]["properties"]["settings"]["properties"]
    assert {"routing_rules", "timeouts", "moderation_mode"} <= settings.keys()


async def _tools(backend: Backend, scope: str = "") -> list[Any]:
    async with over_http(backend, scope=scope) as client:
        return (await client.list_tools()).tools


async def test_a_token_sees_and_may_call_what_its_scope_allows(backend: Backend) -> None:
    names = {
        scope: {tool.name for tool in await _tools(backend, scope)} for scope in ("read", "chat", "control")
    }
    assert names["read"] < names["chat"] < names["control"]
    assert "SendMessageToSpecialist" in names["chat"] - names["read"]
    assert "KillSpecialist" in names["control"] - names["chat"]
    for era in ERAS:
        async with over_http(backend, era, "chat") as client:
            refused = await client.call_tool("KillSpecialist", {"specialist_id": "apollo"})
            assert refused.is_error and text_of(refused).partition(":")[0] == "forbidden"
    async with backend.http() as http:
        refusals = (await http.get("/api/v1/gateway")).json()["refusals"]
    assert any(call["transport"] == "mcp" and call["action"] == "KillSpecialist" for call in refusals)


@pytest.mark.parametrize(
    ("token", "headers", "status"),
    [
        ("", {}, 401),
        ("wrong", {}, 401),
        ("good", {"Host": "evil.example"}, 403),
        ("good", {"Origin": "http://evil.example"}, 403),
        ("good", {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_the_gate_stands_before_mcp_as_before_all_else(
    backend: Backend, token: str, headers: dict[str, str], status: int
) -> None:
    if token:
        headers = {"Authorization": f"Bearer {backend.token if token == 'good' else token}", **headers}
    async with httpx2.AsyncClient(trust_env=False) as http:
        for method in ("POST", "GET", "DELETE"):
            answer = await http.request(method, f"{backend.url}/mcp", headers=headers)
            assert answer.status_code == status
            assert answer.json()["error"]["message"]


async def test_a_session_is_no_use_to_another_token(backend: Backend) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=BOUND_S) as http:
        accept = {"Accept": "application/json, text/event-stream"}
        hello = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        }
        begun = await http.post(f"{backend.url}/mcp", json=hello, headers={**backend.auth("chat"), **accept})
        session = {"Mcp-Session-Id": begun.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        for scope, status in (("control", 404), ("chat", 200)):
            answer = await http.post(
                f"{backend.url}/mcp", json=listing, headers={**backend.auth(scope), **accept, **session}
            )
            assert answer.status_code == status


@pytest.mark.parametrize("version", ["", "2025-11-25", "2026-07-28", "1999-01-01"])
async def test_hostile_bodies_are_refused_and_break_nothing(backend: Backend, version: str) -> None:
    headers = {**backend.auth("chat"), "Accept": "application/json, text/event-stream"}
    headers |= {"Content-Type": "application/json"} | ({"MCP-Protocol-Version": version} if version else {})
    bodies = [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
        + b'{"a":' * 5000
        + b"1"
        + b"}" * 5000
        + b"}",
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\\ud800"}}',
        b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b',"method":"ping"}',
        b"x" * (9 * 1024 * 1024),
    ]
    async with httpx2.AsyncClient(trust_env=False, timeout=BOUND_S) as http:
        for body in bodies:
            answer = await http.post(f"{backend.url}/mcp", content=body, headers=headers)
            assert 400 <= answer.status_code < 500, (body[:60], answer.status_code, answer.text[:200])
    async with over_http(backend, scope="chat") as client:
        assert (await client.list_tools()).tools


async def test_over_stdio_a_bad_line_is_answered_a_scope_holds_and_term_ends_what_was_asked(
    backend: Backend,
) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "backend.cli.tekton", "mcp", "--scope", "chat",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=backend.environment(),
    )  # fmt: skip
    assert server.stdin and server.stdout
    given, answers = server.stdin, server.stdout

    async def say(line: str) -> dict[str, Any]:
        given.write(line.encode() + b"\n")
        return json.loads(await asyncio.wait_for(answers.readline(), BOUND_S))

    def call(number: int, name: str, **arguments: Any) -> str:
        envelope = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "progressToken": number,
        }
        params = {"name": name, "arguments": arguments, "_meta": envelope}
        return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})

    try:
        for bad in ("nonsense", "[]", "{}", "[" * 5000):
            assert (await say(bad))["error"]["code"] == -32700
        refused = await say(call(1, "KillSpecialist", specialist_id="apollo"))
        assert (
            refused["result"]["content"][0]["text"].startswith("forbidden: ")
            and "structuredContent" not in refused["result"]
        )
        told = await say(
            call(2, "SendMessageToSpecialist", specialist_id="apollo", message="[[repeat 9999]] [[rate 50]]")
        )
        assert told["method"] == "notifications/progress"
        await _until(backend, busy=True)
        server.terminate()
        assert await asyncio.wait_for(server.wait(), BOUND_S) == 0
        await _until(backend, busy=False)
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()


async def _message(client: Client, text: str, **more: Any) -> Any:
    arguments = {"specialist_id": "apollo", "message": text, **more}
    return await client.call_tool("SendMessageToSpecialist", arguments)
