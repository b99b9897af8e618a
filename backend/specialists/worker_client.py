"""The backend's end of a worker's socket: calls, streamed turns and cancels, many in flight on one connection.

Knows the frames of the socket and no process. When the connection breaks, every open turn ends with an error frame
and every open call with an exception; nothing is sent again.

ChannelError
├── ChannelClosed   the connection is closed, or could not be opened      worker_lost
├── ReplyTimeout    the specialist did not answer in time                 timeout
└── RequestTooLong  prompt and context exceed the longest accepted line   too_large
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple, Protocol, cast, get_args

import msgspec

from backend import wire
from backend.deadlines import loop_timeout
from backend.schema.content import ToolResult
from backend.schema.errors import TektonError
from backend.schema.frames import (
    AgentReport,
    DirectAsk,
    DirectReply,
    DirectTurn,
    ErrorReply,
    Reply,
    Request,
    StreamEnd,
    StreamError,
    StreamReply,
    ToolsReport,
)
from backend.tls import Trust, failure
from backend.worker.keepalive import keep_alive, unconfirmed

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3.0
CAUSE_WAIT_S = 1.0
"""How long open turns wait after their connection broke, before they end: whoever watches the process closes this
client with the real cause meanwhile, such as the signal that killed it."""


class Frames(NamedTuple):
    """Frames of one turn that one read brought. `block` are their lines as the worker wrote them, newline between.

    The block lets the gateway pass frames on without encoding them again.
    """

    frames: Sequence[StreamReply]
    block: bytes


FramesHandler = Callable[[Frames], None]
"""Called once for each read that brought frames of its turn."""

OnReport = Callable[[ToolsReport | AgentReport], None]
OnDirect = Callable[["WorkerClient", DirectReply], None]

_Pairs = list[tuple[StreamReply, bytes]]

_STREAMED_TYPES = frozenset(get_args(StreamReply))


class ChannelError(TektonError):
    """A request to a specialist failed."""


class ChannelClosed(ChannelError):
    code = "worker_lost"


class ReplyTimeout(ChannelError):
    code = "timeout"


class RequestTooLong(ChannelError):
    code = "too_large"


class Channel(Protocol):
    """Requests to one specialist, whatever carries them. `closed` resolves to the reason in words."""

    closed: asyncio.Future[str]

    async def call(self, request: Request, *, timeout_s: float) -> Reply:
        """Return the answer to a request that is no chat. Raises as `WorkerClient.call`."""
        ...

    def start_turn(self, request: Request, on_frames: FramesHandler) -> None:
        """Start a streamed chat; its end and every failure come as its last frame."""
        ...

    async def cancel(self, request_id: str, timeout_s: float) -> bool:
        """Cancel a turn; return whether that ended it within `timeout_s` seconds."""
        ...

    def answer_tool(self, verdict: Request) -> None:
        """Send a `tool_verdict` on a call that a turn of this channel waits with."""
        ...

    def close(self, reason: str = "closed by us") -> None:
        """Close the channel; open turns end with error frames saying `reason`."""
        ...


class WorkerClient(asyncio.Protocol):
    """One connection to one worker. `closed` resolves to the reason in words when it is gone."""

    def __init__(self, ai_id: str = "") -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ai_id = ai_id
        self._loop = asyncio.get_running_loop()
        self._splitter = wire.LineSplitter()
        self._transport: asyncio.Transport | None = None
        self._numbers = count(1)
        self._calls: dict[str, asyncio.Future[Reply]] = {}
        self._turns: dict[str, FramesHandler] = {}
        self._cancels: dict[str, asyncio.Future[bool]] = {}
        self._out: list[bytes] = []
        self._broken = "not connected"
        self.on_tools: OnReport | None = None
        """Called with how the worker's tool servers are, or its agent."""
        self.on_direct: OnDirect | None = None
        """Called with what the worker reports of questions that others asked it directly."""

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
        on_direct: OnDirect | None = None,
        on_tools: OnReport | None = None,
    ) -> WorkerClient:
        """Connect, with TLS if `trust` is given; `token` is sent in a first line, which workers on other hosts require.

        With `on_direct` that line also says that we are the platform; see `answer_direct`.

        Raises:
            ChannelClosed: The connection was refused, not accepted in time, or its certificate cannot be trusted.
        """
        loop = asyncio.get_running_loop()
        context, name = (trust.context, trust.name or host) if trust else (None, None)
        try:
            async with loop_timeout(timeout_s):
                _, client = await loop.create_connection(
                    lambda: cls(ai_id), host, port, ssl=context, server_hostname=name
                )
        except (OSError, TimeoutError) as error:
            why = (failure(error, name) if name else "") or str(error)
            why = why or f"no {'TLS handshake' if trust else 'connection'} within {timeout_s:g} s"
            raise ChannelClosed(
                f"{ai_id or 'the specialist'} on {host}:{port} cannot be reached: {why}"
            ) from error
        client.on_direct, client.on_tools = on_direct, on_tools
        if token:
            client._send(Request(type="hello", token=token, platform=on_direct is not None))
        return client

    async def call(self, request: Request, *, timeout_s: float) -> Reply:
        """Send a request that is answered by one line; return the answer, which may be an `ErrorReply`.

        Raises:
            ReplyTimeout: Nothing came within `timeout_s` seconds.
            ChannelClosed: The connection is gone.
            RequestTooLong: The line would be longer than `MAX_LINE_BYTES`.
        """
        name = request.request_id or f"call-{next(self._numbers)}"
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._check_open()
        self._calls[name] = answer
        try:
            self._send(msgspec.structs.replace(request, request_id=name))
            async with loop_timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise ReplyTimeout(f"{self._who} did not answer {request.type} within {timeout_s:g} s") from error
        finally:
            self._calls.pop(name, None)

    def start_turn(self, request: Request, on_frames: FramesHandler) -> None:
        """Send a streamed chat. `request_id` must be set and not in use; the last frame is an end or an error.

        Failures come as that last frame too, also when the connection is gone already.
        """
        name = request.request_id
        if not name or name in self._turns:
            raise ValueError(f"a turn needs a request id of its own, not {name!r}")
        self._turns[name] = on_frames
        if self._transport is None:
            # Not at once: as with an open connection, frames come after this call has returned.
            self._loop.call_soon(self._end_turn, name, on_frames, self._reason())
            return
        try:
            self._send(msgspec.structs.replace(request, type="chat", stream=True))
        except RequestTooLong as error:
            frame = StreamError(name, self.ai_id, error.code, error.message, error.message)
            self._loop.call_soon(self._deliver, name, Frames([frame], wire.encoder.encode(frame)))

    async def cancel(self, request_id: str, timeout_s: float) -> bool:
        """Cancel a turn; return whether the worker confirmed that the cancel ended it.

        False when the turn ended otherwise, or nothing was confirmed within `timeout_s` seconds.

        Raises:
            ChannelClosed: The connection is gone.
        """
        if request_id not in self._turns:
            return False
        self._check_open()
        confirmed = self._cancels.setdefault(request_id, self._loop.create_future())
        self._send(Request(type="cancel", request_id=request_id))
        try:
            async with loop_timeout(timeout_s):
                # Everybody who cancels this turn waits for the same future; one that gives up must not end it.
                return await asyncio.shield(confirmed)
        except TimeoutError:
            return False

    def answer_tool(self, verdict: Request) -> None:
        """Send a `tool_verdict`; a connection that is gone needs none, and one whose result is too long says so."""
        if self._transport is None:
            return
        try:
            self._send(verdict)
        except RequestTooLong as error:
            self._send(msgspec.structs.replace(verdict, result=ToolResult("", error.message, is_error=True)))

    def answer_direct(self, request: Request) -> None:
        """Send a `verdict` or `counted`; a connection that is gone needs none."""
        if self._transport is not None:
            self._send(request)

    def close(self, reason: str = "closed by us") -> None:
        """Close the connection; open turns end with error frames saying `reason`. Safe to call twice."""
        # The reason first: `connection_lost` then ends the open turns with it instead of waiting for one.
        if not self.closed.done():
            self.closed.set_result(reason)
        if self._transport is not None:
            self._transport.close()
        else:
            self._end_all()

    @property
    def unacknowledged(self) -> bool:
        """Whether the other host's kernel has not confirmed everything that was sent."""
        return self._transport is not None and unconfirmed(self._transport)

    def abort(self, reason: str) -> None:
        """Close without sending what is still queued; open turns end with error frames at once."""
        if not self.closed.done():
            self.closed.set_result(reason)
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self, paused: bool) -> None:
        """Stop reading from the worker, or read again. It then waits before it writes more; nothing is lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading() if paused else self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        keep_alive(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._broken = f"the connection broke: {exc}" if exc else "the specialist closed the connection"
        if self.closed.done():
            self._end_all()
        else:
            self._loop.call_later(CAUSE_WAIT_S, self.close, self._broken)

    def _end_all(self) -> None:
        """End every open call and turn with the reason for which the connection is gone."""
        reason = self._reason()
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(ChannelClosed(f"{self._who}: {reason}"))
        for name, on_frames in list(self._turns.items()):
            self._end_turn(name, on_frames, reason)

    def data_received(self, data: bytes) -> None:
        try:
            if not (block := self._splitter.feed_block(data)):
                return
        except wire.LineTooLong as error:
            self._close_as_invalid(error)
            return
        # Nearly every read brings frames of one turn only: those are decoded and delivered in one go.
        replies = wire.decode_replies(block)
        if replies is not None and (name := _only_turn(replies)) is not None:
            self._deliver(name, Frames(cast(list[StreamReply], replies), block))
        else:
            self._handle_lines(block)

    def _handle_lines(self, block: bytes) -> None:
        """Handle lines of any kind and turn one by one, up to the first that is no frame."""
        batches: dict[str, _Pairs] = {}
        try:
            for line in wire.split_lines(block):
                self._handle(wire.decode_reply(line), line.strip(), batches)
        except msgspec.MsgspecError as error:
            self._close_as_invalid(error)
        for name, pairs in batches.items():
            frames, lines = zip(*pairs, strict=True)
            self._deliver(name, Frames(frames, b"\n".join(lines)))

    def _close_as_invalid(self, error: Exception) -> None:
        why = str(error) or f"a line of more than {wire.MAX_LINE_BYTES:,} bytes"
        log.error("%s sent what is no frame: %s", self._who, why)
        self.close(f"the specialist sent what is no frame: {why}")

    # frames

    def _handle(self, reply: Reply, line: bytes, batches: dict[str, _Pairs]) -> None:
        if isinstance(reply, StreamReply):
            batches.setdefault(reply.request_id, []).append((reply, line))
            return
        if isinstance(reply, ToolsReport | AgentReport):
            if self.on_tools is not None:
                self.on_tools(reply)
            return
        if isinstance(reply, DirectAsk | DirectTurn):
            if self.on_direct is not None:
                self.on_direct(self, reply)
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
            self._handle_error(name, reply, batches)

    def _handle_error(self, name: str, reply: ErrorReply, batches: dict[str, _Pairs]) -> None:
        """End the turn that an error names, unless it answers a cancel that came too late."""
        waiting = self._cancels.pop(name, None)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(False)
        elif name in self._turns:
            frame = StreamError(name, reply.ai_id, reply.code, reply.error, reply.message, reply.evidence)
            batches.setdefault(name, []).append((frame, wire.encoder.encode(frame)))

    def _deliver(self, name: str, frames: Frames) -> None:
        on_frames = self._turns.get(name)
        if on_frames is None:
            return
        last = frames.frames[-1]
        if isinstance(last, StreamEnd | StreamError):
            del self._turns[name]
            waiting = self._cancels.pop(name, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(isinstance(last, StreamEnd) and last.metadata.finish_reason == "cancelled")
        try:
            on_frames(frames)
        except Exception:  # the failure of one turn's consumer must not end the other turns
            log.exception("the consumer of turn %s failed", name)

    def _end_turn(self, name: str, on_frames: FramesHandler, reason: str) -> None:
        text = f"{self._who} was lost while answering: {reason}"
        frame = StreamError(name, self.ai_id, "worker_lost", text, text)
        if self._turns.get(name) is on_frames:
            self._deliver(name, Frames([frame], wire.encoder.encode(frame)))

    # sending

    def _send(self, request: Request) -> None:
        """Queue a line for the write at the end of the loop's step.

        Raises:
            RequestTooLong: The worker would close the connection over it, which would end all other turns.
        """
        line = wire.encode_line(request)
        if len(line) > wire.MAX_LINE_BYTES:
            raise RequestTooLong(
                f"prompt and context make a request of {len(line):,} bytes; {self._who} takes {wire.MAX_LINE_BYTES:,}"
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
            raise ChannelClosed(f"{self._who}: {self._reason()}")

    def _reason(self) -> str:
        return self.closed.result() if self.closed.done() else self._broken

    @property
    def _who(self) -> str:
        return self.ai_id or "the specialist"


def _only_turn(replies: list[Reply]) -> str | None:
    """Return the one turn whose frames all these replies are, `None` if they are of several turns or kinds."""
    # Types before ids: replies of other types need not have a request id.
    if not set(map(type, replies)) <= _STREAMED_TYPES:
        return None
    names = {frame.request_id for frame in cast(list[StreamReply], replies)}
    return names.pop() if len(names) == 1 else None
