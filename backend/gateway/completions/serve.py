"""Serves a request in a dialect's words, plain or streamed. An answer that fails before its first piece is an HTTP error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from backend.gateway.completions.answer import (
    Answered,
    Batch,
    Collector,
    Finish,
    Piece,
    Pieces,
    answer,
    find_target,
)
from backend.gateway.completions.asked import Asked
from backend.gateway.completions.stop_sequences import stopped
from backend.gateway.context import Gateway
from backend.gateway.disconnect import while_present
from backend.gateway.responses import json_reply
from backend.gateway.sse import FrameResponse, check_streams
from backend.orchestration.turns.manager import new_request_id
from backend.schema.content import TokenLogprob
from backend.schema.errors import TektonError

FIRST_PIECE_S = 2.0
"""How long the HTTP status of a stream waits for the first piece; see `_at_once`."""
NOT_PASSED = "{} is not passed on to specialists"
MAX_CHOICES = 8
SSE = "text/event-stream"


@dataclass(frozen=True)
class Head:
    """What every dialect says of an answer beside its content. `name` is its request id, `created` unix seconds."""

    name: str
    created: float
    asked: Asked

    @property
    def model(self) -> str:
        return self.asked.model

    def warnings(self, *finishes: Finish) -> dict[str, list[str]]:
        """Return the field that every dialect has for what was not done as asked; nothing where there is nothing to say."""
        notes = [NOT_PASSED.format(param) for param in self.asked.unused]
        notes += [note for finish in finishes for note in finish.notes]
        return {"warnings": notes} if notes else {}


class Writer(Protocol):
    """An answer in a dialect's words. Built for one answer; `whole` is for those that are not streamed.

    `media` is the stream's type, `alive` what keeps a client waiting (`None` where the dialect has no such thing).
    """

    @property
    def media(self) -> str: ...

    @property
    def alive(self) -> bytes | None: ...

    def whole(self, answers: list[Answered]) -> Any: ...

    def begin(self) -> bytes: ...

    def piece(self, piece: Piece) -> bytes: ...

    def end(self, finish: Finish) -> bytes: ...

    def close(self, finishes: list[Finish]) -> bytes: ...

    def failed(self, error: TektonError) -> bytes: ...


def token_value(token: TokenLogprob) -> dict[str, Any]:
    """Return a token as chat completions, Responses and Ollama have it."""
    return {**_alone(token), "top_logprobs": [_alone(other) for other in token.top]}


def _alone(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": token.bytes}


async def serve(gateway: Gateway, request: Request, asked: Asked, make: Callable[[Head], Writer]) -> Response:
    """Answer a request under a new request id.

    Raises:
        TektonError: It cannot be answered, or failed before its first piece.
    """
    platform = gateway.platform
    ai_id = find_target(platform, asked)
    name = new_request_id()
    # the first has the id that the answer is known by: `x-request-id`, and what it is cancelled by
    names = [name, *(f"{name}-{number}" for number in range(1, asked.choices))]
    pieces = merged([_one(gateway, asked, ai_id, one) for one in names])
    writer = make(Head(name, time.time(), asked))
    if not asked.stream:
        response = json_reply(await while_present(request, _whole(writer, pieces)))
    else:
        check_streams(gateway)
        coming = asyncio.ensure_future(_next(pieces))
        # a refusal that comes at once is still a status code; after the first byte it can only be a frame
        await while_present(request, _at_once(coming))
        first = coming.result() if coming.done() else coming
        response = FrameResponse(gateway, _frames(writer, first, pieces), writer.media, writer.alive)
    response.headers["x-request-id"] = name
    if ai_id:
        response.headers["x-tekton-specialist"] = ai_id
        # a header holds ASCII, the name of a model anything
        response.headers["x-tekton-model"] = (
            platform.fleet.status(ai_id).model.encode("ascii", "replace").decode()
        )
    return name_unused(response, asked.unused)


def name_unused(response: Response, unused: list[str]) -> Response:
    """Name the parameters that change nothing here in an answer's header."""
    if unused:
        response.headers["x-tekton-unused"] = ", ".join(unused)
    return response


async def merged(all_pieces: list[Pieces]) -> Pieces:
    """Yield the pieces of several answers as they come, each with the number of its choice."""
    if len(all_pieces) == 1:
        async with aclosing(all_pieces[0]) as pieces:
            async for batch in pieces:
                yield batch
        return
    coming: dict[asyncio.Future[Batch], int] = {
        asyncio.ensure_future(_next(pieces)): number for number, pieces in enumerate(all_pieces)
    }
    try:
        while coming:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            # By choice, so that what comes at the same time leaves in a repeatable order.
            for future in sorted(done, key=lambda one: coming[one]):
                number = coming.pop(future)
                batch = future.result()
                for piece in batch:
                    piece.choice = number
                if not isinstance(batch[-1], Finish):
                    coming[asyncio.ensure_future(_next(all_pieces[number]))] = number
                yield batch
    finally:
        for future in coming:
            future.cancel()
        if coming:
            await asyncio.wait(coming)
        for pieces in all_pieces:
            await pieces.aclose()


def _one(gateway: Gateway, asked: Asked, ai_id: str, name: str) -> Pieces:
    pieces = answer(gateway, asked, ai_id, name)
    if not asked.options.stops:
        return pieces
    used = gateway.platform.turns.prompt_used
    return stopped(pieces, asked.options.stops, lambda: used(name))


async def _whole(writer: Writer, pieces: Pieces) -> Any:
    """Return an answer in one piece."""
    collectors: dict[int, Collector] = {}
    finishes: dict[int, Finish] = {}
    async with aclosing(pieces):
        async for batch in pieces:
            for piece in batch:
                collector = collectors.setdefault(piece.choice, Collector())
                if isinstance(piece, Finish):
                    finishes[piece.choice] = piece
                else:
                    collector.add(piece)
    if not finishes:
        raise TektonError("the answer ended without a last word")
    return writer.whole([collectors[number].done(finishes[number]) for number in sorted(finishes)])


async def _next(pieces: Pieces) -> Batch:
    return await anext(pieces)


async def _at_once(coming: asyncio.Future[Batch]) -> None:
    """Wait a moment for the first piece: a failure that comes by then is an HTTP error.

    A stream begins after that, and is kept alive until the first token: clients give up on a server that says nothing.
    """
    try:
        await asyncio.wait([coming], timeout=FIRST_PIECE_S)
    except asyncio.CancelledError:
        coming.cancel()
        raise


async def _frames(
    writer: Writer, first: Batch | asyncio.Future[Batch], pieces: Pieces
) -> AsyncGenerator[bytes]:
    """Yield a stream; pieces that came together leave together. A failure is written as the dialect writes errors."""
    finishes: list[Finish] = []
    try:
        yield writer.begin()
        if isinstance(first, asyncio.Future):
            if writer.alive is not None:
                yield writer.alive
            batch = await first
        else:
            batch = first
        while True:
            out: list[bytes] = []
            for piece in batch:
                if isinstance(piece, Finish):
                    finishes.append(piece)
                    out.append(writer.end(piece))
                else:
                    out.append(writer.piece(piece))
            yield b"".join(out)
            batch = await anext(pieces, None)
            if batch is None:
                break
        yield writer.close(finishes)
    except TektonError as error:
        yield writer.failed(error)
    finally:
        await _give_up(first, pieces)


async def _give_up(first: Batch | asyncio.Future[Batch], pieces: Pieces) -> None:
    """End what was asked for; one whose first piece is awaited runs, and cannot be closed until it stands still."""
    if isinstance(first, asyncio.Future):
        first.cancel()
        await asyncio.wait([first])
    await pieces.aclose()
