"""Full collections of garbage wait for quiet."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from tekton_tui.rubbish import THRESHOLDS, Rubbish


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
    rubbish = Rubbish()
    rubbish.start()
    assert gc.get_threshold() == THRESHOLDS and gc.get_freeze_count() > 0
    rubbish.stop()


async def test_what_was_spared_and_died_is_freed_once_it_is_quiet_for_long() -> None:
    rubbish = Rubbish(quiet_s=0.01, long_quiet_s=0.05)
    knot = Knot()
    seen = weakref.ref(knot)
    rubbish.start()
    del knot
    rubbish.stir()
    await until(lambda: rubbish.long_rounds == 1)
    assert seen() is None and rubbish.rounds == 3


async def test_while_turns_run_nothing_is_looked_through() -> None:
    asked: list[bool] = []
    busy = True

    def look() -> bool:
        asked.append(busy)
        return busy

    rubbish = Rubbish(look, quiet_s=0.01)
    rubbish.stir()
    await until(lambda: len(asked) >= 3)
    assert rubbish.rounds == 0
    busy = False
    await until(lambda: rubbish.rounds == 1)


async def test_after_everything_was_looked_through_it_rests_until_the_next_stir() -> None:
    asked: list[None] = []
    rubbish = Rubbish(lambda: bool(asked.append(None)), quiet_s=0.001, long_quiet_s=0.002)
    rubbish.stir()
    await until(lambda: rubbish.long_rounds == 1)
    looks = len(asked)
    await asyncio.sleep(0.05)
    assert len(asked) == looks and rubbish.rounds == 2


async def test_stopped_it_never_looks_again() -> None:
    asked: list[None] = []
    rubbish = Rubbish(lambda: bool(asked.append(None)), quiet_s=0.001)
    rubbish.stir()
    rubbish.stop()
    await asyncio.sleep(0.05)
    assert not asked and rubbish.rounds == 0
