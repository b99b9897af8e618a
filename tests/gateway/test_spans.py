"""Spans as an OpenTelemetry collector gets them from a running platform: each call with its turns and workers below."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from serving import Backend

SECRET = "words-that-stay-inside"


class Collector(ThreadingHTTPServer):
    """Takes spans over OTLP/HTTP. `spans` holds them as they came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.spans: list[Any] = []
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
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _request_of(span: Any) -> str:
    return next((kv.value.string_value for kv in span.attributes if kv.key == "tekton.request_id"), "")


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
        launch=("apollo", "athena"), TEKTON_OTEL="1", OTEL_EXPORTER_OTLP_ENDPOINT=where, NO_PROXY="127.0.0.1"
    )
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("/api/team-chat", "a-team", {"message": SECRET, "target_sockets": ["apollo", "athena"]}),
        ("/api/v1/chat/apollo/stream", "a-stream", {"message": SECRET}),
        ("/api/v1/chat/apollo", "a-failure", {"message": "[[fail]]"}),
        (
            "/api/mcp/v2/process",
            "a-tool",
            {"tool_name": "RunPipeline", "arguments": {"pipeline": "apollo | athena", "input": SECRET}},
        ),
    ]
    async with backend.http() as http:
        for path, name, body in calls:
            await http.post(path, json=body, headers={"X-Request-Id": name})
        stranger = {"Authorization": "Bearer unknown", "X-Request-Id": "a-stranger"}
        await http.get("/api/v1/platform", headers=stranger)
    backend.stop()
    assert not [row for row in collector.rows() if row[1] == "?"], "every parent is told as well"
    traces: dict[bytes, list[Any]] = {}
    for span in collector.spans:
        traces.setdefault(span.trace_id, []).append(span)
    shapes = {
        _request_of(span): sorted(row.name for row in spans) for spans in traces.values() for span in spans
    }
    assert shapes["a-team"] == [
        "http team_chat", "turn apollo-ai", "turn athena-ai", "worker apollo-ai", "worker athena-ai",
    ]  # fmt: skip
    assert shapes["a-stream"] == ["sse chat stream", "turn apollo-ai", "worker apollo-ai"]
    assert shapes["a-failure"] == ["http chat", "turn apollo-ai"]
    assert shapes["a-tool"] == [
        "mcp RunPipeline", "turn apollo-ai", "turn athena-ai", "worker apollo-ai", "worker athena-ai",
    ]  # fmt: skip
    assert shapes["a-stranger"] == ["http platform"]
    parents = {(name, parent) for name, parent, _ in collector.rows()}
    assert {
        ("turn apollo-ai", "http team_chat"),
        ("worker apollo-ai", "turn apollo-ai"),
        ("http chat", ""),
    } <= parents
    assert SECRET.encode() not in collector.raw
