"""Turns with the times of their phases: those of the backend's log, and those this console saw go on."""

from __future__ import annotations

from collections.abc import Iterable

from backend.schema.events import TurnStarted
from backend.schema.frames import Phase, StreamEnd, StreamError
from backend.schema.history import TurnPhase, TurnRecord
from backend.schema.records import ActiveTurn
from tekton_tui.clock import gateway_time
from tekton_tui.stores.signal import Signal

MAX_TURNS = 5_000


class TurnLog:
    """Turns by request id, in the order in which they began. `recorded_since` is when the backend began to keep them."""

    def __init__(self) -> None:
        self.turns: dict[str, TurnRecord] = {}
        self.recorded_since = 0.0
        self.changed: Signal[[]] = Signal()

    @property
    def running(self) -> bool:
        return any(not turn.ended_at for turn in self.turns.values())

    def load(self, turns: Iterable[TurnRecord], recorded_since: float) -> None:
        """Take in what the backend kept; it knows more of a turn than who saw a part of it."""
        self.recorded_since = recorded_since
        known = self.turns | {
            turn.request_id: turn for turn in turns if turn.ended_at or turn.request_id not in self.turns
        }
        ordered = sorted(known.values(), key=lambda turn: turn.started_at)
        self.turns = {turn.request_id: turn for turn in ordered[-MAX_TURNS:]}
        self.changed.emit()

    def attach(self, active: Iterable[ActiveTurn]) -> None:
        """Take in the turns under way that a snapshot names; those that it does not name have ended unseen."""
        names: set[str] = set()
        for turn in active:
            names.add(turn.request_id)
            phase = TurnPhase(turn.phase, turn.phase_since or turn.started_at)
            self.turns.setdefault(turn.request_id, _record(turn, turn.started_at, phase))
        for record in self.turns.values():
            if not record.ended_at and record.request_id not in names:
                # nobody saw its end: it is drawn as far as it is known
                record.ended_at = record.phases[-1].at if record.phases else record.started_at
        self.changed.emit()

    def start(self, event: TurnStarted) -> None:
        phase = TurnPhase("queued", event.timestamp)
        self.turns[event.request_id] = _record(event, event.timestamp, phase)
        if len(self.turns) > MAX_TURNS:
            del self.turns[next(iter(self.turns))]
        self.changed.emit()

    def enter(self, request_id: str, phase: Phase) -> None:
        """Note that a turn is in a phase now; the same again changes nothing."""
        turn = self.turns.get(request_id)
        if turn is not None and not turn.ended_at and (not turn.phases or turn.phases[-1].phase != phase):
            now = gateway_time()
            turn.phases.append(TurnPhase(phase, now))
            if phase == "streaming" and turn.first_token_ms is None:
                turn.first_token_ms = 1000 * (now - turn.started_at)
            self.changed.emit()

    def end(self, event: StreamEnd | StreamError) -> None:
        """Note how a turn ended, and when."""
        turn = self.turns.get(event.request_id)
        if turn is None:
            return
        turn.ended_at = gateway_time()
        if isinstance(event, StreamError):
            turn.code = event.code
        else:
            facts = event.metadata
            # the backend's measure goes before the moment this event came, which may have waited on a slow line
            turn.ended_at = max(turn.started_at, min(turn.ended_at, turn.started_at + facts.total_time))
            turn.code = "cancelled" if facts.finish_reason == "cancelled" else None
            turn.first_token_ms = facts.first_token_ms
            turn.tokens_in, turn.tokens_out = facts.usage.prompt, facts.usage.output_tokens
        self.changed.emit()


def _record(turn: TurnStarted | ActiveTurn, at: float, phase: TurnPhase) -> TurnRecord:
    return TurnRecord(turn.request_id, turn.ai_id, turn.session_id, turn.prompt, at, 0.0, [phase], turn.group)
