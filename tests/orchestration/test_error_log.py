"""The error log beside a store that fails now and then: each failure is counted once, and the newest says which request it was."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backend.events import EventStream
from backend.memory import StoreFailed
from backend.orchestration.error_log import ErrorLog
from backend.schema.records import ErrorRecord
from tests.stores import tried_again_quickly


class Store:
    """The errors of a store; a record is refused where the test says so, and waits where it says so."""

    def __init__(self, errors: Any) -> None:
        self._errors = errors
        self.refuses: Callable[[], bool] = lambda: False
        self.held: asyncio.Event | None = None
        self.begun = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._errors, name)

    async def record(self, error: ErrorRecord) -> ErrorRecord:
        self.begun.set()
        if self.held is not None:
            await self.held.wait()
        if self.refuses():
            raise StoreFailed("the disk is full")
        return await self._errors.record(error)


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Store]:
    async with tried_again_quickly(tmp_path, monkeypatch) as memory:
        yield Store(memory.errors)


async def opened(store: Store) -> ErrorLog:
    log = ErrorLog(store, EventStream())
    await log.open()
    return log


async def only(store: Store) -> ErrorRecord:
    [record] = await store.find()
    return record


@pytest.mark.parametrize(
    "again", [False, True], ids=["one after the other", "each tried again before the next"]
)
async def test_equal_failures_are_counted_once_each_wherever_the_store_fails(
    store: Store, again: bool
) -> None:
    for number, answers in enumerate(itertools.product((False, True), repeat=6)):
        log = await opened(store)
        refused = iter(answers)
        store.refuses = lambda refused=refused: next(refused, False)
        for request in range(4):
            log.record("apollo-ai", "internal", f"pattern {number}", request_id=f"r{request}")
            await log.flush()
            listed = await log.find(unacknowledged=True, where=None, limit=200)
            found = [one for one in listed if one.message == f"pattern {number}"]
            assert sum(one.count for one in found) == request + 1, answers
            assert found[0].request_id == f"r{request}", answers
            assert log.unacknowledged == len(listed)
            while again and log.unstored:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        store.refuses = lambda: False
        await log.close()
        [kept] = [one for one in await store.find() if one.message == f"pattern {number}"]
        assert (kept.count, kept.request_id) == (4, "r3"), answers


@pytest.mark.parametrize("refused", [False, True])
async def test_what_comes_while_an_equal_one_is_being_stored_is_not_lost_with_it(
    store: Store, refused: bool
) -> None:
    log = await opened(store)
    store.refuses = lambda: True
    log.record("apollo-ai", "internal", "boom", request_id="r1")
    await log.flush()
    store.held = asyncio.Event()
    store.begun.clear()
    await store.begun.wait()  # the one that waits is given to the store
    log.record("apollo-ai", "internal", "boom", request_id="r2")
    await asyncio.sleep(0)
    store.refuses = lambda: refused
    held, store.held = store.held, None
    held.set()
    await log.flush()
    store.refuses = lambda: False
    await log.close()
    kept = await only(store)
    assert (kept.count, kept.request_id) == (2, "r2")


async def test_what_another_log_leaves_is_counted_on_what_waits_here(store: Store) -> None:
    log = await opened(store)
    store.refuses = lambda: True
    for message in ("boom", "boom", "here"):
        log.record("apollo-ai", "internal", message, request_id="r2")
    await log.flush()
    left = [
        replace(one, id=-2, message=text, count=3) for one in log.unstored[:1] for text in ("boom", "there")
    ]
    await log.take(left)
    ids = [one.id for one in log.unstored]
    assert len(ids) == len(set(ids)) == 3
    store.refuses = lambda: False
    await log.close()
    assert {one.message: one.count for one in await store.find()} == {"boom": 5, "here": 1, "there": 3}


async def test_a_failure_that_turns_out_well_is_settled_though_it_was_stored_meanwhile(store: Store) -> None:
    log = await opened(store)
    store.refuses = lambda: True
    for request in ("r1", "r2"):
        log.record("apollo-ai", "internal", "boom", request_id=request)
    await log.settle("apollo-ai", "internal", "boom", "r1")
    assert log.unacknowledged == 1
    store.refuses = lambda: False
    while log.unstored:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await log.settle("apollo-ai", "internal", "boom", "r2")
    assert log.unacknowledged == 0
    await log.close()
