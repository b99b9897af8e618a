"""Sessions in SQL: found, made, changed, removed.

Every function runs on the connection of the calling lane. Knows nothing of search.
"""

from __future__ import annotations

import sqlite3
import time
from secrets import token_hex
from typing import Any

from backend.memory.faults import no_session
from backend.memory.texts import storable
from backend.schema.records import Session

TITLE_CHARS = 200
AUTO_TITLE_CHARS = 60
PREVIEW_CHARS = 120

COLUMNS = "id, title, owner, created_at, updated_at, messages, is_default, archived, preview, provider, model"


def as_session(row: tuple[Any, ...]) -> Session:
    session = Session(*row[:6])
    session.is_default, session.archived = bool(row[6]), bool(row[7])
    session.preview, session.provider, session.model = row[8:]
    return session


def one_line(text: str, chars: int) -> str:
    """Return the beginning of a text on one line, at most `chars` long, with an ellipsis where it was cut."""
    flat = " ".join(text[: chars * 4].split())
    return flat if len(flat) <= chars else flat[: chars - 1].rstrip() + "…"


def number_of(connection: sqlite3.Connection, session_id: str) -> int:
    """Return the row number of a session. Raises `UnknownSession`."""
    row = connection.execute("SELECT number FROM sessions WHERE id = ?", (session_id,)).fetchone()
    if row is None:
        raise no_session(session_id)
    return int(row[0])


def get(connection: sqlite3.Connection, session_id: str) -> Session:
    row = connection.execute(f"SELECT {COLUMNS} FROM sessions WHERE id = ?", (session_id,)).fetchone()
    if row is None:
        raise no_session(session_id)
    return as_session(row)


def find_default(connection: sqlite3.Connection, owner: str) -> Session | None:
    row = connection.execute(
        f"SELECT {COLUMNS} FROM sessions WHERE owner = ? AND is_default = 1", (owner,)
    ).fetchone()
    return as_session(row) if row else None


def create(connection: sqlite3.Connection, owner: str, title: str, *, is_default: bool = False) -> Session:
    now = time.time()
    session_id = f"s-{token_hex(8)}"
    connection.execute(
        "INSERT INTO sessions(id, title, owner, created_at, updated_at, is_default) VALUES (?, ?, ?, ?, ?, ?)",
        (session_id, one_line(storable(title), TITLE_CHARS), owner, now, now, is_default),
    )
    return get(connection, session_id)


def ensure_default(connection: sqlite3.Connection, owner: str) -> Session:
    return find_default(connection, owner) or create(connection, owner, "", is_default=True)


def listed(
    connection: sqlite3.Connection,
    owner: str | None,
    include_archived: bool,
    limit: int,
    *,
    title_part: str | None = None,
    found: list[int] | None = None,
) -> list[Session]:
    """Return sessions, newest use first; with `title_part` those whose title has it or whose number is `found`."""
    where, values = ["1"], list[Any]()
    if owner is not None:
        where.append("owner = ?")
        values.append(owner)
    if not include_archived:
        where.append("archived = 0")
    if title_part is not None:
        marks = ",".join("?" * len(found or []))
        where.append(f"(instr(lower(title), lower(?)) OR number IN ({marks}))")
        values += [title_part, *(found or [])]
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM sessions WHERE {' AND '.join(where)} ORDER BY updated_at DESC, number DESC LIMIT ?",
        (*values, limit),
    )
    return [as_session(row) for row in rows]


def patch(connection: sqlite3.Connection, session_id: str, changes: dict[str, Any]) -> Session:
    """Set the given columns; a new default takes the mark from the owner's old one."""
    session = get(connection, session_id)
    if changes.get("is_default"):
        connection.execute(
            "UPDATE sessions SET is_default = 0 WHERE owner = ? AND is_default = 1", (session.owner,)
        )
    if "title" in changes:
        changes["title"] = one_line(storable(changes["title"]), TITLE_CHARS)
    if changes:
        sets = ", ".join(f"{column} = ?" for column in changes)
        connection.execute(f"UPDATE sessions SET {sets} WHERE id = ?", (*changes.values(), session_id))
    return get(connection, session_id)


def delete(connection: sqlite3.Connection, session_id: str) -> None:
    number = number_of(connection, session_id)
    connection.execute("DELETE FROM messages WHERE session = ?", (number,))
    connection.execute("DELETE FROM sessions WHERE number = ?", (number,))


def touch(connection: sqlite3.Connection, number: int, role: str, content: str, at: float) -> None:
    """Account for a new message: count, time, preview, and a title from the first words of the operator."""
    title = one_line(content, AUTO_TITLE_CHARS) if role == "user" else ""
    connection.execute(
        "UPDATE sessions SET messages = messages + 1, updated_at = max(updated_at, ?), packed = 0, "
        "preview = CASE WHEN ? <> '' THEN ? ELSE preview END, "
        "title = CASE WHEN title = '' THEN ? ELSE title END WHERE number = ?",
        (at, preview := one_line(content, PREVIEW_CHARS), preview, title, number),
    )
