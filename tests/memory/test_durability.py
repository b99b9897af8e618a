"""What survives: kills, damage, old versions, age."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from backend.memory import Retention, SqliteStore, StoreClosed, StoreFailed, values
from backend.memory.export import export_session
from backend.memory.sqlite import database, migrations, retention
from backend.schema.errors import TektonError
from backend.schema.records import StoredMessage, UsageRow
from backend.schema.sent import SentPart, SentTurn
from tests.stores import fail, say, search_all, use

WRITER = """
import asyncio, sys
from pathlib import Path
from backend.memory import SqliteStore
from tests.stores import say

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    session = await store.sessions.default("apollo-ai")
    for number in range(100_000):
        await say(store, session.id, f"line {number}")
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
    session = await store.sessions.default("apollo-ai")
    kept = [m.content for m in await store.messages.read(session.id, limit=200_000)]
    assert kept[: confirmed + 1] == [f"line {n}" for n in range(confirmed + 1)]
    assert len(kept) - (confirmed + 1) <= 1, "at most the one under way when the kill came"
    assert session.messages == len(kept)
    assert (await store.messages.search(f"line {confirmed}", limit=1)).hits
    await store.close()


TURNS = """
import asyncio, sys
from pathlib import Path
from backend.memory import SqliteStore
from backend.schema.records import UsageRow
from tests.stores import say

async def turn(store, session, number):
    name = f"r{number}"
    await store.turns.begin(name, "apollo-ai", session.id)
    await say(store, session.id, author="apollo-ai", role="assistant", content="x", request_id=name, ends_turn=True,
        used=UsageRow("2026-01-01", "apollo-ai", "p", "m", "USD", 1, 1, 0.5, turns=1),
    )
    print(number, flush=True)

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    session = await store.sessions.default("apollo-ai")
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
        session = await store.sessions.default("apollo-ai")
        kept = {m.request_id for m in await store.messages.read(session.id, limit=200_000)}
        [booked] = await store.turns.usage()
        assert booked.turns == booked.tokens_in == session.messages
        assert not kept & {turn.request_id for turn in await store.turns.unfinished()}
        await store.close()


async def test_the_files_are_readable_by_the_user_alone(store: SqliteStore, path: Path) -> None:
    await store.sessions.default("apollo-ai")
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
    elif damage in ("inside", "late"):
        start = 8192 if damage == "inside" else len(whole) * 5 // 8 // 4096 * 4096
        whole = whole[:start] + bytes(16 * 4096) + whole[start + 16 * 4096 :]
    else:
        whole = whole[: len(whole) // 2 + 100]
    path.write_bytes(whole)
    return whole


async def filled(path: Path) -> None:
    """Make a store of some hundred messages."""
    store = SqliteStore(path)
    await store.open()
    session = await store.sessions.default("apollo-ai")
    for number in range(300):
        await say(store, session.id, f"precious {number} " + "x" * 300)
    await store.close()


@pytest.mark.parametrize("checked_bytes", [database.CHECKED_BYTES, 0])
@pytest.mark.parametrize("damage", ["garbage", "inside", "cut"])
async def test_a_damaged_database_is_set_aside_whole_and_a_new_one_begun(
    damage: str, checked_bytes: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(path)
    monkeypatch.setattr(database, "CHECKED_BYTES", checked_bytes)
    harmed = harm(path, damage)
    store = SqliteStore(path)
    await store.open()
    assert store.set_aside is not None
    assert store.set_aside.name.startswith("engram.sqlite3.corrupt-")
    assert await asyncio.to_thread(store.set_aside.read_bytes) == harmed
    assert f"set aside as {store.set_aside}; brought back: " in store.damage
    session = await store.sessions.default("apollo-ai")
    rows = await store.messages.read(session.id, limit=1000)
    assert session.messages == len(rows) and all(row.content.startswith("precious ") for row in rows)
    await store.close()


async def test_damage_met_in_a_large_database_is_an_error_now_and_set_aside_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(path)
    monkeypatch.setattr(database, "CHECKED_BYTES", 0)  # as if it were too large to be checked at each start
    harm(path, "late")
    store = SqliteStore(path)
    await store.open()
    assert store.set_aside is None
    with pytest.raises(StoreFailed, match=r"malformed.*start it again"):
        session = await store.sessions.default("apollo-ai")
        await store.messages.read(session.id, limit=1000)
    await store.close()

    again = SqliteStore(path)
    await again.open()
    assert again.set_aside is not None
    assert (await again.sessions.default("apollo-ai")).messages > 100
    await again.close()
    third = SqliteStore(path)
    await third.open()
    assert third.set_aside is None
    await third.close()


def garble(path: Path, page: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: page * 4096] + os.urandom(4096) + whole[(page + 1) * 4096 :])


def lose(path: Path, how: str, copy: bytes) -> None:
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(b"" if how == "emptied" else copy)


async def kept(path: Path) -> SqliteStore:
    """Make a closed store of several conversations, settings and errors."""
    store = SqliteStore(path)
    await store.open()
    for owner in ("apollo-ai", "athena-ai", "team"):
        session = await store.sessions.create(owner, f"of {owner}")
        for number in range(100):
            text = f"{owner} precious {number} " + "x" * 300
            await say(store, session.id, text, author=owner, role="assistant", request_id=f"{owner}-{number}")
    for number in range(20):
        await store.settings.put(f"saved-pipeline:{number}", f"apollo | athena {number}")
        await fail(store, "apollo-ai", "internal", f"fault {number}")
    await store.close()
    return store


async def test_of_a_database_with_one_garbled_page_nearly_all_is_brought_back(path: Path) -> None:
    """Whatever page it is, but for those that say where tables are."""
    found: dict[int, int] = {}
    for page in range(4, 60, 5):
        one = path.with_name(f"{page}.sqlite3")
        await kept(one)
        garble(one, page)
        found[page] = await brought_back(one)
    assert sum(number >= 270 for number in found.values()) >= len(found) - 1, found


async def test_what_was_sent_for_turns_is_brought_back_with_their_answers(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    session = (await store.sessions.create("apollo-ai")).id
    asked = await store.messages.append(StoredMessage(0, session, "you", "user", "precious " * 50, 1.0))
    sent: dict[str, SentTurn] = {}
    for number in range(60):
        parts = [
            SentPart("persona", f"You are Apollo. {number} " * 60, 3, "user", "you", 0, f"d-{number}"),
            SentPart("history", asked.content, 3, "user", "you", asked.id, "d-asked"),
        ]
        name = f"r-{number}"
        sent[name] = SentTurn(name, "apollo-ai", session, float(number), "scripted:echo", 4096, 12, {}, parts)
        answer = StoredMessage(0, session, "apollo-ai", "assistant", "yes", 1.0, request_id=name)
        await store.messages.append(answer, sent=sent[name])
    await store.close()
    garble(path, 40)
    again = SqliteStore(path)
    await again.open()
    if again.set_aside is None:
        await again.close()
        database.repair(path)
        await again.open()
    found = {name: await again.sent.get(name) for name in sent}
    whole = [name for name, one in found.items() if one == sent[name]]
    assert len(whole) >= 30, f"{len(whole)} of {len(sent)} came back whole"
    await again.close()


async def brought_back(path: Path) -> int:
    """Open a damaged database, check that what is there fits together, and return the number of messages."""
    store = SqliteStore(path)
    await store.open()
    if store.set_aside is None:  # a page that is free, or of the index alone
        await store.close()
        done = database.repair(path)
        await store.open()
        assert not done or "brought back" in done[-1]
    found = 0
    for session in (await store.sessions.find()).sessions:
        rows = await store.messages.read(session.id, limit=1000)
        assert session.messages == len(rows)
        found += len(rows)
    settings = len(await store.settings.with_prefix("saved-pipeline:"))
    assert settings + len(await store.errors.find()) >= 20 or not found
    assert len(await search_all(store, "precious")) == found
    await say(store, (await store.sessions.default("apollo-ai")).id, "life goes on")
    await store.close()
    again = SqliteStore(path)
    await again.open()
    assert again.damage == "" and again.set_aside is None
    await again.close()
    return found


async def test_what_was_set_aside_earlier_is_brought_into_a_store_that_is_in_use(path: Path) -> None:
    await kept(path)
    aside = database.set_aside(path)
    store = SqliteStore(path)
    await store.open()
    assert "conversations are lost" in store.damage and "message 300" in store.damage
    session = await store.sessions.default("apollo-ai")
    await say(store, session.id, "newer")
    await store.settings.put("saved-pipeline:3", "newer")
    await store.close()
    for done in (database.repair(path), database.repair(path)):
        assert done == [] or (aside.name in done[0] and "300 messages" in done[0])
    await store.open()
    assert sorted(s.messages for s in (await store.sessions.find()).sessions) == [1, 100, 100, 100]
    assert (await store.sessions.default("apollo-ai")).id == session.id
    assert await store.settings.get("saved-pipeline:3") == "newer"
    assert await store.settings.get("saved-pipeline:4") == "apollo | athena 4"
    assert len(await search_all(store, "precious")) == 300
    await store.close()


@pytest.mark.parametrize("told", [0, 5, 100_000, None])
async def test_every_row_is_brought_back_whatever_the_file_says_of_the_highest_number(
    path: Path, told: int | None
) -> None:
    await kept(path)
    aside = database.set_aside(path)
    with contextlib.closing(sqlite3.connect(aside)) as connection:
        if told is None:
            connection.execute("DELETE FROM sqlite_sequence")
        else:
            connection.execute("UPDATE sqlite_sequence SET seq = ?", (told,))
        connection.execute("DELETE FROM errors")  # a table without any row has no highest number
        connection.commit()
    store = SqliteStore(path)
    await store.open()
    await store.close()
    [done] = database.repair(path)
    assert "300 messages" in done and "lost" not in done
    await store.open()
    assert len(await search_all(store, "precious")) == 300
    await store.close()


@pytest.mark.parametrize("how", ["emptied", "removed", "without its log"])
async def test_a_lost_database_is_told_once(how: str, path: Path) -> None:
    await kept(path)
    copy = await asyncio.to_thread(path.read_bytes)
    store = SqliteStore(path)
    await store.open()
    await say(store, (await store.sessions.create("apollo-ai")).id, "newest")
    await store.close()
    await asyncio.to_thread(lose, path, how, copy)
    await store.open()
    assert "conversations are lost" in store.damage and "was in it" in store.damage
    await store.close()
    await store.open()
    assert store.damage == ""
    await store.close()


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_nothing_is_told_as_kept_that_the_next_start_would_not_find(
    path: Path, suffix: str, replaced: bool
) -> None:
    """Files removed or restored under a running backend: what is written then is in no file with a name."""
    store = SqliteStore(path)
    await store.open()
    session = await store.sessions.create("apollo-ai")
    await say(store, session.id, "kept")
    file, away = path.with_name(path.name + suffix), path.with_name("away")
    file.rename(away)
    if replaced:
        shutil.copyfile(away, file)
    for _ in range(2):
        with pytest.raises(StoreFailed, match="was removed or replaced while the backend ran"):
            await say(store, session.id, "lost")
    assert [row.content for row in await store.messages.read(session.id)] == ["kept"]
    away.rename(file)
    await say(store, session.id, "kept, too")
    await store.close()
    again = SqliteStore(path)
    await again.open()
    assert [row.content for row in await again.messages.read(session.id)] == ["kept", "kept, too"]
    assert again.damage == ""
    await again.close()


async def test_a_backup_put_in_place_under_a_running_backend_is_told_at_the_next_start(path: Path) -> None:
    await kept(path)
    backup = path.with_name("backup")
    shutil.copyfile(path, backup)
    store = SqliteStore(path)
    await store.open()
    session = await store.sessions.create("apollo-ai")
    await say(store, session.id, "after the backup")
    await store.close()
    await store.open()
    os.replace(backup, path)
    await store.close()
    await store.open()
    assert "conversations are lost" in store.damage
    await store.close()


@pytest.mark.parametrize("how", ["removed", "garbled", "emptied"])
async def test_a_log_that_is_lost_after_a_kill_is_told(
    path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill all that was said in that life may lie in the log alone."""
    monkeypatch.setattr(database, "NOTE_EVERY_S", 0.0)
    store = SqliteStore(path)
    await store.open()
    session = await store.sessions.create("apollo-ai")
    for number in range(3):
        await say(store, session.id, f"precious {number}")
    mark = path.with_name(f"{path.name}.newest")
    async with asyncio.timeout(60.0):
        while mark.read_text() != "3":  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    home = path.parent.with_name("as a kill leaves it")
    shutil.copytree(path.parent, home)
    await store.close()
    killed, log = home / path.name, home / f"{path.name}-wal"
    if how == "removed":
        log.unlink()
    else:
        log.write_bytes(os.urandom(32) + log.read_bytes()[32:] if how == "garbled" else b"")
    again = SqliteStore(killed)
    await again.open()
    assert "conversations are lost" in again.damage and "message 3 was in it" in again.damage
    await again.close()


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
    for old in range(len(migrations.STEPS) + 1):
        connection = sqlite3.connect(tmp_path / f"{old}.db", isolation_level=None)
        connection.create_function("unpack", 1, str)
        migrations.migrate(connection, migrations.STEPS[:old])
        assert migrations.version(connection) == old
        assert migrations.migrate(connection) == len(migrations.STEPS)
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert {"sessions", "messages", "search_index", "errors", "usage", "settings", "open_turns"} <= tables
        connection.close()


async def test_what_was_counted_before_currencies_were_told_apart_is_kept(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    old = sqlite3.connect(path, isolation_level=None)
    old.create_function("unpack", 1, values.unpack, deterministic=True)
    migrations.migrate(old, migrations.STEPS[:2])
    rows = [
        ("2026-01-01", "apollo-ai", "p", "m", 10, 5, 0.25, 2, 1),
        ("2026-01-01", "apollo-ai", "p", "n", 1, 1, 0, 1, 1),
    ]
    old.executemany("INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    old.close()
    store = SqliteStore(path)
    await store.open()
    assert await store.turns.usage() == [
        UsageRow("2026-01-01", "apollo-ai", "p", "m", "USD", 10, 5, 0.25, turns=2, unpriced=1),
        UsageRow("2026-01-01", "apollo-ai", "p", "n", "", 1, 1, 0.0, turns=1, unpriced=1),
    ]
    await store.close()


async def test_a_file_of_version_1_keeps_its_conversations_and_gains_what_came_later(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    old = sqlite3.connect(path, isolation_level=None)
    old.create_function("unpack", 1, values.unpack, deterministic=True)
    migrations.migrate(old, migrations.STEPS[:1])
    old.execute(
        "INSERT INTO sessions(id, title, owner, created_at, updated_at, messages, is_default) "
        "VALUES ('s-old', 'The bridge', 'apollo-ai', 1, 2, 2, 1)"
    )
    for role, content in (
        ("user", "how wide is the bridge"),
        ("assistant", values.pack("forty metres " * 40)),
    ):
        old.execute(
            "INSERT INTO messages(session, author, role, content, created_at) VALUES (1, 'x', ?, ?, 1)",
            (role, content),
        )
    old.close()
    store = SqliteStore(path)
    await store.open()
    assert store.set_aside is None
    session = await store.sessions.default("apollo-ai")
    assert (session.id, session.title) == ("s-old", "The bridge")
    rows = await store.messages.read(session.id)
    assert [row.content[:12] for row in rows] == ["how wide is ", "forty metres"]
    assert await search_all(store, "forty metres") == [rows[1].id]
    await say(store, session.id, "and how long")
    await store.settings.put("k", 1)
    await use(store, UsageRow("2026-01-01", "apollo-ai", "p", "m", "USD", 1, 2, turns=1))
    assert (await fail(store, "apollo-ai", "internal", "x")).count == 1
    assert len((await export_session(store.sessions, store.messages, session.id)).content) > 500
    await store.close()


def test_a_step_that_fails_leaves_the_database_as_it_was() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrations.migrate(connection, ["CREATE TABLE a (x);"])
        with pytest.raises(sqlite3.OperationalError):
            migrations.migrate(connection, ["CREATE TABLE a (x);", "CREATE TABLE b (y); NONSENSE;"])
        assert migrations.version(connection) == 1
        assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["a"]


async def test_of_a_deleted_session_no_word_that_was_sent_is_left_in_the_file(
    store: SqliteStore, path: Path
) -> None:
    session = (await store.sessions.create("apollo-ai")).id
    answer = StoredMessage(0, session, "apollo-ai", "assistant", "yes", 1.0, request_id="r-1")
    part = SentPart("persona", "You are Apollo.", 3, "user", "you", 0, "d-1")
    sent = SentTurn("r-1", "apollo-ai", session, 1.0, "scripted:echo", 4096, 12, {}, [part])
    await store.messages.append(answer, sent=sent)
    await store.sessions.delete(session)
    with closing(sqlite3.connect(path)) as file:
        left = [
            file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("messages", "sent_turns", "sent_texts")
        ]
    assert left == [0, 0, 0]


async def test_a_store_that_is_closed_says_so(store: SqliteStore) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreClosed):
        await store.sessions.default("apollo-ai")


async def test_a_write_that_was_ordered_before_close_is_done(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    session = await store.sessions.default("apollo-ai")
    writes = [asyncio.ensure_future(say(store, session.id, str(n))) for n in range(50)]
    await asyncio.wait(writes[:1])
    await store.close()
    assert len(await asyncio.gather(*writes)) == 50


async def test_a_full_disk_is_a_clear_error_and_reading_goes_on(store: SqliteStore) -> None:
    session = await store.sessions.default("apollo-ai")
    await say(store, session.id, "before")

    def limit(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await store._database.write(limit)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(StoreFailed, match=r"full.*Free some disk space"):
        for _ in range(50):
            await say(store, session.id, "x" * 20_000)
    assert (await store.messages.read(session.id))[0].content == "before"
    assert (await store.sessions.get(session.id)).messages == len(
        await store.messages.read(session.id, limit=100)
    )


async def test_who_does_not_fit_on_a_full_disk_does_not_take_its_neighbours_along(store: SqliteStore) -> None:
    session = await store.sessions.default("apollo-ai")

    def limit(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 60}")

    await store._database.write(limit)  # pyright: ignore[reportPrivateUsage]
    large = os.urandom(3_000_000).hex()
    for place in range(9):
        texts = [f"{place}.{n}" for n in range(9)]
        texts.insert(place, large)
        # all wait before the first is begun, so they are written together
        written = await asyncio.gather(
            *(say(store, session.id, text) for text in texts), return_exceptions=True
        )
        failed = [n for n, result in enumerate(written) if isinstance(result, BaseException)]
        assert failed == [place] and isinstance(written[place], StoreFailed)
    kept = await store.messages.read(session.id, limit=100)
    assert sorted(message.content for message in kept) == sorted(
        f"{a}.{b}" for a in range(9) for b in range(9)
    )
    assert len({message.id for message in kept}) == (await store.sessions.get(session.id)).messages == 81


async def test_the_threads_end_with_the_store(path: Path) -> None:
    before = set(threading.enumerate())
    store = SqliteStore(path)
    await store.open()
    await store.messages.search("x")
    own = [thread for thread in threading.enumerate() if thread not in before and "memory-" in thread.name]
    assert {"memory-writer", "memory-reader", "memory-search"} <= {thread.name for thread in own}
    await store.close()
    assert not [thread.name for thread in own if thread.is_alive()]


async def test_old_sessions_lie_packed_in_the_file(store: SqliteStore, path: Path) -> None:
    session = await store.sessions.create("apollo-ai", "long")
    for number in range(50):
        await say(store, session.id, author="apollo-ai", role="assistant", content=f"answer {number} " * 100)
    later = (await store.sessions.get(session.id)).updated_at + 40 * 86_400
    assert (await store.retain(Retention(compress_after_days=30), later)).sessions_packed == 1
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT DISTINCT typeof(content) FROM messages").fetchall() == [("blob",)]


def test_a_second_process_may_read_while_the_store_writes(path: Path) -> None:
    async def scene() -> int:
        store = SqliteStore(path)
        await store.open()
        session = await store.sessions.default("apollo-ai")
        await say(store, session.id, "seen")
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        other = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        seen = other.execute("SELECT count(*) FROM messages").fetchone()[0]
        other.close()
        await store.close()
        return int(seen)

    assert asyncio.run(scene()) == 1


async def fill(store: SqliteStore, numbers: range) -> None:
    session = await store.sessions.default("apollo-ai")
    for start in numbers[::500]:
        some = range(start, min(numbers.stop, start + 500))
        await asyncio.gather(*(say(store, session.id, f"w{n} " * 40, created_at=float(n)) for n in some))


async def file_bytes(store: SqliteStore) -> int:
    await store._database.checkpoint()  # pyright: ignore[reportPrivateUsage]
    return (await asyncio.to_thread(store.path.stat)).st_size


async def test_deleting_nine_tenths_gives_the_disk_space_back_while_the_store_serves(
    store: SqliteStore, tmp_path: Path
) -> None:
    await fill(store, range(5_000))
    removal = asyncio.ensure_future(store.retain(Retention(messages_days=1), 4_500 + 86_400.0))
    session = await store.sessions.create("numa-ai")
    said = 0
    while not removal.done() and said < 300:  # what is appended is no space that is freed
        await say(store, session.id, "meanwhile")
        said += 1
    report = await removal
    assert said > 5, "an append waits for one slice, not for the whole"
    assert report.messages_deleted == 4_500
    assert report.bytes_freed > 1_000_000
    assert await search_all(store, "w4500") == [4_501]
    assert await search_all(store, "w4499") == []
    assert (await store.retain(Retention(messages_days=1), 4_500 + 86_400.0)).messages_deleted == 0

    fresh = SqliteStore(tmp_path / "fresh.sqlite3")
    await fresh.open()
    await fill(fresh, range(4_500, 5_000))
    assert await file_bytes(store) <= 1.2 * await file_bytes(fresh) + said * 1_000
    await fresh.close()


class SlowClock:
    """In the place of `time` and `asyncio`: a millisecond passes whenever it is asked, and a sleep takes no time."""

    def __init__(self) -> None:
        self.now, self.slept = time.monotonic(), list[float]()

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 4))
        self.now += seconds

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


async def test_slices_are_rare_while_somebody_writes_and_only_then(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await store.sessions.create("apollo-ai", "old")
    for number in range(300):
        await store.messages.append(StoredMessage(0, session.id, "you", "user", f"line {number}", 1.0))
    clock = SlowClock()
    monkeypatch.setattr(database, "time", clock)
    monkeypatch.setattr(retention, "time", clock)
    monkeypatch.setattr(retention, "asyncio", clock)
    clock.now += 10
    await store.retain(Retention(messages_days=1), time.time())
    assert len(clock.slept) > 12 and set(clock.slept) <= {0.001, 0.002}

    await store.messages.append(StoredMessage(0, session.id, "you", "user", "new", 1.0))
    clock.slept.clear()
    await store.retain(Retention(messages_days=1), time.time())
    assert set(clock.slept) <= {0.009, 0.01}, "nine times as long, and the writing back of the log once"


async def test_a_removal_cut_short_is_out_of_sight_and_finished_by_the_next_start(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    session = await store.sessions.default("apollo-ai")
    said = [await say(store, session.id, f"quokka {number}", request_id="r1") for number in range(450)]
    open_file = store._database  # pyright: ignore[reportPrivateUsage]
    await open_file.write(lambda c: retention.begin_removal(c, session.id))
    assert (await store.messages.search("quokka")).hits == []
    assert (await store.sessions.find(include_archived=True)).sessions == []
    assert await store.messages.of_request("r1") == []
    for call in (
        store.messages.pin(said[0].id),
        store.messages.read(session.id),
        say(store, session.id, "x"),
    ):
        with pytest.raises(TektonError):
            await call
    await store.close()
    again = SqliteStore(path)
    await again.open()
    await again.close()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM messages").fetchone() == (0,)
        assert raw.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
