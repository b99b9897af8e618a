"""A turn as it stands: one prompt to one specialist, what came of it so far, and how it ended.

Values; asks nobody and tells nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_hex

from backend import jsonlog
from backend.orchestration.orders import ChatOrder
from backend.schema.frames import Phase, StreamEnd, StreamError, StreamMetadata, Usage
from backend.schema.records import ActiveTurn, TurnOutcome


@dataclass
class Turn:
    """A turn under way or just ended. `done` resolves to the outcome and never raises."""

    order: ChatOrder
    session_id: str
    done: asyncio.Future[TurnOutcome]
    started_at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.monotonic)
    phase: Phase = "queued"
    phase_since: float = field(default_factory=time.time)
    parts: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    first_token_ms: float | None = None
    on_text: Callable[[str], None] | None = None
    cancel_asked: bool = False
    served: StreamMetadata | None = None
    """How the worker says it went, once it ended there."""
    origin: str = field(default_factory=jsonlog.request_id.get)
    """The client's call that this turn came of, by its request id; logs and traces name it."""

    @property
    def request_id(self) -> str:
        return self.order.request_id

    @property
    def ai_id(self) -> str:
        return self.order.ai_id

    @property
    def key(self) -> str:
        """The conversation this turn's events belong to: the call that started it."""
        return self.order.key or self.order.group or self.order.request_id

    def as_active(self) -> ActiveTurn:
        """Return the turn as a snapshot shows it."""
        return ActiveTurn(
            request_id=self.request_id,
            ai_id=self.ai_id,
            session_id=self.session_id,
            prompt=self.order.content,
            started_at=self.started_at,
            phase=self.phase,
            phase_since=self.phase_since,
            content="".join(self.parts),
            reasoning="".join(self.reasoning),
            chunks=len(self.parts),
            group=self.order.group,
            first_token_ms=self.first_token_ms,
        )


def new_request_id() -> str:
    return f"r-{token_hex(8)}"


def outcome_of(turn: Turn, frame: StreamEnd | StreamError) -> TurnOutcome:
    """Say how a turn ended, from its last frame and what came before."""
    outcome = TurnOutcome(
        request_id=turn.request_id,
        ai_id=turn.ai_id,
        content="".join(turn.parts),
        session_id=turn.session_id,
        first_token_ms=turn.first_token_ms,
        total_time=time.monotonic() - turn.started,
        chunks=len(turn.parts),
    )
    match frame:
        case StreamEnd(metadata=facts):
            turn.served = facts
            outcome.model, outcome.usage, outcome.notes = facts.model, facts.usage, facts.notes
            outcome.finish_reason = facts.finish_reason
            if facts.finish_reason == "cancelled":
                outcome.code, outcome.error = "cancelled", f"cancelled after {len(turn.parts)} pieces"
        case StreamError():
            outcome.code, outcome.error = frame.code, frame.message
            outcome.evidence, outcome.detail = frame.evidence, frame.detail
            if turn.parts:
                outcome.usage = Usage(output_tokens=len(turn.parts), estimated=True)
    return outcome
