"""One turn of a specialist: a prompt goes up once, frames come down, and it ends exactly once.

Knows no socket: frames go to a sink. Nothing is asked twice; a failure of the model is an error frame, never text.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, cast

from msgspec import Struct

from backend import jsonlog
from backend.providers.base import (
    Completed,
    CompletionRequest,
    Loading,
    Provider,
    ProviderFault,
    ProviderUnavailable,
    Queued,
    Reasoning,
    StreamItem,
    Text,
)
from backend.schema.errors import TektonError
from backend.schema.frames import (
    ChatResponse,
    ErrorReply,
    FinishReason,
    Phase,
    Request,
    StreamChunk,
    StreamEnd,
    StreamError,
    StreamMetadata,
    StreamPhase,
    StreamReasoning,
    StreamStart,
    Usage,
)
from backend.specialists.desk import Desk
from backend.specialists.prompting import assemble
from backend.specialists.spec import WorkerSpec
from backend.specialists.watch import TokenWatch

log = logging.getLogger(__name__)

ITEMS_BEFORE_BREATH = 64
"""Items taken in a row from a provider that never waits before other turns get the loop."""
CHARS_A_TOKEN = 4
"""Rough size of a token, for the usage of answers that were cut before the provider counted."""


class Sink(Protocol):
    """Where a turn's frames go. `full` asks the turn to `drain` before it sends more."""

    @property
    def full(self) -> bool: ...

    def send(self, frame: Struct) -> None: ...

    async def drain(self) -> None: ...


class Turn:
    """Run it once, as a task. `cancel` ends it early and is answered by the turn's own last frame."""

    def __init__(self, spec: WorkerSpec, desk: Desk, request: Request, request_id: str, sink: Sink) -> None:
        self.request_id = request_id
        self._spec, self._desk, self._request, self._sink = spec, desk, request, sink
        self._kind = request.provider or desk.provider
        self._model = request.model or desk.default_model(self._kind)
        self._loop = asyncio.get_running_loop()
        self._arrived = self._loop.time()
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._ending: FinishReason | TektonError | None = None
        self._phase: Phase | None = None
        self._parts: list[str] = []
        self._first_token_ms: float | None = None
        self._notes: list[str] = []
        self._completed: Completed | None = None
        self._watch: TokenWatch | None = None
        self._cut_stalled = False

    async def run(self) -> None:
        """Do the turn and send its frames, the last one included. Raises nothing but its own cancellation."""
        self._task = asyncio.current_task()
        jsonlog.request_id.set(self.request_id)
        if self._request.stream:
            self._sink.send(StreamStart(self.request_id, self._spec.ai_id))
        try:
            if not self._request.prompt.strip():
                raise TektonError("the content is empty: send text to answer", code="invalid_request")
            if self._ending is None:
                await self._converse()
        except asyncio.CancelledError:
            if self._ending is None:
                raise
        except TektonError as error:
            self._ending = self._ending or error
        except Exception as error:
            log.exception("turn %s", self.request_id)
            self._ending = TektonError(f"{self._spec.ai_id} failed: {type(error).__name__}: {error}")
        finally:
            if self._watch is not None:
                self._watch.stop()
            self._ended.set()
        self._finish()

    def cancel(self, reason: FinishReason | TektonError = "cancelled") -> None:
        """End the turn: the upstream is closed first, then the last frame says why. Safe to call twice."""
        if self._ending is not None:
            return
        self._ending = reason
        if self._task is not None and not self._task.done():
            self._task.cancel()

    async def was_cancelled(self) -> bool:
        """Wait for the turn's end and return whether it was cut by a cancel."""
        await self._ended.wait()
        return self._ending == "cancelled"

    async def _converse(self) -> None:
        async with self._desk.gate(self._kind).place(self._moved):
            if not self._desk.is_prepared(self._kind):
                self._tell("queued", detail="warming")
            provider = await self._desk.get(self._kind)
            request = self._completion()
            self._watch = self._clocks()
            self._tell("prefill")
            self._watch.begin()
            async with _closing(provider, request) as items:
                await self._consume(items, self._watch)
        if self._completed is None:
            raise ProviderFault(f"{self._kind} ended the answer without saying so: it may be cut")

    async def _consume(self, items: AsyncIterator[StreamItem], watch: TokenWatch) -> None:
        taken = 0
        async for item in items:
            match item:
                case Text(content=content):
                    self._on_token(watch)
                    if self._request.stream:
                        self._sink.send(StreamChunk(self.request_id, content, len(self._parts)))
                    self._parts.append(content)
                case Reasoning(content=content):
                    self._on_token(watch)
                    if self._request.phases:
                        self._sink.send(StreamReasoning(self.request_id, content))
                case Queued(position=position, detail=detail):
                    watch.begin()
                    self._tell("queued", position, detail)
                case Loading(detail=detail):
                    self._tell("prefill", detail=detail)
                case Completed():
                    self._completed = item
            taken += 1
            if self._sink.full:
                await self._sink.drain()
                watch.touch()
            elif taken % ITEMS_BEFORE_BREATH == 0:
                await asyncio.sleep(0)

    def _completion(self) -> CompletionRequest:
        prompt = assemble(self._spec.persona, self._request)
        self._notes = prompt.notes
        asked = self._request
        return CompletionRequest(
            system=prompt.system,
            messages=prompt.messages,
            model=self._model,
            temperature=self._spec.temperature if asked.temperature is None else asked.temperature,
            temperature_by_role=asked.temperature is None and self._spec.temperature_by_role,
            max_tokens=asked.max_tokens or self._desk.max_tokens(self._kind),
            slot=self._spec.slot,
        )

    def _clocks(self) -> TokenWatch:
        limits = self._desk.timeouts(self._kind)
        self._cut_stalled = limits.cut_stalled
        between_s = self._request.stall_after_s or self._spec.stall_after_s or limits.between_tokens
        return TokenWatch(
            first_token_s=limits.first_token,
            between_tokens_s=between_s,
            late=lambda: self.cancel(
                ProviderUnavailable(f"no token from {self._kind} within {limits.first_token:g} s")
            ),
            stalled=lambda: self._on_stall(between_s),
        )

    def _on_token(self, watch: TokenWatch) -> None:
        watch.last = self._loop.time()
        if self._phase != "streaming":
            if self._first_token_ms is None:
                self._first_token_ms = (watch.last - self._arrived) * 1000
                watch.first()
            self._tell("streaming")

    def _on_stall(self, threshold_s: float) -> None:
        text = f"no token for {threshold_s:g} s"
        if self._cut_stalled:
            self.cancel(TektonError(text, code="stalled"))
        elif self._phase != "stalled":
            self._tell("stalled", detail=text)

    def _moved(self, position: int) -> None:
        self._tell("queued", position)

    def _tell(self, phase: Phase, position: int = 0, detail: str = "") -> None:
        self._phase = phase
        if self._request.stream and self._request.phases:
            self._sink.send(StreamPhase(self.request_id, self._spec.ai_id, phase, position, detail))

    def _finish(self) -> None:
        ending = self._ending
        if isinstance(ending, TektonError):
            log.info("turn %s: %s: %s", self.request_id, ending.code, ending)
            self._sink.send(self._failure(ending))
        elif self._request.stream:
            self._sink.send(StreamEnd(self.request_id, self._facts()))
        else:
            facts = self._facts()
            reply = ChatResponse(
                facts.ai_id, "".join(self._parts), facts.model, facts.usage, facts.finish_reason
            )
            if self._request.request_id is not None:
                reply.request_id = self._request.request_id
            self._sink.send(reply)

    def _failure(self, error: TektonError) -> StreamError | ErrorReply:
        ai_id, text = self._spec.ai_id, error.message
        if self._request.stream:
            return StreamError(self.request_id, ai_id, error.code, text, text, error.evidence, error.detail)
        reply = ErrorReply(ai_id, error.code, text, text, evidence=error.evidence, detail=error.detail)
        if self._request.request_id is not None:
            reply.request_id = self._request.request_id
        return reply

    def _facts(self) -> StreamMetadata:
        done = self._completed
        characters = sum(map(len, self._parts))
        usage = done.usage if done else Usage(output_tokens=-(-characters // CHARS_A_TOKEN), estimated=True)
        finish = "cancelled" if self._ending == "cancelled" else done.finish_reason if done else "stop"
        took_s = self._loop.time() - self._arrived
        log.info("turn %s: %s, %d tokens in %.2f s", self.request_id, finish, usage.output_tokens, took_s)
        return StreamMetadata(
            total_chunks=len(self._parts),
            total_tokens=usage.output_tokens,
            total_time=round(took_s, 4),
            ai_id=self._spec.ai_id,
            model=f"{self._kind}:{self._model}",
            finish_reason=finish,
            usage=usage,
            first_token_ms=None if self._first_token_ms is None else round(self._first_token_ms, 2),
            notes=[*self._notes, *(done.notes if done else [])],
        )


@asynccontextmanager
async def _closing(
    provider: Provider, request: CompletionRequest
) -> AsyncGenerator[AsyncIterator[StreamItem]]:
    """Ask once; close the upstream before anything is said about the end."""
    items = provider.stream(request)
    try:
        yield items
    finally:
        if hasattr(items, "aclose"):
            await cast("AsyncGenerator[StreamItem]", items).aclose()
