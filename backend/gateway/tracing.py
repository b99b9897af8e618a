"""Turns and calls exported: a log line each, and OpenTelemetry spans and metrics where the operator wants them.

`TEKTON_OTEL=1` sends them to where the standard `OTEL_EXPORTER_OTLP_*` variables say; the libraries come with the
extra `otel` and are imported only then. A call is a trace of its own, or part of the one its `traceparent` names; every turn
that came of it is a child of its span. Names are those of OpenTelemetry's conventions for generative AI: a turn is
`invoke_agent NAME`, its call upstream `chat MODEL`. Prompts and answers are never part of it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from backend import log as jsonlog
from backend.config import ConfigError
from backend.orchestration.recent import Recent
from backend.orchestration.turns.manager import Turn
from backend.schema.events import GatewayCall
from backend.schema.records import TurnOutcome

log = logging.getLogger(__name__)

SWITCH = "TEKTON_OTEL"
NS = 1_000_000_000
UNNAMED = "unknown_service"
"""How the library begins the name of a service that neither `OTEL_SERVICE_NAME` nor `OTEL_RESOURCE_ATTRIBUTES` names."""
JOINED = 5_000
"""Calls whose caller's trace is remembered, for the turns that come of them."""
MODEL_SECONDS = tuple(0.01 * 2**power for power in range(14))
MODEL_TOKENS = tuple(4**power for power in range(14))
"""Buckets that OpenTelemetry's conventions for generative AI ask for."""
# W3C Trace Context; versions after 00 may add fields at the end
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


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
    """Return the attributes exported for a turn: figures and names, no text."""
    usage = outcome.usage
    values: dict[str, Any] = {
        "specialist": turn.ai_id,
        "session": turn.session_id,
        "group": turn.request.group or None,
        "model": outcome.model or None,
        "code": outcome.code,
        "first_token_ms": outcome.first_token_ms,
        "total_s": round(outcome.total_time, 4),
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def model_attributes(turn: Turn, outcome: TurnOutcome, provider: str, name: str) -> dict[str, Any]:
    """Return what OpenTelemetry's conventions for generative AI name of one call of a model: figures and names, no text.

    Tokens of the input include those read from the upstream's cache.
    """
    served, usage, request = turn.served, outcome.usage, turn.request
    values: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider or None,
        "gen_ai.request.model": name or None,
        "gen_ai.request.temperature": request.temperature,
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.stream": True,
        "gen_ai.output.type": "text",
        "gen_ai.conversation.id": turn.session_id,
        "gen_ai.agent.id": turn.ai_id,
        "gen_ai.response.model": name if served is not None else None,
        "gen_ai.response.finish_reasons": [served.finish_reason] if served is not None else None,
        "gen_ai.response.time_to_first_chunk": (
            None if outcome.first_token_ms is None else outcome.first_token_ms / 1000
        ),
        "tekton.request_id": turn.request_id,
        "tekton.pieces": served.total_chunks if served is not None else None,
    }
    if usage is not None:
        values |= {
            # ours leave the cached ones out, the conventions count them in
            "gen_ai.usage.input_tokens": usage.input_tokens + usage.cached_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens or None,
            "gen_ai.usage.cache_write.input_tokens": usage.written_tokens or None,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens or None,
        }
    return {key: value for key, value in values.items() if value is not None}


def named_model(model: str) -> tuple[str, str]:
    """Return what the conventions call the provider of `provider:model`, and the model; the first is empty without a colon."""
    kind, colon, name = model.partition(":")
    return ({"embedded": "llama_cpp"}.get(kind, kind), name) if colon else ("", model)


class Tracing:
    """Spans and metrics of one gateway. `exporter` of spans replaces those of the standard variables.

    `model_of` says which model a specialist has, as `provider:model`, for turns that failed before it answered.
    """

    def __init__(self, exporter: Any = None, model_of: Callable[[str], str] = lambda ai_id: "") -> None:
        with _extra():
            from opentelemetry import trace
            from opentelemetry.sdk import resources
            from opentelemetry.sdk.trace import TracerProvider, export
        self._trace: Any = trace
        self._model_of = model_of
        self._joined: Recent[tuple[int, int]] = Recent(JOINED, JOINED)
        self._parents: Recent[bool] = Recent(JOINED, JOINED)
        """Calls of which a turn was told that names them as its parent."""
        self._ids = _PlannedIds()
        resource = resources.Resource.create()
        if str(resource.attributes.get("service.name", "")).startswith(UNNAMED):
            resource = resource.merge(resources.Resource({"service.name": "tekton"}))
        self._provider: Any = TracerProvider(resource=resource, id_generator=self._ids)  # pyright: ignore[reportArgumentType]
        # whoever passes an exporter wants to see each span at once; the standard one sends many together
        if exporter:
            self._provider.add_span_processor(export.SimpleSpanProcessor(exporter))
        else:
            with _extra():
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            self._provider.add_span_processor(export.BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer: Any = self._provider.get_tracer("tekton.gateway")
        self._metrics = None if exporter else _ModelMetrics(resource)

    def turn_ended(self, turn: Turn, outcome: TurnOutcome) -> None:
        """Export one turn as a span of its whole length, and the worker's part of it as a span within."""
        began = int(turn.started_at * NS)
        attributes = {f"tekton.{name}": value for name, value in facts(turn, outcome).items()}
        attributes["tekton.request_id"] = turn.request_id
        name = turn.ai_id.removesuffix("-ai")
        attributes |= {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": name,
            "gen_ai.agent.id": turn.ai_id,
            "gen_ai.conversation.id": turn.session_id,
        }
        self._parents.put(turn.origin or turn.key, True, 1)
        span = self._tracer.start_span(
            f"invoke_agent {name}",
            context=self._below(turn.origin or turn.key),
            kind=self._trace.SpanKind.INTERNAL,
            start_time=began,
            attributes=attributes,
        )
        self._show_failure(span, outcome)
        if outcome.first_token_ms is not None:
            span.add_event("first token", timestamp=began + int(outcome.first_token_ms * 1e6))
        ended = began + int(outcome.total_time * NS)
        if turn.served is not None or turn.sent_upstream:
            model = outcome.model or turn.request.model or self._model_of(turn.ai_id)
            self._model_span(span, turn, outcome, model, ended)
            if self._metrics is not None:
                self._metrics.count(outcome, model)
        span.end(end_time=ended)

    def _model_span(self, turn_span: Any, turn: Turn, outcome: TurnOutcome, model: str, ended: int) -> None:
        """Export the model call, from the request's arrival at the worker, by the worker's own clock."""
        provider, name = named_model(model)
        took_s = turn.served.total_time if turn.served is not None else outcome.total_time
        span = self._tracer.start_span(
            f"chat {name}".strip(),
            context=self._trace.set_span_in_context(turn_span),
            kind=self._trace.SpanKind.CLIENT,
            start_time=ended - int(took_s * NS),
            attributes=model_attributes(turn, outcome, provider, name),
        )
        self._show_failure(span, outcome)
        span.end(end_time=ended)

    def _show_failure(self, span: Any, outcome: TurnOutcome) -> None:
        if outcome.code:
            span.set_attribute("error.type", outcome.code)
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, outcome.code))

    def join(self, name: str, traceparent: str) -> None:
        """Make a call part of its caller's trace, if the caller names one."""
        if (found := _TRACEPARENT.fullmatch(traceparent[:200].strip().lower())) is None:
            return
        trace_id, span_id = int(found[1], 16), int(found[2], 16)
        if trace_id and span_id:
            self._joined.put(name, (trace_id, span_id), 1)

    def call_ended(self, call: GatewayCall) -> None:
        """Export one call, answered or refused."""
        ended = int(call.timestamp * NS)
        attributes = {
            "tekton.transport": call.transport,
            "tekton.status": call.status,
            "tekton.request_id": call.request_id,
            "tekton.token": call.token,
        }
        caller = self._joined.get(call.request_id)
        # a call that was refused has nothing below it, and may bear the id of one that was not
        if call.request_id and (not call.refusal or self._parents.get(call.request_id)):
            # its turns are exported before it and named it as their parent by these ids, which come from the request id
            self._ids.planned = self._ids_of(call.request_id)
            self._parents.put(call.request_id, False, 1)
        span = self._tracer.start_span(
            f"{call.transport} {call.action}",
            context=self._remote(*caller)
            if caller
            else self._trace.set_span_in_context(self._trace.INVALID_SPAN),
            kind=self._trace.SpanKind.SERVER,
            start_time=ended - int(call.elapsed_ms * 1e6),
            attributes=attributes,
        )
        if call.refusal or call.status >= 500:
            span.set_attribute("error.type", str(call.status))
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, call.refusal))
        span.end(end_time=ended)

    def close(self) -> None:
        """Send what waits. Blocks for some seconds at most."""
        self._provider.shutdown()
        if self._metrics is not None:
            self._metrics.close()

    def _below(self, name: str) -> Any:
        """Return the context in which a span is a child of the call of this name, which ends, and is exported, later."""
        return self._remote(*self._ids_of(name))

    def _ids_of(self, name: str) -> tuple[int, int]:
        """Return the ids of the trace and of the span of a call, by its request id."""
        trace_id, span_id = _ids_of(name)
        caller = self._joined.get(name)
        return (caller[0] if caller else trace_id), span_id

    def _remote(self, trace_id: int, span_id: int) -> Any:
        parent = self._trace.SpanContext(
            trace_id=trace_id,
            span_id=span_id,
            is_remote=True,
            trace_flags=self._trace.TraceFlags(self._trace.TraceFlags.SAMPLED),
        )
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(parent))


class _ModelMetrics:
    """The two histograms that the conventions for generative AI ask of a client, sent every minute and at the end."""

    def __init__(self, resource: Any) -> None:
        with _extra():
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.sdk.metrics import MeterProvider, export
        reader = export.PeriodicExportingMetricReader(OTLPMetricExporter())
        self._provider: Any = MeterProvider([reader], resource)
        meter = self._provider.get_meter("tekton.gateway")
        self._seconds: Any = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "How long a call of a model took.",
            explicit_bucket_boundaries_advisory=MODEL_SECONDS,
        )
        self._tokens: Any = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens of a call of a model; those of the input include cached ones.",
            explicit_bucket_boundaries_advisory=MODEL_TOKENS,
        )

    def count(self, outcome: TurnOutcome, model: str) -> None:
        """Count one call of a model."""
        provider, name = named_model(model)
        known = {"gen_ai.provider.name": provider, "gen_ai.request.model": name}
        called = {"gen_ai.operation.name": "chat", **{key: value for key, value in known.items() if value}}
        failed = {"error.type": outcome.code} if outcome.code else {}
        self._seconds.record(outcome.total_time, {**called, **failed})
        if (usage := outcome.usage) is not None:
            self._tokens.record(
                usage.input_tokens + usage.cached_tokens, {**called, "gen_ai.token.type": "input"}
            )
            self._tokens.record(usage.output_tokens, {**called, "gen_ai.token.type": "output"})

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


class _PlannedIds:
    """Makes ids of traces and spans; the next pair can be set, so that a child exported first can name its parent."""

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


@contextmanager
def _extra() -> Generator[None]:
    """Import OpenTelemetry in this block, which comes with an extra; a missing part is a `ConfigError` that says so."""
    try:
        yield
    except ImportError as error:
        text = (
            f"{SWITCH} is set and {error.name} is not installed: pip install 'tekton-tui[otel]', or unset it"
        )
        raise ConfigError(text) from error
