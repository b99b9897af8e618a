"""A worker's end of one client's connection: request lines in, frames out, many requests at a time.

Requests with a `request_id` are answered as they finish; those without one in the order they came. Frames that are
ready in one step of the event loop leave in one write. Knows how requests are read and ordered, not how they are
answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from itertools import count
from typing import NamedTuple, cast

import msgspec
from msgspec import Struct

from backend.schema.errors import ErrorCode, TektonError
from backend.schema.frames import ErrorReply, Request
from backend.wire import MAX_LINE_BYTES, LineSplitter, LineTooLong, decode_request, encoder
from backend.worker.access import FIRST_LINE_S, MAX_FIRST_LINE, MAX_OPEN, Access
from backend.worker.direct_use import DirectUse
from backend.worker.keepalive import keep_alive
from backend.worker.specialist import CHAT_TYPES, Specialist
from backend.worker.turn import WorkerTurn

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 256
"""Requests in flight on one connection; more are refused."""
MAX_ORDERED = 64
"""Requests without id that may wait for their turn before the socket is no longer read."""
FLUSH_BYTES = 64 * 1024
"""Bytes gathered before they are written at once, not at the end of the loop's step."""
LINGER_S = 2.0
"""How long a refused client gets to read why, before the connection is closed."""

MAX_UNREAD_BYTES = 1024 * 1024
"""Answers a client leaves unread before it is not read from either."""

FIRST_LINE = 'the first line must be a JSON object such as {"type":"ping"}; the connection closes'

_unnamed = count(1)


class _Waiting(NamedTuple):
    """A request without id, or the error that a line got, and the bytes it came in."""

    item: Request | ErrorReply
    size: int


class WorkerConnection(asyncio.Protocol):
    """Serves one client. When the client goes, its generations are cancelled; that is no error.

    Who is not served without the token has to send it in the first line, which is short and comes soon.
    """

    def __init__(
        self,
        specialist: Specialist,
        open_connections: set[WorkerConnection],
        access: Access,
        direct: DirectUse,
    ) -> None:
        self._specialist = specialist
        self._open = open_connections
        self._access, self._direct = access, direct
        self._splitter = LineSplitter(MAX_FIRST_LINE)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._client = ""
        self._first = True
        self._authorized = False
        self._why = access.why
        self._platform = False
        self._checking: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._held = self._half = 0
        """Bytes held for this client: of requests under way and of a line that is not complete, of which these."""
        self._refused = False
        self._leaving = False
        self._generations: dict[str, WorkerTurn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ordered: deque[_Waiting] = deque()
        self._ordering: asyncio.Task[None] | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flushing = False
        self._writable: asyncio.Future[None] | None = None
        self._early = bytearray()
        self._early_eof = False
        """What came before it was known who this is."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        keep_alive(self._transport)
        host, port, *_ = self._transport.get_extra_info("peername") or ("", 0)
        self._client = f"{host}:{port}"
        self._specialist.clients += 1
        self._open.add(self)
        # Counted before anything is known of it: who opens connections and says nothing must cost nothing.
        if len(self._open) > MAX_OPEN:
            self._transport.abort()
            return
        # For the first line alone: a client that was admitted may be silent for hours.
        self._deadline = self._loop.call_later(FIRST_LINE_S, self._on_silence)
        # Nothing is taken before it is known who this is.
        self._transport.pause_reading()
        self._checking = self._loop.create_task(self._check_client())

    def connection_lost(self, exc: Exception | None) -> None:
        self._specialist.clients -= 1
        self._open.discard(self)
        self._transport = None
        self._writing_resumed()
        for task in list(self._tasks):
            task.cancel()
        for task in (self._ordering, self._checking):
            if task is not None:
                task.cancel()
        if self._deadline is not None:
            self._deadline.cancel()
        # What was held for it is given back in one sum; its requests count down no more once the transport is
        # gone.
        self._access.held_bytes -= self._held
        if self._platform:
            self._direct.left(self)
            self._specialist.platforms.remove(self)
        elif self._authorized:
            self._access.connections -= 1

    def data_received(self, data: bytes) -> None:
        if self._checking is not None:
            # uvloop begins to read behind `connection_made`, though it was told there not to
            self._early += data
            if self._transport is not None:
                self._transport.pause_reading()
            return
        if self._first and not self._splitter.pending:
            data = data.lstrip()
            # By its first byte: a client of another protocol may never send the newline that ends a line of ours.
            if data and data[:1] != b"{" and not self._refused:
                self._refuse("invalid_json", FIRST_LINE)
        if not self._authorized and not self._refused:
            # Line by line until it is admitted: the limit on lines grows with the hello, in the middle of what
            # was read.
            line, newline, data = data.partition(b"\n")  # what follows a hello may be as long as any line
            self._read(line + newline)
        if data and not self._refused:
            self._read(data)

    def _read(self, data: bytes) -> None:
        try:
            lines = self._splitter.feed(data)
        except LineTooLong:
            self._refuse(
                "line_too_long",
                f"the line is longer than {self._splitter.limit:,} bytes; the connection closes",
            )
            return
        self._hold(self._splitter.pending - self._half)
        self._half = self._splitter.pending
        for line in lines:
            self._on_line(line)
            self._first = False
            if self._refused:
                return

    def eof_received(self) -> bool:
        """The client sends no more: cancel its generations with an id, still answer those that go out in order."""
        if self._checking is not None:
            self._early_eof = True
            return True
        self._leaving = True
        for generation in self._generations.values():
            generation.cancel()
        if self._ordering is None and not self._tasks:
            self._flush()
            return False
        return True

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        self._writing_resumed()
        self._read_or_pause()

    # who it is, and how much it holds

    def _hold(self, size: int) -> None:
        """Count bytes that are held for a client, or given up; one of whose bytes others starve is refused."""
        if self._platform or self._transport is None:
            return
        self._held += size
        self._access.held_bytes += size
        if size > 0 and self._access.overloaded and not self._refused:
            self._refuse("too_many", "this specialist's clients hold too many bytes: wait for answers")

    def _read_or_pause(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        unread = 0 if self._platform else transport.get_write_buffer_size()
        if self._checking is not None or len(self._ordered) >= MAX_ORDERED or unread > MAX_UNREAD_BYTES:
            transport.pause_reading()
        else:
            transport.resume_reading()

    async def _check_client(self) -> None:
        admitted = self._transport is not None and await self._access.admits(self._transport)
        if admitted and self._access.full:
            self._why = (
                f"{self._access.connections} programs are connected to this specialist already: close one"
            )
        elif admitted:
            self._access.connections += 1
            self._admit()
        self._checking = None
        early, self._early = bytes(self._early), bytearray()
        if early and self._transport is not None:
            self.data_received(early)
        # What was held back while the client was checked is taken up in the order it came, its end last.
        if self._early_eof and not self.eof_received() and self._transport is not None:
            self._transport.close()
        self._read_or_pause()

    def _admit(self) -> None:
        self._authorized = True
        self._splitter.limit = MAX_LINE_BYTES
        if self._deadline is not None:
            self._deadline.cancel()

    def _on_silence(self) -> None:
        self._refuse("unauthorized", f"nothing came within {FIRST_LINE_S:g} s; {self._why}")

    def _on_hello(self, request: Request) -> None:
        """Admit who has the token, as one client more or as a platform; a platform is not counted."""
        if not self._specialist.is_token(request.token):
            return
        if request.platform and not self._platform:
            # A platform counts no bytes: it is ours, and its prompts are as long as a model takes.
            self._hold(-self._held)
            self._platform = True
            self._access.connections -= int(self._authorized)
            self._direct.joined(self)
            self._specialist.platforms.append(self)
            self._specialist.report_tools(self)
        elif not self._authorized:
            self._access.connections += 1
        self._admit()

    # Sink, for generations

    @property
    def full(self) -> bool:
        """Whether the client reads slower than frames come."""
        return self._writable is not None

    def send(self, frame: Struct) -> None:
        """Queue a frame for the write at the end of the loop's step."""
        line = encoder.encode(frame)
        self._out.append(line)
        self._out_bytes += len(line)
        if self._out_bytes > FLUSH_BYTES:
            self._flush()
            self._read_or_pause()
        # At the end of the loop's step: pieces that came in one read of the model leave in one write.
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    async def drain(self) -> None:
        """Wait until the client has read enough for more to be sent."""
        self._flush()
        if self._writable is not None:
            await self._writable

    def _writing_resumed(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    async def shut_down(self, text: str, timeout_s: float) -> None:
        """End every generation with an error frame saying `text`, write what is queued and close.

        Waits at most `timeout_s` seconds for the generations to end.
        """
        for generation in self._generations.values():
            generation.cancel(TektonError(text, code="worker_lost"))
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
            if self._authorized:
                self._in_order(
                    self._specialist.error("invalid_request", _sentence(error), _with_id_of(line)), len(line)
                )
            else:
                self._refuse("unauthorized", self._why)
        except (msgspec.DecodeError, RecursionError) as error:
            if self._first:
                self._refuse("invalid_json", FIRST_LINE)
            else:
                self._in_order(self._specialist.error("invalid_json", _sentence(error)), len(line))
        else:
            if request.type == "hello":  # gets no answer but a refusal
                self._on_hello(request)
            if not self._authorized:
                self._refuse("too_many" if self._access.full else "unauthorized", self._why)
            elif request.type != "hello":
                self._on_request(request, len(line))

    def _on_request(self, request: Request, size: int) -> None:
        if request.type == "cancel":
            self._on_cancel(request)
        elif request.type == "tool_verdict" and self._platform:
            if generation := self._generations.get(request.request_id or ""):
                generation.decided(request)
        elif request.type in ("verdict", "counted") and self._platform:
            self._direct.answered(request)
        elif request.request_id is None:
            self._in_order(request, size)
        # A ping is answered here and now, however many turns run: by it the platform judges whether we live.
        elif reply := self._specialist.answer_now(request):
            self.send(reply)
        elif len(self._tasks) >= MAX_IN_FLIGHT:
            text = f"{MAX_IN_FLIGHT} requests are under way on this connection; wait for one to end"
            self.send(self._specialist.error("too_many", text, request))
        elif request.type in CHAT_TYPES and request.request_id in self._generations:
            text = f"a turn {request.request_id!r} is under way on this connection; choose another id"
            self.send(self._specialist.error("conflict", text, request))
        else:
            generation = self._begin(request, request.request_id) if request.type in CHAT_TYPES else None
            task = self._loop.create_task(self._serve(request, generation))
            self._tasks.add(task)
            task.add_done_callback(self._on_task_done)
            self._hold(size)
            task.add_done_callback(lambda _: self._hold(-size))

    def _on_cancel(self, request: Request) -> None:
        generation = self._generations.get(request.request_id or "")
        if generation is None:
            text = f"no turn {request.request_id!r} is under way on this connection"
            self.send(self._specialist.error("invalid_request", text, request))
        else:
            generation.cancel()

    # answering

    def _in_order(self, item: Request | ErrorReply, size: int) -> None:
        """Answer now if nothing waits and the answer is ready, else after what came before."""
        if isinstance(item, ErrorReply) and item.request_id is not msgspec.UNSET:
            self.send(item)
            return
        if self._ordering is None:
            reply = item if isinstance(item, ErrorReply) else self._specialist.answer_now(item)
            if reply is not None:
                self.send(reply)
                return
        # Who gives no id can tell answers apart by their order alone, so they go out as they were asked.
        self._ordered.append(_Waiting(item, size))
        self._hold(size)
        self._read_or_pause()
        if self._ordering is None:
            self._ordering = self._loop.create_task(self._answer_in_order())

    async def _answer_in_order(self) -> None:
        try:
            while self._ordered:
                item, size = self._ordered.popleft()
                self._read_or_pause()
                if isinstance(item, ErrorReply):
                    self.send(item)
                else:
                    name = f"unnamed-{next(_unnamed)}"
                    await self._serve(item, self._begin(item, name) if item.type in CHAT_TYPES else None)
                self._hold(-size)
        finally:
            self._ordering = None
            self._close_if_left()

    def _begin(self, request: Request, request_id: str) -> WorkerTurn:
        """Register a generation before it runs, so that a cancel on the next line finds it."""
        generation = self._generations[request_id] = self._specialist.generation(request, request_id, self)
        return generation

    async def _serve(self, request: Request, generation: WorkerTurn | None) -> None:
        if generation is None:
            self.send(await self._specialist.answer(request))
            return
        try:
            if self._platform:
                await generation.run()
            else:
                await self._direct.run(generation, self._client)
        finally:
            del self._generations[generation.request_id]

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
        """Send an error and close, leaving the client `LINGER_S` seconds to read it."""
        self._refused = True
        self.send(self._specialist.error(code, text))
        self._flush()
        if self._transport is not None:
            # False with TLS, which has no half-closed connections; refused by the system once the client has left.
            if self._transport.can_write_eof():
                with contextlib.suppress(OSError):
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


class _OnlyId(Struct):
    request_id: str | None = None


def _with_id_of(line: bytes) -> Request | None:
    """Return a request that carries the id of a line whose other fields are wrong, to address the error to it."""
    try:
        return Request(request_id=msgspec.json.decode(line, type=_OnlyId).request_id)
    except msgspec.MsgspecError:
        return None
