"""What the store does not take now: tried again in order, never twice at the close, and given up without its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from backend.memory.errors import StoreFailed
from backend.orchestration import store_later
from backend.orchestration.store_later import StoreLater

BOUND_S = 60.0


class Store:
    """Takes one record after another; each waits until it is let through."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.begun = asyncio.Event()
        self.through = asyncio.Event()
        self.refuses = False

    async def take(self, record: str) -> None:
        self.begun.set()
        if self.refuses:
            raise StoreFailed("the disk is full")
        await self.through.wait()
        self.taken.append(record)


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Store]:
    monkeypatch.setattr(store_later, "STORE_AGAIN_S", 0.01)
    async with asyncio.timeout(BOUND_S):
        yield Store()


async def test_one_that_is_given_up_while_it_is_stored_takes_no_other_along(store: Store) -> None:
    later: StoreLater[int, str] = StoreLater(store.take, "records")
    later.keep(1, "first")
    later.keep(2, "second")
    await store.begun.wait()
    assert later.drop_oldest() == "first"
    store.through.set()
    await later.close()
    assert "second" in store.taken and not later.waiting


async def test_one_that_comes_in_its_place_while_it_is_stored_is_stored_too(store: Store) -> None:
    later: StoreLater[int, str] = StoreLater(store.take, "records")
    later.keep(1, "with words")
    await store.begun.wait()
    later.waiting[1] = "without"
    store.through.set()
    await later.close()
    assert store.taken == ["with words", "without"]


async def test_the_close_waits_for_what_is_being_stored_and_gives_nothing_twice(store: Store) -> None:
    later: StoreLater[int, str] = StoreLater(store.take, "records")
    later.keep(1, "first")
    await store.begun.wait()
    closing = asyncio.create_task(later.close())
    await asyncio.sleep(0)
    store.through.set()
    await closing
    assert store.taken == ["first"]


async def test_what_the_store_refuses_stays_in_its_order_until_the_close(store: Store) -> None:
    store.refuses = True
    later: StoreLater[int, str] = StoreLater(store.take, "records")
    for number in range(3):
        later.keep(number, f"{number}")
    await store.begun.wait()
    assert list(later.waiting.values()) == ["0", "1", "2"]
    store.refuses = False
    store.through.set()
    await later.close()
    assert store.taken == ["0", "1", "2"]


async def test_what_is_taken_from_another_store_is_stored_once_though_more_comes_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_later, "STORE_AGAIN_S", 0)
    later: StoreLater[int, str] = StoreLater(store.take, "records")
    taking = asyncio.create_task(later.take({1: "of another"}))
    await store.begun.wait()
    store.begun.clear()
    later.keep(2, "of this one")
    for _ in range(20):  # in which its own try would begin
        await asyncio.sleep(0)
    assert not store.begun.is_set()
    store.through.set()
    await taking
    await later.close()
    assert store.taken == ["of another", "of this one"] and not later.waiting
