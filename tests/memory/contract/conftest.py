"""One contract for every conversation store: the embedded one, and Redis where its server is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from backend.memory import MemoryStore, SqliteStore
from tests.redis_server import RedisServer

Reopen = Callable[[], Awaitable[MemoryStore]]


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.cluster)])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], MemoryStore]:
    """Return a maker of stores that all see the same conversations."""
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "state" / "engram.sqlite3")
    server: RedisServer = request.getfixturevalue("redis_server")
    server.empty()
    return lambda: server.store("gateway-1")


@pytest.fixture
async def store(make_store: Callable[[], MemoryStore]) -> AsyncIterator[MemoryStore]:
    opened = make_store()
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def again(make_store: Callable[[], MemoryStore], store: MemoryStore) -> AsyncIterator[Reopen]:
    """Return a function that closes the store and opens it anew, as the next backend does."""
    opened: list[MemoryStore] = []

    async def reopen() -> MemoryStore:
        await store.close()
        opened.append(make_store())
        await opened[-1].open()
        return opened[-1]

    yield reopen
    for each in opened:
        await each.close()
