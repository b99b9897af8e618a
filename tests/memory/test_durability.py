"""What survives: kills, damage, old versions, age."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import sys
import threading
from pathlib import Path

import pytest

from backend.memory import SqliteStore, StoreClosed, StoreFailed, UsageRow, database, schema_versions, texts

WRITER = """
import asyncio, sys
from pathlib import Path
from backend.memory import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    session = await store.default_session("apollo-ai")
    for number in range(100_000):
        await store.append(session.id, author="you", role="user", content=f"line {number}")
        print(number, flush=True)

asyncio.run(main())
"""


async def test_every_confirmed_message_survives_a_kill_at_any_moment(path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    confirmed = -1
    while confirmed < 200:
        confirmed = int(await process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    for line in (await process.stdout.read()).split():
        confirmed = int(line)
    assert await process.wait() == -signal.SIGKILL

    store = SqliteStore(path)
    await store.open()
    assert store.set_aside is None
    session = await store.default_session("apollo-ai")
    kept = [m.content for m in await store.messages(session.id, limit=200_000)]
    assert kept[: confirmed + 1] == [f"line {n}" for n in range(confirmed + 1)]
    assert len(kept) - (confirmed + 1) <= 1, "at most the one under way when the kill came"
    assert session.messages == len(kept)
    assert await store.search(f"line {confirmed}", limit=1)
    await store.close()


TURNS = """
import asyncio, sys
from pathlib import Path
from backend.memory import SqliteStore, UsageRow

async def turn(store, session, number):
    name = f"r{number}"
    await store.turn_opened(name, "apollo-ai", session.id)
    await store.append(
        session.id, author="apollo-ai", role="assistant", content="x", request_id=name, closes_turn=True,
        booked=UsageRow("2026-01-01", "apollo-ai", "p", "m", "USD", 1, 1, 0.5, turns=1),
    )
    print(number, flush=True)

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    session = await store.default_session("apollo-ai")
    for number in range(0, 100_000, 3):
        await asyncio.gather(*(turn(store, session, number + n) for n in range(3)))

asyncio.run(main())
"""


async def test_a_kill_leaves_no_answer_that_was_not_booked(path: Path) -> None:
    for stop in (20, 61, 122):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", TURNS, str(path), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        while int(await process.stdout.readline()) < stop:
            pass
        process.send_signal(signal.SIGKILL)
        await process.wait()
        store = SqliteStore(path)
        await store.open()
        session = await store.default_session("apollo-ai")
        kept = {m.request_id for m in await store.messages(session.id, limit=200_000)}
        [booked] = await store.usage()
        assert booked.turns == booked.tokens_in == session.messages
        assert not kept & {turn.request_id for turn in await store.open_turns()}
        await store.close()


async def test_the_files_are_readable_by_the_user_alone(store: SqliteStore, path: Path) -> None:
    await store.default_session("apollo-ai")
    files = list(path.parent.iterdir())
    assert len(files) >= 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_database_opened_wider_is_tightened(path: Path) -> None:
    wide = os.open(path.parent.parent / "wide.sqlite3", os.O_CREAT, 0o644)
    os.fchmod(wide, 0o644)
    store = SqliteStore(path.parent.parent / "wide.sqlite3")
    await store.open()
    assert stat.S_IMODE(os.fstat(wide).st_mode) == 0o600
    os.close(wide)
    await store.close()


def harm(path: Path, damage: str) -> bytes:
    """Damage a database file on disk and return what it holds now."""
    whole = path.read_bytes()
    if damage == "garbage":
        whole = b"not a database at all" * 500
    elif damage == "inside":
        whole = whole[:8192] + bytes(16 * 4096) + whole[8192 + 16 * 4096 :]
    else:
        whole = whole[: len(whole) // 2 + 100]
    path.write_bytes(whole)
    return whole


async def filled(path: Path) -> None:
    """Make a store of some hundred messages."""
    store = SqliteStore(path)
    await store.open()
    session = await store.default_session("apollo-ai")
    for number in range(300):
        await store.append(session.id, author="you", role="user", content=f"precious {number} " + "x" * 300)
    await store.close()


@pytest.mark.parametrize("damage", ["garbage", "inside", "cut"])
async def test_a_damaged_database_is_set_aside_whole_and_a_new_one_begun(damage: str, path: Path) -> None:
    await filled(path)
    harmed = harm(path, damage)
    store = SqliteStore(path)
    await store.open()
    assert store.set_aside is not None
    assert store.set_aside.name.startswith("engram.sqlite3.corrupt-")
    assert await asyncio.to_thread(store.set_aside.read_bytes) == harmed
    assert (await store.default_session("apollo-ai")).messages == 0
    await store.close()


async def test_damage_met_in_a_large_database_is_an_error_now_and_set_aside_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(path)
    monkeypatch.setattr(database, "CHECKED_BYTES", 0)  # as if it were too large to be checked at each start
    harm(path, "inside")
    store = SqliteStore(path)
    await store.open()
    assert store.set_aside is None
    with pytest.raises(StoreFailed, match=r"malformed.*start it again"):
        session = await store.default_session("apollo-ai")
        await store.messages(session.id, limit=1000)
    await store.close()

    again = SqliteStore(path)
    await again.open()
    assert again.set_aside is not None
    assert (await again.default_session("apollo-ai")).messages == 0
    await again.close()
    third = SqliteStore(path)
    await third.open()
    assert third.set_aside is None
    await third.close()


def test_two_damaged_databases_of_one_second_are_both_kept(path: Path) -> None:
    path.parent.mkdir()
    kept: set[Path] = set()
    for text in ("first", "second", "third"):
        path.write_text(text)
        kept.add(database.set_aside(path))
    assert sorted(file.read_text() for file in kept) == ["first", "second", "third"]


async def test_a_database_of_a_newer_version_is_left_alone(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreFailed, match=r"version 99.*Install the newer version"):
        await SqliteStore(path).open()
    assert list(path.parent.glob("*corrupt*")) == []


def test_every_old_version_is_brought_to_the_newest(tmp_path: Path) -> None:
    for old in range(len(schema_versions.STEPS) + 1):
        connection = sqlite3.connect(tmp_path / f"{old}.db", isolation_level=None)
        connection.create_function("unpack", 1, str)
        schema_versions.migrate(connection, schema_versions.STEPS[:old])
        assert schema_versions.version(connection) == old
        assert schema_versions.migrate(connection) == len(schema_versions.STEPS)
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert {"sessions", "messages", "found", "errors", "usage", "settings", "open_turns"} <= tables
        connection.close()


async def test_what_was_counted_before_currencies_were_told_apart_is_kept(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    old = sqlite3.connect(path, isolation_level=None)
    old.create_function("unpack", 1, texts.unpack, deterministic=True)
    schema_versions.migrate(old, schema_versions.STEPS[:2])
    rows = [
        ("2026-01-01", "apollo-ai", "p", "m", 10, 5, 0.25, 2, 1),
        ("2026-01-01", "apollo-ai", "p", "n", 1, 1, 0, 1, 1),
    ]
    old.executemany("INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    old.close()
    store = SqliteStore(path)
    await store.open()
    assert await store.usage() == [
        UsageRow("2026-01-01", "apollo-ai", "p", "m", "USD", 10, 5, 0.25, turns=2, unpriced=1),
        UsageRow("2026-01-01", "apollo-ai", "p", "n", "", 1, 1, 0.0, turns=1, unpriced=1),
    ]
    await store.close()


async def test_a_file_of_version_1_keeps_its_conversations_and_gains_what_came_later(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    old = sqlite3.connect(path, isolation_level=None)
    old.create_function("unpack", 1, texts.unpack, deterministic=True)
    schema_versions.migrate(old, schema_versions.STEPS[:1])
    old.execute(
        "INSERT INTO sessions(id, title, owner, created_at, updated_at, messages, is_default) "
        "VALUES ('s-old', 'The bridge', 'apollo-ai', 1, 2, 2, 1)"
    )
    for role, content in (
        ("user", "how wide is the bridge"),
        ("assistant", texts.pack("forty metres " * 40)),
    ):
        old.execute(
            "INSERT INTO messages(session, author, role, content, created_at) VALUES (1, 'x', ?, ?, 1)",
            (role, content),
        )
    old.close()
    store = SqliteStore(path)
    await store.open()
    assert store.set_aside is None
    session = await store.default_session("apollo-ai")
    assert (session.id, session.title) == ("s-old", "The bridge")
    rows = await store.messages(session.id)
    assert [row.content[:12] for row in rows] == ["how wide is ", "forty metres"]
    assert len(await store.search("forty metres")) == 1
    await store.append(session.id, author="you", role="user", content="and how long")
    await store.put_setting("k", 1)
    await store.add_usage(UsageRow("2026-01-01", "apollo-ai", "p", "m", "USD", 1, 2, turns=1))
    assert (await store.record_error("apollo-ai", "internal", "x")).count == 1
    assert len((await store.export(session.id)).content) > 500
    await store.close()


def test_a_step_that_fails_leaves_the_database_as_it_was() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema_versions.migrate(connection, ["CREATE TABLE a (x);"])
    with pytest.raises(sqlite3.OperationalError):
        schema_versions.migrate(connection, ["CREATE TABLE a (x);", "CREATE TABLE b (y); NONSENSE;"])
    assert schema_versions.version(connection) == 1
    assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["a"]


async def test_a_store_that_is_closed_says_so(store: SqliteStore) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreClosed):
        await store.default_session("apollo-ai")


async def test_a_write_that_was_ordered_before_close_is_done(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    session = await store.default_session("apollo-ai")
    writes = [
        asyncio.ensure_future(store.append(session.id, author="you", role="user", content=str(n)))
        for n in range(50)
    ]
    await asyncio.wait(writes[:1])
    await store.close()
    assert len(await asyncio.gather(*writes)) == 50


async def test_a_full_disk_is_a_clear_error_and_reading_goes_on(store: SqliteStore) -> None:
    session = await store.default_session("apollo-ai")
    await store.append(session.id, author="you", role="user", content="before")

    def limit(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await store._write(limit)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(StoreFailed, match=r"full.*Free some disk space"):
        for _ in range(50):
            await store.append(session.id, author="you", role="user", content="x" * 20_000)
    assert (await store.messages(session.id))[0].content == "before"
    assert (await store.get_session(session.id)).messages == len(await store.messages(session.id, limit=100))


async def test_the_threads_end_with_the_store(path: Path) -> None:
    before = threading.active_count()
    store = SqliteStore(path)
    await store.open()
    await store.search("x")
    names = {thread.name for thread in threading.enumerate()}
    assert {"memory-writer", "memory-reader", "memory-search"} <= names
    await store.close()
    assert not {t.name for t in threading.enumerate()} & {"memory-writer", "memory-reader", "memory-search"}
    assert threading.active_count() <= before + 8  # the loop's own pool stays


async def test_old_sessions_are_packed_and_read_search_export_and_delete_as_before(
    store: SqliteStore, path: Path
) -> None:
    session = await store.create_session("apollo-ai", "long")
    for number in range(500):
        text = f"the answer {number} is always the same. " * 30
        await store.append(
            session.id, author="apollo-ai", role="assistant", content=text, reasoning="hmm " * 200
        )
    before = await store.messages(session.id, limit=1000)
    later = (await store.get_session(session.id)).updated_at + 40 * 86_400
    report = await store.retain(retention_days=0, compress_after_days=30, now=later)
    assert report.sessions_packed == 1
    assert report.bytes_saved > 500 * 1000
    assert await store.messages(session.id, limit=1000) == before
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT DISTINCT typeof(content) FROM messages").fetchall() == [("blob",)]
    raw.close()
    assert len(await store.search("answer 321", limit=1)) == 1
    assert "the answer 499" in (await store.export(session.id)).content
    again = await store.retain(retention_days=0, compress_after_days=30, now=later)
    assert again.sessions_packed == 0
    await store.append(session.id, author="you", role="user", content="awake again")
    assert len(await store.messages(session.id, limit=1000)) == 501
    await store.delete_session(session.id)
    assert await store.search("answer") == []


def test_a_second_process_may_read_while_the_store_writes(path: Path) -> None:
    async def scene() -> int:
        store = SqliteStore(path)
        await store.open()
        session = await store.default_session("apollo-ai")
        await store.append(session.id, author="you", role="user", content="seen")
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        other = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        seen = other.execute("SELECT count(*) FROM messages").fetchone()[0]
        other.close()
        await store.close()
        return int(seen)

    assert asyncio.run(scene()) == 1
