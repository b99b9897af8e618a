"""The fields of a specialist's row that come from its turns: phase, queue, rates, counts, the newest failure.

Knows no connection; whoever runs the turns reports what happens to them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from backend.schema.errors import ErrorCode
from backend.schema.frames import Phase
from backend.schema.records import SpecialistStatus, TurnOutcome
from backend.schema.states import LIVE, SpecialistState
from backend.specialists.state import loudest
from backend.specialists.status_table import StatusTable

RATE_EVERY_S = 1.0
"""Shortest time between two updates of a row's token rate while an answer streams."""
NO_FAILURE: frozenset[ErrorCode] = frozenset({"cancelled", "budget_exceeded", "invalid_request"})
"""Codes of turns that ended without an answer and do not count as failures of the specialist."""

FIRST_TOKENS = 500
"""First tokens that are remembered, the newest."""


class FirstToken(NamedTuple):
    """When a first token came (`time.monotonic`), and after how many milliseconds."""

    at: float
    ms: float


@dataclass
class _OpenTurn:
    phase: Phase = "queued"
    detail: str = ""
    pieces: int = 0
    began: float = field(default_factory=time.monotonic)
    first_at: float = 0.0
    held: bool = False
    """Whether it waited for a person: its times then say nothing of its model."""


@dataclass
class _Stats:
    turns: dict[str, _OpenTurn] = field(default_factory=dict[str, _OpenTurn])
    answered: int = 0
    total_s: float = 0.0
    rate_shown_at: float = 0.0
    idle: str = ""
    lost: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    """Turns that ended because the connection broke; each event is set once a death record names the turn."""


class TurnStats:
    """Counts the turns of every specialist, open and since this backend started, and writes them into the table."""

    def __init__(self, table: StatusTable) -> None:
        self._table = table
        self._stats: dict[str, _Stats] = {}
        self.pieces = 0
        """Pieces of text that came since the start."""
        self.first_tokens: deque[FirstToken] = deque(maxlen=FIRST_TOKENS)

    def began(self, ai_id: str, request_id: str) -> None:
        """Note a turn's begin."""
        self._of(ai_id).turns[request_id] = _OpenTurn()
        self._show(ai_id, last_activity=time.time())

    def phase(
        self, ai_id: str, request_id: str, phase: Phase, *, detail: str = "", position: int = 0
    ) -> None:
        """Note a turn's phase. `position` in a queue is shown where no `detail` is given."""
        turn = self._of(ai_id).turns.get(request_id)
        if turn is not None:
            turn.phase = phase
            turn.held = turn.held or phase == "waiting"
            turn.detail = detail or (f"{position} in line" if position else "")
            self._show(ai_id)

    def progressed(self, ai_id: str, request_id: str, pieces: int = 1) -> None:
        """Note that pieces of text came; updates the row's rate at most once in `RATE_EVERY_S` seconds."""
        stats = self._of(ai_id)
        turn = stats.turns.get(request_id)
        if turn is None:
            return
        now = time.monotonic()
        self.pieces += pieces
        turn.pieces += pieces
        if not turn.first_at:
            turn.first_at = now
            if not turn.held:
                self.first_tokens.append(FirstToken(now, (now - turn.began) * 1000))
        if now - stats.rate_shown_at >= RATE_EVERY_S and now - turn.first_at >= RATE_EVERY_S:
            stats.rate_shown_at = now
            self._table.update(
                ai_id,
                tokens_per_second=round(turn.pieces / (now - turn.first_at), 1),
                last_activity=time.time(),
            )

    def ended(self, ai_id: str, request_id: str, outcome: TurnOutcome) -> None:
        """Note a turn's end and add its outcome to the counts."""
        stats = self._of(ai_id)
        turn = stats.turns.pop(request_id, None)
        if outcome.code == "worker_lost":
            self._lost_turn(ai_id, request_id)
        row = self._table.rows[ai_id]
        changes: dict[str, object] = {"last_activity": time.time()}
        if outcome.usage is not None:
            changes["tokens_in"] = row.tokens_in + outcome.usage.input_tokens
            changes["tokens_out"] = row.tokens_out + outcome.usage.output_tokens
        if outcome.first_token_ms is not None:
            changes["first_token_ms"] = round(outcome.first_token_ms, 1)
            held = turn is not None and turn.held
            if (rate := _rate(outcome)) is not None and not held:
                changes["tokens_per_second"] = rate
        if outcome.code is None:
            stats.answered += 1
            stats.total_s += outcome.total_time
            changes |= {"turns": row.turns + 1, "avg_response_s": round(stats.total_s / stats.answered, 3)}
        elif outcome.code not in NO_FAILURE:
            changes |= {
                "failures": row.failures + 1,
                "last_error": outcome.error,
                "last_error_code": outcome.code,
            }
        self._show(ai_id, **changes)

    def lost_turns(self, ai_id: str) -> list[str]:
        """Return the turns that a worker's death ended, for its death record, and note that they are named there."""
        stats = self._of(ai_id)
        names = dict.fromkeys([name for name, recorded in stats.lost.items() if not recorded.is_set()])
        names |= dict.fromkeys(stats.turns)
        for name in names:
            self._lost_turn(ai_id, name).set()
        return list(names)

    async def in_death_record(self, ai_id: str, request_id: str, within_s: float) -> bool:
        """Wait until a death record names a turn; false when none did `within_s` seconds, as when the worker lives."""
        recorded = self._lost_turn(ai_id, request_id)
        try:
            await asyncio.wait_for(recorded.wait(), within_s)
        except TimeoutError:
            return recorded.is_set()
        finally:
            self._of(ai_id).lost.pop(request_id, None)
        return True

    def _lost_turn(self, ai_id: str, request_id: str) -> asyncio.Event:
        return self._of(ai_id).lost.setdefault(request_id, asyncio.Event())

    def idle(self, ai_id: str, detail: str, **changes: object) -> None:
        """Set what the row says while no turn runs, such as why its provider is not ready."""
        self._of(ai_id).idle = detail
        self._show(ai_id, **changes)

    def refresh(self, ai_id: str) -> None:
        """Write the open turns into the row again, after its state changed for another reason."""
        self._show(ai_id)

    def _show(self, ai_id: str, **changes: object) -> None:
        row, turns = self._table.rows[ai_id], self._of(ai_id).turns
        phase = loudest(turn.phase for turn in turns.values())
        answering = row.state in LIVE
        self._table.update(
            ai_id,
            queue=len(turns),
            phase=phase if answering else None,
            state=_state(row, bool(turns)),
            detail=self._detail(ai_id, phase) if answering else row.detail,
            **changes,
        )

    def _detail(self, ai_id: str, phase: Phase | None) -> str:
        """Return the detail of the turn whose phase is shown, or what the row says while no turn runs."""
        stats = self._of(ai_id)
        if phase is None:
            return stats.idle
        return next((turn.detail for turn in stats.turns.values() if turn.phase == phase), "")

    def _of(self, ai_id: str) -> _Stats:
        if (stats := self._stats.get(ai_id)) is None:
            stats = self._stats[ai_id] = _Stats()
        return stats


def _state(row: SpecialistStatus, has_turns: bool) -> SpecialistState:
    if row.state not in LIVE:
        return row.state
    return "busy" if has_turns else "ready"


def _rate(outcome: TurnOutcome) -> float | None:
    """Return tokens per second after the first token; `None` for answers too short to say."""
    tokens = outcome.usage.output_tokens if outcome.usage else outcome.chunks
    streamed_s = outcome.total_time - (outcome.first_token_ms or 0.0) / 1000
    return round((tokens - 1) / streamed_s, 1) if tokens > 1 and streamed_s > 0.001 else None
