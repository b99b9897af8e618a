"""One frame clock for the whole console: it decides when a widget draws, and knows nothing of what is drawn.

Widgets with news ask for a frame; frames are dealt out in turn so that many streaming lanes spread over time
instead of drawing all at once. The clock stops when nobody asks: an idle console writes nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import weakref
from time import perf_counter, thread_time
from typing import Final, Protocol

from textual.app import App

BEAT_S: Final = 1 / 40
"""Time between two beats while somebody waits for a frame."""
FEW_LANES: Final = 3
"""Up to so many lanes may draw on every second beat."""
LANE_INTERVAL_S: Final = 0.045
"""Shortest time between two frames of one lane when few lanes have news."""
CROWDED_INTERVAL_S: Final = 0.075
"""Time in which each of many lanes gets one frame; the newest token is on screen within it."""
SLICE_S: Final = 0.006
"""A beat draws no further lane after so much work: a key pressed meanwhile waits no longer."""
GIVE_WAY_S: Final = 0.025
"""After a key, lanes wait for so long: what it changed is painted first."""
PATIENCE_S: Final = 0.1
"""However fast somebody types, lanes get a beat after so long."""
SLOWEST_BEAT_S: Final = 0.25
"""Longest pause between beats on a machine that gives the console little time."""


class FrameClient(Protocol):
    """A widget that draws only when told."""

    def frame(self) -> None:
        """Draw what has gathered since the last frame."""
        ...


class FrameTick:
    """Deals out frames to the widgets of one app, in turn.

    Must be made and used on the app's event loop; `request` is cheap enough to call for every token.
    """

    def __init__(self) -> None:
        self._waiting: dict[FrameClient, float] = {}
        """Clients that want a frame and the earliest time for it, in turn."""
        self._urgent: set[FrameClient] = set()
        self._last: weakref.WeakKeyDictionary[FrameClient, float] = weakref.WeakKeyDictionary()
        self._handle: asyncio.TimerHandle | None = None
        self._due_at = self._beat_at = self._give_way_until = 0.0
        self._context = contextvars.copy_context()
        self.beats = 0
        """Beats so far; stands still while the console is idle."""

    @property
    def running(self) -> bool:
        """Whether a beat is due."""
        return self._handle is not None

    def request(self, client: FrameClient, *, urgent: bool = False) -> None:
        """Ask for a frame; asking again before it came changes nothing.

        Args:
            client: Who wants to draw.
            urgent: Draw with the next beat whoever else waits: an answer has ended.
        """
        now = perf_counter()
        if urgent:
            self._urgent.add(client)
            self._waiting.setdefault(client, now)
            self._arm(now)
        elif client not in self._waiting:
            self._waiting[client] = max(now, self._last.get(client, 0.0) + LANE_INTERVAL_S)
            if self._handle is None:
                self._arm(self._waiting[client])

    def give_way(self) -> None:
        """Let what a key changes be painted before the next lanes are."""
        self._give_way_until = perf_counter() + GIVE_WAY_S

    def forget(self, client: FrameClient) -> None:
        """Drop a client that is going away."""
        self._waiting.pop(client, None)
        self._urgent.discard(client)
        self._last.pop(client, None)

    def stop(self) -> None:
        """Stop the clock for good and forget all clients."""
        self._waiting.clear()
        self._urgent.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, at: float) -> None:
        """Have a beat at a moment of `perf_counter`, in place of the one that was due."""
        if self._handle is not None:
            self._handle.cancel()
        self._due_at = at
        delay = max(0.0, at - perf_counter())
        self._handle = asyncio.get_running_loop().call_later(delay, self._beat, context=self._context)

    def _beat(self) -> None:
        self._handle = None
        now = perf_counter()
        if now < self._give_way_until and now - self._beat_at < PATIENCE_S:
            self._arm(self._give_way_until)
            return
        late, self._beat_at = now - self._due_at, now
        self.beats += 1
        self._draw(now)
        if self._waiting:
            done = perf_counter()
            rest = min(SLOWEST_BEAT_S, max(BEAT_S, 2 * (late + done - now)))
            self._arm(max(now + rest, min(self._waiting.values())))

    def _draw(self, now: float) -> None:
        """Give frames to those whose turn it is, until the slice is used up; who is urgent waits for none."""
        began = thread_time()
        for client in self._due(now):
            if client not in self._urgent and thread_time() - began > SLICE_S:
                continue
            self._waiting.pop(client, None)
            self._urgent.discard(client)
            self._last[client] = now
            client.frame()

    def _due(self, now: float) -> list[FrameClient]:
        """Return the clients whose turn it is: who is urgent, then all when few wait, else a share of them."""
        urgent = [client for client in self._waiting if client in self._urgent]
        due = [
            client
            for client, earliest in self._waiting.items()
            if earliest <= now + BEAT_S / 4 and client not in self._urgent
        ]
        if len(due) > FEW_LANES:
            due = due[: math.ceil(len(self._waiting) * BEAT_S / CROWDED_INTERVAL_S)]
        return urgent + due


_ticks: weakref.WeakKeyDictionary[App[object], FrameTick] = weakref.WeakKeyDictionary()


def frame_tick(app: App[object]) -> FrameTick:
    """Return the app's one frame clock: its `frame_tick` attribute, or one made for it at first use."""
    owned = getattr(app, "frame_tick", None)
    if isinstance(owned, FrameTick):
        return owned
    tick = _ticks.get(app)
    if tick is None:
        tick = _ticks[app] = FrameTick()
    return tick
