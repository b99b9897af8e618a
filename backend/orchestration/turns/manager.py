"""Turns: one question to one specialist, from the caller's words to the stored answer.

One question is one upstream call: a turn that fails stays failed. In a session one question is asked at a time; another
one waits, and can be changed or cancelled while it does. A request id names a question for all clients and for good: the
same question under it gets the same answer, also after a restart, and another question is refused.

Knows sessions, workers and events; not transports, teams or pipelines.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import msgspec

from backend.deadlines import loop_timeout
from backend.memory.shared_log import LateAnswers
from backend.orchestration.recent import Recent, RememberedBytes
from backend.orchestration.request_names import QUESTION, RequestIdTaken, RequestNames, taken
from backend.orchestration.turns.completion import NOT_OURS, TurnCompletion, Unstored
from backend.orchestration.turns.log import TurnLog
from backend.orchestration.turns.parts import TurnParts
from backend.orchestration.turns.recovery import recover_turns
from backend.orchestration.turns.request import ChatRequest
from backend.orchestration.turns.runner import TurnRunner
from backend.orchestration.turns.turn import Reservation, Turn, new_request_id, outcome_of, without_words
from backend.schema.content import Abilities
from backend.schema.errors import TektonError
from backend.schema.events import TurnChanged
from backend.schema.frames import StreamEnd, StreamError, StreamMetadata, StreamPhase, Usage, summed
from backend.schema.records import ActiveTurn, Session, StoredMessage, TurnOutcome
from backend.schema.sent import SentTurn
from backend.tasks import Background

log = logging.getLogger(__name__)

REMEMBERED_TURNS = 2_000
"""How many ended turns are kept in memory at most; the store knows the others."""
CANCEL_TIMEOUT_S = 2.0


class CancelUnconfirmed(TektonError):
    """The worker did not confirm a cancel in time: it may still be generating."""

    code = "timeout"


class UnknownTurn(TektonError):
    """No turn under way has this request id, nor one that ended lately."""

    code = "not_found"


class TurnManager:
    """Start, follow, change and cancel turns. `active` maps request ids to turns that wait or run."""

    def __init__(self, parts: TurnParts, remembered: RememberedBytes, names: RequestNames) -> None:
        self._fleet, self._events, self._error_log = parts.fleet, parts.events, parts.error_log
        self._messages, self._turn_store, self._sessions = parts.messages, parts.turn_store, parts.sessions
        self._contexts, self._names = parts.contexts, names
        names.register(QUESTION, self.is_known)
        self.active: dict[str, Turn] = {}
        self._completion = TurnCompletion(parts, remembered.unstored)
        self._runner = TurnRunner(parts, self._on_end)
        self.on_ended = self._completion.on_ended
        """Called with every turn that ended, once its outcome is set."""
        self.log = TurnLog()
        self.on_ended.append(self.log.ended)
        self._ended: Recent[Turn] = Recent(REMEMBERED_TURNS, remembered.turns)
        self._starting: dict[str, tuple[ChatRequest, asyncio.Task[Turn]]] = {}
        self._reserved: dict[str, Reservation] = {}
        self._tasks = Background()
        self._closing = False

    def reserve(self, request_id: str) -> Reservation:
        """Make a request id known before its turn begins, so that it can be cancelled from now on.

        To be called before the id is given to anybody, and followed by `release` when its turn has ended or will not
        begin. A turn that is cancelled meanwhile is not asked: `start` raises `cancelled`.
        """
        return self._reserved.setdefault(request_id, Reservation(request_id))

    def release(self, request_id: str) -> None:
        """Forget a reservation."""
        self._reserved.pop(request_id, None)

    async def start(self, request: ChatRequest, *, on_text: Callable[[str], None] | None = None) -> Turn:
        """Accept a question and return its turn: under way, or waiting behind another question in its session.

        A request id that is known returns its turn, whether it waits, runs or ended; nothing is asked twice.

        Raises:
            TektonError: `invalid_request` (an empty prompt, somebody else's session), `not_running`,
                `budget_exceeded`, `unknown_session`; `conflict` when the request id names another question.
        """
        request_id = request.request_id or new_request_id()
        if not request.request_id:
            request = msgspec.structs.replace(request, request_id=request_id, is_new=True)
        # No await from here until it stands in `_starting`: two callers with one id must not both begin it.
        if known := self.find(request_id):
            if not known.is_asked_by(request):
                raise taken(request_id)
            return known
        if request_id in self._starting:
            earlier, coming = self._starting[request_id]
            if not earlier.asks_the_same(request):
                raise taken(request_id)
            # Shielded: who asks along and goes away must not end the start for the one who asked first.
            return await asyncio.shield(coming)
        self._names.check(request_id, QUESTION)
        if reservation := self._reserved.get(request_id):
            reservation.check()
        if self._closing:
            raise TektonError("the backend is ending", code="backend_lost")
        starting = asyncio.create_task(self._start(request, on_text), name=f"start {request_id}")
        self._starting[request_id] = request, starting
        # By a callback, not behind an `await`: this caller may be cancelled, and the id must leave `_starting`
        # all the same.
        starting.add_done_callback(lambda task: self._started(request, task))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # begun by half, a turn would look lost for ever: it is begun whole, then ended
            self.cancel_soon(request_id)
            raise

    async def ask(self, request: ChatRequest, *, on_text: Callable[[str], None] | None = None) -> TurnOutcome:
        """Run one turn to its end. A failure of the model is an outcome with a code, not an exception.

        A caller that is cancelled cancels the turn. Past `request.timeout_s` the turn is cancelled and its outcome
        carries the code `timeout` with the partial text. Of several that asked under one id only the last one to leave
        ends the turn: the others go without it.

        Raises:
            TektonError: The turn could not be started; see `start`.
        """
        turn = await self.start(request, on_text=on_text)
        turn.waiting += 1
        try:
            # Others may wait for the same future: the time-out of one must not cancel it for all.
            return await asyncio.wait_for(asyncio.shield(turn.done), request.timeout_s)
        except TimeoutError:
            if turn.waiting > 1:
                outcome = turn.outcome_so_far()
                outcome.code = "timeout"
                outcome.error = (
                    f"no full answer within {request.timeout_s:g} s; somebody else still waits for it"
                )
                return outcome
            await self.cancel(turn.request_id)
            # A copy: others hold the same outcome, and for them the turn was cancelled.
            outcome = msgspec.structs.replace(await turn.done)
            outcome.code, outcome.error = "timeout", f"no full answer within {request.timeout_s:g} s"
            return outcome
        except asyncio.CancelledError:
            if turn.waiting == 1:
                self.cancel_soon(turn.request_id)
            raise
        finally:
            turn.waiting -= 1

    def find(self, request_id: str) -> Turn | None:
        """Return the turn of a request id that waits or runs, or ended lately."""
        return self.active.get(request_id) or self._ended.get(request_id)

    def is_known(self, request_id: str) -> bool:
        """Return whether a turn of this id is being started, waits, runs or ended lately."""
        return request_id in self._starting or self.find(request_id) is not None

    def prompt_used(self, name: str) -> Usage:
        """Return what the prompts of a turn, or of all turns of a group, took so far: counted, or estimated under way."""
        own = self.find(name)
        known = [*self.active.values(), *self._ended.values()]
        turns = [own] if own is not None else [turn for turn in known if turn.request.group == name]
        return summed([self._prompt_of(turn) for turn in turns])

    def _prompt_of(self, turn: Turn) -> Usage:
        usage = turn.done.result().usage if turn.done.done() else None
        if usage is None or not usage.prompt:
            return Usage(self._contexts.estimated_prompt(turn.request_id), estimated=True)
        return msgspec.structs.replace(usage, output_tokens=0, reasoning_tokens=0)

    def sent(self, request_id: str) -> SentTurn | None:
        """Return what a turn under way sent its model; `None` when it has ended, or was not sent yet."""
        return self._contexts.sent(request_id)

    async def count_tokens(self, ai_id: str, texts: list[str]) -> int:
        """Return the tokens of texts as a running specialist's model takes them; see `ContextBuilder.count`."""
        return await self._contexts.count(ai_id, self._fleet.channel(ai_id), texts)

    async def abilities(self, ai_id: str) -> tuple[Abilities, int]:
        """Return what a running specialist's model takes beside text, and its window in tokens."""
        return await self._contexts.abilities(ai_id, self._fleet.channel(ai_id))

    async def is_stored(self, request_id: str) -> bool:
        """Return whether anything was ever stored under a request id: a question, or an answer."""
        return bool(await self._messages.of_request(request_id))

    async def session_of(self, request_id: str) -> str:
        """Return the session in which a question or answer of this id is stored, "" when nothing is."""
        stored = await self._messages.of_request(request_id)
        return stored[0].session_id if stored else ""

    async def recall(self, request_id: str) -> TurnOutcome | None:
        """Return what is stored of the answer to a request id, `None` when nothing is."""
        answer = _answer(await self._messages.of_request(request_id))
        return answer and outcome_of(answer)

    def forget_session(self, session_id: str) -> None:
        """Remember of the turns of a session that was deleted that they were asked, and nothing that was said."""
        for turn in self._ended.values():
            if turn.session_id == session_id:
                # Kept without its words, not dropped: who sends the request again must not have it asked a
                # second time.
                bare = Turn(turn.request, session_id, asyncio.get_running_loop().create_future())
                bare.end(without_words(turn.done.result()))
                self._ended.put(turn.request_id, bare, bare.size)
        self.log.forget_session(session_id)

    def in_group(self, group: str) -> list[Turn]:
        """Return the turns that wait or run for a team turn or a run: members, and who judges or merges."""
        return [turn for turn in self.active.values() if turn.request.group == group]

    def in_session(self, session_id: str) -> list[Turn]:
        """Return the turns that wait or run in a session."""
        return [turn for turn in self.active.values() if turn.session_id == session_id]

    async def edit(self, request_id: str, content: str) -> Turn:
        """Change a question that still waits in its session.

        What is attached to it stays.

        Raises:
            UnknownTurn: Nobody knows the request id.
            TektonError: `conflict` when it does not wait any more, `invalid_request` for an empty question.
        """
        turn = self.active.get(request_id)
        if turn is None:
            raise UnknownTurn(f"no question {request_id!r} waits")
        if not turn.is_waiting:
            raise TektonError("this question is being answered already", code="conflict")
        _check_content(content)
        before = turn.request
        # before anything is waited for: its place may come meanwhile, and what is shown is what is asked
        changed = turn.request = before.saying(content)
        turn.first = turn.first or before
        try:
            await self._turn_store.wait({request_id: turn.ai_id}, turn.session_id, content)
        except TektonError:
            if turn.is_waiting and turn.request is changed:  # nobody else changed it since
                turn.request = before
            raise
        if turn.ending and turn.beginning is None:
            raise TektonError("this question was withdrawn meanwhile", code="conflict")
        self._events.publish("chat", TurnChanged(request_id, content), key=turn.key)
        return turn

    def cancel_soon(self, request_id: str) -> None:
        """Cancel a turn without waiting for the worker's word; a failure to confirm enters the error log."""

        async def cancel() -> None:
            try:
                await self.cancel(request_id)
            except TektonError as error:
                log.warning("cancel of %s: %s", request_id, error)

        self._tasks.start(cancel(), "cancel at the worker")

    async def cancel(self, request_id: str) -> Turn | None:
        """End a turn and wait until its worker confirmed; an ended turn is returned as it is.

        A turn that waits in its session is withdrawn: nothing of it is stored. One that is just being started is ended
        as soon as it is under way. `None`: its id was reserved only, and it will not begin.

        Raises:
            UnknownTurn: Nobody knows the request id.
            CancelUnconfirmed: The worker did not confirm within `CANCEL_TIMEOUT_S`; the error log says so too.
            TektonError: The turn was just being started and could not be.
        """
        if request_id in self._starting:
            await asyncio.shield(self._starting[request_id][1])
        turn = self.find(request_id)
        if turn is None and (reservation := self._reserved.get(request_id)):
            reservation.cancelled.set()
            return None
        if turn is None:
            raise UnknownTurn(f"there is no turn {request_id!r}")
        if turn.is_waiting:
            await self._withdraw(turn)
            return turn
        # It left the queue and is on its way to the worker, which knows no such turn yet.
        if turn.beginning is not None:
            await asyncio.wait([turn.beginning])
        if turn.done.done():
            return turn
        try:
            # The worker confirms by the turn's last frame, so what is waited for in the end is `done`.
            # One that is ending has only to be stored.
            if not turn.ending:
                await self._fleet.channel(turn.ai_id).cancel(request_id, timeout_s=CANCEL_TIMEOUT_S)
            async with loop_timeout(CANCEL_TIMEOUT_S):
                await asyncio.shield(turn.done)
        except (TimeoutError, TektonError) as error:
            if turn.done.done():
                return turn
            text = f"{turn.ai_id} did not confirm the cancel of {request_id} within {CANCEL_TIMEOUT_S:g} s"
            self._error_log.record(turn.ai_id, "timeout", text, phase=turn.phase, request_id=request_id)
            raise CancelUnconfirmed(text) from error
        return turn

    async def recover(self, shown: Mapping[str, ActiveTurn] | None = None) -> None:
        """Turn what a backend that is gone left open into visible errors; see `recover_turns`. Never raises."""
        await recover_turns(
            self._messages,
            self._turn_store,
            self._events,
            self._error_log,
            shown or {},
            # A client may have asked again under a lost turn's id before it was recovered: that one lives.
            is_ours=lambda name: name in self._reserved or self.is_known(name),
        )

    async def close(self) -> None:
        """End every turn as a visible error and wait until all is stored."""
        self._closing = True
        await asyncio.gather(*(starting for _, starting in self._starting.values()), return_exceptions=True)
        # The starting ones first: each of them is among the active ones by now, or has failed.
        for turn in list(self.active.values()):
            words = "was on its way" if turn.began else "was not begun"
            self._runner.fail(turn, "backend_lost", f"the backend was stopped while this answer {words}")
        await self._tasks.settled()
        await self._completion.settled()

    @property
    def unstored(self) -> list[Unstored]:
        """Ends of turns that wait for the store, the oldest first."""
        return self._completion.unstored

    async def take_late(self, unstored: Sequence[Unstored], late_answers: LateAnswers) -> None:
        """Store what this gateway had confirmed before it was declared dead and began anew, now or later. Never raises."""
        await self._completion.take_late(unstored, late_answers)

    async def close_in_store(self, *outcomes: TurnOutcome) -> None:
        """Close turns in the store that were never asked, in one commit, as soon as the store can do that. Never raises."""
        await self._completion.close(*outcomes)

    async def refuse(self, outcome: TurnOutcome, *, group: str = "", key: str = "") -> None:
        """Make a turn that could not be started visible: an ended stream, and a line in its session."""
        await self._completion.refuse(outcome, group=group, key=key)

    # starting

    def _started(self, request: ChatRequest, starting: asyncio.Task[Turn]) -> None:
        del self._starting[request.request_id]
        error = None if starting.cancelled() else starting.exception()
        if isinstance(error, TektonError) and error.code not in NOT_OURS:
            self._error_log.record(
                request.ai_id,
                error.code,
                error.message,
                evidence=error.evidence,
                request_id=request.request_id,
            )

    async def _start(self, request: ChatRequest, on_text: Callable[[str], None] | None) -> Turn:
        if not request.parts:
            _check_content(request.content)
        stored = [] if request.is_new else await self._stored(request.request_id)
        if (ended := _recalled(request, stored)) is not None:
            return ended
        await self._runner.check(request.ai_id)
        owners = request.owners or (request.ai_id,)
        session = await self._sessions.resolve(request.session_id, owners)
        question = next((message for message in stored if message.role == "user"), None)
        if question is not None and question.session_id != session.id:
            await self._check_owner(question, owners)
        turn = Turn(request, session.id, asyncio.get_running_loop().create_future(), on_text=on_text)
        if question is not None:
            turn.prompt_id = question.id
        if request.reads_session:
            turn.place = self._sessions.enter(
                session.id, turn.key, lambda ahead: self._show_place(turn, ahead)
            )
            if turn.place.waits:
                await self._queue(turn)
                return turn
        else:
            self._sessions.check_open(session.id)
        await self._begin(turn, session)
        return turn

    async def _check_owner(self, question: StoredMessage, owners: Sequence[str]) -> None:
        """Refuse the id of a question that was asked in somebody else's session, as the team's are."""
        if (await self._sessions.get(question.session_id)).owner not in owners:
            raise taken(question.request_id)

    async def _stored(self, request_id: str) -> list[StoredMessage]:
        """Return question and answer of a request id, as far as they are stored.

        Of many who were asked the same the question is stored once, under the name of all of them.
        """
        stored = await self._messages.of_request(request_id)
        answer = _answer(stored)
        if answer is not None and answer.lane and all(message.role != "user" for message in stored):
            stored = [*await self._messages.of_request(answer.lane), answer]
        return stored

    async def _queue(self, turn: Turn) -> None:
        """Make a turn that waits visible, and keep its question in case the backend ends meanwhile."""
        try:
            await self._turn_store.wait({turn.request_id: turn.ai_id}, turn.session_id, turn.request.content)
        except BaseException:
            self._leave(turn)
            raise
        # Known from here on; before, a failing store would have left a question that waits and that nobody can
        # withdraw.
        turn.queued = True
        self.active[turn.request_id] = turn
        self._runner.announce(turn)
        if turn.place is not None and turn.place.waits:
            # Its place may have come while the question was stored.
            self._show_place(turn, self._sessions.ahead(turn.place))
        self._tasks.start(self._begin_later(turn), f"wait for the place of {turn.request_id}")

    async def _begin_later(self, turn: Turn) -> None:
        """Wait for the turn's place, then begin; what keeps it from beginning is how it ends."""
        assert turn.place is not None
        await asyncio.wait([turn.place.granted, turn.done], return_when=asyncio.FIRST_COMPLETED)
        # Nobody was asked yet, so waiting on for who is being started asks nobody twice.
        while turn.is_waiting and (coming := self._fleet.coming(turn.ai_id)) is not None:
            self._show_start(turn)
            await asyncio.wait([coming, turn.done], return_when=asyncio.FIRST_COMPLETED)
        if turn.done.done() or turn.ending:
            return
        # A task of its own, for which a cancel can wait.
        turn.beginning = asyncio.create_task(self._begin_queued(turn), name=f"begin {turn.request_id}")
        await asyncio.wait([turn.beginning])

    async def _begin_queued(self, turn: Turn) -> None:
        try:
            # Read again: while it waited the session may have got another provider or pinned messages, or be
            # gone.
            session = await self._sessions.get(turn.session_id)
            await self._runner.begin(turn, session)
        except TektonError as error:
            told = (
                f"{error.message}. It waited, and was not asked"
                if error.code == "not_running"
                else error.message
            )
            self._runner.fail(turn, error.code, told)
        except Exception as error:  # the boundary of a turn: it ends visibly, with the traceback in the log
            log.exception("%s could not be begun", turn.request_id)
            self._runner.fail(turn, "internal", f"failed inside the backend: {error}")

    async def _begin(self, turn: Turn, session: Session) -> None:
        self.active[turn.request_id] = turn
        try:
            await self._runner.begin(turn, session)
        except BaseException:
            del self.active[turn.request_id]
            self._leave(turn)
            raise

    def _show_place(self, turn: Turn, ahead: int) -> None:
        """Publish how many questions are before a turn that waits in its session."""
        self._show_waiting(turn, ahead, "behind your question" if ahead == 1 else f"behind {ahead} questions")

    def _show_start(self, turn: Turn) -> None:
        """Publish that a turn is next, and waits for its specialist: that is what is before it."""
        self._show_waiting(turn, 1, f"until {self._fleet.status(turn.ai_id).name} has started")

    def _show_waiting(self, turn: Turn, ahead: int, detail: str) -> None:
        if turn.began or turn.done.done():
            return
        turn.set_phase("queued", detail, ahead)
        frame = StreamPhase(turn.request_id, turn.ai_id, "queued", ahead, detail)
        self._events.publish("chat", frame, key=turn.key)

    # ending

    async def _withdraw(self, turn: Turn) -> None:
        """End a turn that waits; nobody was asked and nothing of it is stored."""
        # First: from now on `_begin_later` leaves it alone.
        turn.ending = True
        facts = StreamMetadata(0, 0, 0.0, turn.ai_id, "", "cancelled", Usage())
        frame = StreamEnd(turn.request_id, facts)
        outcome = turn.outcome_of(frame)
        outcome.error = "cancelled while it waited"
        await self._completion.withdraw(turn, outcome, frame, lambda: self._release(turn))

    def _on_end(self, turn: Turn, frame: StreamEnd | StreamError, line: bytes) -> None:
        self._tasks.start(self._finish(turn, frame, line), f"finish {turn.request_id}")

    async def _finish(self, turn: Turn, frame: StreamEnd | StreamError, line: bytes) -> None:
        # until its answer is stored it stays under its id: whoever asks the same meanwhile joins it
        await self._completion.finish(turn, frame, line, lambda: self._release(turn))

    def _release(self, turn: Turn) -> None:
        """Let the next question of the session begin; the turn is remembered for those who ask the same."""
        self.active.pop(turn.request_id, None)
        ended = turn.remembered()
        self._ended.put(turn.request_id, ended, ended.size)
        self._leave(turn)

    def _leave(self, turn: Turn) -> None:
        if turn.place is not None:
            self._sessions.leave(turn.place)


def _answer(stored: list[StoredMessage]) -> StoredMessage | None:
    return next((message for message in reversed(stored) if message.role == "assistant"), None)


def _recalled(request: ChatRequest, stored: list[StoredMessage]) -> Turn | None:
    """Return the turn that a request id had in an earlier life of the backend; `None` when it was never asked.

    Raises:
        RequestIdTaken: What is stored under the id is another question, or was asked of somebody else.
    """
    question = next((message for message in stored if message.role == "user"), None)
    answer = _answer(stored)
    if (question is not None and not _is_asked(question, request)) or (
        answer is not None and (question is None or answer.author != request.ai_id)
    ):
        raise taken(request.request_id)
    if answer is None:
        return None
    turn = Turn(request, answer.session_id, asyncio.get_running_loop().create_future())
    turn.end(outcome_of(answer))
    return turn


def _is_asked(question: StoredMessage, request: ChatRequest) -> bool:
    lane = request.group if request.aside else ""
    return (question.content, question.parts, question.lane) == (request.content, request.stored_parts, lane)


def _check_content(content: str) -> None:
    if not content.strip():
        raise TektonError("the prompt is empty: type something to ask", code="invalid_request")


__all__ = ["CancelUnconfirmed", "RequestIdTaken", "Turn", "TurnManager", "UnknownTurn", "new_request_id"]
