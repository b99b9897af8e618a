"""The pipes of an MCP server that is a child of this worker: one message a line, and no line without a bound.

The library's own transport keeps a line whole however long a server writes on it, and looks through all of it again with
each piece that comes. Here what is longer than `MAX_LINE_BYTES` is cut, by number, and stays inert text.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

import anyio
import msgspec

if TYPE_CHECKING:
    from mcp.shared.message import SessionMessage

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 8 * 1024 * 1024
KEPT_BYTES = 64 * 1024
"""Of a longer line, what is kept of its beginning and of its end."""
CHUNK_BYTES = 256 * 1024
GRACE_S = 2.0
"""How long the server may take to end once its input is closed, and once more when it was asked to."""
_ID = re.compile(rb'"id"\s*:\s*(\d+|"[^"\\]{1,200}")')


class Lines:
    """Cuts a stream of bytes into lines of at most `MAX_LINE_BYTES`. Pure."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._head = b""
        self._tail = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are complete now; of one that was too long a message that says so."""
        found: list[bytes] = []
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._add(piece)
            found.append(self._take())
        self._add(rest)
        return [line for line in found if line.strip()]

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        self._pieces.append(piece)
        if self._size > MAX_LINE_BYTES:
            kept = b"".join(self._pieces)
            self._head = self._head or kept[:KEPT_BYTES]
            self._tail = (self._tail + kept)[-KEPT_BYTES:]
            self._pieces = []

    def _take(self) -> bytes:
        line = b"".join(self._pieces)
        if self._size > MAX_LINE_BYTES:
            line = too_long(self._head, self._tail, self._size)
        self._pieces, self._size, self._head, self._tail = [], 0, b"", b""
        return line


def too_long(head: bytes, tail: bytes, size: int) -> bytes:
    """Return what stands for an answer that was too long: a failed result with its head, its tail and the number between.

    Empty when it does not say which call it answers.
    """
    named = _ID.search(head[:400]) or _ID.search(tail[-400:])
    if named is None:
        log.warning("a message of %d bytes names no call: it is dropped", size)
        return b""
    left = size - len(head) - len(tail)
    text = (
        f"the server's answer is too long: {left:,} bytes of {size:,} left out\n"
        f"{head.decode(errors='replace')}\n… {left:,} bytes left out …\n{tail.decode(errors='replace')}"
    )
    result = {"content": [{"type": "text", "text": text}], "isError": True, "resultType": "complete"}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": msgspec.Raw(named[1]), "result": result})


@asynccontextmanager
async def pipes(
    command: Sequence[str],
    environment: Mapping[str, str],
    cwd: str | None,
    errors: TextIO,
    on_end: Callable[[], None],
) -> AsyncGenerator[tuple[Any, Any]]:
    """Run a server and yield the streams of messages from and to it; it has ended when this is left.

    `on_end` is called when it says no more, which the library notices only where it waits for an answer.

    Raises:
        OSError: It cannot be started.
    """
    from mcp.shared.message import SessionMessage

    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        env=dict(environment),
        cwd=cwd,
        start_new_session=True,
    )
    received, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    # Both without a buffer: a server that writes faster than it is read has to wait.
    write, to_send = anyio.create_memory_object_stream[SessionMessage](0)

    async def reading() -> None:
        assert process.stdout is not None
        lines = Lines()
        async with received:
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                while data := await process.stdout.read(CHUNK_BYTES):
                    for line in lines.feed(data):
                        # Waits for whoever reads: a server that floods us is held at its own pipe.
                        await received.send(_message(line))
        on_end()

    async def writing() -> None:
        assert process.stdin is not None
        with suppress(ConnectionError):
            async with to_send:
                async for one in to_send:
                    text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(text.encode() + b"\n")
                    await process.stdin.drain()
            return
        # Calls under way end now instead of waiting for a server that reads nothing any more.
        await received.aclose()

    tasks = [asyncio.create_task(reading()), asyncio.create_task(writing())]
    try:
        yield read, write
    finally:
        with anyio.CancelScope(shield=True):
            read.close()
            write.close()
            # Shielded, and before the tasks end: a cancelled turn must not leave a server behind.
            await _stop(process)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for stream in (received, to_send):
                await stream.aclose()


def _message(line: bytes) -> SessionMessage | Exception:
    import mcp_types
    from mcp.shared.message import SessionMessage

    try:
        return SessionMessage(mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        log.warning("a line of %d bytes is no message: %s", len(line), type(error).__name__)
        return error


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the server: its input is closed, then it is asked, then killed."""
    if process.stdin is not None:
        process.stdin.close()
    for end in (lambda: None, process.terminate, process.kill):
        with suppress(ProcessLookupError):
            end()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE_S)
            return
