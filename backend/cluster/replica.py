"""What is under way at any gateway of a fleet, folded from the shared log: turns, team turns, pipelines, questions.

Exact as of the newest event applied, so snapshots are built from it. Makes no calls and publishes nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec

from backend.schema import events
from backend.schema.frames import Phase, StreamChunk, StreamEnd, StreamError, StreamPhase, StreamReasoning
from backend.schema.records import ActiveTurn
from backend.schema.tools import Ask

REMEMBERED_OWNERS = 5_000


@dataclass
class ReplicaTurn:
    """A turn as its events describe it. `origin` is `NAME INCARNATION` of the gateway that runs it."""

    origin: str
    turn: ActiveTurn
    parts: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])

    def as_active(self) -> ActiveTurn:
        return msgspec.structs.replace(
            self.turn,
            content="".join(self.parts),
            reasoning="".join(self.reasoning),
            chunks=len(self.parts),
        )


@dataclass
class ReplicaTeam:
    """A team turn under way, with the ends of its lanes so far."""

    origin: str
    start: events.TeamStart
    answered: int = 0
    failed: int = 0
    cancelled: int = 0


class Replica:
    """`turns`, `teams` and `pipes` under way by request id; `asks` that wait for a person by their own."""

    def __init__(self) -> None:
        self.turns: dict[str, ReplicaTurn] = {}
        self.teams: dict[str, ReplicaTeam] = {}
        self.pipes: dict[str, tuple[str, events.PipelineStart]] = {}
        self.asks: dict[str, tuple[str, Ask]] = {}
        self._owners: OrderedDict[str, str] = OrderedDict()

    def owner(self, request_id: str) -> str:
        """Return `NAME INCARNATION` of the gateway a request id was begun at, empty when that is not known.

        The id of an ask names the gateway that asks.
        """
        return self._owners.get(request_id, "")

    def take(self, origin: str, event: events.Event) -> None:
        """Fold one event in."""
        match event:
            case StreamChunk() | StreamReasoning() | StreamPhase():
                if (run := self.turns.get(event.request_id)) is not None:
                    _progress(run, event)
            case events.TurnStarted():
                self._own(event.request_id, origin)
                self.turns[event.request_id] = ReplicaTurn(origin, _active(event))
            case StreamEnd() | StreamError():
                self._end(event)
            case events.TeamStart():
                self._own(event.request_id, origin)
                self.teams[event.request_id] = ReplicaTeam(origin, event)
            case events.TurnChanged():
                self._change(event)
            case events.TeamEnd():
                self.teams.pop(event.request_id, None)
            case events.PipelineStart():
                self._own(event.request_id, origin)
                self.pipes[event.request_id] = (origin, event)
            case events.PipelineEnd():
                self.pipes.pop(event.request_id, None)
            case events.AskOpened(ask):
                self._own(ask.id, origin)
                self.asks[ask.id] = (origin, ask)
            case events.AskClosed():
                self.asks.pop(event.id, None)
            case _:
                pass

    def _change(self, event: events.TurnChanged) -> None:
        if (run := self.turns.get(event.request_id)) is not None:
            run.turn.prompt = event.prompt
        elif (team := self.teams.get(event.request_id)) is not None:
            team.start = msgspec.structs.replace(team.start, prompt=event.prompt)

    def _end(self, event: StreamEnd | StreamError) -> None:
        run = self.turns.pop(event.request_id, None)
        team = self.teams.get(run.turn.group) if run is not None else None
        if team is None:
            return
        if isinstance(event, StreamError):
            team.failed += 1
        elif event.metadata.finish_reason == "cancelled":
            team.cancelled += 1
        else:
            team.answered += 1

    def _own(self, request_id: str, origin: str) -> None:
        self._owners[request_id] = origin
        while len(self._owners) > REMEMBERED_OWNERS:
            self._owners.popitem(last=False)


def _progress(run: ReplicaTurn, event: StreamChunk | StreamReasoning | StreamPhase) -> None:
    turn, now = run.turn, time.time()
    if isinstance(event, StreamReasoning):
        run.reasoning.append(event.content)
        return
    phase: Phase = "streaming"
    if isinstance(event, StreamPhase):
        phase = event.phase
    else:
        run.parts.append(event.content)
        if turn.first_token_ms is None:
            turn.first_token_ms = max(0.0, (now - turn.started_at) * 1000)
    if turn.phase != phase:
        turn.phase, turn.phase_since = phase, now


def _active(event: events.TurnStarted) -> ActiveTurn:
    return ActiveTurn(
        event.request_id,
        event.ai_id,
        event.session_id,
        event.prompt,
        event.timestamp,
        phase_since=event.timestamp,
        group=event.group,
    )
