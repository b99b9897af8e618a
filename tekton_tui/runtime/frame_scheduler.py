"""One frame clock for the whole console: decides when a widget draws. Knows nothing of what is drawn.

Widgets with new content request a frame. Frames are given in turn, so that many streaming lanes spread over time instead
of drawing all at once. Without requests the clock stops: an idle console writes nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import weakref
from time import perf_counter, thread_time
from typing import Any, Final, Protocol, cast

from textual.app import App
from textual.message_pump import MessagePump

TICK_S: Final = 1 / 40
"""Time between two ticks while a widget waits for a frame."""
FEW_WIDGETS: Final = 3
"""Up to this many widgets may draw on every second tick."""
WIDGET_INTERVAL_S: Final = 0.045
"""Shortest time between two frames of one widget while few widgets draw."""
CROWDED_INTERVAL_S: Final = 0.075
"""Time in which each of many widgets gets one frame; the newest token is on the screen within it."""
SLICE_S: Final = 0.006
"""CPU time after which a tick draws no further widget: the longest that a key pressed meanwhile waits."""
INPUT_PAUSE_S: Final = 0.025
"""Frames wait for this long after a key: what the key changed is painted first."""
LONGEST_INPUT_PAUSE_S: Final = 0.1
"""However fast somebody types, frames are drawn after this long."""
SLOWEST_TICK_S: Final = 0.25
"""Longest pause between ticks on a machine that gives the console little time."""


def app_of(node: MessagePump) -> App[Any]:
    """Return the app of a widget or screen, as a type that is known: Textual's own says nothing of what an app returns."""
    return cast(Any, node).app


class FrameClient(Protocol):
    """A widget that draws only in its frames."""

    def frame(self) -> None:
        """Draw what has come since the last frame."""


class FrameScheduler:
    """Gives frames to the widgets of one app, in turn.

    Must be made and used on the app's event loop. `request` is cheap enough to call for every token.
    """

    def __init__(self) -> None:
        self._waiting: dict[FrameClient, float] = {}
        """Clients that wait for a frame, and the earliest time for it, in turn."""
        self._urgent: set[FrameClient] = set()
        self._last: weakref.WeakKeyDictionary[FrameClient, float] = weakref.WeakKeyDictionary()
        self._handle: asyncio.TimerHandle | None = None
        self._due_at = self._ticked_at = self._paused_until = 0.0
        # Ticks run in the context in which this is made; a frame may be requested from any task.
        self._context = contextvars.copy_context()
        self.ticks = 0
        """Ticks so far; constant while the console is idle."""

    @property
    def running(self) -> bool:
        """Whether a tick is scheduled."""
        return self._handle is not None

    def request(self, client: FrameClient, *, urgent: bool = False) -> None:
        """Request a frame; a second request before the frame changes nothing.

        Args:
            client: The widget that is to draw.
            urgent: Draw at the next tick whatever else waits: an answer has ended.
        """
        now = perf_counter()
        if urgent:
            self._urgent.add(client)
            self._waiting.setdefault(client, now)
            self._arm(now)
        elif client not in self._waiting:
            self._waiting[client] = max(now, self._last.get(client, 0.0) + WIDGET_INTERVAL_S)
            if self._handle is None:
                self._arm(self._waiting[client])

    def pause_for_input(self) -> None:
        """Hold frames back for a moment, so that what a key changes is painted first."""
        self._paused_until = perf_counter() + INPUT_PAUSE_S

    def forget(self, client: FrameClient) -> None:
        """Drop the request of a client that is being removed."""
        self._waiting.pop(client, None)
        self._urgent.discard(client)
        self._last.pop(client, None)

    def stop(self) -> None:
        """Stop the clock and drop all requests."""
        self._waiting.clear()
        self._urgent.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, at: float) -> None:
        """Schedule the next tick at a moment of `perf_counter`, in place of the one that was scheduled."""
        if self._handle is not None:
            self._handle.cancel()
        self._due_at = at
        delay = max(0.0, at - perf_counter())
        # in our own context: whoever asked for the frame may be a task that has ended
        self._handle = asyncio.get_running_loop().call_later(delay, self._tick, context=self._context)

    def _tick(self) -> None:
        self._handle = None
        now = perf_counter()
        if now < self._paused_until and now - self._ticked_at < LONGEST_INPUT_PAUSE_S:
            self._arm(self._paused_until)
            return
        late, self._ticked_at = now - self._due_at, now
        self.ticks += 1
        try:
            self._draw(now)
        finally:  # who waits behind a client that fails is drawn all the same
            if self._waiting:
                done = perf_counter()
                # Twice the time that a tick took, its lateness included, stays free: drawing takes a third of the loop at most.
                rest = min(SLOWEST_TICK_S, max(TICK_S, 2 * (late + done - now)))
                self._arm(max(now + rest, min(self._waiting.values())))

    def _draw(self, now: float) -> None:
        """Give frames to the clients whose turn it is until the slice is used up; urgent ones always draw."""
        began = thread_time()
        for client in self._due(now):
            if client not in self._urgent and thread_time() - began > SLICE_S:
                continue
            self._waiting.pop(client, None)
            self._urgent.discard(client)
            self._last[client] = now
            client.frame()

    def _due(self, now: float) -> list[FrameClient]:
        """Return the clients whose turn it is: urgent ones, then all when few wait, else a share of them."""
        urgent = [client for client in self._waiting if client in self._urgent]
        due = [
            client
            for client, earliest in self._waiting.items()
            # A frame that is due in a moment is drawn now instead of a whole tick later.
            if earliest <= now + TICK_S / 4 and client not in self._urgent
        ]
        if len(due) > FEW_WIDGETS:
            due = due[: math.ceil(len(self._waiting) * TICK_S / CROWDED_INTERVAL_S)]
        return urgent + due


_schedulers: weakref.WeakKeyDictionary[App[object], FrameScheduler] = weakref.WeakKeyDictionary()


def frame_scheduler(app: App[object]) -> FrameScheduler:
    """Return the app's one scheduler: its `frame_scheduler` attribute, or one made for it at first use."""
    owned = getattr(app, "frame_scheduler", None)
    if isinstance(owned, FrameScheduler):
        return owned
    made = _schedulers.get(app)
    if made is None:
        made = _schedulers[app] = FrameScheduler()
    return made
