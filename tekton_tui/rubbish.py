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

QUIET_S: Final = 2.0
"""After this long without news or keys, nobody notices a tenth of a second."""
THRESHOLDS: Final = (1_000, 5, 200)
"""Small steps that cost some 3 ms at most, and a full one in a burst only after about a million new objects."""


class Rubbish:
    """Collects when it has been quiet since the last `stir`; one for a process. For one event loop only."""

    def __init__(self, busy: Callable[[], bool] = lambda: False, *, quiet_s: float = QUIET_S) -> None:
        """`busy` tells that it is not quiet, whatever was noted."""
        self._busy, self._quiet_s = busy, quiet_s
        self._stirred = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self.rounds = 0
        """How often everything was looked through."""

    def start(self) -> None:
        """Look through what was made so far, and set the pace from now on."""
        gc.set_threshold(*THRESHOLDS)
        self._collect()

    def stir(self) -> None:
        """Note that something happened: new rubbish may come of it, and somebody may be looking. Cheap."""
        self._stirred = monotonic()
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(self._quiet_s, self._look)

    def stop(self) -> None:
        """Never collect again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        left = self._quiet_s if self._busy() else self._stirred + self._quiet_s - monotonic()
        if left > 0:
            self._handle = asyncio.get_running_loop().call_later(left, self._look)
            return
        self._handle = None
        self._collect()

    def _collect(self) -> None:
        self.rounds += 1
        gc.unfreeze()
        gc.collect()
        gc.freeze()
