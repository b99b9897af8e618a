"""A turn: one question to one specialist, what came of it so far, and how it ended. State only; no I/O."""

from __future__ import annotations

import asyncio
import sys
import time
from array import array
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field
from secrets import token_hex

import msgspec

from backend import log as jsonlog
from backend.assembly import PartsBuilder
from backend.memory import YOU
from backend.orchestration.sessions import Place
from backend.orchestration.turns.request import ChatRequest
from backend.schema import frames
from backend.schema.content import Part, ReasoningPart, attachments_of, lightened
from backend.schema.errors import TektonError
from backend.schema.history import TurnPhase, TurnRecord
from backend.schema.records import ActiveTurn, StoredMessage, TurnOutcome

MAX_PHASES = 200
"""Changes of phase that are kept of a turn; a stream that stalls again and again has more."""
PROMPT_CHARS = 200
"""Of a prompt, what a record shows."""
DELETED = "the session of this question was deleted, and its answer with it"
TURN_BYTES = 3_000
"""What a turn takes without its texts, about."""
JOIN_EVERY = 512
"""Pieces kept apart before they are joined: a token as a string of its own takes many times its length."""


class TextBuffer:
    """Text that grows by small pieces, and where each of them ends."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._pieces: list[str] = []
        self._ends = array("Q")

    def add(self, pieces: Sequence[str]) -> None:
        end = self._ends[-1] if self._ends else 0
        for piece in pieces:
            end += len(piece)
            self._ends.append(end)
        self._pieces += pieces
        if len(self._pieces) >= JOIN_EVERY:
            self._blocks.append("".join(self._pieces))
            self._pieces.clear()

    @property
    def ends_bytes(self) -> int:
        """How many bytes it takes to know where pieces end."""
        return self._ends.itemsize * len(self._ends)

    def __len__(self) -> int:
        """Return the number of pieces."""
        return len(self._ends)

    @property
    def characters(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __str__(self) -> str:
        return "".join([*self._blocks, *self._pieces])

    def pieces(self, first: int = 0) -> list[str]:
        """Return the pieces from number `first` on, counted from 0."""
        text, start = str(self), self._ends[first - 1] if 0 < first <= len(self) else 0
        found: list[str] = []
        for end in self._ends[first:]:
            found.append(text[start:end])
            start = end
        return found

    def share(self, text: str) -> None:
        """Hold this very text, equal to the one that is held, so that both take the room of one."""
        self._blocks, self._pieces = [text], []


@dataclass
class Turn:
    """A turn that waits, runs or ended. `done` resolves to the outcome and never raises.

    `place` is its place in the queue of its session. `began` is false while it waits there: until then nothing was
    stored and nobody was asked.
    """

    request: ChatRequest
    session_id: str
    done: asyncio.Future[TurnOutcome]
    started_at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.monotonic)
    phase: frames.Phase = "queued"
    phase_since: float = field(default_factory=time.time)
    phases: list[TurnPhase] = field(default_factory=lambda: [TurnPhase("queued", time.time())])
    """When it entered each phase, from the moment it was accepted."""
    detail: str = ""
    position: int = 0
    first_token_ms: float | None = None
    on_text: Callable[[str], None] | None = None
    place: Place | None = None
    announced: bool = False
    queued: bool = False
    """It was accepted before it could begin."""
    began: bool = False
    ending: bool = False
    """Its last frame has come; its answer may still have to be stored."""
    beginning: asyncio.Task[None] | None = None
    answer_tool: Callable[[frames.Request], None] = lambda _: None
    """Sends a verdict on a tool call to the worker."""
    prompt_id: int = 0
    """Number of the stored question, 0 while it is not stored."""
    sent_upstream: bool = False
    first: ChatRequest | None = None
    """What it was before it was changed while it waited: who asked that, and asks again after a drop, means this turn."""
    used: frames.Usage | None = None
    """What the calls of its model before the one under way took, as its worker counted them: a turn with tools has several."""
    _chunks_used: int = 0
    """Pieces of text that those calls brought."""
    served: frames.StreamMetadata | None = None
    """What the worker reported at its end."""
    waiting: int = 0
    """How many callers wait for its end."""
    origin: str = field(default_factory=jsonlog.request_id.get)
    """Request id of the client's call that started this turn, for logs and traces."""
    _text: TextBuffer = field(default_factory=TextBuffer)
    _reasoning: TextBuffer = field(default_factory=TextBuffer)
    _parts: PartsBuilder = field(default_factory=PartsBuilder)

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its place or its specialist: it can be changed, or withdrawn without a trace."""
        return self.queued and self.beginning is None and not self.ending and not self.done.done()

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def ai_id(self) -> str:
        return self.request.ai_id

    @property
    def key(self) -> str:
        """The conversation this turn's events are published under: the call that started it."""
        return self.request.conversation

    @property
    def text(self) -> str:
        """The answer so far."""
        return str(self._text)

    @property
    def chunks(self) -> int:
        """How many pieces the answer has so far."""
        return len(self._text)

    def pieces(self, first: int = 0) -> list[str]:
        """Return the pieces of the answer from number `first` on, counted from 0."""
        return self._text.pieces(first)

    @property
    def size(self) -> int:
        """About how many bytes the turn takes, once it has ended."""
        texts = sys.getsizeof(self.request.content) + sys.getsizeof(str(self._text))
        brought = self.request.brought_bytes + (self.first.brought_bytes if self.first else 0)
        return TURN_BYTES + texts + self._text.ends_bytes + brought + beside_text_bytes(self.done.result())

    def remembered(self) -> Turn:
        """Return the turn, which has ended, as those who ask the same again need it."""
        turn = copy(self)
        turn.request, turn.first = self.request.remembered(), self.first and self.first.remembered()
        turn._parts = PartsBuilder()  # the outcome has them
        return turn

    @property
    def reasoning(self) -> str:
        """The thinking so far."""
        return str(self._reasoning)

    def add_text(self, pieces: Sequence[str]) -> None:
        """Append pieces of the answer."""
        if self.first_token_ms is None:
            self.first_token_ms = (time.monotonic() - self.started) * 1000
        self._text.add(pieces)

    def add_reasoning(self, piece: str) -> None:
        """Append a piece of the thinking."""
        self._reasoning.add([piece])

    def add_part(
        self, piece: frames.StreamToolCall | frames.StreamToolResult | frames.StreamSignature
    ) -> None:
        """Take a signature, more of a tool call, or what came of one."""
        if isinstance(piece, frames.StreamSignature):
            self._parts.sign(piece, self._text.characters, self.reasoning)
            return
        if self.first_token_ms is None:
            self.first_token_ms = (time.monotonic() - self.started) * 1000
        if isinstance(piece, frames.StreamToolResult):
            self._parts.result(piece, self._text.characters)
        else:
            self._parts.call(piece, self._text.characters)

    @property
    def has_answer(self) -> bool:
        """Whether anything of an answer came."""
        return bool(self.chunks or self._parts)

    def is_asked_by(self, request: ChatRequest) -> bool:
        """Return whether a request asks what this turn asks, or did before it was changed."""
        return self.request.asks_the_same(request) or (
            self.first is not None and self.first.asks_the_same(request)
        )

    def count(self, used: frames.Usage) -> None:
        """Take what its calls of a model up to now used."""
        self.used, self._chunks_used = used, self.chunks

    def begin(self) -> None:
        """Leave the queue: times count from here."""
        self.began, self.started, self.started_at = True, time.monotonic(), time.time()
        self.set_phase("queued")

    def set_phase(self, phase: frames.Phase, detail: str = "", position: int = 0) -> None:
        self.phase, self.phase_since = phase, time.time()
        self.detail, self.position = detail, position
        if phase != self.phases[-1].phase and len(self.phases) < MAX_PHASES:
            self.phases.append(TurnPhase(phase, self.phase_since))
        self.sent_upstream = self.sent_upstream or phase != "queued"

    def end(self, outcome: TurnOutcome) -> None:
        """Set the outcome, which holds the text from now on."""
        if not self._text and outcome.content:
            self._text.add([outcome.content])  # from the store, which knows no pieces
        self._text.share(outcome.content)
        self._reasoning = TextBuffer()
        if not self.done.done():
            self.done.set_result(outcome)

    def as_active(self) -> ActiveTurn:
        """Return the turn as a snapshot shows it."""
        return ActiveTurn(
            request_id=self.request_id,
            ai_id=self.ai_id,
            session_id=self.session_id,
            prompt=self.request.content,
            started_at=self.started_at,
            phase=self.phase,
            phase_since=self.phase_since,
            content=self.text,
            reasoning=self.reasoning,
            chunks=self.chunks,
            group=self.request.group,
            first_token_ms=self.first_token_ms,
            detail=self.detail,
            position=self.position,
            calls=self._parts.calls(),
            parts=self._parts_so_far(),
            attached=attachments_of(self.request.parts or ()),
        )

    def _parts_so_far(self) -> list[Part]:
        """Return text, calls and results in order; none without a call, for the text alone says it all."""
        if not self._parts.calls():
            return []
        parts = self._parts.parts(self.text, self.reasoning, "")
        return [part for part in parts if not isinstance(part, ReasoningPart)]

    def as_record(self, outcome: TurnOutcome | None = None) -> TurnRecord:
        """Return the turn as a timeline shows it; with its outcome, when it has ended now."""
        usage = (outcome.usage if outcome is not None else None) or frames.Usage()
        return TurnRecord(
            request_id=self.request_id,
            ai_id=self.ai_id,
            session_id=self.session_id,
            prompt=self.request.content[:PROMPT_CHARS],
            started_at=self.phases[0].at,
            ended_at=time.time() if outcome is not None else 0.0,
            phases=list(self.phases),
            group=self.request.group,
            code=outcome.code if outcome is not None else None,
            tokens_in=usage.input_tokens + usage.cached_tokens,
            tokens_out=usage.output_tokens or self.chunks,
            first_token_ms=self.first_token_ms,
        )

    def question(self) -> StoredMessage:
        """Return the question as it is stored."""
        request = self.request
        lane = request.group if request.aside else ""
        return StoredMessage(
            0,
            self.session_id,
            YOU,
            "user",
            request.content,
            time.time(),
            request_id=self.request_id,
            lane=lane,
            parts=request.stored_parts,
        )

    def outcome_so_far(self) -> TurnOutcome:
        """Return what came of the turn up to now, with no word of how it ends."""
        return TurnOutcome(
            request_id=self.request_id,
            ai_id=self.ai_id,
            content=self.text,
            session_id=self.session_id,
            first_token_ms=self.first_token_ms,
            total_time=time.monotonic() - self.started,
            chunks=self.chunks,
        )

    def outcome_of(self, frame: frames.StreamEnd | frames.StreamError) -> TurnOutcome:
        """Return how the turn ended, from its last frame and what came before."""
        outcome = self.outcome_so_far()
        match frame:
            case frames.StreamEnd(metadata=facts):
                self.served = facts
                outcome.model, outcome.usage, outcome.notes = facts.model, facts.usage, facts.notes
                outcome.finish_reason, outcome.stop = facts.finish_reason, facts.stop
                outcome.context_tokens = facts.context_tokens
                outcome.changes, outcome.cost, outcome.currency = facts.changes, facts.cost, facts.currency
                if facts.finish_reason == "cancelled":
                    outcome.code, outcome.error = "cancelled", f"cancelled after {self.chunks} pieces"
            case frames.StreamError():
                outcome.code, outcome.error = frame.code, frame.message
                outcome.evidence, outcome.detail = frame.evidence, frame.detail
                counted = [self.used] if self.used is not None else []
                if cut := self.chunks - self._chunks_used:
                    # Providers count at the end; of a stream that broke only its pieces are known.
                    counted.append(frames.Usage(output_tokens=cut, estimated=True))
                outcome.usage = frames.summed(counted) if counted else None
        outcome.parts = self._parts.parts(outcome.content, self.reasoning, outcome.model)
        return outcome


def shown(message: StoredMessage) -> StoredMessage:
    """Return a message as it is listed and published: images and files by their sizes, without the bytes."""
    return msgspec.structs.replace(message, parts=lightened(message.parts)) if message.parts else message


def last_frame(outcome: TurnOutcome) -> frames.StreamEnd | frames.StreamError:
    """Return the frame that ends the stream of a turn, from its outcome."""
    if outcome.code and outcome.finish_reason != "cancelled":
        return frames.StreamError(
            outcome.request_id,
            outcome.ai_id,
            outcome.code,
            outcome.error,
            outcome.error,
            outcome.evidence,
            outcome.detail,
        )
    usage = outcome.usage or frames.Usage()
    facts = frames.StreamMetadata(
        total_chunks=outcome.chunks,
        total_tokens=usage.output_tokens,
        total_time=outcome.total_time,
        ai_id=outcome.ai_id,
        model=outcome.model,
        finish_reason=outcome.finish_reason or "stop",
        usage=usage,
        first_token_ms=outcome.first_token_ms,
        notes=outcome.notes,
        stop=outcome.stop,
        context_tokens=outcome.context_tokens,
        changes=outcome.changes,
        cost=outcome.cost,
        currency=outcome.currency,
    )
    return frames.StreamEnd(outcome.request_id, facts)


def outcome_of(answer: StoredMessage) -> TurnOutcome:
    """Return how a turn ended, from its stored answer."""
    outcome = TurnOutcome(answer.request_id, answer.author, answer.content, session_id=answer.session_id)
    outcome.model, outcome.usage, outcome.finish_reason = answer.model, answer.usage, answer.finish_reason
    outcome.code, outcome.error = answer.error_code, answer.error
    outcome.first_token_ms, outcome.total_time = answer.first_token_ms, answer.total_time or 0.0
    outcome.message_id, outcome.parts = answer.id, answer.parts
    return outcome


def beside_text_bytes(outcome: TurnOutcome) -> int:
    """Return about how many bytes an outcome holds beside its text: thinking, calls and their results, changes."""
    parts = len(msgspec.json.encode(outcome.parts)) if outcome.parts else 0
    return parts + sys.getsizeof(outcome.changes) + sys.getsizeof(outcome.evidence)


def without_words(outcome: TurnOutcome) -> TurnOutcome:
    """Return how a turn ended whose session was deleted since: nothing of what was said."""
    code, error = outcome.code or "unknown_session", outcome.error or DELETED
    return TurnOutcome(
        outcome.request_id, outcome.ai_id, "", session_id=outcome.session_id, code=code, error=error
    )


@dataclass
class Reservation:
    """A request id that clients know before its turn begins, as while it waits for a slot; see `TurnManager.reserve`."""

    request_id: str
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self) -> None:
        """Raise `TektonError` (`cancelled`) when the turn was cancelled before it began."""
        if self.cancelled.is_set():
            raise TektonError("cancelled before it was asked", code="cancelled")

    @asynccontextmanager
    async def slot(self, slots: asyncio.Semaphore) -> AsyncGenerator[None]:
        """Hold one of `slots` for the length of the block.

        Raises:
            TektonError: `cancelled`, as soon as the turn is cancelled while it waits.
        """
        # Both as tasks, so that whichever is first can be seen; `acquire` alone would not hear of the cancel.
        acquiring = asyncio.ensure_future(slots.acquire())
        cancelled = asyncio.ensure_future(self.cancelled.wait())
        try:
            await asyncio.wait([acquiring, cancelled], return_when=asyncio.FIRST_COMPLETED)
            self.check()
            yield
        finally:
            cancelled.cancel()
            # Cancelled or not: a slot that was given to us in the same moment goes back.
            if not acquiring.cancel() and not acquiring.cancelled():
                slots.release()


def new_request_id() -> str:
    return f"r-{token_hex(8)}"
