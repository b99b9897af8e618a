"""Spans as an OpenTelemetry collector gets them from a running platform: each call with its turns and workers below."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from backend.client import attach
from backend.schema.errors import TektonError
from tests.gateway.serving import Backend

SECRET = "words-that-stay-inside"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


class Collector(ThreadingHTTPServer):
    """Takes spans and metrics over OTLP/HTTP. `spans` and `points` (of histograms, by name) hold them as they came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.spans: list[Any] = []
        self.points: list[tuple[str, Any]] = []
        self.services: set[str] = set()
        self.raw = b""

    def rows(self) -> list[tuple[str, str, str]]:
        """Return name, parent's name and request id of each span, sorted; an unknown parent is `?`."""
        names = {span.span_id: span.name for span in self.spans} | {b"": ""}
        return sorted((s.name, names.get(s.parent_span_id, "?"), _request_of(s)) for s in self.spans)


class _Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
        self.server.raw += body
        if self.path.endswith("/v1/metrics"):
            self._take_metrics(body)
        else:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.server.services |= {
                    kv.value.string_value for kv in resource.resource.attributes if kv.key == "service.name"
                }
                for scope in resource.scope_spans:
                    self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def _take_metrics(self, body: bytes) -> None:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    self.server.points += [(metric.name, point) for point in metric.histogram.data_points]

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _request_of(span: Any) -> str:
    return next((kv.value.string_value for kv in span.attributes if kv.key == "tekton.request_id"), "")


def _trace_of(traces: dict[bytes, list[Any]], request_id: str) -> bytes:
    return next(key for key, spans in traces.items() if request_id in map(_request_of, spans))


def _check_conventions(spans: list[Any]) -> None:
    """Check kinds and names of one answered turn by OpenTelemetry's conventions for generative AI."""
    found = {span.name.split()[0]: span for span in spans}
    assert [found[name].kind for name in ("http", "invoke_agent", "chat")] == [2, 1, 3], (
        "server, internal, client"
    )
    turn, chat = ({kv.key: kv.value for kv in found[name].attributes} for name in ("invoke_agent", "chat"))
    assert turn["gen_ai.operation.name"].string_value == "invoke_agent"
    assert turn["gen_ai.agent.name"].string_value == "apollo" and turn["gen_ai.conversation.id"].string_value
    assert chat["gen_ai.operation.name"].string_value == "chat"
    assert chat["gen_ai.provider.name"].string_value == "scripted"
    assert (
        chat["gen_ai.request.model"].string_value == chat["gen_ai.response.model"].string_value == "scripted"
    )
    assert [v.string_value for v in chat["gen_ai.response.finish_reasons"].array_value.values] == ["stop"]
    assert chat["gen_ai.response.time_to_first_chunk"].double_value > 0
    assert (
        chat["gen_ai.usage.input_tokens"].int_value > 0 and chat["gen_ai.usage.output_tokens"].int_value > 0
    )
    assert chat["tekton.request_id"].string_value == turn["tekton.request_id"].string_value


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        serving = threading.Thread(target=collector.serve_forever)
        serving.start()
        yield collector
        collector.shutdown()
        serving.join()


async def test_each_call_is_a_trace_with_its_turns_and_their_workers_below(
    collector: Collector, new_backend: Callable[..., Backend]
) -> None:
    where = f"http://127.0.0.1:{collector.server_port}"
    backend = new_backend(
        launch=("apollo", "athena"),
        TEKTON_OTEL="1",
        OTEL_EXPORTER_OTLP_ENDPOINT=where,
        OTEL_SERVICE_NAME="my-fleet",
        NO_PROXY="127.0.0.1",
    )
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("/api/team-chat", "a-team", {"message": SECRET, "target_sockets": ["apollo", "athena"]}),
        ("/api/v1/chat/apollo/stream", "a-stream", {"message": SECRET}),
        ("/api/v1/chat/apollo", "a-part", {"message": SECRET}),
        ("/api/v1/chat/apollo", "a-failure", {"message": "[[fail]]"}),
        (
            "/api/mcp/v2/process",
            "a-tool",
            {"tool_name": "RunPipeline", "arguments": {"pipeline": "apollo | athena", "input": SECRET}},
        ),
    ]
    async with backend.http() as http:
        for path, name, body in calls:
            parent = {"traceparent": PARENT} if name == "a-part" else {}
            await http.post(path, json=body, headers={"X-Request-Id": name, **parent})
        stranger = {"Authorization": "Bearer unknown", "X-Request-Id": "a-stranger"}
        await http.get("/api/v1/platform", headers=stranger)
    client = await attach(backend.home)
    with pytest.raises(TektonError):
        await client.request("chat", {"ai_id": "apollo", "content": "[[fail]]", "request_id": "a-ws-failure"})
    await client.close()
    backend.stop()
    [outside] = [row for row in collector.rows() if row[1] == "?"]
    assert outside == ("http chat", "?", "a-part"), "every other parent is told as well"
    part = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    assert sorted(span.name for span in part) == ["chat scripted", "http chat", "invoke_agent apollo"]
    assert next(span for span in part if span.name == "http chat").parent_span_id.hex() == SPAN
    _check_conventions(part)
    traces: dict[bytes, list[Any]] = {}
    for span in collector.spans:
        traces.setdefault(span.trace_id, []).append(span)
    shapes = {
        _request_of(span): sorted(row.name for row in spans) for spans in traces.values() for span in spans
    }
    assert shapes["a-team"] == [
        "chat scripted", "chat scripted", "http team_chat", "invoke_agent apollo", "invoke_agent athena",
    ]  # fmt: skip
    assert shapes["a-stream"] == ["chat scripted", "invoke_agent apollo", "sse chat stream"]
    assert shapes["a-failure"] == ["chat scripted", "http chat", "invoke_agent apollo"]
    assert shapes["a-ws-failure"] == ["chat scripted", "invoke_agent apollo", "ws chat"]
    assert shapes["a-tool"] == [
        "chat scripted", "chat scripted", "invoke_agent apollo", "invoke_agent athena", "mcp RunPipeline",
    ]  # fmt: skip
    assert shapes["a-stranger"] == ["http platform"]
    failed = [span for span in traces[_trace_of(traces, "a-failure")] if span.name != "http chat"]
    assert {kv.value.string_value for s in failed for kv in s.attributes if kv.key == "error.type"} == {
        "internal"
    }
    parents = {(name, parent) for name, parent, _ in collector.rows()}
    assert {
        ("invoke_agent apollo", "http team_chat"),
        ("chat scripted", "invoke_agent apollo"),
        ("http chat", ""),
    } <= parents
    assert SECRET.encode() not in collector.raw
    assert collector.services == {"my-fleet"}, "the standard variables decide"
    _check_metrics(collector.points)


def _check_metrics(points: list[tuple[str, Any]]) -> None:
    """Check the histograms of the eight calls of a model: six answered, two failed."""
    found = [
        (name, {kv.key: kv.value.string_value for kv in point.attributes}, point) for name, point in points
    ]
    durations = [row for row in found if row[0] == "gen_ai.client.operation.duration"]
    assert sum(point.count for _, _, point in durations) == 8
    [failed] = [facts for _, facts, _ in durations if "error.type" in facts]
    assert failed["error.type"] == "internal" and failed["gen_ai.provider.name"] == "scripted"
    answered = next(facts for _, facts, _ in durations if "error.type" not in facts)
    assert answered == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted",
    }
    tokens = {
        facts["gen_ai.token.type"]: point
        for name, facts, point in found
        if name == "gen_ai.client.token.usage" and "gen_ai.request.model" in facts
    }
    assert {name: point.count for name, point in tokens.items()} == {"input": 8, "output": 8}
    assert all(point.sum for point in tokens.values())
    assert list(tokens["input"].explicit_bounds)[:3] == [1, 4, 16]
