"""Feeds events into the stores: one `match`, the only place that knows both."""

from __future__ import annotations

from collections.abc import Sequence

from backend.schema import events, frames
from backend.schema.records import SpecialistStatus
from backend.schema.states import BROKEN, LIVE
from tekton_tui.clock import gateway_time
from tekton_tui.stores import Line, Stores


def dispatch(stores: Stores, batch: Sequence[events.Event]) -> None:
    """Feed a batch of events into the stores, in order.

    Consecutive text events of a turn are joined, and the fleet's signals are emitted once, at the end of the batch.
    """
    with stores.fleet.batch():
        _feed(stores, batch)


def _feed(stores: Stores, batch: Sequence[events.Event]) -> None:
    texts: dict[str, tuple[list[str], int]] = {}
    for event in batch:
        if isinstance(event, frames.StreamChunk):
            # Joined over texts of other turns: order matters only within a turn.
            joined, pieces = texts.get(event.request_id, ([], 0))
            joined.append(event.content)
            texts[event.request_id] = (joined, pieces + event.pieces)
            continue
        if texts:
            _add_texts(stores, texts)
            texts = {}
        _feed_one(stores, event)
    _add_texts(stores, texts)


def _add_texts(stores: Stores, texts: dict[str, tuple[list[str], int]]) -> None:
    for request_id, (joined, pieces) in texts.items():
        stores.turns.add_text(request_id, "".join(joined), pieces)
        # its first text says that a turn streams, whether or not a phase event did
        stores.turn_log.enter(request_id, "streaming")


def _feed_one(stores: Stores, event: events.Event) -> None:
    match event:
        case frames.StreamReasoning():
            stores.turns.add_reasoning(event.request_id, event.content)
        case frames.StreamPhase():
            stores.turns.set_phase(event)
            stores.turn_log.enter(event.request_id, event.phase)
        case frames.StreamToolCall():
            stores.turns.call_tool(event)
        case frames.StreamToolUse():
            stores.turns.use_tool(event)
        case frames.StreamToolResult():
            stores.turns.tool_result(event)
        case events.TurnStarted():
            stores.turns.start(event)
            stores.turn_log.start(event)
            text = f"asked: {event.prompt}" if event.prompt else "asked"
            _note(stores, event.timestamp, "turn", event.ai_id, text)
        case frames.StreamEnd() | frames.StreamError():
            _ended(stores, event)
        case events.MessageStored(corrects=True):
            stores.turns.correct(event.message)
        case events.SpecialistEvent():
            _lifecycle(stores, event.status)
        case events.SpecialistGone():
            stores.fleet.drop(event.id)
        case events.ServiceEvent():
            stores.fleet.put_service(event.status)
            status = event.status
            text = " · ".join(filter(None, (status.state, status.detail, status.cause)))
            _note(stores, event.timestamp, "lifecycle", event.status.name, text)
        case events.ProviderChanged():
            stores.fleet.put_provider(event.provider, event.offer)
            _note(stores, event.timestamp, "lifecycle", "model", _provider_words(event))
        case events.Metrics():
            stores.fleet.measure(event)
        case events.TeamStart():
            stores.turns.start_team(event)
            _note(stores, event.timestamp, "turn", "team", f"asked {len(event.lanes)}: {event.prompt}")
        case events.TeamQueued():
            stores.turns.queue_team(event)
        case events.TurnChanged():
            stores.turns.change_prompt(event)
        case events.TeamEnd():
            stores.turns.end_team(event)
        case events.ErrorEntry():
            stores.errors.put(event)
            record = event.record
            text = f"{record.code.replace('_', ' ')}: {record.message}"
            _note(stores, record.last, "error", record.where, text, bad=True)
        case events.ErrorsAcknowledged():
            stores.errors.acknowledge(event)
        case events.AskOpened():
            stores.asks.put(event.ask)
            stores.turns.ask_opened(event.ask)
            _note(stores, event.ask.since, "turn", event.ask.ai_id, f"asks to call {event.ask.tool}")
        case events.AskClosed():
            stores.asks.close(event)
            stores.turns.ask_closed(event)
        case events.AttentionChanged():
            stores.attention.apply(event)
        case events.PipelineStart():
            stores.pipes.start(event)
            _note(stores, event.timestamp, "turn", "pipe", event.pipeline)
        case events.StageEvent():
            stores.pipes.stage(event)
        case events.StageText():
            stores.pipes.text(event)
        case events.PipelineEnd():
            stores.pipes.end(event)
        case events.SessionChanged():
            stores.session_changed.emit(event.session)
        case events.SessionRemoved():
            stores.session_removed.emit(event.session_id)
        case events.LogLines():
            stores.timeline.count_dropped(event.dropped)
            stores.timeline.add(*(Line(event.timestamp, "log", event.source, line) for line in event.lines))
        case events.GatewayCall():
            text = f"{event.action} {event.status} {event.refusal}".strip()
            _note(stores, event.timestamp, "call", event.client, text, bad=bool(event.refusal))
        case events.TurnText():
            stores.turns.restore(event)
        case events.Snapshot():
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


def _provider_words(event: events.ProviderChanged) -> str:
    if event.offer is not None:
        return f"offered: {event.offer.provider} {event.offer.display}: {event.offer.why}"
    return (
        f"{event.provider.provider} {event.provider.display} from the next launch on: {event.provider.reason}"
    )


def _lifecycle(stores: Stores, status: SpecialistStatus) -> None:
    before = stores.fleet.rows.get(status.id)
    stores.fleet.put(status)
    # ready and busy change with every turn, and turns have lines of their own
    if before is None or before.state == status.state or (before.state in LIVE and status.state in LIVE):
        return
    text = f"{before.state} → {status.state}" + (f" · {status.cause}" if status.cause else "")
    _note(stores, gateway_time(), "lifecycle", status.id, text, bad=status.state in BROKEN)


def _ended(stores: Stores, event: frames.StreamEnd | frames.StreamError) -> None:
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
        _note(
            stores, gateway_time(), "turn", turn.ai_id, text, bad=bool(turn.code) and turn.code != "cancelled"
        )


def _note(stores: Stores, timestamp: float, kind: str, source: str, text: str, *, bad: bool = False) -> None:
    stores.timeline.add(Line(timestamp, kind, source.removesuffix("-ai"), text, bad))
