"""The rows of sessions and messages, and the reading of them. All functions take the connection to use."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from backend.memory.errors import UnknownSession
from backend.memory.values import unpack
from backend.schema.content import Part
from backend.schema.frames import Usage
from backend.schema.records import Session, StoredMessage

SESSION = "id, title, owner, created_at, updated_at, messages, is_default, archived, preview, provider, model"
MESSAGE = (
    "m.id, s.id, m.author, m.role, m.content, m.created_at, m.request_id, m.lane, m.model, m.usage, "
    "m.finish_reason, m.error_code, m.error, m.first_token_ms, m.total_time, m.reasoning, m.pinned, m.parts"
)
_decode_parts = msgspec.json.Decoder(list[Part]).decode
_decode_usage = msgspec.json.Decoder(Usage).decode


def get_session(connection: sqlite3.Connection, session_id: str) -> Session:
    """Return a session. Raises `UnknownSession`."""
    for session in select_sessions(connection, "id = ?", (session_id,)):
        return session
    raise UnknownSession(session_id)


def session_key(connection: sqlite3.Connection, session_id: str) -> tuple[int, str]:
    """Return the row number and the owner of a session. Raises `UnknownSession`."""
    row = connection.execute("SELECT number, owner FROM sessions WHERE id = ?", (session_id,)).fetchone()
    if row is None:
        raise UnknownSession(session_id)
    return int(row[0]), str(row[1])


def select_sessions(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[Session]:
    """Return the sessions that a condition of SQL chooses and orders; those being removed are none of them."""
    rows = connection.execute(f"SELECT {SESSION} FROM sessions WHERE removed = 0 AND {where}", values)
    return [_session(row) for row in rows]


def select_messages(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[StoredMessage]:
    """Return the messages `m` (of sessions `s`) that a condition of SQL chooses and orders."""
    joined = "messages m JOIN sessions s ON s.number = m.session"
    rows = connection.execute(f"SELECT {MESSAGE} FROM {joined} WHERE s.removed = 0 AND {where}", values)
    return [_message(row) for row in rows]


def _session(row: tuple[Any, ...]) -> Session:
    session = Session(*row)
    session.is_default, session.archived = bool(session.is_default), bool(session.archived)
    return session


def _message(row: tuple[Any, ...]) -> StoredMessage:
    message = StoredMessage(*row[:-1])
    if row[-1]:
        message.parts = _decode_parts(unpack(row[-1]))
    message.content, message.reasoning = unpack(row[4]), unpack(row[15])
    message.usage = _decode_usage(row[9]) if row[9] else None
    message.pinned = bool(row[16])
    return message
