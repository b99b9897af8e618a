"""Our end of a child's ready pipe: lines until the child closes it.

Knows no process. A pipe that closes early says nothing: the process's end is told by whoever watches it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

import msgspec

from backend.specialists.spec import Ready, Warm, decode_start_line
from backend.wire import LineSplitter

log = logging.getLogger(__name__)

READ_BYTES = 64 * 1024


class LinePipe:
    """Takes a descriptor over and hands each line on; `first` resolves to the first one."""

    def __init__(self, descriptor: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.first: asyncio.Future[bytes] = self._loop.create_future()
        self._splitter = LineSplitter()
        self._descriptor: int | None = descriptor
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def take(self, line: bytes) -> None:
        """Hear a line; overridden by pipes that say more than one."""
        if not self.first.done():
            self.first.set_result(line)

    def close(self) -> None:
        """Stop listening. Safe to call twice."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _read(self) -> None:
        assert self._descriptor is not None
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        for line in self._splitter.feed(data):
            self.take(line)


class StartPipe(LinePipe):
    """A worker's: it serves (`ready`), then its provider is warm or is not (`on_warm`)."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.ready: asyncio.Future[Ready] = self._loop.create_future()
        self._warm: Warm | None = None
        self._tell: Callable[[Warm], None] | None = None

    def on_warm(self, tell: Callable[[Warm], None]) -> None:
        """Have `tell` hear how the preparation of the provider ended, even if it ended before."""
        self._tell = tell
        if self._warm is not None:
            tell(self._warm)

    def take(self, line: bytes) -> None:
        try:
            said = decode_start_line(line)
        except msgspec.MsgspecError as error:
            log.error("a worker said on its ready pipe what is no start line: %s", error)
            return
        if isinstance(said, Warm):
            self._warm = said
            if self._tell is not None:
                self._tell(said)
        elif not self.ready.done():
            self.ready.set_result(said)
