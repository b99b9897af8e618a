"""`/metrics`: what the platform did and how it stands, for Prometheus.

Counters and histograms are fed when a turn or a call ends, never by a token; everything else is read when asked.
Decides nothing and keeps no history: that is Prometheus' part.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import get_args

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

import backend
from backend.gateway.tracing import MODEL_SECONDS, MODEL_TOKENS, named_model
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

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

        self._turns = counter("tekton_turns", "Turns ended, by outcome.", "specialist", "outcome")
        self._errors = counter("tekton_turn_errors", "Turns failed, by code.", "specialist", "code")
        self._tokens = counter("tekton_tokens", "Tokens counted by providers.", "specialist", "direction")
        text = "Seconds from a turn's start to its first text."
        self._first = histogram("tekton_first_token_seconds", text, FIRST_TOKEN_BUCKETS, "specialist")
        text = "Seconds a turn took in all."
        self._durations = histogram("tekton_turn_duration_seconds", text, TURN_BUCKETS, "specialist")
        text = "Calls answered, by transport, action and status."
        self._calls = counter("tekton_gateway_calls", text, "transport", "action", "status")
        text = "Calls refused, by transport and status."
        self._refused = counter("tekton_gateway_refusals", text, "transport", "status")
        text = "Seconds until a call was answered."
        self._call_times = histogram("tekton_gateway_call_seconds", text, CALL_BUCKETS, "transport")

        # names and labels of OpenTelemetry's conventions for generative AI, so that its dashboards fit
        model = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
        name = "gen_ai_client_operation_duration_seconds"
        text = "Seconds a call of a model took, by the names of OpenTelemetry."
        self._model_seconds = histogram(name, text, MODEL_SECONDS, *model, "error_type")
        name = "gen_ai_client_token_usage"
        text = "Tokens of a call of a model, by the names of OpenTelemetry; those of the input include cached ones."
        self._model_tokens = histogram(name, text, MODEL_TOKENS, *model, "gen_ai_token_type")

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
        labels = ("chat", *named_model(outcome.model))
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
    families = [*_specialists(platform), *_processes(figures), *_spending(usage)]
    families += [*_gateway(platform, clients, streams), *_events(platform), *_store(platform)]
    reading = CollectorRegistry()
    reading.register(_Reading(families))
    # writing the page out takes milliseconds with many specialists, in which no token would be relayed
    return await asyncio.to_thread(lambda: generate_latest(meters.registry) + generate_latest(reading))


Rows = Iterable[tuple[tuple[str, ...], float]]
"""Values of the labels, and the figure."""


def _gauge(name: str, text: str, rows: Rows, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(name, text, labels=labels), rows)


def _counter(name: str, text: str, rows: Rows, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(name, text, labels=labels), rows)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, rows: Rows) -> Metric:
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _specialists(platform: Platform) -> list[Metric]:
    rows = platform.fleet.statuses()
    counts = [((state,), sum(row.state == state for row in rows)) for state in STATES]
    states = [((row.id, row.state, row.provider, row.model), 1) for row in rows]
    stalled = [((row.id,), int(row.phase == "stalled")) for row in rows if row.pid]
    queues = [((row.id,), row.queue) for row in rows]
    speeds = [((row.id,), rate) for row in rows if (rate := row.tokens_per_second) is not None]
    names = ("specialist", "state", "provider", "model")
    stopped = "1 while an answer of a specialist has stopped coming."
    return [
        _gauge("tekton_build_info", "Version that serves.", [((backend.__version__,), 1)], "version"),
        _gauge("tekton_specialists", "Specialists in each state.", counts, "state"),
        _gauge("tekton_specialist_state", "1 for the state a specialist is in.", states, *names),
        _gauge("tekton_specialist_stalled", stopped, stalled, "specialist"),
        _gauge("tekton_specialist_queue", "Turns waiting or running.", queues, "specialist"),
        _gauge("tekton_specialist_tokens_per_second", "Speed of the newest turn.", speeds, "specialist"),
        _gauge("tekton_turns_active", "Turns under way.", [((), len(platform.turns.active))]),
    ]


def _processes(figures: Metrics) -> list[Metric]:
    rows, host = figures.processes.items(), figures.host
    cpu = [((name,), process.cpu) for name, process in rows]
    memory = [((name,), process.rss) for name, process in rows]
    descriptors = [((name,), process.fds) for name, process in rows]
    return [
        _gauge("tekton_process_cpu_percent", "CPU of a process, 100 is one core.", cpu, "process"),
        _gauge("tekton_process_resident_bytes", "Memory of a process.", memory, "process"),
        _gauge("tekton_process_open_fds", "Open descriptors of a process.", descriptors, "process"),
        _gauge("tekton_host_cpu_percent", "CPU of the host, of all cores.", [((), host.cpu)]),
        _gauge("tekton_host_memory_available_bytes", "Memory left.", [((), host.memory_available)]),
    ]


def _spending(rows: list[UsageRow]) -> list[Metric]:
    """Export what was used of each provider's models, over all days the store remembers."""
    tokens, cost, calls, unpriced = (defaultdict[tuple[str, ...], float](float) for _ in range(4))
    for row in rows:
        key = (row.ai_id, row.provider, row.model)
        tokens[*key, "in"] += row.tokens_in
        tokens[*key, "out"] += row.tokens_out
        if row.currency:  # currencies are never added up
            cost[*key, row.currency] += row.cost
        calls[key] += row.turns
        unpriced[key] += row.unpriced
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
