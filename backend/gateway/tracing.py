"""Turns and calls told to the outside: a log line each, and OpenTelemetry spans where the operator wants them.

`TEKTON_OTEL=1` sends spans to where the standard `OTEL_EXPORTER_OTLP_*` variables say; the libraries come with the
extra `otel` and are imported only then. Turns of one team turn or pipeline share a trace. Prompts and answers are
never part of it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from backend import jsonlog
from backend.config import ConfigError
from backend.orchestration.turns import Turn
from backend.schema.events import GatewayCall
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
        self._provider: Any = TracerProvider(resource=Resource.create({"service.name": "tekton"}))
        processor = SimpleSpanProcessor(exporter) if exporter else BatchSpanProcessor(_standard_exporter())
        self._provider.add_span_processor(processor)
        self._tracer: Any = self._provider.get_tracer("tekton.gateway")

    def turn_ended(self, turn: Turn, outcome: TurnOutcome) -> None:
        """Tell one turn as a span of its whole length."""
        began = int(turn.started_at * NS)
        attributes = {f"tekton.{name}": value for name, value in facts(turn, outcome).items()}
        attributes["tekton.request_id"] = turn.request_id
        span = self._tracer.start_span(
            f"turn {turn.ai_id}", context=self._context(turn.key), start_time=began, attributes=attributes
        )
        if outcome.code:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, outcome.code))
        if outcome.first_token_ms is not None:
            span.add_event("first token", timestamp=began + int(outcome.first_token_ms * 1e6))
        span.end(end_time=began + int(outcome.total_time * NS))

    def call_ended(self, call: GatewayCall) -> None:
        """Tell one call, answered or refused."""
        ended = int(call.timestamp * NS)
        attributes = {
            "tekton.transport": call.transport,
            "tekton.status": call.status,
            "tekton.request_id": call.request_id,
            "tekton.token": call.token,
        }
        span = self._tracer.start_span(
            f"{call.transport} {call.action}",
            context=self._context(call.request_id) if call.request_id else None,
            start_time=ended - int(call.elapsed_ms * 1e6),
            attributes=attributes,
        )
        if call.refusal:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, call.refusal))
        span.end(end_time=ended)

    def close(self) -> None:
        """Send what waits. Blocks for some seconds at most."""
        self._provider.shutdown()

    def _context(self, key: str) -> Any:
        """Return the context of a trace named by a conversation, so that all its spans find each other."""
        digest = hashlib.sha256(key.encode()).digest()
        parent = self._trace.SpanContext(
            trace_id=int.from_bytes(digest[:16], "big"),
            span_id=int.from_bytes(digest[16:24], "big"),
            is_remote=True,
            trace_flags=self._trace.TraceFlags(self._trace.TraceFlags.SAMPLED),
        )
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(parent))


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
