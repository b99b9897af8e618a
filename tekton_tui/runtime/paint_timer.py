"""When a screen paints what has changed: at once, but so long after the paint before. Knows no widgets.

Textual's own timer keeps to a grid of 60 slots a second and leaves out the slot behind a paint: what changes just after
one waits for 17 to 33 ms. A key that came behind a frame of a stream waited as long. Written against Textual 8.2.
"""

from __future__ import annotations

from asyncio import Event
from time import monotonic
from typing import Any, Final, cast

from textual._time import sleep
from textual.timer import Timer

BEHIND_KEY_S: Final = 0.03
"""For this long after a key what it changes is painted sooner."""
LEAST_REST_S: Final = 0.004
"""Between two paints then: what one key changes bit by bit comes in a few paints."""


class PaintTimer(Timer):
    """Ticks after `resume`, once an interval has passed since the last tick was done; `pause` takes it back."""

    _key_at = 0.0

    def hurry(self) -> None:
        """Take note that a key is acted on now."""
        self._key_at = monotonic()

    async def _run(self) -> None:
        done = 0.0
        resumed: Event = cast(Any, self)._active
        while True:
            await resumed.wait()
            now = monotonic()
            rest = LEAST_REST_S if now < self._key_at + BEHIND_KEY_S else self._interval
            if now < done + rest:
                # it may be paused meanwhile: a layout paints by itself
                await sleep(done + rest - now)
                continue
            await self._tick(next_timer=now, count=0)
            done = monotonic()
