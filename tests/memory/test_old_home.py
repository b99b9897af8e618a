"""A database that version 0.1.0 wrote, opened by this one."""

from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path

import pytest

from backend.memory import SqliteStore
from backend.memory.sqlite import database
from backend.schema.records import StoredMessage

WRITTEN = Path(__file__).with_name("engram-0.1.0.sqlite3.gz")


@pytest.fixture
def old(path: Path) -> Path:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(gzip.decompress(WRITTEN.read_bytes()))
    return path


def _rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(path)
    try:
        texts = "SELECT author, role, content, request_id, lane, model, error_code, reasoning FROM messages"
        return {
            "messages": connection.execute(f"{texts} ORDER BY id").fetchall(),
            "sessions": connection.execute("SELECT id, title, owner, messages FROM sessions").fetchall(),
            "version": connection.execute("PRAGMA user_version").fetchall(),
        }
    finally:
        connection.close()


async def test_every_conversation_pipeline_error_and_count_of_an_old_home_is_there(old: Path) -> None:
    before = _rows(old)
    store = SqliteStore(old)
    await store.open()
    try:
        sessions = (await store.sessions.find(include_archived=True)).sessions
        assert {(s.id, s.title, s.owner, s.messages) for s in sessions} == set(before["sessions"])
        read: list[StoredMessage] = []
        for session in sessions:
            read += await store.messages.read(session.id, limit=1000)
        read.sort(key=lambda message: message.id)
        assert [
            (m.author, m.role, m.content, m.request_id, m.lane, m.model, m.error_code, m.reasoning)
            for m in read
        ] == before["messages"]
        assert len(read) == 24 and all(message.parts == [] for message in read)
        assert [(e.where, e.code) for e in await store.errors.find()] == [
            ("apollo-ai", "internal"),
            ("apollo-ai", "provider_auth"),
        ]
        assert {(u.ai_id, u.tokens_in, u.tokens_out, u.currency) for u in await store.turns.usage()} == {
            ("apollo-ai", 550, 35, "USD"),
            ("athena-ai", 403, 51, "USD"),
            ("reviewer-ai", 18, 10, "USD"),
        }
        assert await store.settings.get("saved-pipeline:review") == 'reviewer "read it" | athena "weigh it"'
        assert await store.settings.get("pipeline:pipe-c79c2c5dc81b4192")
        added = await store.messages.append(
            StoredMessage(0, sessions[0].id, "you", "user", "what was the deadline", 1.0)
        )
        assert added.id == 25
    finally:
        await store.close()


async def test_an_old_database_is_copied_before_its_first_change_and_the_copy_stays(old: Path) -> None:
    before = _rows(old)
    assert before["version"] == [(3,)]
    for _ in range(2):
        store = SqliteStore(old)
        await store.open()
        await store.close()
    aside = old.with_name("engram.sqlite3.version-3")
    assert _rows(aside) == before
    assert aside.stat().st_mode & 0o077 == 0
    assert sorted(file.name for file in old.parent.iterdir()) == [
        "engram.sqlite3",
        "engram.sqlite3.newest",
        "engram.sqlite3.version-3",
    ]


async def test_without_room_for_the_copy_nothing_is_changed(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(connection: sqlite3.Connection, aside: Path) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    before = _rows(old)
    monkeypatch.setattr(database, "_copy_aside", full)
    with pytest.raises(Exception, match="full"):
        await SqliteStore(old).open()
    assert _rows(old) == before
