"""Logs for programs: JSON lines in which one request is found again at every hop, and spans of the same."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from backend.gateway.tracing import Tracing
from backend.orchestration.turns.manager import Turn
from backend.orchestration.turns.request import ChatRequest
from backend.schema.events import GatewayCall
from backend.schema.frames import Usage
from backend.schema.records import TurnOutcome
from tests.gateway.serving import Backend


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def with_id(path: Path, name: str) -> list[dict[str, Any]]:
    return [line for line in lines_of(path) if line.get("request_id") == name]


async def test_one_request_is_found_in_the_logs_of_every_hop(new_backend: Callable[..., Backend]) -> None:
    backend = new_backend(launch=("apollo",), TEKTON_LOG_FORMAT="json")
    gateway, worker = backend.home.logs / "backend.log", backend.home.logs / "apollo-ai.log"
    body = {"message": "a secret recipe", "request_id": "trace-me-1"}
    async with backend.http("chat") as http:
        answer = await http.post("/api/v1/chat/apollo", json=body, headers={"X-Request-Id": "edge-77"})
        await http.post(
            "/api/v1/chat/apollo", json={"message": "[[fail provider_auth]]", "request_id": "trace-me-2"}
        )
    assert answer.headers["x-request-id"] == "edge-77"
    for path in (gateway, worker):
        for line in lines_of(path):
            assert line.keys() >= {"time", "level", "logger", "component", "pid", "message"}
            assert "secret recipe" not in json.dumps(line)
    (call,) = [line for line in with_id(gateway, "edge-77") if "call" in line]
    assert (call["component"], call["call"]["action"], call["call"]["status"]) == ("gateway", "chat", 200)
    (turn,) = [line for line in with_id(gateway, "trace-me-1") if "specialist" in line]
    assert (turn["specialist"], turn["output_tokens"]) == ("apollo-ai", 5)
    assert [line["component"] for line in with_id(worker, "trace-me-1")] == ["apollo-ai"]
    (failed,) = [line for line in with_id(gateway, "trace-me-2") if "specialist" in line]
    assert failed["code"] == "provider_auth"
    assert with_id(worker, "trace-me-2")


async def test_logs_for_people_are_text_and_name_the_request(backend: Backend) -> None:
    async with backend.http("chat") as http:
        answer = await http.post("/api/v1/chat/athena", json={"message": "hello", "request_id": "in-words-1"})
        assert answer.headers["x-request-id"].startswith("h-")
        strange = await http.get("/health", headers={"X-Request-Id": "two words"})
        assert strange.headers["x-request-id"].startswith("h-")
    (line,) = [
        row for row in (backend.home.logs / "athena-ai.log").read_text().splitlines() if "in-words-1" in row
    ]
    assert line.count("in-words-1") == 1
    assert not line.startswith("{")


async def test_without_the_switch_no_tracing_library_is_loaded() -> None:
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-c",
            "import sys, backend.gateway.serve; print('opentelemetry.sdk' in sys.modules)",
        ),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "False"


async def test_turns_and_calls_become_spans_that_find_each_other() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter)
    for name, code in (("apollo-ai", None), ("athena-ai", "timeout")):
        order = ChatRequest(name, "words that stay inside", request_id=f"t1/{name}", group="t1")
        turn = Turn(order, "s1", asyncio.get_running_loop().create_future(), started_at=1_000.0)
        outcome = TurnOutcome(
            f"t1/{name}", name, "an answer", model="m", total_time=2.0, first_token_ms=500.0
        )
        outcome.usage, outcome.code = Usage(3, 4), code  # type: ignore[assignment]
        tracing.turn_ended(turn, outcome)
    tracing.call_ended(GatewayCall(1_002.0, "c", "http", "team_chat", 200, 2_000.0, request_id="t1"))
    tracing.call_ended(GatewayCall(1_002.0, "c", "ws", "kill", 403, refusal="scope read", request_id="t2"))
    tracing.close()
    first, second, call, refused = exporter.get_finished_spans()
    assert first.name == "invoke_agent apollo"
    assert first.start_time and first.end_time and first.attributes
    assert first.context and second.context and call.context and refused.context
    assert (first.end_time - first.start_time) / 1e9 == 2.0
    assert (first.events[0].timestamp - first.start_time) / 1e9 == 0.5
    assert first.attributes["tekton.output_tokens"] == 4
    assert second.status.description == "timeout"
    assert first.context.trace_id == second.context.trace_id == call.context.trace_id
    assert refused.context.trace_id != call.context.trace_id
    assert "words that stay" not in str([span.to_json() for span in exporter.get_finished_spans()])
