"""What was sent for turns in SQL: a record a turn, and its texts once a session."""

from __future__ import annotations

import sqlite3

import msgspec

from backend.memory.sent import LATEST_USE_S, own_texts, with_texts, without_texts
from backend.memory.sqlite.database import SqliteDatabase
from backend.memory.values import pack, unpack
from backend.schema.sent import SentTurn

_decode = msgspec.json.Decoder(SentTurn).decode


class SqliteSent:
    """A `SentStore` in the database."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def get(self, request_id: str) -> SentTurn | None:
        return await self._database.read(lambda c: _find(c, "request_id = ?", (request_id,)))

    async def newest(self, session_id: str, ai_id: str, *, before: float | None = None) -> SentTurn | None:
        where = "session = (SELECT number FROM sessions WHERE id = ?) AND ai_id = ? AND at < ? ORDER BY at DESC LIMIT 1"
        values = (session_id, ai_id, float("inf") if before is None else before)
        return await self._database.read(lambda c: _find(c, where, values))


def put(connection: sqlite3.Connection, session: int, turn: SentTurn) -> None:
    """Keep what was sent for a turn in the session of this row number, in the transaction of whoever stores its answer."""
    record, texts = without_texts(turn)
    connection.execute(
        "INSERT OR REPLACE INTO sent_turns(request_id, session, ai_id, at, record) VALUES (?, ?, ?, ?, ?)",
        (turn.request_id, session, turn.ai_id, turn.at, pack(msgspec.json.encode(record).decode())),
    )
    known = "UPDATE sent_texts SET at = max(at, ?) WHERE session = ? AND digest = ? RETURNING at"
    for digest, text in texts.items():
        used = connection.execute(
            "SELECT at FROM sent_texts WHERE session = ? AND digest = ?", (session, digest)
        ).fetchone()
        if used is None:
            connection.execute(
                "INSERT INTO sent_texts(session, digest, at, text) VALUES (?, ?, ?, ?)",
                (session, digest, turn.at, pack(text)),
            )
        elif used[0] < turn.at - LATEST_USE_S:
            connection.execute(known, (turn.at, session, digest)).fetchall()


def forget(connection: sqlite3.Connection, session: int) -> None:
    """Delete all that was kept of a session."""
    connection.execute("DELETE FROM sent_turns WHERE session = ?", (session,))
    connection.execute("DELETE FROM sent_texts WHERE session = ?", (session,))


def forget_turn(connection: sqlite3.Connection, request_id: str) -> None:
    """Delete what was sent for one turn, its own words with it."""
    row = connection.execute(
        "SELECT session, record FROM sent_turns WHERE request_id = ?", (request_id,)
    ).fetchone()
    if row is None:
        return
    connection.execute("DELETE FROM sent_turns WHERE request_id = ?", (request_id,))
    for digest in own_texts(_decode(unpack(row[1]))):
        connection.execute("DELETE FROM sent_texts WHERE session = ? AND digest = ?", (row[0], digest))


def _find(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> SentTurn | None:
    row = connection.execute(f"SELECT session, record FROM sent_turns WHERE {where}", values).fetchone()
    if row is None:
        return None
    session, turn = int(row[0]), _decode(unpack(row[1]))
    texts: dict[str, str] = {}
    messages: dict[int, str] = {}
    for part in turn.parts:
        if part.message_id:
            found = connection.execute(
                "SELECT content FROM messages WHERE id = ?", (part.message_id,)
            ).fetchone()
            if found is not None:
                messages[part.message_id] = unpack(found[0])
        elif part.digest:
            found = connection.execute(
                "SELECT text FROM sent_texts WHERE session = ? AND digest = ?", (session, part.digest)
            ).fetchone()
            if found is not None:
                texts[part.digest] = unpack(found[0])
    return with_texts(turn, texts, messages)
