"""MCP's stdio transport on the event loop: a line a message, no threads, so that the process can end at any moment.

While it serves, what other code prints goes to stderr: stdout carries nothing but messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
from asyncio.streams import FlowControlMixin
from collections.abc import AsyncGenerator

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import PARSE_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter
from pydantic import ValidationError

from backend.schema.errors import TektonError
from backend.wire import MAX_LINE_BYTES

Reading = MemoryObjectReceiveStream[SessionMessage | Exception]
Writing = MemoryObjectSendStream[SessionMessage]


@contextlib.asynccontextmanager
async def stdio_pipes() -> AsyncGenerator[tuple[Reading, Writing]]:
    """Serve stdin and stdout, which must be pipes, sockets or a terminal.

    Raises:
        TektonError: They are files, which an event loop cannot wait for.
    """
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    loop = asyncio.get_running_loop()
    try:
        if not all(map(_can_be_waited_for, (0, 1))):
            raise ValueError
        incoming, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
        )
        wire = os.fdopen(os.dup(1), "wb", buffering=0)
        outgoing, protocol = await loop.connect_write_pipe(FlowControlMixin, wire)
    except (OSError, ValueError) as error:
        raise TektonError(
            "stdin and stdout must be pipes: an MCP client starts this command and talks to it",
            code="invalid_request",
        ) from error
    os.dup2(2, 1)
    writer = asyncio.StreamWriter(outgoing, protocol, None, loop)
    to_server, reading = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    writing, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_take, reader, to_server, writer)
            tasks.start_soon(_give, from_server, writer)
            yield reading, writing
            tasks.cancel_scope.cancel()
    finally:
        for stream in (to_server, reading, writing, from_server):
            stream.close()
        incoming.close()
        outgoing.close()


async def _take(
    reader: asyncio.StreamReader,
    to_server: MemoryObjectSendStream[SessionMessage | Exception],
    writer: asyncio.StreamWriter,
) -> None:
    async with to_server:
        while True:
            try:
                line = await reader.readline()
                if not line:
                    return
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValidationError:
                _refuse(writer, "a line must be one JSON-RPC message")
            except ValueError:
                _refuse(writer, f"a line is longer than {MAX_LINE_BYTES:,} bytes")
            else:
                await to_server.send(SessionMessage(message))


async def _give(from_server: MemoryObjectReceiveStream[SessionMessage], writer: asyncio.StreamWriter) -> None:
    async with from_server:
        async for item in from_server:
            writer.write(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            with contextlib.suppress(ConnectionError):  # the client left; stdin says so too
                await writer.drain()


def _refuse(writer: asyncio.StreamWriter, text: str) -> None:
    error = JSONRPCError(jsonrpc="2.0", id=None, error=ErrorData(code=PARSE_ERROR, message=text))
    writer.write(error.model_dump_json(by_alias=True).encode() + b"\n")


def _can_be_waited_for(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
