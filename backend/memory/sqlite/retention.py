"""What becomes of old rows: messages deleted, sessions packed and removed, the log and the usage cut, disk space freed.

Works in small slices, each one job of the writing thread, so that appends never wait long. A removal that a crash cut short
is finished at the next `open` or `retain`.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from typing import Any

from backend.memory.records import BOOKED_DAYS, DAY_S, Retention, RetentionReport
from backend.memory.sqlite import sent
from backend.memory.sqlite.database import SqliteDatabase
from backend.memory.sqlite.executor import T, Work
from backend.memory.sqlite.index import drop_unused_words, remove_messages, words_after
from backend.memory.sqlite.layout import session_key
from backend.memory.values import pack

AT_REST = "id NOT IN (SELECT session_id FROM open_turns)"
SLICE_MESSAGES = 25
"""Messages deleted or packed in one transaction (two milliseconds of processor: an append waits for one slice at most)."""
SLICE_ROWS = 1_000
SLICE_WORDS = 200
"""Words that are looked for in one transaction."""
SLICE_PAGES = 200
"""Pages of the file that are freed in one transaction."""
SLICE_MERGED = 4
"""Pages of the index that are merged in one transaction."""
SLICES_LOGGED = 3
"""Slices after which the log is written back, before it is so long that the writing thread does it, and appends wait for the disk."""
REST_BESIDE = 9
"""How many times as long as a slice took the next one waits while somebody else writes: one append in ten meets a slice. On a busy
machine the thread may be taken from its processor in the middle of one, and for long."""
BESIDE_S = 1.0
"""How long after a write it counts as somebody writing."""
_slices = itertools.count(1)


async def _slice(database: SqliteDatabase, work: Work[T]) -> T:
    """Do one slice, then leave the writing thread to others: as long as it took, or `REST_BESIDE` times that while they write."""
    began = time.monotonic()
    result = await database.write(work, chore=True)
    took_s = time.monotonic() - began
    beside = began - database.written_at < BESIDE_S
    if next(_slices) % SLICES_LOGGED == 0:
        began = time.monotonic()
        await database.write_back()
        took_s += (time.monotonic() - began) / (REST_BESIDE if beside else 1)
    await asyncio.sleep(took_s * (REST_BESIDE if beside else 1))
    return result


async def retain(database: SqliteDatabase, ages: Retention, now: float) -> RetentionReport:
    """Delete and pack what is older than its age, then give the disk space back."""
    report = RetentionReport()
    size = database.figures()["bytes"]
    await finish_removals(database)
    if ages.messages_days:
        before = now - ages.messages_days * DAY_S
        while gone := await _slice(database, lambda c: _delete_messages(c, before)):
            report.messages_deleted += gone
        while gone := await _slice(database, lambda c: _delete_empty_sessions(c, before)):
            report.sessions_deleted += gone
        for table, key in (("sent_turns", "request_id"), ("sent_texts", "rowid")):
            old = f"{table} WHERE {key} IN (SELECT {key} FROM {table} WHERE at < ? LIMIT {SLICE_ROWS})"
            while await _slice(database, lambda c, old=old: _delete_rows(c, old, before)):
                pass
    if ages.compress_after_days:
        before = now - ages.compress_after_days * DAY_S
        while (number := await _slice(database, lambda c: _next_unpacked(c, before))) is not None:
            report.bytes_packed += await _pack_session(database, number)
            report.sessions_packed += 1
    await _delete_records(database, ages, now, report)
    if report.messages_deleted:
        await _drop_words(database)
    # whoever deletes conversations by hand gets their space back, too
    if report != RetentionReport() or await database.read(_unused_pages) >= SLICE_PAGES:
        await _free_space(database)
        report.bytes_freed = max(0, size - database.figures()["bytes"])
    return report


async def _delete_records(
    database: SqliteDatabase, ages: Retention, now: float, report: RetentionReport
) -> None:
    """Delete old rows of the tables beside the conversations."""
    for days, which in ((ages.errors_days, "> 0"), (ages.unseen_errors_days, "= 0")):
        if days:
            old = f"acknowledged {which} AND last < ?"
            report.errors_deleted += await _delete_ids(database, "errors", old, now - days * DAY_S)
    if ages.usage_days:
        day = time.strftime("%Y-%m-%d", time.localtime(now - ages.usage_days * DAY_S))
        report.usage_deleted = await _slice(database, lambda c: _delete_rows(c, "usage WHERE day < ?", day))
    if ages.tool_calls_days:
        before = now - ages.tool_calls_days * DAY_S
        old = "at < ? AND state NOT IN ('waiting', 'running')"
        report.tool_calls_deleted = await _delete_ids(database, "tool_calls", old, before)
    booked = now - BOOKED_DAYS * DAY_S
    await _slice(database, lambda c: _delete_rows(c, "booked WHERE at < ?", booked))


async def _delete_ids(database: SqliteDatabase, table: str, old: str, before: float) -> int:
    """Delete the rows of a table for which `old` holds, slice by slice; return how many."""
    # By a list of ids: SQLite, as it is usually built, knows no DELETE with a LIMIT.
    some = f"{table} WHERE id IN (SELECT id FROM {table} WHERE {old} LIMIT {SLICE_ROWS})"
    deleted = 0
    while gone := await _slice(database, lambda c: _delete_rows(c, some, before)):
        deleted += gone
    return deleted


def begin_removal(connection: sqlite3.Connection, session_id: str) -> int:
    """Take a session from sight; return its row number, for `finish_removal`. Raises `UnknownSession`."""
    number, _ = session_key(connection, session_id)
    connection.execute(
        "UPDATE sessions SET removed = 1, is_default = 0, id = 'removed-' || number WHERE number = ?",
        (number,),
    )
    return number


async def finish_removal(database: SqliteDatabase, number: int) -> None:
    """Delete the messages of a removed session, then its row."""

    def delete(connection: sqlite3.Connection) -> bool:
        where = "m.session = ? ORDER BY m.id LIMIT ?"
        if remove_messages(connection, where, (number, SLICE_MESSAGES)):
            return True
        sent.forget(connection, number)
        connection.execute("DELETE FROM sessions WHERE number = ?", (number,))
        return False

    while await _slice(database, delete):
        pass


async def finish_removals(database: SqliteDatabase) -> None:
    """Finish the removals that a crash, or a caller who went away, cut short."""
    query = "SELECT number FROM sessions WHERE removed = 1"
    for (number,) in await database.read(lambda c: c.execute(query).fetchall()):
        await finish_removal(database, number)


def _delete_messages(connection: sqlite3.Connection, before: float) -> int:
    """Delete some old messages, but none of a session in which somebody is being answered or waits."""
    where = f"m.created_at < ? AND m.pinned = 0 AND s.{AT_REST} ORDER BY m.created_at LIMIT ?"
    # their words are looked at once, at the end
    gone = remove_messages(connection, where, (before, SLICE_MESSAGES), drop_words=False)
    connection.executemany(
        "UPDATE sessions SET messages = messages - 1 WHERE number = ?", [(row.session,) for row in gone]
    )
    return len(gone)


def _delete_empty_sessions(connection: sqlite3.Connection, before: float) -> int:
    """Delete some sessions that held only what was deleted; default sessions stay."""
    empty = (
        f"messages = 0 AND is_default = 0 AND removed = 0 AND {AT_REST} AND updated_at < ? LIMIT {SLICE_ROWS}"
    )
    return _delete_rows(
        connection, f"sessions WHERE number IN (SELECT number FROM sessions WHERE {empty})", before
    )


def _delete_rows(connection: sqlite3.Connection, rows: str, before: float | str) -> int:
    return connection.execute(f"DELETE FROM {rows}", (before,)).rowcount


def _next_unpacked(connection: sqlite3.Connection, before: float) -> int | None:
    """Return a session untouched since `before` whose messages are not packed yet."""
    row = connection.execute(
        "SELECT number FROM sessions WHERE packed = 0 AND messages > 0 AND updated_at < ? LIMIT 1", (before,)
    ).fetchone()
    return int(row[0]) if row else None


async def _pack_session(database: SqliteDatabase, number: int) -> int:
    """Pack the messages of a session; return the bytes that saved."""
    saved, after = 0, 0

    def pack_slice(connection: sqlite3.Connection) -> tuple[int, int | None]:
        return _pack_some(connection, number, after)

    while True:
        gain, last = await _slice(database, pack_slice)
        saved += gain
        if last is None:
            return saved
        after = last


def _pack_some(connection: sqlite3.Connection, number: int, after: int) -> tuple[int, int | None]:
    """Pack the next messages of a session; return the bytes that saved and the last id, `None` when all are done."""
    rows: list[tuple[Any, ...]] = connection.execute(
        "SELECT id, content, reasoning FROM messages WHERE session = ? AND id > ? ORDER BY id LIMIT ?",
        (number, after, SLICE_MESSAGES),
    ).fetchall()
    saved = 0
    for message_id, *texts in rows:
        packed = [pack(text) if isinstance(text, str) else text for text in texts]
        gain = sum(_size(old) - _size(new) for old, new in zip(texts, packed, strict=True))
        if gain > 0:
            connection.execute(
                "UPDATE messages SET content = ?, reasoning = ? WHERE id = ?", (*packed, message_id)
            )
            saved += gain
    if len(rows) < SLICE_MESSAGES:
        connection.execute("UPDATE sessions SET packed = 1 WHERE number = ?", (number,))
        return saved, None
    return saved, int(rows[-1][0])


async def _drop_words(database: SqliteDatabase) -> None:
    """Drop the words that no message has any more."""
    after = ""

    def drop(connection: sqlite3.Connection) -> str:
        words = words_after(connection, after, SLICE_WORDS)
        drop_unused_words(connection, words)
        return words[-1] if len(words) == SLICE_WORDS else ""

    while after := await _slice(database, drop):
        pass


async def _free_space(database: SqliteDatabase) -> None:
    """Merge what deletions left of the index, then give free pages back to the file system."""
    # a negative number begins a merge of the whole index, positive ones go on with it
    await _slice(database, lambda c: _merge(c, -SLICE_MERGED))
    while await _slice(database, lambda c: _merge(c, SLICE_MERGED)):
        pass
    while await _slice(database, _free_pages):
        pass
    await database.checkpoint()


def _merge(connection: sqlite3.Connection, pages: int) -> bool:
    """Merge about so many pages of the index; return whether there is more to merge."""
    before = connection.total_changes
    connection.execute("INSERT INTO found(found, rank) VALUES ('merge', ?)", (pages,))
    # FTS5 counts one change even when nothing was left to merge.
    return connection.total_changes - before >= 2


def _free_pages(connection: sqlite3.Connection) -> int:
    """Free some pages and return how many are left; 0 for a file that was not made for it."""
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != 2:
        return 0
    # one page a call: sqlite3 takes a single step of this pragma, whatever number it is given
    for _ in range(SLICE_PAGES):
        connection.execute("PRAGMA incremental_vacuum(1)")
    return _unused_pages(connection)


def _unused_pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0])


def _size(stored: str | bytes) -> int:
    return len(stored.encode("utf-8", "surrogatepass")) if isinstance(stored, str) else len(stored)
