"""Decides when the garbage collector may look through everything: when nobody waits. Knows no widgets.

A full collection of a console with a few conversations takes up to a tenth of a second, and Python would do one in
the middle of a burst of tokens. Here it is done after the console has been quiet for a while; what then is alive is
set aside, so that a collection in between, should one be needed, has only the newest objects to look at.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from time import monotonic
from typing import Final

QUIET_S: Final = 1.0
"""After this long without news or keys what is new is looked through: some tens of milliseconds."""
LONG_QUIET_S: Final = 60.0
"""After this long everything is: a few tenths of a second in a console with many conversations."""
THRESHOLDS: Final = (1_000, 5, 40)
"""Small steps that cost some 3 ms at most, and in a burst a full one only after some 200,000 new objects:
rarer than Python's own, but not so rare that what conversations leave behind adds up to tens of megabytes."""


class Rubbish:
    """Collects when it has been quiet since the last `stir`; one for a process. For one event loop only."""

    def __init__(
        self,
        busy: Callable[[], bool] = lambda: False,
        *,
        quiet_s: float = QUIET_S,
        long_quiet_s: float = LONG_QUIET_S,
    ) -> None:
        """`busy` tells that it is not quiet, whatever was noted."""
        self._busy, self._quiet_s, self._long_quiet_s = busy, quiet_s, long_quiet_s
        self._stirred = 0.0
        self._swept = False
        self._handle: asyncio.TimerHandle | None = None
        self.rounds = 0
        """How often what is new was looked through."""
        self.long_rounds = 0
        """How often everything was."""

    def start(self) -> None:
        """Look through what was made so far, and set the pace from now on."""
        gc.set_threshold(*THRESHOLDS)
        self._collect()

    def stir(self) -> None:
        """Note that something happened: new rubbish may come of it, and somebody may be looking. Cheap."""
        self._stirred = monotonic()
        if self._handle is None or self._swept:
            self.stop()
            self._swept = False
            self._wait(self._quiet_s)

    def stop(self) -> None:
        """Never collect again, until the next `stir`."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _wait(self, seconds: float) -> None:
        self._handle = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        quiet_s = self._long_quiet_s if self._swept else self._quiet_s
        left = quiet_s if self._busy() else self._stirred + quiet_s - monotonic()
        if left > 0:
            self._wait(left)
        elif self._swept:
            self._handle = None
            self.long_rounds += 1
            gc.unfreeze()
            self._collect()
        else:
            self._collect()
            self._swept = True
            self._wait(self._long_quiet_s)

    def _collect(self) -> None:
        self.rounds += 1
        gc.collect()
        gc.freeze()
