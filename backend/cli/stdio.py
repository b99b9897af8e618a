"""Standard input and output as a protocol's two ends, on the event loop and without threads.

While a protocol is served, what other code prints goes to stderr: stdout carries nothing but its messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
from asyncio.streams import FlowControlMixin
from collections.abc import Generator

FLUSH_S = 10.0
"""Seconds a slow reader of stdout gets for the last answers."""


@contextlib.contextmanager
def ended_by_signals() -> Generator[None]:
    """Let TERM and INT end the serving as a closed stdin does, so that running turns are cancelled."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    ended = False

    def end() -> None:
        nonlocal ended
        ended = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        yield
    except asyncio.CancelledError:
        if not ended:
            raise
        task.uncancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class _File:
    """A file as stdout: an event loop cannot wait for one, and need not."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        self._file.close()


Writer = asyncio.StreamWriter | _File


async def open_stdin(limit: int) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit)
    if _can_be_waited_for(0):
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    else:
        reader.feed_data(await asyncio.to_thread(sys.stdin.buffer.read))
        reader.feed_eof()
    return reader


async def open_stdout(protocol: FlowControlMixin) -> Writer:
    """Open stdout; what other code prints goes to stderr from now on."""
    loop = asyncio.get_running_loop()
    # libraries print to descriptor 1: whatever they say would break the protocol for the other side
    own = os.dup(1)
    os.dup2(2, 1)
    if not _can_be_waited_for(own):
        return _File(own)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(own, "wb", buffering=0))
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def flush(writer: Writer) -> None:
    """Wait until all that was written has left, at most `FLUSH_S`: what is left at the end of the process is lost."""
    if isinstance(writer, asyncio.StreamWriter):
        # `drain` returns while less than the limit is left; with none it waits for the last byte
        writer.transport.set_write_buffer_limits(0)
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await writer.drain()


def _can_be_waited_for(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
