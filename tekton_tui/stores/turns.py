"""Turns under way and just ended, alone or as lanes of a team: their phase, text and end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from backend.schema.events import Snapshot, TeamEnd, TeamStart, TurnStarted
from backend.schema.frames import Phase, StreamEnd, StreamError, StreamPhase
from backend.schema.records import ActiveTurn
from tekton_tui.stores.signal import Signal

KEPT_TEAMS = 20


@dataclass
class LiveTurn:
    """One turn as the console saw it. `ended` is set once; then `code` says whether it failed."""

    request_id: str
    ai_id: str
    session_id: str
    prompt: str
    group: str
    started_at: float
    phase: Phase = "queued"
    phase_since: float = field(default_factory=time.time)
    detail: str = ""
    position: int = 0
    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    pieces: int = 0
    first_token_ms: float | None = None
    first_at: float = 0.0
    ended: bool = False
    unseen: bool = False
    """Whether it ended while nobody listened: how is in memory alone."""
    code: str = ""
    error: str = ""
    tokens: int = 0
    total_time: float = 0.0
    finish_reason: str = ""
    notes: list[str] = field(default_factory=list[str])

    @property
    def content(self) -> str:
        return "".join(self.text)

    @property
    def lane(self) -> str:
        """Name of its lane in a team turn: the specialist's id, also when asked again, or what a judge makes."""
        name = self.request_id.removeprefix(f"{self.group}/")
        return self.ai_id if name.startswith(f"{self.ai_id}/") else name

    def rate(self) -> float | None:
        """Return tokens per second since the first token."""
        if not self.first_at or self.pieces < 2:
            return None
        if self.ended and self.first_token_ms is not None and self.total_time * 1000 > self.first_token_ms:
            return max(self.tokens, self.pieces) / (self.total_time - self.first_token_ms / 1000)
        return (self.pieces - 1) / max(time.time() - self.first_at, 0.05)

    def recall(self, content: str, code: str, error: str) -> None:
        """Take the end of a turn from memory."""
        self.text, self.code, self.error, self.ended, self.unseen = [content], code, error, True, False


@dataclass
class LiveTeam:
    """A team turn: lanes by specialist id, in the order asked; `arrived` orders those that have text."""

    start: TeamStart
    lanes: dict[str, LiveTurn] = field(default_factory=dict[str, LiveTurn])
    arrived: list[str] = field(default_factory=list[str])
    end: TeamEnd | None = None


class TurnStore:
    """Feed with events; each signal names the turn or team it is about."""

    def __init__(self) -> None:
        self.turns: dict[str, LiveTurn] = {}
        self.teams: dict[str, LiveTeam] = {}
        self.started: Signal[[LiveTurn]] = Signal()
        self.text: Signal[[LiveTurn, str]] = Signal()
        self.reasoning: Signal[[LiveTurn, str]] = Signal()
        self.phase: Signal[[LiveTurn]] = Signal()
        self.ended: Signal[[LiveTurn]] = Signal()
        self.team_started: Signal[[LiveTeam]] = Signal()
        self.team_ended: Signal[[LiveTeam]] = Signal()
        self.reloaded: Signal[[]] = Signal()

    def load(self, snapshot: Snapshot) -> None:
        """Begin from the whole state: what was under way before and is no longer has ended unseen."""
        known, self.turns = self.turns, {}
        for team in snapshot.teams:
            self.teams.setdefault(team.request_id, LiveTeam(team))
        for active in snapshot.turns:
            turn = known.get(active.request_id) or _from(active)
            turn.text = [active.content] if active.content else []
            turn.reasoning = [active.reasoning]
            turn.phase, turn.phase_since, turn.pieces = active.phase, active.phase_since, active.chunks
            turn.first_token_ms = active.first_token_ms
            self._take(turn)
        for request_id, turn in known.items():
            if request_id not in self.turns:
                turn.ended, turn.unseen = True, True
        self.reloaded.emit()

    def start(self, event: TurnStarted) -> None:
        turn = LiveTurn(
            event.request_id, event.ai_id, event.session_id, event.prompt, event.group, event.timestamp
        )
        self._take(turn)
        self.started.emit(turn)

    def add_text(self, request_id: str, content: str, pieces: int = 1) -> None:
        """Add text that came in so many pieces."""
        turn = self.turns.get(request_id)
        if turn is None:
            return
        if not turn.pieces:
            turn.first_at = time.time()
            turn.first_token_ms = (turn.first_at - turn.started_at) * 1000
            self._arrive(turn)
        if turn.phase != "streaming":
            self._set_phase(turn, "streaming", "")
        turn.pieces += pieces
        turn.text.append(content)
        self.text.emit(turn, content)

    def add_reasoning(self, request_id: str, content: str) -> None:
        if turn := self.turns.get(request_id):
            turn.reasoning.append(content)
            self.reasoning.emit(turn, content)

    def set_phase(self, event: StreamPhase) -> None:
        if turn := self.turns.get(event.request_id):
            turn.position = event.position
            self._set_phase(turn, event.phase, event.detail)

    def finish(self, event: StreamEnd | StreamError) -> None:
        turn = self.turns.pop(event.request_id, None)
        if turn is None:
            return
        turn.ended = True
        match event:
            case StreamEnd(metadata=facts):
                turn.tokens = facts.usage.output_tokens
                turn.total_time = facts.total_time or time.time() - turn.started_at
                turn.first_token_ms = (
                    turn.first_token_ms if facts.first_token_ms is None else facts.first_token_ms
                )
                turn.finish_reason, turn.notes = facts.finish_reason, facts.notes
                if facts.finish_reason == "cancelled":
                    turn.code, turn.error = "cancelled", f"cancelled after {turn.pieces} tokens"
            case StreamError():
                turn.total_time = time.time() - turn.started_at
                turn.code, turn.error = event.code, event.message
        self.ended.emit(turn)

    def start_team(self, event: TeamStart) -> None:
        team = LiveTeam(event)
        self.teams[event.request_id] = team
        while len(self.teams) > KEPT_TEAMS:
            del self.teams[next(iter(self.teams))]
        self.team_started.emit(team)

    def end_team(self, event: TeamEnd) -> None:
        if team := self.teams.get(event.request_id):
            team.end = event
            self.team_ended.emit(team)

    def of_specialist(self, ai_id: str) -> list[LiveTurn]:
        return [turn for turn in self.turns.values() if turn.ai_id == ai_id]

    def _take(self, turn: LiveTurn) -> None:
        self.turns[turn.request_id] = turn
        if team := self.teams.get(turn.group):
            team.lanes[turn.lane] = turn
            if turn.pieces:
                self._arrive(turn)

    def _arrive(self, turn: LiveTurn) -> None:
        team = self.teams.get(turn.group)
        if team is not None and turn.lane not in team.arrived:
            team.arrived.append(turn.lane)

    def _set_phase(self, turn: LiveTurn, phase: Phase, detail: str) -> None:
        turn.phase, turn.phase_since, turn.detail = phase, time.time(), detail
        self.phase.emit(turn)


def _from(active: ActiveTurn) -> LiveTurn:
    return LiveTurn(
        active.request_id, active.ai_id, active.session_id, active.prompt, active.group, active.started_at
    )
