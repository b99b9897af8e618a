"""Reports failures of the console itself: a notice for the first of a kind, the traceback in a log. Knows no widgets.

What store listeners and background tasks raise arrives here through the loop's exception handler, and the console goes on.
An exception in a widget's own handler does not: Textual then ends the console with its traceback and exit code 1.
"""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tekton_tui.clock import gateway_time
from tekton_tui.stores import Line, Stores

MAX_LOG_BYTES = 1_000_000
"""A longer log is kept once, as `.1`, and a new one begun."""


class InternalErrors:
    """`seen` counts failures by the file and line that raised them; only the first of each is reported."""

    def __init__(self, stores: Stores, notify: Callable[[str, bool], None], log: Path | None) -> None:
        self.seen: Counter[str] = Counter()
        self._stores, self._notify, self._log = stores, notify, log

    def install(self) -> None:
        """Become the running loop's exception handler."""
        asyncio.get_running_loop().set_exception_handler(self._handle)

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        what = f"{type(error).__name__}: {error}" if error is not None else str(context.get("message"))
        where = _place(error)
        self.seen[where] += 1
        # a listener that fails mostly fails with every event: one notice is enough
        if self.seen[where] > 1:
            return
        details = self._write(what, error)
        self._stores.timeline.add(Line(gateway_time(), "error", "console", f"{what} ({where})", True))
        self._notify(f"the console failed at {where}: {what}; it goes on{details}", True)

    def _write(self, what: str, error: BaseException | None) -> str:
        """Append the traceback to the log; return what the notice says of it."""
        if self._log is None:
            return ""
        text = "".join(traceback.format_exception(error)) if error is not None else f"{what}\n"
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileNotFoundError):
                if self._log.stat().st_size > MAX_LOG_BYTES:
                    self._log.replace(f"{self._log}.1")
            with open(self._log, "a", encoding="utf-8", errors="backslashreplace", opener=_private) as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        except OSError as refusal:
            return f"; the details could not be written: {refusal}"
        return f"; {self._log} has the details"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _place(error: BaseException | None) -> str:
    """Return file and line of an exception."""
    if error is None or error.__traceback__ is None:
        return "an unknown place"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
