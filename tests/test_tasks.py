"""Tasks behind their caller's back: kept while they work, waited for, ended together."""

from __future__ import annotations

import asyncio
import gc

from backend.tasks import Background, end_tasks


async def test_a_task_nobody_else_holds_works_to_its_end_and_is_let_go() -> None:
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        gc.collect()
        done.set()

    background = Background()
    background.start(work(), "work")
    await background.settled()
    assert done.is_set() and not list(background)


async def test_settled_waits_for_what_is_started_meanwhile_too() -> None:
    background, steps = Background(), list[int]()

    async def work(number: int) -> None:
        await asyncio.sleep(0)
        steps.append(number)
        if number < 3:
            background.start(work(number + 1), "more")

    background.start(work(1), "first")
    await background.settled()
    assert steps == [1, 2, 3]


async def test_tasks_are_ended_however_they_end_and_one_never_started_is_none() -> None:
    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("at its end")

    sleeping, failing = asyncio.create_task(asyncio.sleep(60)), asyncio.create_task(fails())
    await asyncio.sleep(0)
    await end_tasks(sleeping, None, failing)
    assert sleeping.cancelled() and isinstance(failing.exception(), ValueError)
    await end_tasks(None)
