"""What old conversations become: deleted past the retention, packed when long untouched.

Works in small steps, each one job of the writing lane, so that appends never wait long.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from backend.memory.texts import pack

STEP_MESSAGES = 400
"""Messages deleted or packed in one transaction (a few milliseconds)."""
FREED_PAGES = 200


def delete_some(connection: sqlite3.Connection, before: float) -> int:
    """Delete up to `STEP_MESSAGES` unpinned messages older than `before`; return how many went."""
    rows = connection.execute(
        "SELECT id, session FROM messages WHERE created_at < ? AND pinned = 0 ORDER BY created_at LIMIT ?",
        (before, STEP_MESSAGES),
    ).fetchall()
    for message_id, number in rows:
        connection.execute("DELETE FROM messages WHERE id = ?", (message_id,))
        connection.execute("UPDATE sessions SET messages = messages - 1 WHERE number = ?", (number,))
    return len(rows)


def delete_empty_sessions(connection: sqlite3.Connection, before: float) -> int:
    """Delete the sessions that held only what was deleted; default sessions stay."""
    cursor = connection.execute(
        "DELETE FROM sessions WHERE messages = 0 AND is_default = 0 AND updated_at < ?", (before,)
    )
    return cursor.rowcount


def free_pages(connection: sqlite3.Connection) -> None:
    """Give some of the emptied pages back to the file system."""
    connection.execute(f"PRAGMA incremental_vacuum({FREED_PAGES})").fetchall()


def next_unpacked(connection: sqlite3.Connection, before: float) -> int | None:
    """Return a session untouched since `before` whose messages are not packed yet."""
    row = connection.execute(
        "SELECT number FROM sessions WHERE packed = 0 AND messages > 0 AND updated_at < ? LIMIT 1", (before,)
    ).fetchone()
    return int(row[0]) if row else None


def pack_some(connection: sqlite3.Connection, number: int, after_id: int) -> tuple[int | None, int]:
    """Pack the next messages of a session; return the last id looked at (`None`: all done) and bytes saved."""
    rows: list[tuple[Any, ...]] = connection.execute(
        "SELECT id, content, reasoning FROM messages WHERE session = ? AND id > ? ORDER BY id LIMIT ?",
        (number, after_id, STEP_MESSAGES),
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
    if len(rows) < STEP_MESSAGES:
        connection.execute("UPDATE sessions SET packed = 1 WHERE number = ?", (number,))
        return None, saved
    return int(rows[-1][0]), saved


def _size(stored: str | bytes) -> int:
    return len(stored.encode("utf-8", "surrogatepass")) if isinstance(stored, str) else len(stored)
