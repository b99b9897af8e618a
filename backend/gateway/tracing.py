"""Turns and calls told to the outside: a log line each, and OpenTelemetry spans where the operator wants them.

`TEKTON_OTEL=1` sends spans to where the standard `OTEL_EXPORTER_OTLP_*` variables say; the libraries come with the
extra `otel` and are imported only then. A call is a trace of its own, and every turn that came of it is a child of its
span. Prompts and answers are never part of it.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Mapping
from typing import Any

from backend import jsonlog
from backend.config import ConfigError
from backend.orchestration.turns import Turn
from backend.schema.events import GatewayCall
from backend.schema.frames import StreamMetadata
from backend.schema.records import TurnOutcome

log = logging.getLogger(__name__)

SWITCH = "TEKTON_OTEL"
NS = 1_000_000_000


def log_turn(turn: Turn, outcome: TurnOutcome) -> None:
    """Write a turn's end down where logs are for programs."""
    if jsonlog.structured:
        how = outcome.code or outcome.finish_reason or "stop"
        log.info(
            "turn of %s: %s",
            turn.ai_id,
            how,
            extra={"fields": facts(turn, outcome), "request_id": turn.request_id},
        )


def facts(turn: Turn, outcome: TurnOutcome) -> dict[str, Any]:
    """Return what may be told of a turn: figures and names, no words."""
    usage = outcome.usage
    values: dict[str, Any] = {
        "specialist": turn.ai_id,
        "session": turn.session_id,
        "group": turn.order.group or None,
        "model": outcome.model or None,
        "code": outcome.code,
        "first_token_ms": outcome.first_token_ms,
        "total_s": round(outcome.total_time, 4),
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
    }
    return {name: value for name, value in values.items() if value is not None}


class Tracing:
    """Spans of one gateway. `exporter` replaces the one of the standard variables."""

    def __init__(self, exporter: Any = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        except ImportError as error:
            raise ConfigError(_missing(error)) from error
        self._trace: Any = trace
        self._ids = _PlannedIds()
        resource = Resource.create({"service.name": "tekton"})
        self._provider: Any = TracerProvider(resource=resource, id_generator=self._ids)  # pyright: ignore[reportArgumentType]
        processor = SimpleSpanProcessor(exporter) if exporter else BatchSpanProcessor(_standard_exporter())
        self._provider.add_span_processor(processor)
        self._tracer: Any = self._provider.get_tracer("tekton.gateway")

    def turn_ended(self, turn: Turn, outcome: TurnOutcome) -> None:
        """Tell one turn as a span of its whole length, and what of it was the worker's as a span within."""
        began = int(turn.started_at * NS)
        attributes = {f"tekton.{name}": value for name, value in facts(turn, outcome).items()}
        attributes["tekton.request_id"] = turn.request_id
        span = self._tracer.start_span(
            f"turn {turn.ai_id}",
            context=self._below(turn.origin or turn.key),
            start_time=began,
            attributes=attributes,
        )
        if outcome.code:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, outcome.code))
        if outcome.first_token_ms is not None:
            span.add_event("first token", timestamp=began + int(outcome.first_token_ms * 1e6))
        ended = began + int(outcome.total_time * NS)
        if turn.served is not None:
            self._worker_span(span, turn.ai_id, turn.served, ended)
        span.end(end_time=ended)

    def _worker_span(self, turn_span: Any, ai_id: str, served: StreamMetadata, ended: int) -> None:
        """Tell the worker's share of a turn, from the request's arrival there, by the worker's own clock."""
        span = self._tracer.start_span(
            f"worker {ai_id}",
            context=self._trace.set_span_in_context(turn_span),
            start_time=ended - int(served.total_time * NS),
            attributes={
                "tekton.model": served.model,
                "tekton.pieces": served.total_chunks,
                "tekton.finish_reason": served.finish_reason,
            },
        )
        span.end(end_time=ended)

    def call_ended(self, call: GatewayCall) -> None:
        """Tell one call, answered or refused."""
        ended = int(call.timestamp * NS)
        attributes = {
            "tekton.transport": call.transport,
            "tekton.status": call.status,
            "tekton.request_id": call.request_id,
            "tekton.token": call.token,
        }
        if call.request_id and not call.refusal:
            self._ids.planned = _ids_of(call.request_id)
        span = self._tracer.start_span(
            f"{call.transport} {call.action}",
            context=self._trace.set_span_in_context(self._trace.INVALID_SPAN),
            start_time=ended - int(call.elapsed_ms * 1e6),
            attributes=attributes,
        )
        if call.refusal:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, call.refusal))
        span.end(end_time=ended)

    def close(self) -> None:
        """Send what waits. Blocks for some seconds at most."""
        self._provider.shutdown()

    def _below(self, name: str) -> Any:
        """Return the context in which a span is a child of the call of this name, which ends later and is told then."""
        trace_id, span_id = _ids_of(name)
        parent = self._trace.SpanContext(
            trace_id=trace_id,
            span_id=span_id,
            is_remote=True,
            trace_flags=self._trace.TraceFlags(self._trace.TraceFlags.SAMPLED),
        )
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(parent))


class _PlannedIds:
    """Makes ids of traces and spans; the next pair can be set, so that what is told first knows its parent's."""

    planned: tuple[int, int] | None = None

    def generate_trace_id(self) -> int:
        return self.planned[0] if self.planned else secrets.randbits(128) or 1

    def generate_span_id(self) -> int:
        planned, self.planned = self.planned, None
        return planned[1] if planned else secrets.randbits(64) or 1

    def is_trace_id_random(self) -> bool:
        return True


def _ids_of(name: str) -> tuple[int, int]:
    """Return the ids of the trace and of the span of a call, by its request id."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big")


def wanted(environment: Mapping[str, str]) -> bool:
    return environment.get(SWITCH, "").strip().lower() in ("1", "true", "yes", "on")


def _standard_exporter() -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # pyright: ignore[reportMissingImports]
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise ConfigError(_missing(error)) from error
    return OTLPSpanExporter()


def _missing(error: ImportError) -> str:
    return f"{SWITCH} is set and {error.name} is not installed: pip install 'tekton-tui[otel]', or unset it"
