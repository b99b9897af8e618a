"""Feeds events into the stores: one `match`, the only place that knows both."""

from __future__ import annotations

import time
from collections.abc import Sequence

from backend.schema.events import (
    AskClosed,
    AskOpened,
    AttentionChanged,
    ErrorEntry,
    ErrorsAcknowledged,
    Event,
    GatewayCall,
    LogLines,
    Metrics,
    PipelineEnd,
    PipelineStart,
    ProviderChanged,
    ServiceEvent,
    Snapshot,
    SpecialistEvent,
    SpecialistGone,
    StageEvent,
    StageText,
    TeamEnd,
    TeamQueued,
    TeamStart,
    TurnChanged,
    TurnStarted,
)
from backend.schema.frames import (
    StreamChunk,
    StreamEnd,
    StreamError,
    StreamPhase,
    StreamReasoning,
    StreamToolCall,
    StreamToolResult,
    StreamToolUse,
)
from backend.schema.records import SpecialistStatus
from backend.schema.states import BROKEN, LIVE
from tekton_tui.stores import Line, Stores


def dispatch(stores: Stores, events: Sequence[Event]) -> None:
    """Feed a batch of events into the stores, in order.

    Consecutive text events of a turn are joined, and the fleet's signals are emitted once, at the end of the batch.
    """
    with stores.fleet.batch():
        _feed(stores, events)


def _feed(stores: Stores, events: Sequence[Event]) -> None:
    texts: dict[str, list[str]] = {}
    for event in events:
        if isinstance(event, StreamChunk):
            # Joined over texts of other turns: order matters only within a turn.
            texts.setdefault(event.request_id, []).append(event.content)
            continue
        if texts:
            _add_texts(stores, texts)
            texts = {}
        _feed_one(stores, event)
    _add_texts(stores, texts)


def _add_texts(stores: Stores, texts: dict[str, list[str]]) -> None:
    for request_id, pieces in texts.items():
        stores.turns.add_text(request_id, "".join(pieces), len(pieces))
        stores.turn_log.enter(request_id, "streaming")


def _feed_one(stores: Stores, event: Event) -> None:
    match event:
        case StreamReasoning():
            stores.turns.add_reasoning(event.request_id, event.content)
        case StreamPhase():
            stores.turns.set_phase(event)
            stores.turn_log.enter(event.request_id, event.phase)
        case StreamToolCall():
            stores.turns.call_tool(event)
        case StreamToolUse():
            stores.turns.use_tool(event)
        case StreamToolResult():
            stores.turns.tool_result(event)
        case TurnStarted():
            stores.turns.start(event)
            stores.turn_log.start(event)
            _note(
                stores,
                event.timestamp,
                "turn",
                event.ai_id,
                f"asked: {event.prompt}" if event.prompt else "asked",
            )
        case StreamEnd() | StreamError():
            _ended(stores, event)
        case SpecialistEvent():
            _lifecycle(stores, event.status)
        case SpecialistGone():
            stores.fleet.drop(event.id)
        case ServiceEvent():
            stores.fleet.put_service(event.status)
            text = " · ".join(
                part for part in (event.status.state, event.status.detail, event.status.cause) if part
            )
            _note(stores, event.timestamp, "lifecycle", event.status.name, text)
        case ProviderChanged():
            stores.fleet.put_provider(event.provider, event.offer)
            _note(stores, event.timestamp, "lifecycle", "model", _provider_words(event))
        case Metrics():
            stores.fleet.measure(event)
        case TeamStart():
            stores.turns.start_team(event)
            _note(stores, event.timestamp, "turn", "team", f"asked {len(event.lanes)}: {event.prompt}")
        case TeamQueued():
            stores.turns.queue_team(event)
        case TurnChanged():
            stores.turns.change_prompt(event)
        case TeamEnd():
            stores.turns.end_team(event)
        case ErrorEntry():
            stores.errors.put(event)
            record = event.record
            _note(
                stores,
                record.last,
                "error",
                record.where,
                f"{record.code.replace('_', ' ')}: {record.message}",
                bad=True,
            )
        case ErrorsAcknowledged():
            stores.errors.acknowledge(event)
        case AskOpened():
            stores.asks.put(event.ask)
            stores.turns.ask_opened(event.ask)
            _note(stores, event.ask.since, "turn", event.ask.ai_id, f"asks to call {event.ask.tool}")
        case AskClosed():
            stores.asks.close(event)
            stores.turns.ask_closed(event)
        case AttentionChanged():
            stores.attention.apply(event)
        case PipelineStart():
            stores.pipes.start(event)
            _note(stores, event.timestamp, "turn", "pipe", event.pipeline)
        case StageEvent():
            stores.pipes.stage(event)
        case StageText():
            stores.pipes.text(event)
        case PipelineEnd():
            stores.pipes.end(event)
        case LogLines():
            stores.timeline.count_dropped(event.dropped)
            stores.timeline.add(*(Line(event.timestamp, "log", event.source, line) for line in event.lines))
        case GatewayCall():
            text = f"{event.action} {event.status} {event.refusal}".strip()
            _note(stores, event.timestamp, "call", event.client, text, bad=bool(event.refusal))
        case Snapshot():
            stores.fleet.load(event)
            stores.turns.load(event)
            stores.turn_log.attach(event.turns)
            stores.pipes.load(event.pipelines)
            stores.errors.count(event.unacknowledged)
            stores.asks.load(event.asks)
            # After the turns, whose calls these mark as waiting.
            for ask in event.asks:
                stores.turns.ask_opened(ask)
            stores.attention.load(event.attention)
        case _:
            pass


def _provider_words(event: ProviderChanged) -> str:
    if event.offer is not None:
        return f"offered: {event.offer.provider} {event.offer.display}: {event.offer.why}"
    return (
        f"{event.provider.provider} {event.provider.display} from the next launch on: {event.provider.reason}"
    )


def _lifecycle(stores: Stores, status: SpecialistStatus) -> None:
    before = stores.fleet.rows.get(status.id)
    stores.fleet.put(status)
    if before is None or before.state == status.state or (before.state in LIVE and status.state in LIVE):
        return
    text = f"{before.state} → {status.state}" + (f" · {status.cause}" if status.cause else "")
    bad = status.state in BROKEN
    _note(stores, time.time(), "lifecycle", status.id, text, bad=bad)


def _ended(stores: Stores, event: StreamEnd | StreamError) -> None:
    turn = stores.turns.turns.get(event.request_id)
    stores.turns.finish(event)
    stores.turn_log.end(event)
    if turn is not None:
        if turn.code == "cancelled":
            text = f"stopped after {turn.tokens or turn.pieces} tok"
        elif turn.code:
            text = f"{turn.code.replace('_', ' ')}: {turn.error}"
        else:
            text = f"answered {turn.tokens} tok in {turn.total_time:.1f} s"
        _note(stores, time.time(), "turn", turn.ai_id, text, bad=bool(turn.code) and turn.code != "cancelled")


def _note(stores: Stores, timestamp: float, kind: str, source: str, text: str, *, bad: bool = False) -> None:
    stores.timeline.add(Line(timestamp, kind, source.removesuffix("-ai"), text, bad))
