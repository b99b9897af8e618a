"""Turns: one prompt to one specialist, from the caller's words to the stored answer.

One prompt is one upstream call: a turn that fails stays failed. A request id names a turn for all clients and for
good, so that a call sent again joins the turn there is. Frames pass on to the event stream as the worker wrote them.

Knows sessions, links and events; not transports, teams or pipelines.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping

import msgspec

from backend.events import EventStream
from backend.memory import MemoryStore
from backend.orchestration.budgets import Budgets
from backend.orchestration.contexts import ContextBuilder
from backend.orchestration.ledger import Ledger
from backend.orchestration.orders import ChatOrder
from backend.orchestration.turn import Turn, new_request_id, outcome_of
from backend.orchestration.turn_endings import TurnEndings
from backend.orchestration.turn_frames import FrameRelay
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.events import TurnStarted
from backend.schema.frames import StreamEnd, StreamError
from backend.schema.records import ActiveTurn, TurnOutcome
from backend.specialists.link import Frames
from backend.specialists.supervisor import Supervisor
from backend.wire import encoder

log = logging.getLogger(__name__)

REMEMBERED_TURNS = 2_000
"""How many ended turns are kept, so that a call sent again finds its answer."""
CANCEL_TIMEOUT_S = 2.0


class CancelUnconfirmed(TektonError):
    """The worker did not confirm a cancel in time: it may still be generating."""

    code = "timeout"


class UnknownTurn(TektonError):
    """No turn has this request id, or it ended so long ago that it is forgotten."""

    code = "not_found"


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
        self._relay = FrameRelay(fleet=fleet, events=events, ledger=ledger)
        self._endings = TurnEndings(
            fleet=fleet, memory=memory, events=events, ledger=ledger, contexts=contexts, budgets=budgets
        )
        self.on_ended = self._endings.on_ended
        """Called with every turn that ended, after its answer was stored."""
        self._ended: OrderedDict[str, Turn] = OrderedDict()
        self._starting: dict[str, asyncio.Task[Turn]] = {}
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
        beginning = asyncio.create_task(self._begin(order, on_text), name=f"begin {order.request_id}")
        self._starting[order.request_id] = beginning
        beginning.add_done_callback(lambda task: self._begun(order.request_id, task))
        try:
            return await asyncio.shield(beginning)
        except (
            asyncio.CancelledError
        ):  # begun half, a turn would look lost for ever: it is begun whole, then ended
            self.cancel_soon(order.request_id)
            raise

    def _begun(self, request_id: str, beginning: asyncio.Task[Turn]) -> None:
        del self._starting[request_id]
        if not beginning.cancelled():
            beginning.exception()  # whoever waits sees it; nobody waiting is no fault

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

    async def recover(self, shown: Mapping[str, ActiveTurn] | None = None) -> None:
        """Turn what a backend that is gone left open into visible errors; `shown` as in `TurnEndings.recover`."""
        await self._endings.recover(lambda name: name in self._starting or self.find(name) is not None, shown)

    async def close(self) -> None:
        """End every turn under way as a visible error and wait until all is stored."""
        for turn in list(self.active.values()):
            self.fail(turn, "backend_lost", "the backend was stopped while this answer was on its way")
        while self._finishing:
            await asyncio.gather(*self._finishing, return_exceptions=True)
        await self._endings.settled()

    def fail(self, turn: Turn, code: ErrorCode, text: str) -> None:
        """End a turn from our side, as the worker would have."""
        frame = StreamError(turn.request_id, turn.ai_id, code, text, text)
        self._on_frames(turn, Frames([frame], encoder.encode(frame)))

    async def refuse(self, outcome: TurnOutcome, *, group: str = "", key: str = "") -> None:
        """Make a turn that could not be started visible: an ended stream, and a line in its session."""
        await self._endings.refuse(outcome, group=group, key=key)

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

    def _on_frames(self, turn: Turn, frames: Frames) -> None:
        """Take one read batch of a turn, and end the turn on its last frame."""
        if turn.done.done() or turn.request_id not in self.active:
            return
        if (ending := self._relay.take(turn, frames)) is not None:
            del self.active[turn.request_id]
            self._remember(
                turn
            )  # before its answer is stored: whoever asks the same again meanwhile must find it
            self._keep(asyncio.create_task(self._finish(turn, *ending)))

    async def _finish(self, turn: Turn, frame: StreamEnd | StreamError, line: bytes) -> None:
        outcome = outcome_of(turn, frame)
        try:
            await self._endings.keep(turn, outcome, line)
        finally:
            self._endings.account(turn, outcome)
            if not turn.done.done():
                turn.done.set_result(outcome)

    def _remember(self, turn: Turn) -> None:
        self._ended[turn.request_id] = turn
        while len(self._ended) > REMEMBERED_TURNS:
            self._ended.popitem(last=False)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)


__all__ = ["CancelUnconfirmed", "Turn", "TurnManager", "UnknownTurn", "new_request_id"]
