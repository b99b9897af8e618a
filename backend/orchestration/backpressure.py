"""Back-pressure from readers to workers: when live readers fall far behind the event log, reading from workers pauses.

Only readers that make progress count: one that stands still is left to its own lateness (it begins again from a
snapshot), so no client can hold the platform up for longer than `PATIENCE_S`. Knows no transport.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from time import monotonic
from weakref import WeakKeyDictionary

from backend.events import EventStream, Subscription
from backend.tasks import end_tasks

HIGH, LOW = 1 / 4, 1 / 16
"""Shares of the log behind at which reading pauses, and at which it goes on: what is on its way still has room."""
PATIENCE_S = 2.0
"""How long a reader may stand still before it is no longer waited for: longer than a busy machine, a full collection or
a slow disk keeps a program from reading. A client that hangs costs the platform this once, until it moves again."""
LOOK_EVERY_S = 0.001


class Backpressure:
    """`hold(True)` stops reading from workers, `hold(False)` goes on; called in turns."""

    def __init__(self, events: EventStream, hold: Callable[[bool], None]) -> None:
        self._events, self._hold = events, hold
        self._task: asyncio.Task[None] | None = None
        self._seen: WeakKeyDictionary[Subscription, tuple[int, float]] = WeakKeyDictionary()
        """Where each late reader was when it last moved, and when that was."""
        self.held_s = 0.0
        """Seconds in sum that workers were held."""
        events.on_lag = (HIGH, self.begin)

    def begin(self) -> None:
        """Hold the workers, unless they are held already or nobody who is behind moves."""
        if (self._task is None or self._task.done()) and self._waits():
            self._hold(True)  # now, not soon: one round of reading can fill half the log
            self._task = asyncio.create_task(self._ease(), name="pressure")

    async def close(self) -> None:
        await end_tasks(self._task)

    async def _ease(self) -> None:
        began = monotonic()
        try:
            await asyncio.sleep(0)
            while True:
                if not self._waits():
                    return
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self._hold(False)
            self.held_s += monotonic() - began

    def _waits(self) -> bool:
        """Return whether a reader that moved within `PATIENCE_S` is still far behind."""
        now, waits = monotonic(), False
        for reader in self._events.open:
            if not LOW < reader.share_behind < math.inf:  # near enough, or lost: it begins again anyway
                continue
            cursor, since = self._seen.get(reader, (-1, now))
            if cursor != reader.cursor:
                self._seen[reader] = (reader.cursor, now)
                waits = True
            elif now - since < PATIENCE_S:
                waits = True
        return waits
