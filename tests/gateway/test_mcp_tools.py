"""The named MCP tools do real work: messages over both transports, history from memory, settings that change routing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from mcp import Client

from tests.gateway.mcp_clients import BOUND_S, Progress, over_http, text_of
from tests.gateway.serving import Backend


async def _call(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    return result.structured_content


async def test_a_message_reaches_a_specialist_by_socket_and_one_behind_another_gateway(
    backend: Backend, new_backend: Callable[..., Backend]
) -> None:
    """The second backend's member `faraway` is the first one's apollo, asked through its `/v1`."""
    config = f"""
        [specialists.faraway]
        title = "Apollo of the other gateway"
        transport = "api"
        provider = "openai"
        model = "apollo-ai"
        base_url = "{backend.url}/v1"
        api_key_env = "OTHER_GATEWAY_TOKEN"
    """
    own = new_backend(config=config, launch=("athena",), OTHER_GATEWAY_TOKEN=backend.tokens["chat"])
    async with over_http(own) as client:
        await _call(client, "ActivateAISpecialist", specialist_id="faraway")
        rows = (await _call(client, "ListAISpecialists", active_only=True))["specialists"]
        assert {row["id"]: row["connection"]["transport"] for row in rows} == {
            "athena-ai": "socket",
            "faraway-ai": "api",
        }
        for name in ("athena", "faraway"):
            answer = await _call(client, "SendMessageToSpecialist", specialist_id=name, message="hello")
            assert answer["content"].endswith("hello") and answer["usage"]["output_tokens"] > 0
        progress = Progress()
        streamed = await client.call_tool(
            "SendMessageToSpecialistStream",
            {"specialist_id": "faraway", "message": "[[repeat 5]] [[rate 200]]"},
            progress_callback=progress,
        )
        assert text_of(streamed) == "token0 token1 token2 token3 token4"
        assert sum(text.startswith("token") for text in progress.texts) >= 2, "it came in pieces"
        failed = await client.call_tool(
            "SendMessageToSpecialist",
            {"specialist_id": "faraway", "message": "[[fail provider_rate_limited]]"},
        )
        assert text_of(failed).partition(":")[0] == "provider_rate_limited"
        team = await _call(client, "OrchestrateTeamChat", topic="hello")
        assert {row["socket_id"] for row in team["responses"]} == {"athena-ai", "faraway-ai"}
        calling = asyncio.create_task(
            _call(
                client,
                "SendMessageToSpecialist",
                specialist_id="faraway",
                message="[[repeat 99999]] [[rate 50]]",
            )
        )
        async with backend.http() as http, asyncio.timeout(BOUND_S):
            while not (await http.get("/api/v1/snapshot")).json()["turns"]:
                assert not calling.done()
            calling.cancel()
            while (await http.get("/api/v1/snapshot")).json()["turns"]:
                pass


async def test_history_is_what_was_said_and_the_kind_of_a_message_is_told(backend: Backend) -> None:
    async with over_http(backend) as client:
        session = (await _call(client, "CreateSession", owner="apollo", title="mcp history"))["id"]
        said = {"specialist_id": "apollo", "context_id": session}
        await _call(client, "SendMessageToSpecialist", message="remember the number 41", **said)
        history = await _call(
            client, "GetSpecialistConversationHistory", specialist_id="apollo", conversation_id=session
        )
        assert [(row["author"], row["content"]) for row in history["messages"]] == [
            ("you", "remember the number 41"),
            ("apollo-ai", "You said: remember the number 41"),
        ]
        newest = await _call(
            client,
            "GetSpecialistConversationHistory",
            specialist_id="apollo",
            conversation_id=session,
            limit=1,
        )
        assert [row["author"] for row in newest["messages"]] == ["apollo-ai"]
        seen = await _call(
            client, "SendMessageToSpecialist", message="[[messages]]", message_type="task assignment", **said
        )
        messages = json.loads(seen["content"])
        assert messages[0]["content"] == "remember the number 41", "the session goes along"
        assert "task assignment" in messages[-1]["content"]
        found = await _call(client, "SearchMemory", q="41")
        assert session in {hit["message"]["session_id"] for hit in found["hits"]}


async def test_settings_change_who_is_asked_at_once_and_a_wrong_one_changes_nothing(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend(launch=("apollo", "athena"))
    async with over_http(backend) as client:
        for name in ("athena", "apollo"):
            changed = await _call(
                client,
                "ConfigureOrchestration",
                settings={
                    "routing_rules": [{"pattern": "invoice", "specialists": [name]}],
                    "orchestration_mode": "directive",
                    "timeouts": {"default": 60, "per_specialist": {"apollo": 30}},
                },
            )
            assert changed["applied"] and changed["settings"]["orchestration_mode"] == "directive"
            answer = await _call(
                client, "SendMessageToSpecialist", specialist_id="@auto", message="pay this invoice"
            )
            assert answer["ai_id"] == f"{name}-ai"
        await _call(
            client,
            "ConfigureAIOrchestration",
            settings={"routing_rules": [{"pattern": "x", "specialists": ["athena"]}]},
            apply_immediately=False,
        )
        answer = await _call(client, "SendMessageToSpecialist", specialist_id="@auto", message="invoice")
        assert answer["ai_id"] == "apollo-ai", "kept for the next start"
        before = await _call(client, "GetOrchestration")
        for settings in (
            {"routing_rules": [{"pattern": "(", "specialists": ["apollo"]}]},
            {"routing_rules": [{"pattern": "x", "specialists": ["nobody"]}]},
            {"moderation_mode": "loud"},
            {"volume": 11},
            {"timeouts": {"default": -1}},
        ):
            refused = await client.call_tool("ConfigureOrchestration", {"settings": settings})
            assert refused.is_error
            assert text_of(refused).partition(":")[0] in ("invalid_request", "unknown_specialist")
        assert await _call(client, "GetOrchestration") == before


async def test_a_team_discusses_for_as_many_rounds_as_asked_and_only_the_last_is_summed_up(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend(launch=("apollo", "athena"))  # nobody else's words are in what the members remember
    async with over_http(backend) as client:
        progress = Progress()
        result = await client.call_tool(
            "OrchestrateTeamChat",
            {
                "topic": "[[messages]]",
                "specialists": ["apollo", "athena"],
                "initial_prompt": "Be brief.",
                "max_rounds": 3,
                "orchestration_style": "directive",
            },
            progress_callback=progress,
        )
        value = result.structured_content
        assert [row["round"] for row in value["rounds"]] == [1, 2, 3]
        assert all(len(row["responses"]) == 2 and not row["failures"] for row in value["rounds"])
        first, last = value["rounds"][0]["responses"][0], value["rounds"][2]["responses"][0]
        assert "Be brief." in first["content"] and "which one position should stand" not in first["content"]
        assert "which one position should stand" in last["content"].replace("\\n", " ").replace("Say ", "")
        assert value["responses"] == value["rounds"][-1]["responses"]
        assert sum(text.startswith("round ") for text in progress.texts) == 3
        answers = [text for text in progress.texts if text.startswith(("apollo-ai: [", "athena-ai: ["))]
        assert len(answers) == 6, "each member's answer of each round is told"


async def test_lifecycle_logs_matching_and_pipelines_are_tools(new_backend: Callable[..., Backend]) -> None:
    backend = new_backend()
    async with over_http(backend) as client:
        plan = await _call(client, "ActivateAISpecialist", specialist_id="apollo", dry_run=True)
        assert plan["plan"]["items"][0]["ok"]
        [launched] = (await _call(client, "ActivateAISpecialist", specialist_id=["apollo"]))["results"]
        assert launched["ok"] and launched["pid"]
        ran = await _call(client, "RunPipeline", pipeline='echo "hi" | apollo | apollo')
        assert ran["output"] == "You said: You said: hi"
        failed = await client.call_tool("RunPipeline", {"pipeline": "apollo | athena", "input": "hi"})
        assert failed.is_error and "stage 2" in text_of(failed)
        assert text_of(failed).partition(":")[0] == "not_running"
        matched = await _call(client, "MatchSpecialists", query="write a poem about the sea", limit=3)
        assert "dionysus-ai" in [row["id"] for row in matched["matches"]] and matched["matches"][0]["why"]
        logs = await _call(client, "GetSpecialistLogs", specialist_id="apollo", tail=5)
        assert "lines" in logs
        [killed] = (await _call(client, "KillSpecialist", specialist_id="apollo"))["results"]
        assert killed["ok"]
        rows = (await _call(client, "ListAISpecialists", active_only=True))["specialists"]
        assert rows == []
