"""A turn at its worker: the request is built and sent, frames are relayed as they come.

Frames pass to the event stream as the worker wrote them, undecoded lines in one block. Knows nothing of queues, of what
is kept of an answer, or of request ids used before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import cast

from backend.orchestration.turns.parts import TurnParts
from backend.orchestration.turns.turn import Turn, shown
from backend.schema.content import attachments_of
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.events import MessageStored, TurnStarted
from backend.schema.frames import (
    Phase,
    Request,
    StreamChunk,
    StreamEnd,
    StreamError,
    StreamLogprobs,
    StreamPhase,
    StreamReasoning,
    StreamReply,
    StreamSignature,
    StreamToolCall,
    StreamToolResult,
    StreamToolUse,
)
from backend.schema.records import Session
from backend.specialists.worker_client import Frames
from backend.tasks import Background
from backend.wire import encoder, split_lines

log = logging.getLogger(__name__)

CUT_TIMEOUT_S = 2.0
PARTS = (StreamToolCall, StreamToolUse, StreamToolResult, StreamSignature, StreamLogprobs)

Ended = Callable[[Turn, StreamEnd | StreamError, bytes], None]
"""Called once a turn with its last frame, which was not published yet, and that frame's line."""


class TurnRunner:
    """Runs turns at workers. `on_end` is called with each turn's last frame."""

    def __init__(self, parts: TurnParts, on_end: Ended) -> None:
        self._fleet, self._events = parts.fleet, parts.events
        self._messages, self._turn_store = parts.messages, parts.turn_store
        self._error_log, self._contexts, self._budgets = parts.error_log, parts.contexts, parts.budgets
        self._approvals, self._on_end = parts.approvals, on_end
        self._cutting = Background()

    async def check(self, ai_id: str) -> None:
        """Refuse a turn that could not begin now.

        Raises:
            TektonError: `not_running`, or `budget_exceeded`.
        """
        self._fleet.channel(ai_id)
        await self._budgets.check(ai_id)

    async def begin(self, turn: Turn, session: Session) -> None:
        """Build the request from the session as it is now, store the question, and send it.

        Raises:
            TektonError: The turn cannot begin. Its question may be stored; nobody was asked.
        """
        request = turn.request
        await self.check(request.ai_id)
        # Checked a second time: it may have waited in its session's queue since it was accepted.
        link = self._fleet.channel(request.ai_id)
        if provider := request.provider or session.provider:
            # Before the question, on the same connection: the worker has the key when it reads which provider
            # to ask.
            await self._fleet.send_keys(request.ai_id, provider)
        sent = await self._contexts.build(request, session, link)
        # Stored before it is sent: a backend that comes after a crash finds the turn open and says so.
        await self._open(turn)
        turn.begin()
        self.announce(turn)
        self._fleet.turn_began(turn.ai_id, turn.request_id)
        # Of this very connection: a verdict for a call of a worker that died must not reach the one that
        # follows it.
        turn.answer_tool = link.answer_tool
        link.start_turn(sent, lambda frames: self.on_frames(turn, frames))

    def announce(self, turn: Turn) -> None:
        """Publish that a turn was accepted, once."""
        if turn.announced:
            return
        turn.announced = True
        request = turn.request
        started = TurnStarted(
            turn.request_id,
            turn.ai_id,
            turn.session_id,
            request.content,
            turn.started_at,
            request.group,
            turn.prompt_id,
            attachments_of(request.parts or ()),
            request.after,
        )
        self._events.publish("chat", started, key=turn.key)

    async def _open(self, turn: Turn) -> None:
        """Open a turn in the store: in one commit with its question, unless that is stored or is not to be."""
        if turn.prompt_id or not turn.request.record_prompt:
            await self._turn_store.begin(turn.request_id, turn.ai_id, turn.session_id)
            return
        stored = await self._messages.append(turn.question(), opens={turn.request_id: turn.ai_id})
        turn.prompt_id = stored.id
        if turn.announced:  # it waited in the session's queue, and was announced there without its number
            self._events.publish("chat", MessageStored(shown(stored)), key=turn.key)

    def fail(self, turn: Turn, code: ErrorCode, text: str) -> None:
        """End a turn from our side, as its worker would have."""
        frame = StreamError(turn.request_id, turn.ai_id, code, text, text)
        self.on_frames(turn, Frames([frame], encoder.encode(frame)))

    def on_frames(self, turn: Turn, batch: Frames) -> None:
        """Account for what one read brought of a turn and pass it on; its last frame goes to `on_end` alone."""
        if turn.ending:
            return
        frames, block = batch
        last = frames[-1]
        if isinstance(last, StreamEnd | StreamError):
            turn.ending = True
            # The last frame is held back: it may only be seen once the answer is stored, or says that it is
            # not.
            block, _, line = block.rpartition(b"\n")
            frames = frames[:-1]
            self._pass_on(turn, frames, block)
            # At once, not when it is stored: nobody can answer an ask of a call that will not run.
            self._approvals.turn_ended(turn.request_id)
            self._on_end(turn, last, line)
        else:
            self._pass_on(turn, frames, block)

    def _pass_on(self, turn: Turn, frames: Sequence[StreamReply], block: bytes) -> None:
        other = False
        for kind, run in groupby(frames, type):  # nearly always one run, of text
            if kind is StreamChunk:
                self._on_texts(turn, [frame.content for frame in cast(Iterable[StreamChunk], run)])
            else:
                other |= kind in PARTS
                for frame in run:
                    self._on_other(turn, frame)
        if other:
            self._publish_apart(turn, frames, block)
        else:
            self._events.publish_block("chat", block, len(frames), key=turn.key)

    def _publish_apart(self, turn: Turn, frames: Sequence[StreamReply], block: bytes) -> None:
        """Publish frames that only some readers know under their own topic, the others as ever, in order."""
        lines = zip(frames, split_lines(block), strict=True)
        for apart, run in groupby(lines, lambda pair: type(pair[0]) in PARTS):
            self._events.publish_lines("tools" if apart else "chat", [line for _, line in run], key=turn.key)

    def _on_other(self, turn: Turn, frame: StreamReply) -> None:
        if isinstance(frame, StreamReasoning):
            turn.add_reasoning(frame.content)
        elif isinstance(frame, StreamToolCall | StreamSignature):
            if isinstance(frame, StreamToolCall) and turn.phase != "streaming":
                self._set_phase(turn, "streaming", "", 0)
            turn.add_part(frame)
        elif isinstance(frame, StreamToolUse):
            if frame.used is not None:
                turn.count(frame.used)
            if not self._is_cut(turn):
                self._approvals.take(
                    frame, turn.session_id, turn.request, lambda verdict: self._answer_tool(turn, verdict)
                )
        elif isinstance(frame, StreamToolResult):
            turn.add_part(frame)
            self._approvals.finished(frame)
        elif isinstance(frame, StreamPhase):
            self._set_phase(turn, frame.phase, frame.detail, frame.position)

    def _answer_tool(self, turn: Turn, verdict: Request) -> None:
        """Give a worker the word on a call, unless others have used up the budget while that was waited for."""
        if not self._is_cut(turn):
            turn.answer_tool(verdict)

    def _is_cut(self, turn: Turn) -> bool:
        """Return whether a turn with tools is over its budget; it then ends, as its model is called once more after each."""
        if turn.used is None or not (why := self._budgets.over_with(turn.ai_id, turn.used)):
            return False
        text = f"over budget: {why}. It was ended before its model was called again."
        # not within the batch that brought the call: its other frames are passed on first
        asyncio.get_running_loop().call_soon(self._cut, turn, text)
        return True

    def _cut(self, turn: Turn, text: str) -> None:
        if turn.ending:
            return
        self.fail(turn, "budget_exceeded", text)
        self._cutting.start(self._cancel(turn), f"cut {turn.request_id}")

    async def _cancel(self, turn: Turn) -> None:
        try:
            await self._fleet.channel(turn.ai_id).cancel(turn.request_id, timeout_s=CUT_TIMEOUT_S)
        except TektonError as error:
            log.warning("ending %s at its worker: %s", turn.request_id, error.message)

    def _on_texts(self, turn: Turn, texts: list[str]) -> None:
        if turn.phase != "streaming":
            self._set_phase(turn, "streaming", "", 0)
        turn.add_text(texts)
        self._fleet.turn_progressed(turn.ai_id, turn.request_id, len(texts))
        if turn.on_text is not None:
            try:
                for text in texts:
                    turn.on_text(text)
            except Exception:  # whoever listens must not cost the turn its frames
                log.exception("a listener of %s failed", turn.request_id)
                # Not asked again: a listener that fails once would fail with each piece and fill the log.
                turn.on_text = None

    def _set_phase(self, turn: Turn, phase: Phase, detail: str, position: int) -> None:
        turn.set_phase(phase, detail, position)
        if phase == "stalled":
            self._error_log.record(
                turn.ai_id,
                "stalled",
                detail or "no token for a while",
                phase=phase,
                request_id=turn.request_id,
            )
        self._fleet.turn_phase(turn.ai_id, turn.request_id, phase, detail=detail, position=position)
