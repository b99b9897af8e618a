"""Messages in SQL: appended, read in windows, pinned.

Every function runs on the connection of the calling lane.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from backend.memory import sessions
from backend.memory.faults import UnknownMessage
from backend.memory.store import YOU, Conversation
from backend.memory.texts import storable, unpack
from backend.schema.frames import Usage
from backend.schema.records import StoredMessage

COLUMNS = (
    "m.id, s.id, m.author, m.role, m.content, m.created_at, m.request_id, m.lane, m.model, m.usage, "
    "m.finish_reason, m.error_code, m.error, m.first_token_ms, m.total_time, m.reasoning, m.pinned"
)
JOINED = "messages m JOIN sessions s ON s.number = m.session"
_decode_usage = msgspec.json.Decoder(Usage).decode
_encode = msgspec.json.encode


def as_message(row: tuple[Any, ...]) -> StoredMessage:
    return StoredMessage(
        *row[:4],
        content=unpack(row[4]),
        created_at=row[5],
        request_id=row[6],
        lane=row[7],
        model=row[8],
        usage=_decode_usage(row[9]) if row[9] else None,
        finish_reason=row[10],
        error_code=row[11],
        error=row[12],
        first_token_ms=row[13],
        total_time=row[14],
        reasoning=unpack(row[15]),
        pinned=bool(row[16]),
    )


def append(connection: sqlite3.Connection, message: StoredMessage) -> StoredMessage:
    """Store a message and give it its id. The usage is kept as JSON, its unset values left out."""
    number = sessions.number_of(connection, message.session_id)
    message.content, message.error = storable(message.content), storable(message.error)
    message.reasoning = storable(message.reasoning)
    row = connection.execute(
        "INSERT INTO messages(session, author, role, content, created_at, request_id, lane, model, usage, "
        "finish_reason, error_code, error, first_token_ms, total_time, reasoning, pinned) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            number,
            message.author,
            message.role,
            message.content,
            message.created_at,
            message.request_id,
            message.lane,
            message.model,
            _encode(message.usage).decode() if message.usage else None,
            message.finish_reason,
            message.error_code,
            message.error,
            message.first_token_ms,
            message.total_time,
            message.reasoning,
            message.pinned,
        ),
    ).fetchall()[0]
    message.id = int(row[0])
    sessions.touch(connection, number, message.role, message.content, message.created_at)
    return message


def window(
    connection: sqlite3.Connection, session_id: str, before_id: int | None, after_id: int | None, limit: int
) -> list[StoredMessage]:
    """Return the newest messages before an id, or the first after one; oldest first."""
    number = sessions.number_of(connection, session_id)
    where, values = "m.session = ?", [number]
    for sign, bound in (("<", before_id), (">", after_id)):
        if bound is not None:
            where += f" AND m.id {sign} ?"
            values.append(bound)
    order = "ASC" if after_id is not None else "DESC"
    rows = _select(connection, f"{where} ORDER BY m.id {order} LIMIT ?", (*values, limit))
    return rows if after_id is not None else rows[::-1]


def conversation(connection: sqlite3.Connection, session_id: str, limit: int, for_ai: str) -> Conversation:
    """Read session, newest messages and older pinned ones; with `for_ai` leave the other specialists' out."""
    connection.execute("BEGIN")  # one moment for all three reads
    try:
        session = sessions.get(connection, session_id)
        number = sessions.number_of(connection, session_id)
        mine = "m.session = ? AND m.author IN (?, ?, 'system')" if for_ai else "m.session = ?"
        values = (number, for_ai, YOU) if for_ai else (number,)
        newest = _select(connection, f"{mine} ORDER BY m.id DESC LIMIT ?", (*values, limit))[::-1]
        first = newest[0].id if newest else 0
        pinned = _select(
            connection, "m.session = ? AND m.pinned = 1 AND m.id < ? ORDER BY m.id", (number, first)
        )
        earlier = session.messages - len(newest) if len(newest) == limit and not for_ai else 0
        return Conversation(session, newest, pinned, earlier)
    finally:
        connection.execute("ROLLBACK")


def get(connection: sqlite3.Connection, message_id: int) -> StoredMessage:
    rows = _select(connection, "m.id = ?", (message_id,))
    if not rows:
        raise UnknownMessage(f"There is no message {message_id}.")
    return rows[0]


def of_request(connection: sqlite3.Connection, request_id: str) -> list[StoredMessage]:
    # the second condition lets SQLite use the partial index
    return _select(connection, "m.request_id = ? AND m.request_id <> '' ORDER BY m.id", (request_id,))


def pin(connection: sqlite3.Connection, message_id: int, pinned: bool) -> StoredMessage:
    connection.execute("UPDATE messages SET pinned = ? WHERE id = ?", (pinned, message_id))
    return get(connection, message_id)


def _select(connection: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> list[StoredMessage]:
    rows = connection.execute(f"SELECT {COLUMNS} FROM {JOINED} WHERE {where}", values).fetchall()
    return [as_message(row) for row in rows]
