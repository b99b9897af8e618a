"""What the turns of a specialist make of its row: phase, queue, rates, counts, the newest failure.

Knows no link; whoever runs the turns says what happens to them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from backend.schema.errors import ErrorCode
from backend.schema.frames import Phase
from backend.schema.records import SpecialistState, SpecialistStatus, TurnOutcome
from backend.specialists.board import Board
from backend.specialists.state import ANSWERING, loudest

RATE_EVERY_S = 1.0
"""How often a row's live token rate is told at most."""
NO_FAILURE: frozenset[ErrorCode] = frozenset({"cancelled", "budget_exceeded", "invalid_request"})
"""Ends of a turn that are nobody's fault here."""


@dataclass
class _Open:
    phase: Phase = "queued"
    detail: str = ""
    pieces: int = 0
    first_at: float = 0.0


@dataclass
class _Book:
    turns: dict[str, _Open] = field(default_factory=dict[str, _Open])
    answered: int = 0
    total_s: float = 0.0
    told_at: float = 0.0
    idle: str = ""
    cut: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    """Turns that ended with their connection; set once a death's record names the turn."""


class TurnBook:
    """Keeps the turns under way of every specialist and their sums over this backend's life."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._books: dict[str, _Book] = {}

    def began(self, ai_id: str, request_id: str) -> None:
        self._book(ai_id).turns[request_id] = _Open()
        self._show(ai_id, last_activity=time.time())

    def phase(
        self, ai_id: str, request_id: str, phase: Phase, *, detail: str = "", position: int = 0
    ) -> None:
        turn = self._book(ai_id).turns.get(request_id)
        if turn is not None:
            turn.phase = phase
            turn.detail = detail or (f"{position} in line" if position else "")
            self._show(ai_id)

    def progressed(self, ai_id: str, request_id: str, pieces: int = 1) -> None:
        """Pieces of text came. Tells the row's rate at most once in `RATE_EVERY_S`."""
        book = self._book(ai_id)
        turn = book.turns.get(request_id)
        if turn is None:
            return
        now = time.monotonic()
        turn.pieces += pieces
        turn.first_at = turn.first_at or now
        if now - book.told_at >= RATE_EVERY_S and now - turn.first_at >= RATE_EVERY_S:
            book.told_at = now
            self._board.change(
                ai_id,
                tokens_per_second=round(turn.pieces / (now - turn.first_at), 1),
                last_activity=time.time(),
            )

    def ended(self, ai_id: str, request_id: str, outcome: TurnOutcome) -> None:
        """Account for a turn's end."""
        book = self._book(ai_id)
        book.turns.pop(request_id, None)
        if outcome.code == "worker_lost":
            self._cut(ai_id, request_id)
        row = self._board.rows[ai_id]
        changes: dict[str, object] = {"last_activity": time.time()}
        if outcome.usage is not None:
            changes["tokens_in"] = row.tokens_in + outcome.usage.input_tokens
            changes["tokens_out"] = row.tokens_out + outcome.usage.output_tokens
        if outcome.first_token_ms is not None:
            changes["first_token_ms"] = round(outcome.first_token_ms, 1)
            if (rate := _rate(outcome)) is not None:
                changes["tokens_per_second"] = rate
        if outcome.code is None:
            book.answered += 1
            book.total_s += outcome.total_time
            changes |= {"turns": row.turns + 1, "avg_response_s": round(book.total_s / book.answered, 3)}
        elif outcome.code not in NO_FAILURE:
            changes |= {
                "failures": row.failures + 1,
                "last_error": outcome.error,
                "last_error_code": outcome.code,
            }
        self._show(ai_id, **changes)

    def named_in_death(self, ai_id: str) -> list[str]:
        """Return the turns a death has cut, for its record, and note that they are named there."""
        book = self._book(ai_id)
        names = dict.fromkeys([name for name, told in book.cut.items() if not told.is_set()])
        names |= dict.fromkeys(book.turns)
        for name in names:
            self._cut(ai_id, name).set()
        return list(names)

    async def was_named(self, ai_id: str, request_id: str, within_s: float) -> bool:
        """Wait until a death's record names a turn that was cut; false when none does, as when the worker lives."""
        told = self._cut(ai_id, request_id)
        try:
            await asyncio.wait_for(told.wait(), within_s)
        except TimeoutError:
            return told.is_set()
        finally:
            self._book(ai_id).cut.pop(request_id, None)
        return True

    def _cut(self, ai_id: str, request_id: str) -> asyncio.Event:
        return self._book(ai_id).cut.setdefault(request_id, asyncio.Event())

    def open_turns(self, ai_id: str) -> int:
        return len(self._book(ai_id).turns)

    def idle(self, ai_id: str, words: str, **changes: object) -> None:
        """Set what the row says while no turn runs, such as why its provider is not ready."""
        self._book(ai_id).idle = words
        self._show(ai_id, **changes)

    def refresh(self, ai_id: str) -> None:
        """Show the turns under way again, after the row's state changed for another reason."""
        self._show(ai_id)

    def _show(self, ai_id: str, **changes: object) -> None:
        row, turns = self._board.rows[ai_id], self._book(ai_id).turns
        phase = loudest(turn.phase for turn in turns.values())
        answering = row.state in ANSWERING
        self._board.change(
            ai_id,
            queue=len(turns),
            phase=phase if answering else None,
            state=_state(row, bool(turns)),
            detail=self._detail(ai_id, phase) if answering else row.detail,
            **changes,
        )

    def _detail(self, ai_id: str, phase: Phase | None) -> str:
        """Return the words of the turn whose phase is shown, or what the row says while nothing runs."""
        book = self._book(ai_id)
        if phase is None:
            return book.idle
        return next((turn.detail for turn in book.turns.values() if turn.phase == phase), "")

    def _book(self, ai_id: str) -> _Book:
        if (book := self._books.get(ai_id)) is None:
            book = self._books[ai_id] = _Book()
        return book


def _state(row: SpecialistStatus, has_turns: bool) -> SpecialistState:
    if row.state not in ANSWERING:
        return row.state
    return "busy" if has_turns else "ready"


def _rate(outcome: TurnOutcome) -> float | None:
    """Return tokens per second after the first token, where that can be told."""
    tokens = outcome.usage.output_tokens if outcome.usage else outcome.chunks
    streamed_s = outcome.total_time - (outcome.first_token_ms or 0.0) / 1000
    return round((tokens - 1) / streamed_s, 1) if tokens > 1 and streamed_s > 0.001 else None
