"""How turns end: stored first, then told, then accounted for; also those that never began or were left open.

Knows nothing of how a turn is started, followed or cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from backend.events import EventStream
from backend.memory import MemoryStore, UsageRow
from backend.orchestration.budgets import Budgets
from backend.orchestration.contexts import ContextBuilder
from backend.orchestration.ledger import Ledger
from backend.orchestration.turn import Turn
from backend.schema.errors import ErrorCode
from backend.schema.events import MessageStored, SessionChanged, TurnStarted
from backend.schema.frames import StreamEnd, StreamError, StreamMetadata, Usage
from backend.schema.records import ActiveTurn, StoredMessage, TurnOutcome
from backend.specialists.supervisor import Supervisor

log = logging.getLogger(__name__)

NOT_OURS: frozenset[ErrorCode] = frozenset({"cancelled", "invalid_request", "budget_exceeded", "not_running"})
"""Endings that are a caller's doing and no failure for the ledger."""


class TurnEndings:
    """Keeps and tells endings. `on_ended` is called with every turn that ended, after its answer was stored."""

    def __init__(
        self,
        *,
        fleet: Supervisor,
        memory: MemoryStore,
        events: EventStream,
        ledger: Ledger,
        contexts: ContextBuilder,
        budgets: Budgets,
    ) -> None:
        self._fleet, self._memory, self._events = fleet, memory, events
        self._ledger, self._contexts, self._budgets = ledger, contexts, budgets
        self._recording: set[asyncio.Task[None]] = set()
        self.on_ended: list[Callable[[Turn, TurnOutcome], None]] = []

    async def keep(self, turn: Turn, outcome: TurnOutcome, line: bytes) -> None:
        """Store the answer, then tell: an end that a client has seen is an answer that is kept."""
        try:
            stored = await self._store(turn, outcome)
            outcome.message_id = stored.id
            self._events.publish_lines("chat", [line], key=turn.key)
            self._events.publish("chat", MessageStored(stored), key=turn.key)
            self._events.publish("chat", SessionChanged(await self._memory.get_session(turn.session_id)))
        except Exception as error:
            log.exception("cannot store the answer of %s", turn.request_id)
            self._ledger.record(turn.ai_id, "internal", f"the answer could not be stored: {error}")
            self._events.publish_lines("chat", [line], key=turn.key)

    def account(self, turn: Turn, outcome: TurnOutcome) -> None:
        """Tell the fleet, the estimates, the listeners and, when it failed, the ledger."""
        self._fleet.turn_ended(turn.ai_id, turn.request_id, outcome)
        self._contexts.learn(turn.order, outcome)
        for tell in self.on_ended:
            tell(turn, outcome)
        if outcome.code == "worker_lost":
            task = asyncio.create_task(self._record_unless_died(turn, outcome))
            self._recording.add(task)
            task.add_done_callback(self._recording.discard)
        elif outcome.code and outcome.code not in NOT_OURS:
            self._record(turn, outcome)

    async def settled(self) -> None:
        """Wait until every ending so far is in the ledger."""
        while self._recording:
            await asyncio.wait(self._recording)

    async def _record_unless_died(self, turn: Turn, outcome: TurnOutcome) -> None:
        """Record a cut turn, unless its worker's death is recorded and names it: one failure is one record."""
        if not await self._fleet.died_with(turn.ai_id, turn.request_id):
            self._record(turn, outcome)

    def _record(self, turn: Turn, outcome: TurnOutcome) -> None:
        self._ledger.record(
            turn.ai_id,
            outcome.code or "internal",
            outcome.error,
            phase=turn.phase,
            evidence=outcome.evidence,
            request_id=turn.request_id,
        )

    async def refuse(self, outcome: TurnOutcome, *, group: str = "", key: str = "") -> None:
        """Make a turn that could not be started visible: an ended stream, and a line in its session."""
        frame = StreamError(
            outcome.request_id, outcome.ai_id, outcome.code or "internal", outcome.error, outcome.error
        )
        started = TurnStarted(outcome.request_id, outcome.ai_id, outcome.session_id, "", time.time(), group)
        key = key or group or outcome.request_id
        self._events.publish("chat", started, key=key)
        self._events.publish("chat", frame, key=key)
        stored = await self._memory.append(
            outcome.session_id,
            author=outcome.ai_id,
            role="assistant",
            content="",
            request_id=outcome.request_id,
            lane=group,
            error_code=outcome.code,
            error=outcome.error,
        )
        outcome.message_id = stored.id
        self._events.publish("chat", MessageStored(stored), key=key)

    async def recover(
        self,
        known: Callable[[str], bool] = lambda request_id: False,
        shown: Mapping[str, ActiveTurn] | None = None,
    ) -> None:
        """Turn what was left open by a backend that is gone into visible errors.

        `known` says which turns are this backend's own and run; `shown` are turns of a dead gateway as others saw them:
        their text so far is kept. A turn whose answer was stored in that gateway's last moment has only to be closed.
        """
        shown = shown or {}
        left = {row.request_id: (row.ai_id, row.session_id) for row in await self._memory.open_turns()}
        left |= {turn.request_id: (turn.ai_id, turn.session_id) for turn in shown.values()}
        for request_id, (ai_id, session_id) in left.items():
            if known(request_id):
                continue
            stored = await self._memory.request_messages(request_id)
            answers = [m for m in stored if m.role == "assistant" and m.session_id == session_id]
            if answers:
                await self._memory.turn_closed(request_id)
            message = answers[-1] if answers else await self._tell_lost(request_id, ai_id, session_id, shown)
            if (turn := shown.get(request_id)) is not None:
                key = turn.group or request_id
                self._events.publish("chat", _last_frame(message), key=key)
                self._events.publish("chat", MessageStored(message), key=key)
            elif not answers:
                self._events.publish("chat", MessageStored(message))

    async def _tell_lost(
        self, request_id: str, ai_id: str, session_id: str, shown: Mapping[str, ActiveTurn]
    ) -> StoredMessage:
        turn = shown.get(request_id)
        text = "the backend ended while this answer was on its way; what had come is lost"
        if turn is not None and turn.content:
            text = (
                "the gateway that asked ended while this answer was on its way; what had come by then is kept"
            )
        self._ledger.record(ai_id, "backend_lost", text, request_id=request_id)
        return await self._memory.append(
            session_id,
            author=ai_id,
            role="assistant",
            content=turn.content if turn else "",
            reasoning=turn.reasoning if turn else "",
            lane=turn.group if turn else "",
            request_id=request_id,
            error_code="backend_lost",
            error=text,
            closes_turn=True,
        )

    async def _store(self, turn: Turn, outcome: TurnOutcome) -> StoredMessage:
        """Store the answer, close the turn and book what it used, in one commit; count the use whatever comes of it."""
        used = await self._budgets.priced(turn.ai_id, outcome)
        try:
            return await self._append(turn, outcome, used)
        finally:
            if used is not None:
                self._budgets.count(used)

    async def _append(self, turn: Turn, outcome: TurnOutcome, used: UsageRow | None) -> StoredMessage:
        return await self._memory.append(
            turn.session_id,
            author=turn.ai_id,
            role="assistant",
            content=outcome.content,
            request_id=turn.request_id,
            lane=turn.order.group,
            model=outcome.model,
            usage=outcome.usage,
            finish_reason=outcome.finish_reason,
            error_code=outcome.code,
            error=outcome.error,
            first_token_ms=outcome.first_token_ms,
            total_time=outcome.total_time,
            reasoning="".join(turn.reasoning),
            closes_turn=True,
            booked=used,
        )


def _last_frame(message: StoredMessage) -> StreamEnd | StreamError:
    """Return the frame that ends a stream whose own last frame died with its gateway."""
    if message.error_code:
        return StreamError(
            message.request_id, message.author, message.error_code, message.error, message.error
        )
    usage = message.usage or Usage()
    facts = StreamMetadata(
        total_chunks=0,
        total_tokens=usage.output_tokens,
        total_time=message.total_time or 0.0,
        ai_id=message.author,
        model=message.model,
        finish_reason=message.finish_reason or "stop",
        usage=usage,
        first_token_ms=message.first_token_ms,
    )
    return StreamEnd(message.request_id, facts)
