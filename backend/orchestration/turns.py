"""Turns: one prompt to one specialist, from the caller's words to the stored answer.

One prompt is one upstream call: a turn that fails stays failed. A request id names a turn for all clients and for
good, so that a call sent again joins the turn there is. Frames pass on to the event stream as the worker wrote them.

Knows sessions, links and events; not transports, teams or pipelines.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_hex

import msgspec

from backend.events import EventStream
from backend.memory import MemoryStore
from backend.orchestration.budgets import Budgets
from backend.orchestration.contexts import ContextBuilder
from backend.orchestration.ledger import Ledger
from backend.orchestration.orders import ChatOrder
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.events import MessageStored, SessionChanged, TurnStarted
from backend.schema.frames import (
    Phase,
    StreamChunk,
    StreamEnd,
    StreamError,
    StreamPhase,
    StreamReasoning,
    StreamReply,
    Usage,
)
from backend.schema.records import ActiveTurn, StoredMessage, TurnOutcome
from backend.specialists.supervisor import Supervisor
from backend.wire import encoder

log = logging.getLogger(__name__)

REMEMBERED_TURNS = 2_000
"""How many ended turns are kept, so that a call sent again finds its answer."""
CANCEL_TIMEOUT_S = 2.0
NOT_OURS: frozenset[ErrorCode] = frozenset({"cancelled", "invalid_request", "budget_exceeded", "not_running"})
"""Endings that are a caller's doing and no failure for the ledger."""


class CancelUnconfirmed(TektonError):
    """The worker did not confirm a cancel in time: it may still be generating."""

    code = "timeout"


class UnknownTurn(TektonError):
    """No turn has this request id, or it ended so long ago that it is forgotten."""

    code = "not_found"


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


class TurnManager:
    """Start, follow and cancel turns. `active` maps request ids to turns under way."""

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
        self.active: dict[str, Turn] = {}
        self.on_ended: list[Callable[[Turn, TurnOutcome], None]] = []
        """Called with every turn that ended, after its answer was stored."""
        self._ended: OrderedDict[str, Turn] = OrderedDict()
        self._starting: dict[str, asyncio.Future[Turn]] = {}
        self._finishing: set[asyncio.Task[None]] = set()

    async def start(self, order: ChatOrder, *, on_text: Callable[[str], None] | None = None) -> Turn:
        """Send one prompt to one specialist and return as soon as it is under way.

        A request id already known returns its turn, whether it runs or ended; nothing is asked twice.

        Raises:
            TektonError: `invalid_request` (empty prompt), `not_running`, `budget_exceeded`, `unknown_session`.
        """
        order.request_id = order.request_id or new_request_id()
        if known := self.find(order.request_id):
            return known
        if coming := self._starting.get(order.request_id):
            return await asyncio.shield(coming)
        coming = self._starting[order.request_id] = asyncio.get_running_loop().create_future()
        try:
            turn = await self._begin(order, on_text)
        except BaseException as error:
            coming.set_exception(error)
            coming.exception()  # whoever also waits sees it; nobody waiting is no fault
            raise
        else:
            coming.set_result(turn)
            return turn
        finally:
            del self._starting[order.request_id]

    async def ask(self, order: ChatOrder, *, on_text: Callable[[str], None] | None = None) -> TurnOutcome:
        """Run one turn to its end. A failure of the model is an outcome with a code, not an exception.

        A caller that is cancelled cancels the turn. Past `order.timeout_s` the turn is cancelled and its outcome
        carries the code `timeout` with the partial text.

        Raises:
            TektonError: The turn could not be started; see `start`.
        """
        turn = await self.start(order, on_text=on_text)
        try:
            return await asyncio.wait_for(asyncio.shield(turn.done), order.timeout_s)
        except TimeoutError:
            await self.cancel(turn.request_id)
            outcome = msgspec.structs.replace(await turn.done)
            outcome.code, outcome.error = "timeout", f"no full answer within {order.timeout_s:g} s"
            return outcome
        except asyncio.CancelledError:
            self.cancel_soon(turn.request_id)
            raise

    def find(self, request_id: str) -> Turn | None:
        """Return the turn of a request id, under way or remembered."""
        return self.active.get(request_id) or self._ended.get(request_id)

    def cancel_soon(self, request_id: str) -> None:
        """Cancel a turn without waiting for the worker's word; a failure to confirm enters the ledger."""

        async def cancel() -> None:
            try:
                await self.cancel(request_id)
            except TektonError as error:
                log.warning("cancel of %s: %s", request_id, error)

        self._keep(asyncio.create_task(cancel()))

    async def cancel(self, request_id: str) -> Turn:
        """End a turn and wait until its worker confirmed; an ended turn is returned as it is.

        A turn that is just being started is ended as soon as it is under way.

        Raises:
            UnknownTurn: Nobody knows the request id.
            CancelUnconfirmed: The worker did not confirm within `CANCEL_TIMEOUT_S`; the ledger says so too.
            TektonError: The turn was just being started and could not be.
        """
        turn = self.find(request_id)
        if turn is None and (coming := self._starting.get(request_id)):
            turn = await asyncio.shield(coming)
        if turn is None:
            raise UnknownTurn(f"there is no turn {request_id!r}")
        if turn.done.done():
            return turn
        turn.cancel_asked = True
        try:
            await self._fleet.link(turn.ai_id).cancel(request_id, timeout_s=CANCEL_TIMEOUT_S)
            await asyncio.wait_for(asyncio.shield(turn.done), CANCEL_TIMEOUT_S)
        except (TimeoutError, TektonError) as error:
            if turn.done.done():
                return turn
            text = f"{turn.ai_id} did not confirm the cancel of {request_id} within {CANCEL_TIMEOUT_S:g} s"
            self._ledger.record(turn.ai_id, "timeout", text, phase=turn.phase, request_id=request_id)
            raise CancelUnconfirmed(text) from error
        return turn

    async def recover(self) -> None:
        """Turn what an earlier life of the backend left open into visible errors.

        A turn whose answer was stored in that life's last moment has only to be closed.
        """
        for row in await self._memory.open_turns():
            stored = await self._memory.request_messages(row.request_id)
            if any(m.role == "assistant" and m.session_id == row.session_id for m in stored):
                await self._memory.turn_closed(row.request_id)
                continue
            text = "the backend ended while this answer was on its way; what had come is lost"
            message = await self._memory.append(
                row.session_id,
                author=row.ai_id,
                role="assistant",
                content="",
                request_id=row.request_id,
                error_code="backend_lost",
                error=text,
            )
            await self._memory.turn_closed(row.request_id)
            self._ledger.record(row.ai_id, "backend_lost", text, request_id=row.request_id)
            self._events.publish("chat", MessageStored(message))

    async def close(self) -> None:
        """End every turn under way as a visible error and wait until all is stored."""
        for turn in list(self.active.values()):
            self.fail(turn, "backend_lost", "the backend was stopped while this answer was on its way")
        while self._finishing:
            await asyncio.gather(*self._finishing, return_exceptions=True)

    def fail(self, turn: Turn, code: ErrorCode, text: str) -> None:
        """End a turn from our side, as the worker would have."""
        frame = StreamError(turn.request_id, turn.ai_id, code, text, text)
        self._on_frames(turn, [(frame, encoder.encode(frame))])

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

    async def _begin(self, order: ChatOrder, on_text: Callable[[str], None] | None) -> Turn:
        if not order.content.strip():
            raise TektonError("the prompt is empty: type something to ask", code="invalid_request")
        link = self._fleet.link(order.ai_id)
        await self._budgets.check(order.ai_id)
        session = (
            await self._memory.get_session(order.session_id)
            if order.session_id
            else await self._memory.default_session(order.ai_id)
        )
        request = await self._contexts.build(order, session, link)
        if request.provider:
            await self._fleet.lend_keys(order.ai_id, request.provider)
        prompt_id = 0
        if order.record_prompt:
            stored = await self._memory.append(
                session.id, author="you", role="user", content=order.content, request_id=order.request_id
            )
            prompt_id = stored.id
        await self._memory.turn_opened(order.request_id, order.ai_id, session.id)
        turn = Turn(order, session.id, asyncio.get_running_loop().create_future(), on_text=on_text)
        self.active[turn.request_id] = turn
        self._events.publish(
            "chat",
            TurnStarted(
                turn.request_id,
                turn.ai_id,
                session.id,
                order.content,
                turn.started_at,
                order.group,
                prompt_id,
            ),
            key=turn.key,
        )
        self._fleet.turn_began(turn.ai_id, turn.request_id)
        link.start_turn(request, lambda frames: self._on_frames(turn, frames))
        return turn

    def _on_frames(self, turn: Turn, frames: list[tuple[StreamReply, bytes]]) -> None:
        """Take one read batch of a turn: account for it, pass it on, end the turn on its last frame."""
        if turn.done.done() or turn.request_id not in self.active:
            return
        passed: list[bytes] = []
        texts: list[str] = []
        for frame, line in frames:
            if type(frame) is StreamChunk:  # nearly all frames are: noted together, once a batch
                texts.append(frame.content)
                passed.append(line)
                continue
            if texts:
                self._on_texts(turn, texts)
                texts = []
            match frame:
                case StreamReasoning():
                    turn.reasoning.append(frame.content)
                case StreamPhase():
                    self._set_phase(turn, frame.phase, frame.detail, frame.position)
                case StreamEnd() | StreamError():
                    self._events.publish_lines("chat", passed, key=turn.key)
                    del self.active[turn.request_id]
                    self._keep(asyncio.create_task(self._finish(turn, frame, line)))
                    return
                case _:
                    pass
            passed.append(line)
        if texts:
            self._on_texts(turn, texts)
        self._events.publish_lines("chat", passed, key=turn.key)

    def _on_texts(self, turn: Turn, texts: list[str]) -> None:
        if turn.first_token_ms is None:
            turn.first_token_ms = (time.monotonic() - turn.started) * 1000
        if turn.phase != "streaming":
            self._set_phase(turn, "streaming", "", 0)
        turn.parts += texts
        self._fleet.turn_progressed(turn.ai_id, turn.request_id, len(texts))
        if turn.on_text is not None:
            for text in texts:
                turn.on_text(text)

    def _set_phase(self, turn: Turn, phase: Phase, detail: str, position: int) -> None:
        turn.phase, turn.phase_since = phase, time.time()
        if phase == "stalled":
            self._ledger.record(
                turn.ai_id,
                "stalled",
                detail or "no token for a while",
                phase=phase,
                request_id=turn.request_id,
            )
        self._fleet.turn_phase(turn.ai_id, turn.request_id, phase, detail=detail, position=position)

    async def _finish(self, turn: Turn, frame: StreamEnd | StreamError, line: bytes) -> None:
        """Store the answer, then tell: an end that a client has seen is an answer that is kept."""
        outcome = _outcome(turn, frame)
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
        finally:
            self._remember(turn)
            self._account(turn, outcome)
            if not turn.done.done():
                turn.done.set_result(outcome)

    async def _store(self, turn: Turn, outcome: TurnOutcome) -> StoredMessage:
        stored = await self._memory.append(
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
        )
        await self._memory.turn_closed(turn.request_id)
        await self._budgets.spent(turn.ai_id, outcome)
        return stored

    def _account(self, turn: Turn, outcome: TurnOutcome) -> None:
        self._fleet.turn_ended(turn.ai_id, turn.request_id, outcome)
        self._contexts.learn(turn.order, outcome)
        for tell in self.on_ended:
            tell(turn, outcome)
        if outcome.code and outcome.code not in NOT_OURS:
            self._ledger.record(
                turn.ai_id,
                outcome.code,
                outcome.error,
                phase=turn.phase,
                evidence=outcome.evidence,
                request_id=turn.request_id,
            )

    def _remember(self, turn: Turn) -> None:
        self._ended[turn.request_id] = turn
        while len(self._ended) > REMEMBERED_TURNS:
            self._ended.popitem(last=False)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)


def _outcome(turn: Turn, frame: StreamEnd | StreamError) -> TurnOutcome:
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
