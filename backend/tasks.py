"""Tasks that run on behind their caller's back: ended one by one, or kept together until the close."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


async def end_tasks(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait until they have ended, however they end; `None` is one that was never started."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    if running:
        # Not `gather` and not `await task`: a cancelled task would raise its cancellation here, as if we were cancelled.
        await asyncio.wait(running)


class Background:
    """The tasks of one owner. An event loop holds its tasks weakly: one that nobody keeps can vanish while it works."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        return iter(list(self._tasks))

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Begin to work, and keep the task until it has ended."""
        return self.keep(asyncio.create_task(work, name=name))

    def keep(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        """Keep a task that was started elsewhere until it has ended."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settled(self) -> None:
        """Wait until every task has ended, those included that were started meanwhile."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def end(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        await end_tasks(*self._tasks)
