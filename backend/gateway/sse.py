"""Server-sent events: the older streaming shapes, live, data-only frames.

Encoders of the platform's own events; a client that goes away cancels what it asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from backend.events import ReplayLost, Subscription
from backend.gateway.context import Gateway
from backend.gateway.responses import error_body
from backend.orchestration.actions.chat import chat_request
from backend.orchestration.turns.manager import Turn, new_request_id
from backend.orchestration.turns.turn import last_frame
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.events import Event, event_decoder
from backend.schema.frames import StreamChunk, StreamEnd, StreamError, StreamMetadata
from backend.schema.params import Chat
from backend.wire import encoder

COMMENT = b": nothing yet\n\n"
"""What readers of events pass over."""
# nginx holds a stream back until its buffer is full, unless the second header says not to
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


_LINE_ENDS = {end.encode(): f"\\u{ord(end):04x}".encode() for end in "\x85\u2028\u2029"}
"""What ends a line for some readers though not for the standard, and how JSON writes it out."""


MARK = "\ue000"
"""Stands for a text while what is around it is encoded, once an answer; a character of private use, which no frame of ours holds."""


def data_of(value: Any) -> bytes:
    """Encode a value as JSON in one line, whatever its reader takes for the end of one."""
    data = encoder.encode(value)
    for end, escaped in _LINE_ENDS.items():
        if end in data:
            data = data.replace(end, escaped)
    return data


def named_event(name: str, value: Any) -> bytes:
    """Encode one event with a name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data_of(value))


def frame(value: Any, event_id: str = "") -> bytes:
    """Encode one frame: data only, or with an id in front of it."""
    head = b"id: %b\n" % event_id.encode() if event_id else b""
    return b"%bdata: %b\n\n" % (head, data_of(value))


def refused(error: TektonError, event_id: str = "") -> bytes:
    """Encode the frame that ends a stream of many: an `error`, whose kind in the sense of the other routes is left out."""
    return frame({**error_body(error)["error"], "type": "error", "error": error.message}, event_id)


def wants_ids(request: Request) -> bool:
    """Return whether frames should have ids: a reader of events says so; older clients expect data and nothing else."""
    return "text/event-stream" in request.headers.get("accept", "")


def resume_point(request: Request) -> tuple[str, int | None] | None:
    """Return the turn and the last chunk that a reader of events had when it lost its connection.

    `None` for one that comes for the first time. The chunk is `None` when the stream had ended, or the id is foreign.
    """
    last = request.headers.get("last-event-id")
    if last is None:
        return None
    name, _, number = last.rpartition("/")
    # a longer number is none of ours
    return name, int(number) if number.isdecimal() and len(number) < 10 else None


def check_streams(gateway: Gateway) -> None:
    """Refuse one more stream than the settings allow.

    Raises:
        TektonError: `too_many` streams are open already.
    """
    limit = gateway.platform.settings.gateway.max_streams
    if gateway.streams >= limit:
        raise TektonError(f"{limit} streams are open already (gateway.max_streams)", code="too_many")


class FrameResponse(StreamingResponse):
    """A stream of frames, counted against the limit of streams (`check_streams`); its end is the frames' end, however it comes.

    While nothing comes, a comment every `gateway.keep_alive_s` keeps clients and proxies from giving up.
    """

    def __init__(
        self,
        gateway: Gateway,
        frames: AsyncGenerator[bytes],
        media: str = "text/event-stream",
        alive: bytes | None = COMMENT,
    ) -> None:
        super().__init__(frames, media_type=media, headers=HEADERS)
        self._gateway, self._frames, self._alive = gateway, frames, alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = _Wire(send, self._alive)
        comments = asyncio.create_task(
            wire.keep_alive(self._gateway.platform.settings.gateway.keep_alive_s), name="keep-alive comments"
        )
        self._gateway.streams += 1
        try:
            await super().__call__(scope, receive, wire.send)
        finally:
            self._gateway.streams -= 1
            comments.cancel()
            # Now, not by the collector later: until then the turns of a client that left would go on.
            await self._frames.aclose()


class _Wire:
    """The way out of one stream, and when it was last used."""

    def __init__(self, send: Send, alive: bytes | None) -> None:
        self._send, self._alive = send, alive
        self._open = False
        self._used = time.monotonic()

    async def send(self, message: Message) -> None:
        """Pass on what the stream sends."""
        self._used = time.monotonic()
        self._open = message["type"] == "http.response.start" or message.get("more_body", False)
        await self._send(message)

    async def keep_alive(self, every_s: float) -> None:
        """Send a comment whenever nothing was sent for `every_s`; ends when the client has gone."""
        with suppress(OSError):
            while True:
                await asyncio.sleep(self._used + every_s - time.monotonic())
                if time.monotonic() - self._used < every_s:
                    continue
                self._used = time.monotonic()
                if self._open and self._alive:
                    await self._send({"type": "http.response.body", "body": self._alive, "more_body": True})


def stream_response(gateway: Gateway, frames: AsyncGenerator[bytes]) -> FrameResponse:
    """Answer with a stream of frames.

    Raises:
        TektonError: `too_many` streams are open already.
    """
    check_streams(gateway)
    return FrameResponse(gateway, frames)


class EventsMissed(TektonError):
    """Events of a conversation are held no more: they were read too slowly, or their numbers began anew with the store.

    The subscription goes on behind the newest one.
    """


async def own_events(subscription: Subscription) -> AsyncIterator[list[Event]]:
    """Yield the events of one conversation, in read batches.

    Raises:
        EventsMissed: Some of them are held no more.
    """
    try:
        while True:
            yield [event_decoder.decode(line) for line in await subscription.next()]
    except ReplayLost as lost:
        subscription.go_on()
        raise EventsMissed(
            f"events of this stream are not held any more, it was read too slowly or the store lost them: {lost}",
            code="too_many",
        ) from lost


async def turn_events(
    turn: Turn, subscription: Subscription, first: int = 0, *, whole: bool = False
) -> AsyncGenerator[list[Event]]:
    """Yield a turn's events from chunk `first` on to its end: those that came, and those to come.

    What the event log holds no more the turn itself still has: its text and its end. Nothing comes twice. `whole` says that
    the subscription began before the turn, so that all its events come by it, each beside the text it belongs to.
    """
    there, behind = first, not whole
    while True:
        if behind:
            over, early = turn.done.done(), _came(turn, there)
            there = max(there, turn.chunks)  # later ones come as events
            if early:
                yield early
            if over:  # not as it is now: it may have ended while the client took what had come
                return
        behind = True
        with suppress(EventsMissed):
            async for events in own_events(subscription):
                fresh: list[Event] = []
                ended = False
                for event in events:
                    match event:
                        case StreamChunk():
                            if event.chunk_index < there:
                                continue
                            there = event.chunk_index + 1
                        case StreamEnd() | StreamError():
                            ended = True
                        case _:
                            pass
                    fresh.append(event)
                if fresh:
                    yield fresh
                if ended:
                    return


def _came(turn: Turn, first: int) -> list[Event]:
    """Return what came of a turn from chunk `first` on, and its end, from what the turn itself has."""
    came: list[Event] = [
        StreamChunk(turn.request_id, piece, index) for index, piece in enumerate(turn.pieces(first), first)
    ]
    return [*came, last_frame(turn.done.result())] if turn.done.done() else came


async def chat_frames(
    gateway: Gateway, params: Chat, include_metadata: bool, ids: bool
) -> AsyncGenerator[bytes]:
    """Yield the chunk, complete and error frames of one turn; ids are `<request id>/<chunk>` and `<request id>/end`.

    A request id that is known replays what came of its turn. Who began a turn ends it by going away.
    """
    platform = gateway.platform
    params.request_id = params.request_id or new_request_id()
    subscription = platform.events.subscribe()
    subscription.follow(params.request_id)
    joined = platform.turns.is_known(params.request_id)
    turn: Turn | None = None
    try:
        try:
            turn = await platform.turns.start(
                chat_request(
                    params, catalog=platform.catalog, selector=platform.selector, turns=platform.turns
                )
            )
        except TektonError as error:
            end = f"{params.request_id}/end" if ids else ""
            yield frame(_error_frame(error.code, error.message, params.ai_id, 0), end)
            return
        encode = _TurnEncoder(gateway, turn, include_metadata, ids)
        async for data in _turn_frames(turn, encode, subscription, 0):
            yield data
    finally:
        subscription.close()
        if turn is not None and not joined and not turn.done.done():
            platform.turns.cancel_soon(turn.request_id)


async def resumed_frames(
    gateway: Gateway, turn: Turn, after: int, include_metadata: bool
) -> AsyncGenerator[bytes]:
    """Yield what came of a turn after a chunk, and what still comes. Nothing is asked again."""
    subscription = gateway.platform.events.subscribe()
    subscription.follow(turn.request_id)
    try:
        encode = _TurnEncoder(gateway, turn, include_metadata, True)
        async for data in _turn_frames(turn, encode, subscription, after + 1):
            yield data
    finally:
        subscription.close()


async def _turn_frames(
    turn: Turn, encode: _TurnEncoder, subscription: Subscription, first: int
) -> AsyncGenerator[bytes]:
    """Yield the frames of a turn from its chunk `first` on: those that came, those to come, and its end."""
    async for events in turn_events(turn, subscription, first):
        out: list[bytes] = []
        for event in events:
            match event:
                case StreamChunk():
                    out.append(encode.chunk(event.chunk_index, event.content))
                case StreamEnd(metadata=facts):
                    out.append(encode.complete(facts))
                case StreamError():
                    out.append(encode.error(event.code, event.message))
                case _:
                    pass
        if out:
            yield b"".join(out)


class _TurnEncoder:
    """Encodes the frames of one turn, each with its id."""

    def __init__(self, gateway: Gateway, turn: Turn, include_metadata: bool, ids: bool) -> None:
        self._turn, self._include_metadata, self._ids = turn, include_metadata, ids
        self._status = gateway.platform.fleet.status(turn.ai_id)
        self._chunks = 0

    def chunk(self, index: int, content: str) -> bytes:
        self._chunks = index + 1
        body: dict[str, Any] = {"type": "chunk", "content": content}
        if self._include_metadata:
            body["metadata"] = {
                "chunk_index": index,
                "elapsed_time": time.monotonic() - self._turn.started,
                "total_tokens_so_far": self._chunks,
                "specialist_id": self._turn.ai_id,
                "ai_name": self._status.name,
                "model": self._status.model,
            }
        return frame(body, self._id(str(index)))

    def complete(self, facts: StreamMetadata) -> bytes:
        summary = {
            "total_chunks": facts.total_chunks,
            "total_tokens": facts.total_tokens,
            "total_time": facts.total_time,
            "first_token_ms": self._turn.first_token_ms,
            "specialist_id": self._turn.ai_id,
            "model": facts.model,
            "session_id": self._turn.session_id,
            "finish_reason": facts.finish_reason,
        }
        return self._last({"type": "complete", "content": "", "metadata": {}, "summary": summary})

    def error(self, code: str, message: str) -> bytes:
        return self._last(_error_frame(code, message, self._turn.ai_id, self._chunks))

    def _last(self, value: dict[str, Any]) -> bytes:
        return frame(value, self._id("end"))

    def _id(self, place: str) -> str:
        return f"{self._turn.request_id}/{place}" if self._ids else ""


def _error_frame(code: str, text: str, ai_id: str, chunks: int) -> dict[str, Any]:
    return {
        "type": "error",
        "error": text,
        "code": code,
        "specialist_id": ai_id,
        "partial_response": {"chunks_received": chunks, "tokens_received": chunks},
    }


def wants_metadata(request: Request, values: dict[str, Any]) -> bool:
    """Read the switch `include_metadata`, on by default, from body or query."""
    value = values.pop("include_metadata", True)
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "1", "yes", "false", "0", "no"):
        return str(value).lower() in ("true", "1", "yes")
    raise InvalidRequest(f"include_metadata: expected true or false, found {value!r}")
