"""Server-sent events: the older streaming shapes, live, data-only frames.

Encoders of the platform's own events; a client that goes away cancels what it asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from backend.events import ReplayLost, Subscription
from backend.gateway.context import Gateway
from backend.gateway.replies import error_body
from backend.orchestration.actions import InvalidRequest
from backend.orchestration.actions.chat import ChatParams, TeamChatParams, chat_order, team_order
from backend.orchestration.turns import Turn, new_request_id
from backend.schema.errors import TektonError
from backend.schema.events import Event, TeamEnd, TurnStarted, event_decoder
from backend.schema.frames import StreamChunk, StreamEnd, StreamError
from backend.wire import encoder

COMMENT = b": nothing yet\n\n"
"""What readers of events pass over."""
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


_LINE_ENDS = {end.encode(): f"\\u{ord(end):04x}".encode() for end in "\x85\u2028\u2029"}
"""What ends a line for some readers though not for the standard, and how JSON writes it out."""


def data_of(value: Any) -> bytes:
    """Encode a value as JSON in one line, whatever its reader takes for the end of one."""
    data = encoder.encode(value)
    for end, escaped in _LINE_ENDS.items():
        if end in data:
            data = data.replace(end, escaped)
    return data


def frame(value: Any) -> bytes:
    """Encode one data-only frame."""
    return b"data: %b\n\n" % data_of(value)


def check_streams(gateway: Gateway) -> None:
    """Refuse one more stream than the settings allow.

    Raises:
        TektonError: `too_many` streams are open already.
    """
    limit = gateway.platform.settings.gateway.max_streams
    if gateway.streams >= limit:
        raise TektonError(f"{limit} streams are open already (gateway.max_streams)", code="too_many")


class FrameResponse(StreamingResponse):
    """A stream of frames, counted against the limit of streams; its end is the frames' end, however it comes.

    While nothing comes, a comment every `gateway.keep_alive_s` keeps clients and proxies from giving up.
    """

    def __init__(self, gateway: Gateway, frames: AsyncGenerator[bytes]) -> None:
        super().__init__(frames, media_type="text/event-stream", headers=HEADERS)
        self._gateway, self._frames = gateway, frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = _Wire(send)
        comments = asyncio.create_task(
            wire.keep_alive(self._gateway.platform.settings.gateway.keep_alive_s), name="keep-alive comments"
        )
        self._gateway.streams += 1
        try:
            await super().__call__(scope, receive, wire.send)
        finally:
            self._gateway.streams -= 1
            comments.cancel()
            await (
                self._frames.aclose()
            )  # now: left to the collector, the turns of a client that left would go on


class _Wire:
    """The way out of one stream, and when it was last used."""

    def __init__(self, send: Send) -> None:
        self._send = send
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
                if self._open:
                    await self._send({"type": "http.response.body", "body": COMMENT, "more_body": True})


def stream_response(gateway: Gateway, frames: AsyncGenerator[bytes]) -> FrameResponse:
    """Answer with a stream of frames.

    Raises:
        TektonError: `too_many` streams are open already.
    """
    check_streams(gateway)
    return FrameResponse(gateway, frames)


async def own_events(subscription: Subscription) -> AsyncIterator[list[Event]]:
    """Yield the events of one conversation, in read batches."""
    try:
        while True:
            yield [event_decoder.decode(line) for line in await subscription.next()]
    except ReplayLost as lost:
        raise TektonError(f"this stream was read too slowly: {lost}", code="too_many") from lost


async def chat_frames(gateway: Gateway, params: ChatParams, include_metadata: bool) -> AsyncGenerator[bytes]:
    """Yield the chunk, complete and error frames of one turn."""
    platform = gateway.platform
    params.request_id = params.request_id or new_request_id()
    subscription = platform.events.subscribe()
    subscription.follow(params.request_id)
    turn: Turn | None = None
    chunks = 0
    try:
        try:
            turn = await platform.turns.start(await chat_order(platform, params))
        except TektonError as error:
            yield frame(_error_frame(error.code, error.message, params.ai_id, 0))
            return
        status = platform.fleet.status(turn.ai_id)
        async for events in own_events(subscription):
            out: list[bytes] = []
            for event in events:
                match event:
                    case StreamChunk():
                        chunks += 1
                        meta = {
                            "chunk_index": event.chunk_index,
                            "elapsed_time": time.monotonic() - turn.started,
                            "total_tokens_so_far": chunks,
                            "specialist_id": turn.ai_id,
                            "ai_name": status.name,
                            "model": status.model,
                        }
                        body = {"type": "chunk", "content": event.content}
                        out.append(frame({**body, "metadata": meta} if include_metadata else body))
                    case StreamEnd(metadata=facts):
                        summary = {
                            "total_chunks": facts.total_chunks,
                            "total_tokens": facts.total_tokens,
                            "total_time": facts.total_time,
                            "first_token_ms": turn.first_token_ms,
                            "specialist_id": turn.ai_id,
                            "model": facts.model,
                            "session_id": turn.session_id,
                            "finish_reason": facts.finish_reason,
                        }
                        out.append(
                            frame({"type": "complete", "content": "", "metadata": {}, "summary": summary})
                        )
                    case StreamError():
                        out.append(frame(_error_frame(event.code, event.message, turn.ai_id, chunks)))
                    case _:
                        pass
            if out:
                yield b"".join(out)
            if any(isinstance(event, StreamEnd | StreamError) for event in events):
                return
    finally:
        subscription.close()
        if turn is not None and not turn.done.done():
            platform.turns.cancel_soon(turn.request_id)


async def team_frames(gateway: Gateway, params: TeamChatParams) -> AsyncGenerator[bytes]:
    """Yield the interleaved frames of a team turn as its members answer."""
    platform = gateway.platform
    params.request_id = params.request_id or new_request_id()
    subscription = platform.events.subscribe()
    subscription.follow(params.request_id)
    run = None
    owners: dict[str, str] = {}
    try:
        run = await platform.teams.start(team_order(platform, params))
        async for events in own_events(subscription):
            out = [
                frame(value)
                for event in events
                if (value := _team_value(event, owners, platform.fleet.status))
            ]
            if out:
                yield b"".join(out)
            for event in events:
                if isinstance(event, TeamEnd):
                    summary = {
                        "total_ais": len(run.start.lanes),
                        "completed_streams": event.answered,
                        "failed": event.failed,
                        "cancelled": event.cancelled,
                        "total_time": event.total_time,
                        "synthesis": event.synthesis,
                        "consensus": event.consensus,
                    }
                    yield frame({"type": "team_complete", "summary": summary})
                    return
    except TektonError as error:
        yield frame({"type": "error", **error_body(error)["error"], "error": error.message})
    finally:
        subscription.close()
        if run is not None and not run.done.done():
            platform.teams.cancel_soon(run)


def _team_value(event: Event, owners: dict[str, str], status: Callable[[str], Any]) -> dict[str, Any] | None:
    match event:
        case TurnStarted():
            owners[event.request_id] = event.ai_id
            return None
        case StreamChunk():
            ai_id = owners.get(event.request_id, "")
            return {
                "type": "team_chunk",
                "specialist_id": ai_id,
                "specialist_name": ai_id.removesuffix("-ai"),
                "content": event.content,
                "is_final": False,
                "metadata": {"chunk_index": event.chunk_index},
            }
        case StreamEnd(metadata=facts) if facts.finish_reason != "cancelled":
            return {
                "type": "team_chunk",
                "specialist_id": facts.ai_id,
                "specialist_name": facts.ai_id.removesuffix("-ai"),
                "content": "",
                "is_final": True,
                "metadata": {
                    "model": facts.model,
                    "total_tokens": facts.total_tokens,
                    "total_time": facts.total_time,
                },
            }
        case StreamEnd(metadata=facts):
            return {
                "type": "specialist_error",
                "specialist_id": facts.ai_id,
                "code": "cancelled",
                "error": "cancelled",
            }
        case StreamError():
            return {
                "type": "specialist_error",
                "specialist_id": event.ai_id,
                "code": event.code,
                "error": event.message,
            }
        case _:
            return None


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
