"""Stores of tests: one that is tried again quickly, and short calls that fill any: messages said, failures recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from backend.memory import YOU, MemoryStore, SqliteStore
from backend.orchestration import store_later
from backend.schema.records import ErrorRecord, StoredMessage, UsageRow

Role = Literal["user", "assistant", "system"]


@asynccontextmanager
async def tried_again_quickly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[SqliteStore]:
    """Open a store, and have what it refuses be stored again after 5 ms; all of it ends within a minute."""
    monkeypatch.setattr(store_later, "STORE_AGAIN_S", 0.005)
    async with asyncio.timeout(60):
        store = SqliteStore(folder / "engram.sqlite3")
        await store.open()
        yield store
        await store.close()


async def say(
    store: MemoryStore,
    session_id: str,
    content: str,
    *,
    author: str = YOU,
    role: Role = "user",
    created_at: float | None = None,
    opens: Mapping[str, str] | None = None,
    ends_turn: bool = False,
    used: UsageRow | None = None,
    **facts: Any,
) -> StoredMessage:
    """Store a message, by default of the operator and of now; `facts` are further fields of `StoredMessage`."""
    moment = time.time() if created_at is None else created_at
    message = StoredMessage(0, session_id, author, role, content, moment, **facts)
    return await store.messages.append(message, opens=opens, ends_turn=ends_turn, used=used)


async def fail(
    store: MemoryStore, where: str, code: str, message: str, *, at: float | None = None, **facts: Any
) -> ErrorRecord:
    """Record a failure; `facts` are further fields of `ErrorRecord`."""
    moment = time.time() if at is None else at
    return await store.errors.record(ErrorRecord(0, where, code, message, moment, moment, **facts))


async def use(store: MemoryStore, row: UsageRow) -> None:
    """Store an answer that used something."""
    session = await store.sessions.default(row.ai_id)
    await say(store, session.id, "x", author=row.ai_id, role="assistant", used=row)


async def search_all(store: MemoryStore, query: str) -> list[int]:
    """Return all ids of messages that a search finds once it knows of no others; until then no newer one is left out."""
    shown: list[int] = []
    async with asyncio.timeout(30):
        while (page := await store.messages.search(query, limit=1_000)).more:
            ids = [hit.message.id for hit in page.hits]
            assert ids[: len(shown)] == shown
            shown = ids
            await asyncio.sleep(0.01)
    return [hit.message.id for hit in page.hits]
