"""`tekton mcp`: MCP over stdin and stdout, for desktop clients that start their servers themselves.

The same tools as `/mcp`: an action is called over one WebSocket to the backend, which does the work, and its events
come back on it. The transport is one message a line, on the event loop and without threads, so that the process can end
at any moment. While it serves, what other code prints goes to stderr: stdout carries nothing but messages.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
import time
from asyncio.streams import FlowControlMixin
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from backend.cli.command import argument, command
from backend.cli.event_listener import reader_of
from backend.cli.exit_codes import OK
from backend.cli.runner import attached
from backend.cli.stdio import Writer, ended_by_signals, flush, open_stdin, open_stdout
from backend.client import Client, ConnectionChanged
from backend.gateway.mcp.run_tool import Events
from backend.gateway.mcp.server import Who, make_server
from backend.schema.errors import TektonError
from backend.schema.events import AskClosed, Event
from backend.schema.params import Cancel, ListAsks
from backend.schema.tools import Ask
from backend.tasks import Background
from backend.wire import MAX_LINE_BYTES

log = logging.getLogger(__name__)

FINISH_S = 2.0
"""Seconds the end waits for cancellations that are on their way to the gateway."""


@command(
    "mcp",
    argument(
        "--scope",
        choices=("read", "chat", "control"),
        default="control",
        help="what the client may do: read, also ask, or also launch and stop (default: control)",
    ),
)
async def mcp(options: argparse.Namespace) -> int:
    """Serve MCP over stdin and stdout, for desktop clients that start their servers themselves."""
    # a desktop client keeps what its servers write to stderr in a log of its own
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="tekton mcp: %(message)s")
    async with attached(start=True) as client:
        caller = RemoteCaller(client)
        pumping = asyncio.create_task(caller.pump())
        gone = asyncio.Event()
        server = make_server(caller, lambda _: Who(options.scope, gone=gone), time.monotonic, _ignore)
        try:
            with ended_by_signals():
                async with stdio_pipes(gone) as (reading, writing):
                    await server.run(reading, writing, server.create_initialization_options())
        finally:
            await caller.finish(FINISH_S)
            pumping.cancel()
    return OK


def _ignore(*_: Any) -> None:
    """Log no call here: the gateway does."""


CANCELLED = "notifications/cancelled"
QUEUED_EVENTS = 10_000
"""Events kept for a slow reader of progress; later ones are left out, results are not."""


class _RemoteEvents:
    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue(QUEUED_EVENTS)

    def put(self, event: Event) -> None:
        if not self._queue.full():
            self._queue.put_nowait(event)

    async def next(self) -> list[Event]:
        return [await self._queue.get(), *self.pending()]

    def pending(self) -> list[Event]:
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]


class RemoteCaller:
    """Calls actions through a gateway. `pump` must run as long as it is used."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._readers: dict[str, _RemoteEvents] = {}
        self._attended: Counter[str] = Counter()
        self._endings = Background()

    async def pump(self) -> None:
        """Give each event to the reader of its request, until the connection ends."""
        async for batch in self._client.events():
            for _, event in batch:
                if isinstance(event, ConnectionChanged) and event.state == "attached":
                    for conversation in self._attended:  # another connection, which the gateway does not know
                        self._soon(self._tell(conversation))
                self._sort(event)

    async def call(self, action: str, values: dict[str, Any]) -> Any:
        return await self._client.request(action, values)

    @contextlib.contextmanager
    def events(self, request_id: str) -> Generator[Events]:
        reader = self._readers[request_id] = _RemoteEvents()
        try:
            yield reader
        finally:
            self._readers.pop(request_id, None)

    async def attend(self, request_id: str) -> bool:
        self._attended[request_id] += 1
        if self._attended[request_id] > 1 or await self._tell(request_id):
            return True
        self._drop(request_id)
        return False

    def leave(self, request_id: str, after_s: float = 0.0) -> None:
        asyncio.get_running_loop().call_later(after_s, self._drop, request_id)

    def _drop(self, request_id: str) -> None:
        self._attended[request_id] -= 1
        if not self._attended[request_id]:
            del self._attended[request_id]
            self._soon(self._tell(request_id, on=False))

    async def _tell(self, request_id: str, *, on: bool = True) -> bool:
        """Tell the gateway whether questions of a conversation are answered here; return whether it took note."""
        try:
            await self._client.request("attend", {"conversation": request_id, "on": on})
        except TektonError as error:  # it is of an older version, or gone
            log.warning("questions are not passed on: %s", error.message)
            return False
        return True

    async def asks(self) -> list[Ask]:
        return (await self._client.call(ListAsks())).asks

    def cancel_soon(self, request_id: str) -> None:
        async def cancel() -> None:
            with contextlib.suppress(TektonError):  # it ended by itself meanwhile, or never began
                await self._client.call(Cancel(target=request_id))

        self._soon(cancel())

    def _soon(self, work: Coroutine[Any, Any, object]) -> None:
        self._endings.start(work, "word to the gateway")

    async def finish(self, timeout_s: float) -> None:
        """Wait until cancellations on their way have reached the gateway."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._endings.settled()

    def _sort(self, event: Any) -> None:
        """Give an event to its reader."""
        if isinstance(event, AskClosed):  # it names no request
            for reader in self._readers.values():
                reader.put(event)
            return
        if reader := reader_of(event, self._readers):
            reader.put(event)


Reading = MemoryObjectReceiveStream[SessionMessage | Exception]
Writing = MemoryObjectSendStream[SessionMessage]


class _Accepted(FlowControlMixin):
    """The requests that were read and have no answer yet; the protocol of stdout, which says when its reader left."""

    def __init__(self) -> None:
        super().__init__()
        self._ids: set[int | str] = set()
        self._changed = asyncio.Event()
        self._left = False

    def read(self, message: types.JSONRPCMessage) -> None:
        """Take note of a message from the client."""
        if isinstance(message, types.JSONRPCRequest):
            self._ids.add(message.id)
        elif isinstance(message, types.JSONRPCNotification) and message.method == CANCELLED:
            self._done((message.params or {}).get("requestId"))  # which is never answered

    def written(self, message: types.JSONRPCMessage) -> None:
        """Take note of a message to the client."""
        if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
            self._done(message.id)

    async def answered(self) -> None:
        """Wait until every request is answered, or nobody reads the answers any more."""
        while self._ids and not self._left:
            self._changed.clear()
            await self._changed.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the reader of stdout left."""
        super().connection_lost(exc)
        self._left = True
        self._changed.set()

    def _done(self, request_id: Any) -> None:
        self._ids.discard(request_id)
        self._changed.set()


@contextlib.asynccontextmanager
async def stdio_pipes(gone: asyncio.Event) -> AsyncGenerator[tuple[Reading, Writing]]:
    """Serve stdin and stdout. When stdin ends, `gone` is set, and what was read before is answered first.

    Raises:
        OSError: An answer could not be written.
    """
    accepted = _Accepted()
    reader = await open_stdin(MAX_LINE_BYTES)
    writer = await open_stdout(accepted)
    to_server, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    writing, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    failures: list[OSError] = []
    try:
        async with anyio.create_task_group() as tasks:

            async def give() -> None:
                try:
                    await _give(from_server, writer, accepted)
                except OSError as error:
                    failures.append(error)
                    tasks.cancel_scope.cancel()

            tasks.start_soon(_take, reader, to_server, writer, accepted, gone)
            tasks.start_soon(give)
            yield reading, writing
            tasks.cancel_scope.cancel()
    finally:
        for stream in (to_server, reading, writing, from_server):
            stream.close()
        await flush(writer)
        writer.close()
    if failures:
        raise failures[0]


async def _take(
    reader: asyncio.StreamReader,
    to_server: MemoryObjectSendStream[SessionMessage | Exception],
    writer: Writer,
    accepted: _Accepted,
    gone: asyncio.Event,
) -> None:
    async with to_server:
        while True:
            try:
                line = await reader.readline()
                if not line:
                    gone.set()
                    return await accepted.answered()
                message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValidationError:
                _refuse(writer, "a line must be one JSON-RPC message")
            except ValueError:
                _refuse(writer, f"a line is longer than {MAX_LINE_BYTES:,} bytes")
            else:
                accepted.read(message)
                await to_server.send(SessionMessage(message))


async def _give(
    from_server: MemoryObjectReceiveStream[SessionMessage],
    writer: Writer,
    accepted: _Accepted,
) -> None:
    async with from_server:
        async for item in from_server:
            writer.write(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            accepted.written(item.message)
            with contextlib.suppress(ConnectionError):  # the client left, which `accepted` learns too
                await writer.drain()


def _refuse(writer: Writer, text: str) -> None:
    error = types.JSONRPCError(
        jsonrpc="2.0", id=None, error=types.ErrorData(code=types.PARSE_ERROR, message=text)
    )
    writer.write(error.model_dump_json(by_alias=True).encode() + b"\n")
