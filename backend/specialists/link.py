"""The client end of a specialist's socket: calls, streamed turns, cancels, many in flight on one connection.

Knows the frames of the socket and no process. A connection that breaks ends every open turn as an error frame and
every open call as an exception; nothing is sent again.

LinkError
├── LinkBroken      the connection is closed or never came about    worker_lost
├── NoAnswer        the specialist did not answer in time           timeout
└── RequestTooLong  prompt and context make a line nobody takes     too_large
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple, Protocol, TypeGuard, cast

import msgspec

from backend.schema.errors import TektonError
from backend.schema.frames import (
    ErrorReply,
    Reply,
    Request,
    StreamChunk,
    StreamEnd,
    StreamError,
    StreamPhase,
    StreamReasoning,
    StreamReply,
    StreamStart,
)
from backend.specialists.keepalive import keep_alive, unconfirmed
from backend.tls import Trust, failure
from backend.wire import (
    MAX_LINE_BYTES,
    LineSplitter,
    LineTooLong,
    decode_replies,
    decode_reply,
    encode_line,
    encoder,
    split_lines,
)

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3.0
EXPLAIN_S = 0.1
"""How long the end of a broken connection's turns waits for whoever watches the process to say how that ended."""


class Frames(NamedTuple):
    """What one read brought of one turn: its frames, and their lines as the worker wrote them, newline between."""

    frames: Sequence[StreamReply]
    block: bytes


FrameSink = Callable[[Frames], None]
"""Called once a read."""

_Pairs = list[tuple[StreamReply, bytes]]

_STREAMED = (StreamStart, StreamPhase, StreamReasoning, StreamChunk, StreamEnd, StreamError)
_STREAMED_TYPES = frozenset(_STREAMED)


class LinkError(TektonError):
    """A specialist could not be asked."""


class LinkBroken(LinkError):
    code = "worker_lost"


class NoAnswer(LinkError):
    code = "timeout"


class RequestTooLong(LinkError):
    code = "too_large"


class Channel(Protocol):
    """How a specialist is asked, whatever carries the question."""

    closed: asyncio.Future[str]

    async def call(self, request: Request, *, timeout_s: float) -> Reply: ...

    def start_turn(self, request: Request, sink: FrameSink) -> None: ...

    async def cancel(self, request_id: str, timeout_s: float) -> bool: ...

    def close(self, reason: str = "closed by us") -> None: ...


class Link(asyncio.Protocol):
    """One connection to one specialist. `closed` resolves to the reason in words when it is gone."""

    def __init__(self, ai_id: str = "") -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ai_id = ai_id
        self.last_heard = 0.0
        """When bytes last came; the loop's clock."""
        self._loop = asyncio.get_running_loop()
        self._splitter = LineSplitter()
        self._transport: asyncio.Transport | None = None
        self._numbers = count(1)
        self._calls: dict[str, asyncio.Future[Reply]] = {}
        self._turns: dict[str, FrameSink] = {}
        self._cancels: dict[str, asyncio.Future[bool]] = {}
        self._out: list[bytes] = []
        self._broken = "not connected"

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        token: str | None = None,
        ai_id: str = "",
        timeout_s: float = CONNECT_TIMEOUT_S,
        trust: Trust | None = None,
    ) -> Link:
        """Connect, by TLS where `trust` is given; `token` is the first line, as hosts beyond loopback demand.

        Raises:
            LinkBroken: Nobody accepts connections there, or not in time, or who does cannot be trusted.
        """
        loop = asyncio.get_running_loop()
        context, name = (trust.context, trust.name or host) if trust else (None, None)
        try:
            async with asyncio.timeout(timeout_s):
                _, link = await loop.create_connection(
                    lambda: cls(ai_id), host, port, ssl=context, server_hostname=name
                )
        except (OSError, TimeoutError) as error:
            why = (failure(error, name) if name else "") or str(error)
            why = why or f"no {'TLS handshake' if trust else 'connection'} within {timeout_s:g} s"
            raise LinkBroken(
                f"{ai_id or 'the specialist'} on {host}:{port} cannot be reached: {why}"
            ) from error
        if token:
            link._send(Request(type="hello", token=token))
        return link

    async def call(self, request: Request, *, timeout_s: float) -> Reply:
        """Send a request that is answered by one line and return that answer, an error reply included.

        Raises:
            NoAnswer: Nothing came within `timeout_s` seconds.
            LinkBroken: The connection is gone.
        """
        name = request.request_id or f"call-{next(self._numbers)}"
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._check_open()
        self._calls[name] = answer
        try:
            self._send(msgspec.structs.replace(request, request_id=name))
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise NoAnswer(f"{self._who} did not answer {request.type} within {timeout_s:g} s") from error
        finally:
            self._calls.pop(name, None)

    def start_turn(self, request: Request, sink: FrameSink) -> None:
        """Send a streamed chat; `request_id` must be set and new. The sink's last frame is an end or an error.

        A connection that is gone already ends the turn at once, through the sink.
        """
        name = request.request_id
        if not name or name in self._turns:
            raise ValueError(f"a turn needs a request id of its own, not {name!r}")
        self._turns[name] = sink
        if self._transport is None:
            self._loop.call_soon(self._end_turn, name, sink, self._reason())
            return
        try:
            self._send(msgspec.structs.replace(request, type="chat", stream=True))
        except RequestTooLong as error:
            frame = StreamError(name, self.ai_id, error.code, error.message, error.message)
            self._loop.call_soon(self._deliver, name, Frames([frame], encoder.encode(frame)))

    async def cancel(self, request_id: str, timeout_s: float) -> bool:
        """Ask for a turn's end; return whether the specialist confirmed that it was cut.

        False when the turn ended otherwise, or nobody confirmed within `timeout_s` seconds.

        Raises:
            LinkBroken: The connection is gone.
        """
        if request_id not in self._turns:
            return False
        self._check_open()
        confirmed = self._cancels.setdefault(request_id, self._loop.create_future())
        self._send(Request(type="cancel", request_id=request_id))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(confirmed)
        except TimeoutError:
            return False

    def close(self, reason: str = "closed by us") -> None:
        """Close the connection; open turns end as errors. Safe to call twice."""
        if not self.closed.done():
            self.closed.set_result(reason)
        if self._transport is not None:
            self._transport.close()
        else:
            self._end_all()

    @property
    def cut_off(self) -> bool:
        """Whether the other host does not even confirm that it received what was sent."""
        return self._transport is not None and unconfirmed(self._transport)

    def abandon(self, reason: str) -> None:
        """Close without waiting for the other end to take what was sent; open turns end as errors at once."""
        if not self.closed.done():
            self.closed.set_result(reason)
        if self._transport is not None:
            self._transport.abort()

    def hold(self, held: bool) -> None:
        """Stop reading from the specialist, or go on: its own writing then waits, and nothing is lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading() if held else self._transport.resume_reading()

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.last_heard = self._loop.time()
        keep_alive(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._broken = f"the connection broke: {exc}" if exc else "the specialist closed the connection"
        if self.closed.done():
            self._end_all()
        else:
            self._loop.call_later(EXPLAIN_S, self.close, self._broken)

    def _end_all(self) -> None:
        """End every call and every turn for the reason the connection is gone."""
        reason = self._reason()
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(LinkBroken(f"{self._who}: {reason}"))
        for name, sink in list(self._turns.items()):
            self._end_turn(name, sink, reason)

    def data_received(self, data: bytes) -> None:
        self.last_heard = self._loop.time()
        try:
            if not (block := self._splitter.take(data)):
                return
        except LineTooLong as error:
            self._break_off(error)
            return
        replies = decode_replies(block)
        if replies is not None and (name := _only_turn(replies)) is not None:
            self._deliver(
                name, Frames(cast(list[StreamReply], replies), block)
            )  # nearly all that comes is of one turn
        else:
            self._sort(block)

    def _sort(self, block: bytes) -> None:
        """Take lines of all kinds and turns one by one, up to the first that is no frame."""
        batches: dict[str, _Pairs] = {}
        try:
            for line in split_lines(block):
                self._take(decode_reply(line), line.strip(), batches)
        except msgspec.MsgspecError as error:
            self._break_off(error)
        for name, pairs in batches.items():
            frames, lines = zip(*pairs, strict=True)
            self._deliver(name, Frames(frames, b"\n".join(lines)))

    def _break_off(self, error: Exception) -> None:
        log.error("%s sent what is no frame: %s", self._who, error)
        self.close(f"the specialist sent what is no frame: {error}")

    # frames

    def _take(self, reply: Reply, line: bytes, batches: dict[str, _Pairs]) -> None:
        if _is_streamed(reply):
            batches.setdefault(reply.request_id, []).append((reply, line))
            return
        name = getattr(reply, "request_id", msgspec.UNSET)
        if not isinstance(name, str):
            if isinstance(reply, ErrorReply):
                log.warning("%s: %s: %s", self._who, reply.code, reply.message)
            return
        if (answer := self._calls.get(name)) is not None:
            if not answer.done():
                answer.set_result(reply)
        elif isinstance(reply, ErrorReply):
            self._take_refusal(name, reply, batches)

    def _take_refusal(self, name: str, reply: ErrorReply, batches: dict[str, _Pairs]) -> None:
        """An error that names a turn ends it, unless it answers a cancel that came too late."""
        waiting = self._cancels.pop(name, None)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(False)
        elif name in self._turns:
            frame = StreamError(name, reply.ai_id, reply.code, reply.error, reply.message, reply.evidence)
            batches.setdefault(name, []).append((frame, encoder.encode(frame)))

    def _deliver(self, name: str, frames: Frames) -> None:
        sink = self._turns.get(name)
        if sink is None:
            return
        last = frames.frames[-1]
        if isinstance(last, StreamEnd | StreamError):
            del self._turns[name]
            waiting = self._cancels.pop(name, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(isinstance(last, StreamEnd) and last.metadata.finish_reason == "cancelled")
        try:
            sink(frames)
        except Exception:  # one turn's consumer must not end the others'
            log.exception("the consumer of turn %s failed", name)

    def _end_turn(self, name: str, sink: FrameSink, reason: str) -> None:
        text = f"{self._who} was lost while answering: {reason}"
        frame = StreamError(name, self.ai_id, "worker_lost", text, text)
        if self._turns.get(name) is sink:
            self._deliver(name, Frames([frame], encoder.encode(frame)))

    # sending

    def _send(self, request: Request) -> None:
        """Queue a line for the write at the end of this moment.

        Raises:
            RequestTooLong: The specialist would close the connection over it, and end others' turns.
        """
        line = encode_line(request)
        if len(line) > MAX_LINE_BYTES:
            raise RequestTooLong(
                f"prompt and context make a request of {len(line):,} bytes; {self._who} takes {MAX_LINE_BYTES:,}"
            )
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(line)

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _check_open(self) -> None:
        if self._transport is None or self.closed.done():
            raise LinkBroken(f"{self._who}: {self._reason()}")

    def _reason(self) -> str:
        return self.closed.result() if self.closed.done() else self._broken

    @property
    def _who(self) -> str:
        return self.ai_id or "the specialist"


def _is_streamed(reply: Reply) -> TypeGuard[StreamReply]:
    return isinstance(reply, _STREAMED)


def _only_turn(replies: list[Reply]) -> str | None:
    """Return the turn all replies are frames of, or `None` when there are others among them."""
    if not set(map(type, replies)) <= _STREAMED_TYPES:
        return None
    names = {frame.request_id for frame in cast(list[StreamReply], replies)}
    return names.pop() if len(names) == 1 else None
