"""`/metrics`: what the platform did and how it stands, for Prometheus.

Counters and histograms are fed when a turn or a call ends, never by a token; everything else is read when asked.
Decides nothing and keeps no history: that is Prometheus' part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import get_args

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

import backend
from backend.gateway.tracing import MODEL_SECONDS, MODEL_TOKENS, provider_name
from backend.orchestration.platform import Platform
from backend.orchestration.turns.manager import Turn
from backend.schema.events import GatewayCall, Metrics
from backend.schema.records import TurnOutcome, UsageRow
from backend.schema.states import SpecialistState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
TURN_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 120)
STATES: tuple[SpecialistState, ...] = get_args(SpecialistState)


class Meters:
    """Counters and histograms of one gateway's life. Feeding one costs some microseconds, once a turn or call."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._turns = Counter(
            "tekton_turns", "Turns ended, by outcome.", ["specialist", "outcome"], registry=self.registry
        )
        self._errors = Counter(
            "tekton_turn_errors", "Turns failed, by code.", ["specialist", "code"], registry=self.registry
        )
        self._tokens = Counter(
            "tekton_tokens",
            "Tokens counted by providers.",
            ["specialist", "direction"],
            registry=self.registry,
        )
        self._first = Histogram(
            "tekton_first_token_seconds",
            "Seconds from a turn's start to its first text.",
            ["specialist"],
            buckets=FIRST_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self._durations = Histogram(
            "tekton_turn_duration_seconds",
            "Seconds a turn took in all.",
            ["specialist"],
            buckets=TURN_BUCKETS,
            registry=self.registry,
        )
        self._calls = Counter(
            "tekton_gateway_calls",
            "Calls answered, by transport, action and status.",
            ["transport", "action", "status"],
            registry=self.registry,
        )
        self._refused = Counter(
            "tekton_gateway_refusals",
            "Calls refused, by transport and status.",
            ["transport", "status"],
            registry=self.registry,
        )
        self._call_times = Histogram(
            "tekton_gateway_call_seconds",
            "Seconds until a call was answered.",
            ["transport"],
            buckets=CALL_BUCKETS,
            registry=self.registry,
        )

        model = ["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"]
        self._model_seconds = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "Seconds a call of a model took, by the names of OpenTelemetry.",
            [*model, "error_type"],
            buckets=MODEL_SECONDS,
            registry=self.registry,
        )
        self._model_tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a call of a model, by the names of OpenTelemetry; those of the input include cached ones.",
            [*model, "gen_ai_token_type"],
            buckets=MODEL_TOKENS,
            registry=self.registry,
        )

    def turn_ended(self, turn: Turn, outcome: TurnOutcome) -> None:
        """Count a turn that ended."""
        if turn.served is not None or turn.sent_upstream:
            self._model_called(outcome)
        how = "ok" if outcome.code is None else "cancelled" if outcome.code == "cancelled" else "error"
        self._turns.labels(turn.ai_id, how).inc()
        if outcome.code:
            self._errors.labels(turn.ai_id, outcome.code).inc()
        if outcome.usage is not None:
            self._tokens.labels(turn.ai_id, "in").inc(outcome.usage.prompt)
            self._tokens.labels(turn.ai_id, "out").inc(outcome.usage.output_tokens)
        if outcome.first_token_ms is not None:
            self._first.labels(turn.ai_id).observe(outcome.first_token_ms / 1000)
        self._durations.labels(turn.ai_id).observe(outcome.total_time)

    def _model_called(self, outcome: TurnOutcome) -> None:
        kind, colon, name = outcome.model.partition(":")
        labels = ("chat", provider_name(kind) if colon else "", name if colon else outcome.model)
        self._model_seconds.labels(*labels, outcome.code or "").observe(outcome.total_time)
        if (usage := outcome.usage) is not None:
            self._model_tokens.labels(*labels, "input").observe(usage.input_tokens + usage.cached_tokens)
            self._model_tokens.labels(*labels, "output").observe(usage.output_tokens)

    def call_ended(self, call: GatewayCall) -> None:
        """Count a call that was answered or refused."""
        status = str(call.status)
        self._calls.labels(call.transport, call.action, status).inc()
        self._call_times.labels(call.transport).observe(call.elapsed_ms / 1000)
        if call.refusal:
            self._refused.labels(call.transport, status).inc()


class _Reading:
    """Families read once, given to the library as a collector."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def exposition(meters: Meters, platform: Platform, *, clients: int, streams: int) -> bytes:
    """Return the whole page: read on the event loop, written out on a thread.

    `clients` and `streams` are the WebSockets and the event streams open now.
    """
    figures = await platform.monitor.figures()
    usage = await platform.memory.turns.usage()
    reading = CollectorRegistry()
    reading.register(
        _Reading(
            [
                *_specialists(platform),
                *_processes(figures),
                *_spending(usage),
                *_gateway(platform, clients, streams),
                *_events(platform),
                *_store(platform),
            ]
        )
    )
    return await asyncio.to_thread(lambda: generate_latest(meters.registry) + generate_latest(reading))


def _gauge(name: str, text: str, rows: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _counter(name: str, text: str, rows: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _specialists(platform: Platform) -> list[Metric]:
    rows = platform.fleet.statuses()
    known = [row for row in rows if row.tokens_per_second is not None]
    return [
        _gauge("tekton_build_info", "Version that serves.", [((backend.__version__,), 1)], "version"),
        _gauge(
            "tekton_specialists",
            "Specialists in each state.",
            [((state,), sum(row.state == state for row in rows)) for state in STATES],
            "state",
        ),
        _gauge(
            "tekton_specialist_state",
            "1 for the state a specialist is in.",
            [((row.id, row.state, row.provider, row.model), 1) for row in rows],
            *("specialist", "state", "provider", "model"),
        ),
        _gauge(
            "tekton_specialist_stalled",
            "1 while an answer of a specialist has stopped coming.",
            [((row.id,), int(row.phase == "stalled")) for row in rows if row.pid],
            "specialist",
        ),
        _gauge(
            "tekton_specialist_queue",
            "Turns waiting or running.",
            [((row.id,), row.queue) for row in rows],
            "specialist",
        ),
        _gauge(
            "tekton_specialist_tokens_per_second",
            "Speed of the newest turn.",
            [((row.id,), row.tokens_per_second or 0.0) for row in known],
            "specialist",
        ),
        _gauge("tekton_turns_active", "Turns under way.", [((), len(platform.turns.active))]),
    ]


def _processes(figures: Metrics) -> list[Metric]:
    rows = figures.processes.items()
    return [
        _gauge(
            "tekton_process_cpu_percent",
            "CPU of a process, 100 is one core.",
            [((name,), one.cpu) for name, one in rows],
            "process",
        ),
        _gauge(
            "tekton_process_resident_bytes",
            "Memory of a process.",
            [((name,), one.rss) for name, one in rows],
            "process",
        ),
        _gauge(
            "tekton_process_open_fds",
            "Open descriptors of a process.",
            [((name,), one.fds) for name, one in rows],
            "process",
        ),
        _gauge("tekton_host_cpu_percent", "CPU of the host, of all cores.", [((), figures.host.cpu)]),
        _gauge("tekton_host_memory_available_bytes", "Memory left.", [((), figures.host.memory_available)]),
    ]


def _spending(rows: list[UsageRow]) -> list[Metric]:
    """Export what was used of each provider's models, over all days the store remembers."""
    tokens: dict[tuple[str, ...], float] = {}
    cost: dict[tuple[str, ...], float] = {}
    calls: dict[tuple[str, ...], float] = {}
    unpriced: dict[tuple[str, ...], float] = {}
    for row in rows:
        key = (row.ai_id, row.provider, row.model)
        for direction, count in (("in", row.tokens_in), ("out", row.tokens_out)):
            tokens[*key, direction] = tokens.get((*key, direction), 0) + count
        if row.currency:
            cost[*key, row.currency] = cost.get((*key, row.currency), 0) + row.cost
        calls[key] = calls.get(key, 0) + row.turns
        unpriced[key] = unpriced.get(key, 0) + row.unpriced
    names = ("specialist", "provider", "model")
    return [
        _counter("tekton_provider_tokens", "Tokens used, all days.", tokens.items(), *names, "direction"),
        _counter("tekton_provider_cost", "Cost, by currency.", cost.items(), *names, "currency"),
        _counter("tekton_provider_calls", "Calls made of a model.", calls.items(), *names),
        _counter("tekton_provider_calls_unpriced", "Calls no price is known of.", unpriced.items(), *names),
    ]


def _gateway(platform: Platform, clients: int, streams: int) -> list[Metric]:
    error_log = platform.error_log
    return [
        _gauge("tekton_gateway_websocket_clients", "WebSockets open.", [((), clients)]),
        _gauge("tekton_gateway_streams", "SSE streams open.", [((), streams)]),
        _gauge("tekton_errors_unacknowledged", "Failures nobody has seen.", [((), error_log.unacknowledged)]),
        _counter("tekton_errors", "Failures recorded.", error_log.counts.items(), "where", "code"),
    ]


def _events(platform: Platform) -> list[Metric]:
    events = platform.events
    count, size = events.held
    lags = [reader.lag for reader in events.open]
    return [
        _counter("tekton_events", "Events numbered.", [((), events.seq)]),
        _counter("tekton_events_unwanted", "Events nobody read, not recorded.", [((), events.skipped)]),
        _counter("tekton_events_trimmed", "Events dropped at the old end.", [((), events.trimmed)]),
        _counter("tekton_events_resyncs", "Readers that came too late.", [((), events.lost_replays)]),
        _gauge("tekton_events_held", "Events kept for replay.", [((), count)]),
        _gauge("tekton_events_held_bytes", "Bytes they take.", [((), size)]),
        _gauge("tekton_events_readers", "Readers of the log.", [((), len(lags))]),
        _gauge("tekton_events_lag", "Events the slowest reader is behind.", [((), max(lags, default=0))]),
    ]


def _store(platform: Platform) -> list[Metric]:
    figures = platform.memory.figures()
    waiting = [((name.removeprefix("waiting_"),), n) for name, n in figures.items() if name != "bytes"]
    size = [((), figures["bytes"])] if "bytes" in figures else []
    report = platform.maintenance.report
    effects = [((name,), number) for name, number in msgspec.structs.asdict(report).items()] if report else []
    return [
        _gauge("tekton_store_bytes", "The conversation store on disk.", size),
        _gauge("tekton_store_waiting", "Jobs waiting in the store.", waiting, "queue"),
        _gauge("tekton_store_retention", "What the newest retention of this backend did.", effects, "effect"),
    ]
