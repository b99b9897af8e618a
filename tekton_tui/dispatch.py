"""One `match` from events to stores; the only place that knows both."""

from __future__ import annotations

import time
from collections.abc import Sequence

from backend.schema.events import (
    ErrorEntry,
    ErrorsAcknowledged,
    Event,
    GatewayCall,
    LogLines,
    Metrics,
    PipelineEnd,
    PipelineStart,
    ServiceEvent,
    Snapshot,
    SpecialistEvent,
    StageEvent,
    StageText,
    TeamEnd,
    TeamStart,
    TurnStarted,
)
from backend.schema.frames import StreamChunk, StreamEnd, StreamError, StreamPhase, StreamReasoning
from backend.schema.records import SpecialistStatus
from tekton_tui.stores import Line, Stores


def dispatch(stores: Stores, events: Sequence[Event]) -> None:
    """Feed a batch of events into the stores, in order; text of a turn that came together goes in together.

    What a batch changes in the fleet is told once, at its end.
    """
    with stores.fleet.together():
        _feed(stores, events)


def _feed(stores: Stores, events: Sequence[Event]) -> None:
    texts: dict[str, list[str]] = {}
    for event in events:
        if isinstance(event, StreamChunk):
            texts.setdefault(event.request_id, []).append(event.content)
            continue
        if texts:
            _add_texts(stores, texts)
            texts = {}
        _one(stores, event)
    _add_texts(stores, texts)


def _add_texts(stores: Stores, texts: dict[str, list[str]]) -> None:
    for request_id, pieces in texts.items():
        stores.turns.add_text(request_id, "".join(pieces), len(pieces))


def _one(stores: Stores, event: Event) -> None:
    match event:
        case StreamReasoning():
            stores.turns.add_reasoning(event.request_id, event.content)
        case StreamPhase():
            stores.turns.set_phase(event)
        case TurnStarted():
            stores.turns.start(event)
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
        case ServiceEvent():
            stores.fleet.put_service(event.status)
            text = " · ".join(
                part for part in (event.status.state, event.status.detail, event.status.cause) if part
            )
            _note(stores, event.timestamp, "lifecycle", event.status.name, text)
        case Metrics():
            stores.fleet.measure(event)
        case TeamStart():
            stores.turns.start_team(event)
            _note(stores, event.timestamp, "turn", "team", f"asked {len(event.lanes)}: {event.prompt}")
        case TeamEnd():
            stores.turns.end_team(event)
        case ErrorEntry():
            stores.errors.put(event)
            record = event.record
            _note(stores, record.last, "error", record.where, f"{record.code}: {record.message}", bad=True)
        case ErrorsAcknowledged():
            stores.errors.acknowledge(event)
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
            stores.timeline.lost(event.dropped)
            stores.timeline.add(*(Line(event.timestamp, "log", event.source, line) for line in event.lines))
        case GatewayCall():
            text = f"{event.action} {event.status} {event.refusal}".strip()
            _note(stores, event.timestamp, "call", event.client, text, bad=bool(event.refusal))
        case Snapshot():
            stores.fleet.load(event)
            stores.turns.load(event)
            stores.errors.count(event.unacknowledged)
        case _:
            pass


def _lifecycle(stores: Stores, status: SpecialistStatus) -> None:
    before = stores.fleet.rows.get(status.id)
    stores.fleet.put(status)
    quiet = ("ready", "busy")
    if before is None or before.state == status.state or (before.state in quiet and status.state in quiet):
        return
    text = f"{before.state} → {status.state}" + (f" · {status.cause}" if status.cause else "")
    bad = status.state in ("exited", "killed", "lost", "foreign-port")
    _note(stores, time.time(), "lifecycle", status.id, text, bad=bad)


def _ended(stores: Stores, event: StreamEnd | StreamError) -> None:
    turn = stores.turns.turns.get(event.request_id)
    stores.turns.finish(event)
    if turn is not None:
        text = (
            f"{turn.code}: {turn.error}"
            if turn.code
            else f"answered {turn.tokens} tok in {turn.total_time:.1f} s"
        )
        _note(stores, time.time(), "turn", turn.ai_id, text, bad=bool(turn.code) and turn.code != "cancelled")


def _note(stores: Stores, timestamp: float, kind: str, source: str, text: str, *, bad: bool = False) -> None:
    stores.timeline.add(Line(timestamp, kind, source.removesuffix("-ai"), text, bad))
