"""The log of turns: when each of the newest ones entered which phase, for a timeline. Kept in memory; the store has the texts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from backend.orchestration.turns.turn import Turn
from backend.schema.history import TurnRecord
from backend.schema.records import TurnOutcome
from backend.schema.results import TurnList

MAX_TURNS = 5_000


class TurnLog:
    """Turns that ended under this backend, the newest `MAX_TURNS`; those under way are passed in."""

    def __init__(self) -> None:
        self._ended: deque[TurnRecord] = deque(maxlen=MAX_TURNS)
        self._since = time.time()

    def ended(self, turn: Turn, outcome: TurnOutcome) -> None:
        """Keep a turn that ended."""
        if len(self._ended) == MAX_TURNS:
            self._since = self._ended[0].ended_at
        self._ended.append(turn.as_record(outcome))

    def forget_session(self, session_id: str) -> None:
        """Keep of the turns of a session that was deleted when they ran, not what was asked."""
        for record in self._ended:
            if record.session_id == session_id:
                record.prompt = ""

    def find(self, active: Iterable[Turn], *, since: float, until: float, limit: int) -> TurnList:
        """Return the turns that ran at some moment of a range, in the order they began."""
        ended = [record for record in self._ended if record.ended_at >= since and record.started_at <= until]
        running = [turn.as_record() for turn in active if turn.phases[0].at <= until and not turn.done.done()]
        found = sorted([*ended, *running], key=lambda record: record.started_at)
        return TurnList(found[-limit:], self._since, more=len(found) > limit)
