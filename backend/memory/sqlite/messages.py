"""Messages in SQL: appended, read in windows, pinned, found."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping

import msgspec

from backend.memory.errors import UnknownMessage
from backend.memory.records import YOU, Conversation, OpenTurn
from backend.memory.search import Searched
from backend.memory.sqlite import index, sessions, turns
from backend.memory.sqlite import sent as sent_turns
from backend.memory.sqlite.database import SqliteDatabase
from backend.memory.sqlite.layout import get_session, select_messages, session_key
from backend.memory.values import check_integers, pack, storable_message
from backend.schema.records import StoredMessage, UsageRow
from backend.schema.sent import SentTurn


class SqliteMessages(Searched):
    """A `MessageStore` in the database."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        # A recall is part of a turn: it must not wait for a search that somebody typed.
        super().__init__(index.SqliteIndex(database, "search"), index.SqliteIndex(database, "recall"))

    async def append(
        self,
        message: StoredMessage,
        *,
        opens: Mapping[str, str] | None = None,
        ends_turn: bool = False,
        used: UsageRow | None = None,
        sent: SentTurn | None = None,
    ) -> StoredMessage:
        given = storable_message(message)

        def append(connection: sqlite3.Connection) -> StoredMessage:
            number, owner = session_key(connection, given.session_id)
            # An answer that is stored once more, as after a commit whose word was lost, finds its turn closed
            # and itself stored.
            was_open = not ends_turn or turns.end(connection, given.request_id)
            if not was_open and (known := _answer_of(connection, number, given)):
                return known
            given.id = _insert(connection, number, given)
            index.add(connection, [index.Indexed(given.id, number, owner, given.content)])
            sessions.count_message(connection, number, given)
            for request_id, ai_id in (opens or {}).items():
                turns.begin(connection, OpenTurn(request_id, ai_id, given.session_id, time.time()))
            if used is not None:
                turns.add_usage(connection, used)
            if sent is not None:
                sent_turns.put(connection, number, sent)
            return given

        stored = await self._database.write(append)
        self._database.stored(stored.id)
        return stored

    async def read(
        self, session_id: str, *, before_id: int | None = None, after_id: int | None = None, limit: int = 50
    ) -> list[StoredMessage]:
        check_integers(before_id=before_id, after_id=after_id, limit=limit)

        def read(connection: sqlite3.Connection) -> list[StoredMessage]:
            where, values = "m.session = ?", [session_key(connection, session_id)[0]]
            for sign, bound in (("<", before_id), (">", after_id)):
                if bound is not None:
                    where += f" AND m.id {sign} ?"
                    values.append(bound)
            order = "ASC" if after_id is not None else "DESC"
            rows = select_messages(connection, f"{where} ORDER BY m.id {order} LIMIT ?", (*values, limit))
            return rows if after_id is not None else rows[::-1]

        return await self._database.read(read)

    async def of_request(self, request_id: str) -> list[StoredMessage]:
        # the second condition lets SQLite use the partial index
        where = "m.request_id = ? AND m.request_id <> '' ORDER BY m.id"
        return await self._database.read(lambda c: select_messages(c, where, (request_id,)))

    async def forget(self, request_id: str) -> int:
        def forget(connection: sqlite3.Connection) -> int:
            where = "m.request_id = ? AND m.request_id <> '' AND s.removed = 0"
            gone = index.remove_messages(connection, where, (request_id,))
            connection.executemany(
                "UPDATE sessions SET messages = messages - 1 WHERE number = ?",
                [(row.session,) for row in gone],
            )
            sent_turns.forget_turn(connection, request_id)
            return len(gone)

        return await self._database.write(forget)

    async def conversation(self, session_id: str, limit: int = 240, *, for_ai: str = "") -> Conversation:
        check_integers(limit=limit)

        def read(connection: sqlite3.Connection) -> Conversation:
            session, (number, _) = get_session(connection, session_id), session_key(connection, session_id)
            mine = "m.session = ? AND m.author IN (?, ?, 'system')" if for_ai else "m.session = ?"
            values = (number, for_ai, YOU) if for_ai else (number,)
            newest = select_messages(connection, f"{mine} ORDER BY m.id DESC LIMIT ?", (*values, limit))[::-1]
            first = newest[0].id if newest else 0
            others = "m.author NOT IN (?, ?, 'system')" if for_ai else "0"
            pinned = select_messages(
                connection,
                f"m.session = ? AND m.pinned = 1 AND (m.id < ? OR {others}) ORDER BY m.id",
                (number, first, *values[1:]),
            )
            # Counted only where the window is full; else nothing can be before it.
            earlier = 0
            if len(newest) == limit:
                count = f"SELECT count(*) FROM messages m WHERE {mine} AND m.id < ?"
                [earlier] = connection.execute(count, (*values, first)).fetchone()
            return Conversation(session, newest, pinned, earlier)

        def at_one_moment(connection: sqlite3.Connection) -> Conversation:
            # A read transaction: messages, pins and the count are then of one moment, whatever is written
            # meanwhile.
            connection.execute("BEGIN")
            try:
                return read(connection)
            finally:
                connection.execute("ROLLBACK")

        return await self._database.read(at_one_moment)

    async def pin(self, message_id: int, pinned: bool = True) -> StoredMessage:
        check_integers(message_id=message_id)

        def pin(connection: sqlite3.Connection) -> StoredMessage:
            connection.execute("UPDATE messages SET pinned = ? WHERE id = ?", (pinned, message_id))
            for message in select_messages(connection, "m.id = ?", (message_id,)):
                return message
            raise UnknownMessage(message_id)

        return await self._database.write(pin)


def _answer_of(connection: sqlite3.Connection, session: int, message: StoredMessage) -> StoredMessage | None:
    """Return what an author stored in a session under a message's request id, `None` when nothing is."""
    where = "m.request_id = ? AND m.request_id <> '' AND m.session = ? AND m.author = ? ORDER BY m.id DESC LIMIT 1"
    rows = select_messages(connection, where, (message.request_id, session, message.author))
    return rows[0] if rows else None


def _insert(connection: sqlite3.Connection, session: int, message: StoredMessage) -> int:
    """Insert a message into the session of this row number; return its id."""
    [row] = connection.execute(
        "INSERT INTO messages(session, author, role, content, created_at, request_id, lane, model, usage, "
        "finish_reason, error_code, error, first_token_ms, total_time, reasoning, pinned, parts) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            session,
            message.author,
            message.role,
            message.content,
            message.created_at,
            message.request_id,
            message.lane,
            message.model,
            msgspec.json.encode(message.usage).decode() if message.usage else None,
            message.finish_reason,
            message.error_code,
            message.error,
            message.first_token_ms,
            message.total_time,
            message.reasoning,
            message.pinned,
            pack(msgspec.json.encode(message.parts).decode()) if message.parts else "",
        ),
    ).fetchall()
    return int(row[0])
