"""Full collections of garbage wait for quiet."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from tekton_tui.runtime.gc_scheduler import THRESHOLDS, GcScheduler


class Knot:
    """An object only the collector can free."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Leave the collector as it was."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until something holds, at most some twenty seconds."""
    for _ in range(4000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to hold")


async def test_a_start_sets_the_pace_and_spares_what_is_alive() -> None:
    scheduler = GcScheduler()
    scheduler.start()
    assert gc.get_threshold() == THRESHOLDS and gc.get_freeze_count() > 0
    scheduler.stop()


async def test_what_was_spared_and_died_is_freed_once_it_is_quiet_for_long() -> None:
    scheduler = GcScheduler(idle_s=0.01, long_idle_s=0.05)
    knot = Knot()
    seen = weakref.ref(knot)
    scheduler.start()
    del knot
    scheduler.note_activity()
    await until(lambda: scheduler.full_collections == 1)
    assert seen() is None and scheduler.collections == 3


async def test_while_turns_run_nothing_is_looked_through() -> None:
    asked: list[bool] = []
    busy = True

    def look() -> bool:
        asked.append(busy)
        return busy

    scheduler = GcScheduler(look, idle_s=0.01)
    scheduler.note_activity()
    await until(lambda: len(asked) >= 3)
    assert scheduler.collections == 0
    busy = False
    await until(lambda: scheduler.collections == 1)


async def test_after_everything_was_looked_through_it_rests_until_the_next_stir() -> None:
    asked: list[None] = []
    scheduler = GcScheduler(lambda: bool(asked.append(None)), idle_s=0.001, long_idle_s=0.002)
    scheduler.note_activity()
    await until(lambda: scheduler.full_collections == 1)
    looks = len(asked)
    await asyncio.sleep(0.05)
    assert len(asked) == looks and scheduler.collections == 2


async def test_stopped_it_never_looks_again() -> None:
    asked: list[None] = []
    scheduler = GcScheduler(lambda: bool(asked.append(None)), idle_s=0.001)
    scheduler.note_activity()
    scheduler.stop()
    await asyncio.sleep(0.05)
    assert not asked and scheduler.collections == 0
