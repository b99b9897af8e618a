"""How turns end: the answer is stored, then published, then accounted for.

An answer that cannot be stored is not lost: its last frame says so, and it is kept in memory until the
store takes it. Knows nothing of how a turn is started, followed or cancelled.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import msgspec

from backend.memory.errors import StoreFailed, UnknownMessage, UnknownSession
from backend.memory.shared_log import Fenced, LateAnswers
from backend.orchestration.store_later import StoreLater
from backend.orchestration.turns.parts import TurnParts
from backend.orchestration.turns.turn import Turn, beside_text_bytes, shown
from backend.schema.errors import REFUSED_UPSTREAM, ErrorCode
from backend.schema.events import MessageStored, SessionChanged, TurnStarted
from backend.schema.frames import StreamEnd, StreamError, Usage
from backend.schema.records import StoredMessage, TurnOutcome, UsageRow
from backend.schema.sent import SentTurn
from backend.tasks import Background
from backend.wire import encoder

log = logging.getLogger(__name__)

NOT_OURS: frozenset[ErrorCode] = frozenset(
    {
        "cancelled",
        "invalid_request",
        "budget_exceeded",
        "not_running",
        "conflict",
        "unknown_session",
        "unknown_specialist",
        "not_found",
    }
)
"""Endings that are a caller's doing, and no failure for the error log."""
NOT_KEPT = (
    "this answer is not stored yet: {reason} It is kept in memory and stored as soon as that is possible"
)
TAKEN_OVER = (
    "this gateway was silent for longer than its lease, and another one ended this turn: what the store holds of the answer "
    "is what had come by then"
)
STILL_ENDED = "another gateway still ends the turn {name}, which this one had confirmed"
GONE = "an answer that was confirmed as not stored yet is lost: its conversation, or its question, was deleted before the store took it"

Observer = Callable[[Turn, TurnOutcome], None]


@dataclass
class Unstored:
    """What the store did not take: the end of a turn, with its answer, or `closes`, turns of which nothing is kept.

    Plain values, bound to no store: they outlive the one that did not take them.
    """

    outcome: TurnOutcome
    key: str
    """The conversation in which it is told once it is stored."""
    answer: StoredMessage | None = None
    question: StoredMessage | None = None
    """Stored before the answer, where the turn failed before it was asked."""
    prompt_id: int = 0
    """Number of the stored question, 0 where it is not stored, or is one of several turns."""
    used: UsageRow | None = None
    sent: SentTurn | None = None
    closes: Sequence[str] = ()
    size: int = 0
    """About how many bytes of text wait."""


class TurnCompletion:
    """Stores and publishes endings. `on_ended` is called with every turn that ended, once its outcome is set.

    Of answers that wait for the store `max_unstored_bytes` are kept; the oldest are given up first, each with an entry in
    the error log.
    """

    def __init__(self, parts: TurnParts, max_unstored_bytes: int) -> None:
        self._max_unstored_bytes = max_unstored_bytes
        self._fleet, self._events = parts.fleet, parts.events
        self._messages, self._turn_store, self._sessions = parts.messages, parts.turn_store, parts.sessions
        self._error_log, self._contexts, self._budgets = parts.error_log, parts.contexts, parts.budgets
        self._recording = Background()
        self._later: StoreLater[int, Unstored] = StoreLater(self._store_waiting, "answers")
        self._numbers = count()
        self._late: StoreLater[int, Unstored] = StoreLater(self._store_late, "late answers")
        """What this gateway had confirmed before it was declared dead and began anew."""
        self._late_answers: LateAnswers | None = None
        self.on_ended: list[Observer] = []

    async def finish(
        self, turn: Turn, frame: StreamEnd | StreamError, line: bytes, release: Callable[[], None]
    ) -> None:
        """Store the answer, set the outcome, call `release`, publish the last frame. Never raises.

        A client that sees the frame can rely on it: the answer is stored, or the frame says that it is not.
        """
        outcome, reasoning = turn.outcome_of(frame), turn.reasoning
        stored, used, ending, told = None, None, None, False
        try:
            # The order below is what a client can rely on: stored, outcome set, next question released, last
            # frame, accounts.
            self._estimate_prompt(turn, outcome)
            used = await self._budgets.priced(turn.ai_id, outcome)
            if used is not None and used.cost and outcome.cost is None and isinstance(frame, StreamEnd):
                frame.metadata.cost, frame.metadata.currency = used.cost, used.currency
                line = encoder.encode(frame)
            ending = self._ending(turn, outcome, used, reasoning)
            stored = await self._store(ending)
            assert stored is not None, "it has an answer"
            outcome.message_id = stored.id
        except Fenced:
            # another gateway has ended this turn: what it stored of it stands, and nobody is told anything else
            text, told = TAKEN_OVER, True
            # The client of this gateway is told what the others already show; its own answer would contradict
            # the store.
            frame = StreamError(turn.request_id, turn.ai_id, "backend_lost", text, text)
            outcome, line = turn.outcome_of(frame), encoder.encode(frame)
        except Exception as error:  # the store is away, full or closed: the answer itself is whole
            log.exception("cannot store the answer of %s", turn.request_id)
            line = encoder.encode(_not_kept(frame, outcome, str(error)))
            self._error_log.record(
                turn.ai_id, "internal", f"the answer could not be stored: {error}", request_id=turn.request_id
            )
            # Without its session the answer can never be stored; the turn is closed, so that no later start
            # calls it lost.
            if not isinstance(error, UnknownSession) or not await self._close(turn.request_id, used):
                texts = (outcome.content, reasoning, turn.request.content)
                beside = turn.request.brought_bytes + beside_text_bytes(outcome)
                ending = ending or self._ending(turn, outcome, used, reasoning)
                # What is held is the whole turn with what it brought along, not its answer alone.
                sent = len(msgspec.json.encode(ending.sent)) if ending.sent is not None else 0
                ending.size = sum(map(sys.getsizeof, texts)) + beside + sent
                self._keep_unstored(ending)
        turn.end(outcome)
        release()
        self._events.publish_lines("chat", [line], key=turn.key)
        if used is not None:
            self._observe(lambda: self._budgets.count(used), "counting what was used")
        self._account(turn, outcome, told=told)
        if stored is not None:
            self._events.publish("chat", MessageStored(shown(stored)), key=turn.key)
            await self._publish_session(turn.session_id)

    async def withdraw(
        self, turn: Turn, outcome: TurnOutcome, frame: StreamEnd, release: Callable[[], None]
    ) -> None:
        """End a turn that was never asked: nothing of it is stored. Calls `release`. Never raises."""
        turn.end(outcome)
        release()
        self._events.publish("chat", frame, key=turn.key)
        for observe in self.on_ended:
            self._observe(lambda observe=observe: observe(turn, outcome), "an observer of turns")
        await self.close(outcome)

    async def refuse(self, outcome: TurnOutcome, *, group: str = "", key: str = "") -> None:
        """Make a member of a team that could not be asked visible: an ended stream, and a line in the session.

        Never raises: a session that was deleted, or a store that is full, must not hide why it could not be asked.
        """
        frame = StreamError(
            outcome.request_id, outcome.ai_id, outcome.code or "internal", outcome.error, outcome.error
        )
        started = TurnStarted(outcome.request_id, outcome.ai_id, outcome.session_id, "", time.time(), group)
        key = key or group or outcome.request_id
        self._events.publish("chat", started, key=key)
        self._events.publish("chat", frame, key=key)
        refused = StoredMessage(
            0,
            outcome.session_id,
            outcome.ai_id,
            "assistant",
            "",
            time.time(),
            request_id=outcome.request_id,
            lane=group,
            error_code=outcome.code,
            error=outcome.error,
        )
        try:
            stored = await self._messages.append(refused, ends_turn=True)
        except UnknownSession:
            await self.close(outcome)
            return
        except Exception:
            log.exception("cannot store that %s could not be asked", outcome.ai_id)
            self._keep_unstored(Unstored(outcome, key, refused))
            return
        outcome.message_id = stored.id
        self._events.publish("chat", MessageStored(stored), key=key)

    async def close(self, *outcomes: TurnOutcome) -> None:
        """Close turns in the store of which nothing is kept, all in one commit, as soon as that is possible. Never raises."""
        names = [outcome.request_id for outcome in outcomes]
        try:
            await self._turn_store.end(*names)
        except Exception as error:
            log.warning("the turns %s cannot be closed yet: %s", ", ".join(names), error)
            self._keep_unstored(Unstored(outcomes[0], "", closes=names))

    async def settled(self) -> None:
        """Wait until every ending so far is in the error log, and try once more to store what waits."""
        await self._recording.settled()
        await self._late.close()
        await self._later.close()

    @property
    def unstored(self) -> list[Unstored]:
        """What waits for the store, the oldest first; those that were late already at the front."""
        return [*self._late.waiting.values(), *self._later.waiting.values()]

    async def take_late(self, unstored: Sequence[Unstored], late_answers: LateAnswers) -> None:
        """Store what this gateway had confirmed before it was declared dead, now or later. Never raises."""
        self._late_answers = late_answers
        await self._late.take({next(self._numbers): one for one in unstored})

    # storing

    def _ending(self, turn: Turn, outcome: TurnOutcome, used: UsageRow | None, reasoning: str) -> Unstored:
        """Return all that is stored of the end of a turn."""
        request = turn.request
        # one that failed before it was asked has no question in the store yet
        question = turn.question() if request.record_prompt and not turn.prompt_id else None
        answer = StoredMessage(
            0,
            turn.session_id,
            turn.ai_id,
            "assistant",
            outcome.content,
            time.time(),
            request_id=turn.request_id,
            lane=request.group,
            model=outcome.model,
            usage=outcome.usage,
            finish_reason=outcome.finish_reason,
            error_code=outcome.code,
            error=outcome.error,
            first_token_ms=outcome.first_token_ms,
            total_time=outcome.total_time,
            reasoning=reasoning,
            parts=outcome.parts,
        )
        sent = self._contexts.sent(turn.request_id, outcome) if turn.sent_upstream else None
        return Unstored(outcome, turn.key, answer, question, turn.prompt_id, used, sent)

    async def _store(self, ending: Unstored) -> StoredMessage | None:
        """Store the answer, close the turn and book what it used, in one commit. Raises what the store raises."""
        if ending.answer is None:
            await self._turn_store.end(*ending.closes)
            return None
        await self._store_question(ending)
        return await self._messages.append(ending.answer, ends_turn=True, used=ending.used, sent=ending.sent)

    async def _store_question(self, ending: Unstored) -> None:
        if ending.question is not None:
            ending.prompt_id = (await self._messages.append(ending.question)).id
            ending.question = None

    def _keep_unstored(self, waiting: Unstored) -> None:
        self._later.keep(next(self._numbers), waiting)
        kept = self._later.waiting
        # The newest is kept whatever its size: it is the one somebody just read.
        while len(kept) > 1 and sum(one.size for one in kept.values()) > self._max_unstored_bytes:
            lost = self._later.drop_oldest()
            self._error_log.record(
                lost.outcome.ai_id,
                "internal",
                "an answer was given up: the store took nothing for too long",
                request_id=lost.outcome.request_id,
            )

    async def _store_waiting(self, waiting: Unstored) -> None:
        """Store what waits, and tell of it. Raises what the store raises."""
        outcome = waiting.outcome
        try:
            stored = await self._store(waiting)
        except UnknownSession:
            log.warning("the session of %s was deleted before its answer was stored", outcome.request_id)
            if not await self._close(outcome.request_id, waiting.used):
                raise
            return
        if stored is not None:
            await self._tell_stored(waiting, stored)

    async def _store_late(self, waiting: Unstored) -> None:
        """Store what another gateway has ended as lost, in the place of that end. Raises what the store raises."""
        outcome = waiting.outcome
        assert self._late_answers is not None, "taken with what waits"
        if waiting.answer is None:
            await self._store(waiting)
            return
        try:
            if waiting.question is not None and await self._messages.of_request(outcome.request_id):
                waiting.question = None  # stored by who ended the turn
            await self._store_question(waiting)
            late = await self._late_answers.put(
                waiting.answer, prompt_id=waiting.prompt_id, used=waiting.used, sent=waiting.sent
            )
        except (UnknownSession, UnknownMessage):
            if not await self._close(outcome.request_id, waiting.used):
                raise
            self._error_log.record(outcome.ai_id, "unknown_session", GONE, request_id=outcome.request_id)
            return
        if late is None:
            raise StoreFailed(STILL_ENDED.format(name=outcome.request_id))
        await self._tell_stored(waiting, late.message, corrects=True)
        await self._budgets.open()  # what the turn used was booked with it, now or before
        if (lost := late.lost) is not None:
            await self._error_log.settle(outcome.ai_id, lost.error_code or "", lost.error, outcome.request_id)

    async def _tell_stored(self, waiting: Unstored, stored: StoredMessage, *, corrects: bool = False) -> None:
        waiting.outcome.message_id = stored.id
        self._events.publish("chat", MessageStored(shown(stored), corrects), key=waiting.key)
        await self._publish_session(waiting.outcome.session_id)

    async def _close(self, request_id: str, used: UsageRow | None) -> bool:
        """Close a turn whose answer has no session any more, and count what it used all the same.

        Never raises; false when the store takes nothing now. A turn left open would look lost after the next start.
        """
        try:
            await self._turn_store.end(request_id)
            await self._turn_store.book(request_id, used)
        except Exception as error:
            log.warning("the turn %s cannot be closed yet: %s", request_id, error)
            return False
        return True

    async def _publish_session(self, session_id: str) -> None:
        try:
            self._events.publish("chat", SessionChanged(await self._sessions.get(session_id)))
        except UnknownSession:  # it was deleted meanwhile, which is told by who did
            return
        except Exception:  # the answer is stored; its session's row is only shown anew
            log.exception("cannot read the session %s", session_id)

    # accounting

    def _estimate_prompt(self, turn: Turn, outcome: TurnOutcome) -> None:
        """Add the prompt to what a turn used whose provider did not live to count it: it is billed all the same."""
        if outcome.code is None or not turn.sent_upstream:
            return
        if outcome.code in REFUSED_UPSTREAM and not (turn.has_answer or turn.reasoning):
            return
        usage = outcome.usage or Usage(estimated=True)
        if usage.input_tokens or usage.cached_tokens:
            return
        tokens = self._contexts.estimated_prompt(turn.request_id)
        outcome.usage = msgspec.structs.replace(usage, input_tokens=tokens, estimated=True)

    def _account(self, turn: Turn, outcome: TurnOutcome, *, told: bool) -> None:
        """Report the end to the fleet's rows, the estimates, the observers and, when it failed, the error log.

        `told`: another gateway has entered the failure already.
        """
        self._observe(
            lambda: self._fleet.turn_ended(turn.ai_id, turn.request_id, outcome), "the fleet's rows"
        )
        self._observe(lambda: self._show_context(turn, outcome), "the fleet's rows")
        self._observe(lambda: self._contexts.learn(turn.request, outcome), "the token estimates")
        for observe in self.on_ended:
            self._observe(lambda observe=observe: observe(turn, outcome), "an observer of turns")
        if outcome.code == "worker_lost":
            self._recording.start(self._record_unless_died(turn, outcome), f"record {turn.request_id}")
        elif outcome.code and outcome.code not in NOT_OURS and not told:
            self._record(turn, outcome)

    def _show_context(self, turn: Turn, outcome: TurnOutcome) -> None:
        usage = outcome.usage
        if usage is not None and usage.input_tokens + usage.cached_tokens:
            used = outcome.context_tokens or usage.total
            self._fleet.context_changed(turn.ai_id, used, self._contexts.window(turn.ai_id))

    def _observe(self, call: Callable[[], None], who: str) -> None:
        """Call somebody who wants to know of an ending; what fails there changes nothing of it."""
        try:
            call()
        except Exception:
            log.exception("%s failed at the end of a turn", who)

    async def _record_unless_died(self, turn: Turn, outcome: TurnOutcome) -> None:
        """Record a cut turn, unless its worker's death is recorded and names it: one failure is one record."""
        if not await self._fleet.in_death_record(turn.ai_id, turn.request_id):
            self._record(turn, outcome)

    def _record(self, turn: Turn, outcome: TurnOutcome) -> None:
        self._error_log.record(
            turn.ai_id,
            outcome.code or "internal",
            outcome.error,
            phase=turn.phase,
            evidence=outcome.evidence,
            request_id=turn.request_id,
        )


def _not_kept(frame: StreamEnd | StreamError, outcome: TurnOutcome, reason: str) -> StreamEnd | StreamError:
    """Return a last frame that says that the answer is not stored, and note the same in the outcome."""
    text = NOT_KEPT.format(reason=reason)
    outcome.notes = [*outcome.notes, text]
    if isinstance(frame, StreamError):
        return msgspec.structs.replace(frame, detail={**frame.detail, "not_stored": text})
    facts = msgspec.structs.replace(frame.metadata, notes=outcome.notes, stored=False)
    return StreamEnd(frame.request_id, facts)
