"""When a screen paints: how long what has changed waits for the paint before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from textual.app import App

from tekton_tui.runtime import paint_timer
from tekton_tui.runtime.paint_timer import BEHIND_KEY_S, LEAST_REST_S, PaintTimer

INTERVAL_S = 1 / 60


class Clock:
    """A clock that moves while somebody sleeps, and by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.slept = 100.0, 0.0
        self.asleep: Callable[[], object] = lambda: None
        """Called in the middle of each sleep."""
        monkeypatch.setattr(paint_timer, "monotonic", lambda: self.now)
        monkeypatch.setattr(paint_timer, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.asleep()
        self.slept += seconds
        self.now += seconds

    async def paint(self, timer: PaintTimer, painted: list[float]) -> float | None:
        """Ask for a paint; return how long it was waited for, `None` without one."""
        before, self.slept = len(painted), 0.0
        timer.resume()
        for _ in range(20):
            await asyncio.sleep(0)
        return round(self.slept, 6) if len(painted) > before else None


async def test_a_paint_waits_no_longer_than_one_interval_for_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app, painted = App[None](), list[float]()
    async with app.run_test():
        clock = Clock(monkeypatch)

        def paint() -> None:
            timer.pause()
            painted.append(clock.now)
            clock.now += 0.007  # it takes a while itself

        timer = PaintTimer(app, INTERVAL_S, callback=paint, pause=True)
        with app._context():
            timer._start()
        assert await clock.paint(timer, painted) == 0, "after quiet at once"
        for passed in (0.0, 0.001, INTERVAL_S / 2, INTERVAL_S - 0.001):
            clock.now += passed
            assert await clock.paint(timer, painted) == round(INTERVAL_S - passed, 6)
        clock.now += INTERVAL_S
        assert await clock.paint(timer, painted) == 0

        timer.hurry()
        assert await clock.paint(timer, painted) == LEAST_REST_S, "behind a key almost at once"
        clock.now += BEHIND_KEY_S
        timer.hurry()
        clock.now += BEHIND_KEY_S
        assert await clock.paint(timer, painted) == 0

        clock.asleep = timer.pause
        assert await clock.paint(timer, painted) is None, "a layout painted meanwhile"
        timer.stop()
