"""Runs full garbage collections while the console is idle. Knows no widgets.

A full collection of a console with a few conversations takes up to 0.1 s, and Python would start one in the middle of a
burst of tokens. Here it waits for a pause. What is alive afterwards is frozen (`gc.freeze`), so that a collection that
Python starts in between looks at the newest objects only.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from time import monotonic
from typing import Final

IDLE_S: Final = 1.0
"""Idle time before the objects made since the last collection are collected: some tens of milliseconds of work."""
LONG_IDLE_S: Final = 60.0
"""Idle time before all objects are collected, frozen ones as well: a few tenths of a second of work."""
THRESHOLDS: Final = (1_000, 5, 40)
"""Young collections cost 3 ms at most. In a burst Python collects everything only after some 200,000 new objects: seldomer
than with its own thresholds, yet often enough that the cycles which conversations leave behind stay below some 10 MB."""


class GcScheduler:
    """Collects once nothing has happened for a while; one per process. For one event loop only."""

    def __init__(
        self,
        busy: Callable[[], bool] = lambda: False,
        *,
        idle_s: float = IDLE_S,
        long_idle_s: float = LONG_IDLE_S,
    ) -> None:
        """`busy` holds collections back for as long as it returns true."""
        self._busy, self._idle_s, self._long_idle_s = busy, idle_s, long_idle_s
        self._last_activity = 0.0
        self._collected = False
        self._handle: asyncio.TimerHandle | None = None
        self.collections = 0
        """Collections so far, full ones included."""
        self.full_collections = 0
        """Collections of all objects, frozen ones included."""

    def start(self) -> None:
        """Collect now, set Python's thresholds, and switch its collections on again if they were off while all was imported."""
        gc.set_threshold(*THRESHOLDS)
        gc.enable()
        self._collect()

    def note_activity(self) -> None:
        """Put the next collection off: an event or a key was handled. Cheap enough for every event."""
        self._last_activity = monotonic()
        if self._handle is None or self._collected:
            self.stop()
            self._collected = False
            self._schedule(self._idle_s)

    def stop(self) -> None:
        """Cancel the next collection; `note_activity` schedules another."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _schedule(self, seconds: float) -> None:
        self._handle = asyncio.get_running_loop().call_later(seconds, self._collect_if_idle)

    def _collect_if_idle(self) -> None:
        idle_s = self._long_idle_s if self._collected else self._idle_s
        # A turn under way is no idle time, though the operator may touch nothing.
        remaining = idle_s if self._busy() else self._last_activity + idle_s - monotonic()
        if remaining > 0:
            self._schedule(remaining)
        elif self._collected:
            self._handle = None
            self.full_collections += 1
            # what was frozen is never looked at: circles in what was closed since would stay for good
            gc.unfreeze()
            self._collect()
        else:
            self._collect()
            self._collected = True
            self._schedule(self._long_idle_s)

    def _collect(self) -> None:
        self.collections += 1
        gc.collect()
        gc.freeze()
