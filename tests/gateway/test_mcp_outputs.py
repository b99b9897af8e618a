"""What tools return is what their output schemas say, nothing left out; long ones tell how they go on and can be ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import jsonschema
import pytest
from mcp import Client

from tests.gateway.mcp_clients import BOUND_S, Progress, over_http, over_stdio, text_of
from tests.gateway.serving import Backend

SLOW = "[[repeat 100000]] [[rate 50]]"
NOT_CALLED = {
    "SetAgentOption": "needs an external agent (tests/agents)",
    "AnswerAsk": "needs a tool call that waits (tests/approvals)",
    "PullModel": "needs an upstream that fetches models (tests/providers)",
    "ShutDownBackend": "ends the backend (called last)",
}


def exact(schema: Any) -> Any:
    """Return a schema that allows nothing it does not name."""
    if isinstance(schema, list):
        return [exact(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict: dict[str, Any] = {key: exact(value) for key, value in schema.items()}
    if "properties" in strict and isinstance(strict.get("type"), str):
        strict.setdefault("additionalProperties", False)
    return strict


def check(tool: Any, value: Any) -> None:
    kinds = tool.output_schema.get("anyOf", [tool.output_schema])
    found = [{**kind, "$defs": tool.output_schema.get("$defs", {})} for kind in kinds]
    errors = [list(jsonschema.Draft202012Validator(exact(kind)).iter_errors(value)) for kind in found]
    assert not all(errors), (tool.name, [error.message for row in errors for error in row], value)


async def _see_what_waits(call: Callable[..., Any]) -> None:
    waits = (await call("ListAttention"))["items"]
    await call("SnoozeAttention", ids=[waits[0]["id"]])
    await call("AcknowledgeAttention", ids=[waits[0]["id"]])


async def _use_rules(call: Callable[..., Any]) -> None:
    rule = await call("AddToolRule", verdict="deny", pattern="files:write path=/etc/*")
    await call("ExplainToolRule", tool="files:write", arguments='{"path": "/etc/passwd"}')
    await call("RemoveToolRule", id=rule["id"])


async def test_every_tool_returns_what_its_schema_says_and_nothing_else(
    new_backend: Callable[..., Backend],
) -> None:
    """The client of the library checks each result too, and raises where it does not fit."""
    backend = new_backend(launch=("apollo", "athena", "rhetor"))
    async with over_http(backend) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert [
            name for name, tool in tools.items() if (tool.output_schema or {}).get("type") != "object"
        ] == []
        called = set[str]()

        async def call(name: str, /, **arguments: Any) -> Any:
            result = await client.call_tool(name, arguments)
            assert not result.is_error, text_of(result)
            check(tools[name], result.structured_content)
            called.add(name)
            return result.structured_content

        session = (await call("CreateSession", owner="apollo", title="outputs"))["id"]
        said = {"specialist_id": "apollo", "message": "a word", "context_id": session}
        message = (await call("SendMessageToSpecialist", **said))["message_id"]
        await call("SendMessageToSpecialistStream", **said)
        team = await call(
            "OrchestrateTeamChat",
            topic="hello",
            specialists=["apollo", "athena", "sophia"],
            max_rounds=2,
            moderation_mode="consensus",
        )
        assert len(team["rounds"]) == 2 and team["consensus"] and team["rounds"][0]["failures"]
        asked = (await call("OrchestrateTeamChat", topic="hello", specialists=["apollo", "athena"]))[
            "request_id"
        ]
        await call("AskTeamMember", team_request_id=asked, specialist_id="apollo")
        await call("AskTeamMember", team_request_id=asked, specialist_id="apollo", wait=False)
        await call("CancelTurn", request_id=asked)
        await call("DiscussTeamChat", team_request_id=asked)
        round_two = (await call("DiscussTeamChat", team_request_id=asked, wait=False))["request_id"]
        await call("CancelTurn", request_id=round_two)
        await _edit_a_question_that_waits(client, backend, call, said)
        await call("RunBulk", requests=[{"specialist_id": n, "message": "hi"} for n in ("apollo", "nobody")])
        await _use_pipelines(call)
        await call("GetSent", specialist_id="apollo", session_id=session)
        await call("PinMessage", message_id=message)
        await call("SearchMemory", q="word")
        await call("GetSpecialistConversationHistory", specialist_id="apollo", conversation_id=session)
        for name in ("GetSession", "GetSessionMessages", "ExportSession"):
            await call(name, id=session)
        await call("ChangeSession", id=session, title="renamed")
        await call("DeleteSession", id=session)
        await _use_the_fleet(call)
        await call("ConfigureOrchestration", settings={"moderation_mode": "synthesis"})
        await call("PutPreference", key="k", value={"any": [1]})
        await call("GetPreference", key="k")
        await call("ListModels", provider="embedded")
        await call("ListModelCandidates")
        await call("UseModel", provider="scripted")
        await client.call_tool("SendMessageToSpecialist", {**said, "context_id": "", "message": "[[fail]]"})
        await _see_what_waits(call)
        await call("AcknowledgeErrors", all=True)
        await _use_rules(call)
        await call("ResetTeamMember", specialist_id="athena")
        alone = {name for name, tool in tools.items() if not tool.input_schema.get("required")}
        for name in sorted(alone - called - NOT_CALLED.keys()):
            await call(name)
        assert tools.keys() - called == NOT_CALLED.keys()
        await call("ShutDownBackend", stop_fleet=True)


async def _use_the_fleet(call: Callable[..., Awaitable[Any]]) -> None:
    for name in ("PreviewSpecialist", "CreateSpecialist"):
        await call(name, name="critic", persona="You are the critic.")
    for name in ("DescribeSpecialist", "CheckSpecialistHealth", "GetSpecialistLogs"):
        await call(name, specialist_id="apollo")
    await call("ActivateAISpecialist", specialist_id="sophia", dry_run=True)
    await call("ActivateAISpecialist", specialist_id=["sophia", "apollo"])
    await call("RestartSpecialist", specialist_id="sophia")
    await call("SetSpecialistModel", specialist_id="sophia", provider="scripted", model="scripted")
    await call("KillSpecialist", specialist_id="sophia")
    await call("MatchSpecialists", query="plan a release")


async def _edit_a_question_that_waits(
    client: Client, backend: Backend, call: Callable[..., Awaitable[Any]], said: dict[str, Any]
) -> None:
    ahead, behind = (
        asyncio.create_task(
            client.call_tool("SendMessageToSpecialist", {**said, "message": SLOW, "request_id": name})
        )
        for name in ("ahead", "behind")
    )
    await _turns(backend, 2)
    assert await call("EditQueuedTurn", target="behind", content="short") == {
        "request_id": "behind",
        "content": "short",
    }
    await call("CancelTurn", request_id="ahead")
    assert (await behind).structured_content["content"] == "You said: short"
    await ahead


async def _use_pipelines(call: Callable[..., Awaitable[Any]]) -> None:
    await call("RunPipeline", pipeline='echo "hi" | apollo | {apollo,athena}')
    await call("RunPipeline", pipeline="apollo", input="hi", wait=False)
    await call("SavePipeline", name="kept", pipeline="apollo | athena")
    await call("ListSavedPipelines")
    await call("RunPipeline", saved="kept", input="hi")
    await call("RemoveSavedPipeline", name="kept")


@asynccontextmanager
async def opened(backend: Backend, way: str) -> AsyncIterator[Client]:
    async with over_http(backend) if way == "http" else over_stdio(backend, way) as client:
        yield client


WAYS = ("http", "legacy", "auto")
"""Over HTTP, and over stdio in both eras."""


@pytest.mark.parametrize("way", WAYS)
async def test_a_bulk_tells_of_each_answer_and_one_that_is_given_up_ends_at_every_worker(
    backend: Backend, way: str
) -> None:
    items = [{"specialist_id": name, "message": "hi"} for name in ("apollo", "athena", "apollo")]
    slow = [{**item, "message": SLOW} for item in items]
    async with opened(backend, way) as client:
        progress = Progress()
        whole = await client.call_tool("RunBulk", {"requests": items}, progress_callback=progress)
        assert whole.structured_content["ok"] == 3
        assert sum(text.endswith("You said: hi") for text in progress.texts) == 3
        calling = asyncio.create_task(client.call_tool("RunBulk", {"requests": slow, "max_concurrency": 3}))
        await _turns(backend, 3)
        calling.cancel()
        await asyncio.wait([calling])
        await _turns(backend, 0)
        assert not (await client.call_tool("GetOrchestration", {})).is_error


async def test_a_bulk_cancelled_by_its_id_answers_with_what_there_is(backend: Backend) -> None:
    requests = [{"specialist_id": "apollo", "message": text} for text in (SLOW, SLOW, "never asked")]
    body = {"requests": requests, "max_concurrency": 2, "request_id": "bulk-to-end"}
    async with backend.http() as http:
        running = asyncio.create_task(http.post("/api/v1/bulk", json=body, timeout=BOUND_S))
        await _turns(backend, 2)
        cancelled = await http.post("/api/v1/turns/bulk-to-end/cancel")
        assert cancelled.json()["confirmed"]
        report = (await running).json()
    assert [row["outcome"]["code"] for row in report["results"]] == ["cancelled"] * 3
    assert report["results"][2]["outcome"]["error"] == "cancelled before it was asked"


@pytest.mark.parametrize("way", ("http", "auto"))
async def test_a_deadline_is_the_members_own_and_ends_it_at_its_worker(backend: Backend, way: str) -> None:
    async with opened(backend, way) as client:
        asked = {"topic": SLOW, "specialists": ["apollo", "athena"], "timeout_s": 1}
        team = (await client.call_tool("OrchestrateTeamChat", asked)).structured_content
        assert {(row["socket_id"], row["code"]) for row in team["failures"]} == {
            ("apollo-ai", "timeout"),
            ("athena-ai", "timeout"),
        }
    await _turns(backend, 0)


@pytest.mark.parametrize("way", WAYS)
async def test_all_rounds_of_a_discussion_are_told_before_its_result(backend: Backend, way: str) -> None:
    async with opened(backend, way) as client:
        for _ in range(3):
            progress = Progress()
            asked = {"topic": "hello", "specialists": ["apollo", "athena"], "max_rounds": 4}
            result = await client.call_tool("OrchestrateTeamChat", asked, progress_callback=progress)
            assert len(result.structured_content["rounds"]) == 4
            assert sum(text.startswith("round ") for text in progress.texts) == 4
            assert sum(text.startswith(("apollo-ai: You", "athena-ai: You")) for text in progress.texts) == 8


async def _turns(backend: Backend, count: int) -> None:
    """Wait until so many turns are under way."""
    async with backend.http() as http, asyncio.timeout(BOUND_S):
        while len((await http.get("/api/v1/snapshot")).json()["turns"]) != count:
            pass
