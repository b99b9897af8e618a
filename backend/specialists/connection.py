"""One client's connection to a specialist: lines in, answers out, many turns in flight.

Frames that carry a `request_id` are answered as they finish; those without one in the order they came. What is ready
at one moment leaves in one write. Knows how requests are read and ordered, not how they are answered.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from itertools import count
from typing import cast

import msgspec
from msgspec import Struct

from backend.schema.errors import ErrorCode, TektonError
from backend.schema.frames import ErrorReply, Request
from backend.specialists.keepalive import keep_alive
from backend.specialists.specialist import CHAT_TYPES, Specialist
from backend.specialists.turn import Turn
from backend.wire import LineSplitter, LineTooLong, decode_request, encoder

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 256
"""Requests under way on one connection; more are refused."""
MAX_ORDERED = 64
"""Requests waiting for their order before reading pauses."""
FLUSH_BYTES = 64 * 1024
"""Bytes gathered before they are written without waiting for the end of the moment."""
LINGER_S = 2.0
"""How long a refused client may read its refusal before the connection is cut."""

_unnamed = count(1)

_HTTP = re.compile(rb"[A-Z]{3,10} ")
"""How an HTTP request begins, and no JSON does."""


class Connection(asyncio.Protocol):
    """Serves one client. A client that vanishes takes its turns with it; that is no error."""

    def __init__(self, specialist: Specialist, open_connections: set[Connection]) -> None:
        self._specialist = specialist
        self._open = open_connections
        self._splitter = LineSplitter()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._first = True
        self._admitted = not specialist.spec.off_loopback
        self._refused = False
        self._leaving = False
        self._turns: dict[str, Turn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ordered: deque[Request | ErrorReply] = deque()
        self._ordering: asyncio.Task[None] | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flushing = False
        self._writable: asyncio.Future[None] | None = None

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        keep_alive(self._transport)
        self._specialist.clients += 1
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._specialist.clients -= 1
        self._open.discard(self)
        self._transport = None
        self.pause_over()
        for task in list(self._tasks):
            task.cancel()
        if self._ordering is not None:
            self._ordering.cancel()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._first and _HTTP.match(data):
            self._close()
            return
        try:
            lines = self._splitter.feed(data)
        except LineTooLong:
            self._refuse("line_too_long", "the line is longer than 8 MiB; the connection closes")
            return
        for line in lines:
            self._first = False
            self._on_line(line)
            if self._refused:
                return

    def eof_received(self) -> bool:
        """The client sends no more: turns it named end, answers it waits for in order are still written."""
        self._leaving = True
        for turn in self._turns.values():
            turn.cancel()
        if self._ordering is None and not self._tasks:
            self._flush()
            return False
        return True

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        self.pause_over()

    # the turns' side

    @property
    def full(self) -> bool:
        return self._writable is not None

    def send(self, frame: Struct) -> None:
        """Queue a frame for the write at the end of this moment."""
        line = encoder.encode(frame)
        self._out.append(line)
        self._out_bytes += len(line)
        if self._out_bytes > FLUSH_BYTES:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    async def drain(self) -> None:
        """Wait until the client has read enough."""
        self._flush()
        if self._writable is not None:
            await self._writable

    def pause_over(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    async def farewell(self, text: str, timeout_s: float) -> None:
        """End every turn with an error frame, because the worker is leaving, and write it."""
        for turn in self._turns.values():
            turn.cancel(TektonError(text, code="worker_lost"))
        waited = set(self._tasks)
        if self._ordering is not None:
            waited.add(self._ordering)
        if waited:
            await asyncio.wait(waited, timeout=timeout_s)
        self._close()

    # reading

    def _on_line(self, line: bytes) -> None:
        try:
            request = decode_request(line)
        except msgspec.ValidationError as error:
            self._in_order(self._specialist.error("invalid_request", _sentence(error), _named(line)))
        except (msgspec.DecodeError, RecursionError) as error:
            self._in_order(self._specialist.error("invalid_json", _sentence(error)))
        else:
            if self._admit(request):
                self._on_request(request)

    def _admit(self, request: Request) -> bool:
        """Let a request pass if the client said hello with the token, where it must; swallow the hello."""
        if request.type == "hello":
            self._admitted = self._admitted or self._specialist.is_token(request.token)
            if self._admitted:
                return False
        if not self._admitted:
            self._refuse("unauthorized", "the first line must be a hello with the platform's worker token")
        return self._admitted

    def _on_request(self, request: Request) -> None:
        if request.type == "cancel":
            self._on_cancel(request)
        elif request.request_id is None:
            self._in_order(request)
        elif reply := self._specialist.at_once(request):
            self.send(reply)
        elif len(self._tasks) >= MAX_IN_FLIGHT:
            text = f"{MAX_IN_FLIGHT} requests are under way on this connection; wait for one to end"
            self.send(self._specialist.error("too_many", text, request))
        elif request.type in CHAT_TYPES and request.request_id in self._turns:
            text = f"a turn {request.request_id!r} is under way on this connection; choose another id"
            self.send(self._specialist.error("conflict", text, request))
        else:
            turn = self._begin(request, request.request_id) if request.type in CHAT_TYPES else None
            task = self._loop.create_task(self._serve(request, turn))
            self._tasks.add(task)
            task.add_done_callback(self._on_task_done)

    def _on_cancel(self, request: Request) -> None:
        turn = self._turns.get(request.request_id or "")
        if turn is None:
            text = f"no turn {request.request_id!r} is under way on this connection"
            self.send(self._specialist.error("invalid_request", text, request))
        else:
            turn.cancel()

    # answering

    def _in_order(self, item: Request | ErrorReply) -> None:
        """Answer now if nothing waits and no waiting is needed, else when its turn comes."""
        if isinstance(item, ErrorReply) and item.request_id is not msgspec.UNSET:
            self.send(item)
            return
        if self._ordering is None:
            reply = item if isinstance(item, ErrorReply) else self._specialist.at_once(item)
            if reply is not None:
                self.send(reply)
                return
        self._ordered.append(item)
        if len(self._ordered) >= MAX_ORDERED and self._transport is not None:
            self._transport.pause_reading()
        if self._ordering is None:
            self._ordering = self._loop.create_task(self._answer_in_order())

    async def _answer_in_order(self) -> None:
        try:
            while self._ordered:
                item = self._ordered.popleft()
                if self._transport is not None and len(self._ordered) < MAX_ORDERED:
                    self._transport.resume_reading()
                if isinstance(item, ErrorReply):
                    self.send(item)
                else:
                    name = f"unnamed-{next(_unnamed)}"
                    await self._serve(item, self._begin(item, name) if item.type in CHAT_TYPES else None)
        finally:
            self._ordering = None
            self._close_if_left()

    def _begin(self, request: Request, request_id: str) -> Turn:
        """Make a turn known before it runs, so that a cancel on the next line finds it."""
        turn = self._turns[request_id] = self._specialist.turn(request, request_id, self)
        return turn

    async def _serve(self, request: Request, turn: Turn | None) -> None:
        if turn is None:
            self.send(await self._specialist.answer(request))
            return
        try:
            await turn.run()
        finally:
            del self._turns[turn.request_id]

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a request failed", exc_info=error)
        self._close_if_left()

    # writing

    def _flush(self) -> None:
        self._flushing = False
        if self._out and self._transport is not None:
            self._transport.write(b"\n".join([*self._out, b""]))
        self._out.clear()
        self._out_bytes = 0

    def _refuse(self, code: ErrorCode, text: str) -> None:
        """Say why and close, leaving the client a moment to read it."""
        self._refused = True
        self.send(self._specialist.error(code, text))
        self._flush()
        if self._transport is not None:
            if self._transport.can_write_eof():  # TLS has no half-closed connections
                self._transport.write_eof()
            self._loop.call_later(LINGER_S, self._close)

    def _close_if_left(self) -> None:
        if self._leaving and self._ordering is None and not self._tasks:
            self._close()

    def _close(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()


def _sentence(error: Exception) -> str:
    return f"not a request: {error}"


class _Name(Struct):
    request_id: str | None = None


def _named(line: bytes) -> Request | None:
    """Return a request with the id of a line whose other fields are wrong, if it has one."""
    try:
        return Request(request_id=msgspec.json.decode(line, type=_Name).request_id)
    except msgspec.MsgspecError:
        return None
