"""A turn as its worker answers it, whoever thinks: first frame, phases, text, and exactly one last frame.

Knows no socket: frames go to a `Sink`. Where the words come from is the business of whoever derives from `WorkerTurn`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from backend import log as jsonlog
from backend.schema import frames
from backend.schema.content import Part
from backend.schema.errors import TektonError
from backend.wire import in_pieces

log = logging.getLogger(__name__)

CHARS_PER_TOKEN = 4
"""Rough size of a token, to estimate the usage of answers whose tokens nobody counted."""


class Sink(Protocol):
    """Where a turn's frames go. While `full` is true, `drain` comes before the next `send`."""

    @property
    def full(self) -> bool: ...

    def send(self, frame: Struct) -> None: ...

    async def drain(self) -> None: ...


class WorkerTurn(ABC):
    """Await `run` once, in a task of its own. `cancel` ends it early; the last frame then says so."""

    def __init__(self, ai_id: str, request: frames.Request, request_id: str, sink: Sink) -> None:
        self.request_id = request_id
        self._ai_id, self._request, self._sink = ai_id, request, sink
        self._loop = asyncio.get_running_loop()
        self._arrived = self._loop.time()
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._ending: frames.FinishReason | TektonError | None = None
        self._phase: frames.Phase | None = None
        self._position, self._detail = 0, ""
        self._parts: list[str] = []
        self._characters: int = 0
        self._first_token_ms: float | None = None
        self._notes: list[str] = []

    async def run(self) -> None:
        """Answer and send every frame, the last one included. Raises nothing but `CancelledError` from outside."""
        self._task = asyncio.current_task()
        jsonlog.request_id.set(self.request_id)
        if self._request.stream:
            self._sink.send(frames.StreamStart(self.request_id, self._ai_id))
        try:
            if not self._request.prompt.strip() and not self._request.parts:
                raise TektonError("the content is empty: send text to answer", code="invalid_request")
            if self._ending is None:
                await self._answer()
        except asyncio.CancelledError:
            # Without an ending nobody called `cancel`: the task itself is ended, with the connection or the worker.
            if self._ending is None:
                raise
        except TektonError as error:
            self._ending = self._ending or error
        except Exception as error:
            log.exception("turn %s", self.request_id)
            self._ending = TektonError(f"{self._ai_id} failed: {type(error).__name__}: {error}")
        finally:
            self._settle()
            self._ended.set()
        self._finish()

    def cancel(self, reason: frames.FinishReason | TektonError = "cancelled") -> None:
        """End early for `reason`: what answers is stopped first, then the last frame is sent. Safe to call twice."""
        if self._ending is None:
            self._ending = reason
            self._stop()

    async def wait_cancelled(self) -> bool:
        """Wait for the end and return whether a cancel brought it about."""
        await self._ended.wait()
        return self._ending == "cancelled"

    def used(self, name: str, client: str) -> frames.DirectTurn:
        """Return what this turn used, or why it failed: as `name`, which `client` asked for."""
        failed = self._ending if isinstance(self._ending, TektonError) else None
        return frames.DirectTurn(
            request_id=name,
            ai_id=self._ai_id,
            client=client,
            model=self._who,
            at=time.time(),
            total_time=round(self._loop.time() - self._arrived, 4),
            usage=self._billed(failed),
            code=failed.code if failed else None,
            error=failed.message if failed else "",
            evidence=failed.evidence if failed else "",
        )

    @abstractmethod
    def decided(self, verdict: frames.Request) -> None:
        """Apply the platform's verdict on a call or question; a verdict on nothing that is open is ignored."""

    # what differs

    @property
    @abstractmethod
    def _who(self) -> str:
        """Who answers, as `provider:model`."""

    @abstractmethod
    async def _answer(self) -> None:
        """Answer: send what comes of it. Raises `TektonError` where it fails."""

    @abstractmethod
    def _metadata(self) -> frames.StreamMetadata:
        """Return how it ended, from `_summary`."""

    @abstractmethod
    def _billed(self, failed: TektonError | None) -> frames.Usage | None:
        """Return what is used whether it failed or not; `None` when nobody was asked."""

    def _stop(self) -> None:
        """Stop what answers, by cancelling the turn's task."""
        if self._task is not None and not self._task.done():
            self._task.cancel()

    @abstractmethod
    def _settle(self) -> None:
        """Close what the turn leaves open, before its last frame."""

    def _content(self, text: str, model: str) -> list[Part]:
        """Return an answer that is more than text as parts; empty for one that is not."""
        return []

    # what is the same

    def _send_text(self, text: str) -> None:
        for piece in in_pieces(text):
            if self._request.stream:
                self._sink.send(frames.StreamChunk(self.request_id, piece, len(self._parts)))
            self._parts.append(piece)

    def _send_phase(self, phase: frames.Phase, position: int = 0, detail: str = "") -> None:
        if (phase, position, detail) == (self._phase, self._position, self._detail) or self._ended.is_set():
            return
        self._phase, self._position, self._detail = phase, position, detail
        if self._request.stream and self._request.phases:
            self._sink.send(frames.StreamPhase(self.request_id, self._ai_id, phase, position, detail))

    def _finish(self) -> None:
        frame = self._last_frame()
        if not self._request.stream and self._request.request_id is not None:
            frame.request_id = self._request.request_id
        self._sink.send(frame)

    def _last_frame(self) -> frames.StreamEnd | frames.StreamError | frames.ChatResponse | frames.ErrorReply:
        name, ai_id, error = self.request_id, self._ai_id, self._ending
        if isinstance(error, TektonError):
            log.info("turn %s: %s: %s", name, error.code, error)
            text, evidence, detail = error.message, error.evidence, error.detail
            if self._request.stream:
                return frames.StreamError(name, ai_id, error.code, text, text, evidence, detail)
            return frames.ErrorReply(ai_id, error.code, text, text, evidence=evidence, detail=detail)
        done = self._metadata()
        ended = done.finish_reason
        log.info("turn %s: %s, %d tokens in %.2f s", name, ended, done.total_tokens, done.total_time)
        if self._request.stream:
            return frames.StreamEnd(name, done)
        text = "".join(self._parts)
        reply = frames.ChatResponse(ai_id, text, done.model, done.usage, ended)
        if parts := self._content(text, done.model):
            reply.parts = parts
        return reply

    def _summary(
        self, finish: frames.FinishReason, usage: frames.Usage, notes: Sequence[str] = ()
    ) -> frames.StreamMetadata:
        """Return what is said of every turn's end; `notes` come behind those that were made on the way."""
        return frames.StreamMetadata(
            total_chunks=len(self._parts),
            total_tokens=usage.output_tokens,
            total_time=round(self._loop.time() - self._arrived, 4),
            ai_id=self._ai_id,
            model=self._who,
            finish_reason=finish,
            usage=usage,
            first_token_ms=None if self._first_token_ms is None else round(self._first_token_ms, 2),
            notes=[*self._notes, *notes],
        )
