"""Our end of a child's ready pipe: lines until the child closes it.

Knows no process. A pipe that closes early means nothing here: whoever watches the process reports its end.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

import msgspec

from backend.wire import LineSplitter
from backend.worker.spec import Ready, Warm, decode_start_line

log = logging.getLogger(__name__)

READ_BYTES = 64 * 1024


class LinePipe:
    """Reads lines from a descriptor, which it closes; `first` resolves to the first line."""

    def __init__(self, descriptor: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.first: asyncio.Future[bytes] = self._loop.create_future()
        self._splitter = LineSplitter()
        self._descriptor: int | None = descriptor
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def on_line(self, line: bytes) -> None:
        """Handle a line; subclasses that expect several override this."""
        if not self.first.done():
            self.first.set_result(line)

    def close(self) -> None:
        """Stop reading and close the descriptor. Safe to call twice."""
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
            self.on_line(line)


class StartPipe(LinePipe):
    """A worker's ready pipe: `ready` resolves when it serves; `on_warm` reports when its provider is prepared."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.ready: asyncio.Future[Ready] = self._loop.create_future()
        self._warm: Warm | None = None
        self._on_warm: Callable[[Warm], None] | None = None

    def on_warm(self, callback: Callable[[Warm], None]) -> None:
        """Call `callback` once the provider is prepared or cannot be; at once if that line came already."""
        self._on_warm = callback
        if self._warm is not None:
            callback(self._warm)

    def on_line(self, line: bytes) -> None:
        try:
            message = decode_start_line(line)
        except msgspec.MsgspecError as error:
            log.error("a worker wrote to its ready pipe what is no start line: %s", error)
            return
        if isinstance(message, Warm):
            self._warm = message
            if self._on_warm is not None:
                self._on_warm(message)
        elif not self.ready.done():
            self.ready.set_result(message)
