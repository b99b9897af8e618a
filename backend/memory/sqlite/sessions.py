"""Sessions in SQL: found, made, changed, removed."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from secrets import token_hex
from typing import Any, Unpack

import msgspec

from backend.memory import search
from backend.memory.errors import StoreFailed
from backend.memory.records import SessionChanges, SessionPage
from backend.memory.sqlite import retention
from backend.memory.sqlite.database import SqliteDatabase
from backend.memory.sqlite.executor import T, Work
from backend.memory.sqlite.index import SqliteIndex
from backend.memory.sqlite.layout import get_session, select_sessions
from backend.memory.terms import fold
from backend.memory.values import PREVIEW_CHARS, TITLE_CHARS, auto_title, check_integers, one_line
from backend.schema.records import MAX_INTEGER, Session, StoredMessage

log = logging.getLogger(__name__)


class SqliteSessions:
    """A `SessionStore` in the database."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._index = SqliteIndex(database, "search")
        self._defaults: dict[str, Session] = {}
        """Default sessions by owner, as they were read last; of this process alone, which alone changes them."""
        self._changes = 0

    async def default(self, owner: str, *, counted: bool = True) -> Session:
        if not counted and (known := self._defaults.get(owner)) is not None:
            return msgspec.structs.replace(known)
        changes = self._changes
        found = await self._database.read(lambda c: _default(c, owner))
        found = found or await self._database.write(
            # Looked for again by the one thread that writes: of two who ask at once only one makes it.
            lambda c: _default(c, owner) or _create(c, owner, "", is_default=True)
        )
        if changes == self._changes:  # else somebody has changed one while this was read
            self._defaults[owner] = msgspec.structs.replace(found)
        return found

    async def _change(self, work: Work[T]) -> T:
        """Run work that may change a default session, and know none of before from then on, whoever still waits for it."""
        writing = asyncio.ensure_future(self._database.write(work))
        writing.add_done_callback(self._changed)
        # A caller that goes away does not undo the write, so what is remembered must be dropped when it ends,
        # not when he does.
        return await asyncio.shield(writing)

    def _changed(self, writing: asyncio.Future[Any]) -> None:
        self._changes += 1
        self._defaults.clear()
        if not writing.cancelled() and (error := writing.exception()) is not None:
            log.debug("a session was not changed: %s", error)

    async def create(self, owner: str, title: str = "") -> Session:
        return await self._database.write(lambda c: _create(c, owner, title))

    async def get(self, session_id: str) -> Session:
        return await self._database.read(lambda c: get_session(c, session_id))

    async def find(
        self,
        *,
        owner: str | None = None,
        query: str | None = None,
        include_archived: bool = False,
        limit: int = 200,
    ) -> SessionPage:
        check_integers(limit=limit)
        words = (query or "").strip()
        where, values = ["1"], list[Any]()
        if owner is not None:
            where.append("owner = ?")
            values.append(owner)
        if not include_archived:
            where.append("archived = 0")
        complete = True
        if words:
            found, complete = await search.sessions_with(
                self._index, words, owner=owner, archived=include_archived, limit=limit
            )
            where.append(f"(instr(folded_title, ?) OR id IN ({','.join('?' * len(found))}))")
            values += [fold(words), *found]
        condition = f"{' AND '.join(where)} ORDER BY updated_at DESC, number DESC LIMIT ?"
        rows = await self._database.run(
            "search" if words else "reader",
            lambda c: select_sessions(c, condition, (*values, min(limit + 1, MAX_INTEGER))),
        )
        return SessionPage(rows[:limit], more=len(rows) > limit or not complete)

    async def patch(self, session_id: str, **changes: Unpack[SessionChanges]) -> Session:
        given: dict[str, Any] = {**changes}
        if "title" in given:
            given["title"] = one_line(given["title"], TITLE_CHARS)
            given["folded_title"] = fold(given["title"])

        def patch(connection: sqlite3.Connection) -> Session:
            session = get_session(connection, session_id)
            if given.get("is_default"):
                connection.execute(
                    "UPDATE sessions SET is_default = 0 WHERE owner = ? AND is_default = 1", (session.owner,)
                )
            for column, value in given.items():
                connection.execute(f"UPDATE sessions SET {column} = ? WHERE id = ?", (value, session_id))
            return get_session(connection, session_id)

        return await self._change(patch)

    async def delete(self, session_id: str) -> None:
        number = await self._change(lambda c: retention.begin_removal(c, session_id))
        try:
            await retention.finish_removal(self._database, number)
        except StoreFailed:  # the session is gone for everybody; its rows go with the next retention or start
            log.exception("the rows of the deleted session %s are left for later", session_id)


def count_message(connection: sqlite3.Connection, number: int, message: StoredMessage) -> None:
    """Account for a new message: count, time, preview, and a title from the first words of the operator."""
    title = auto_title(message)
    connection.execute(
        # Counted here, not when it is asked for: a list of sessions must not read their messages.
        "UPDATE sessions SET messages = messages + 1, updated_at = max(updated_at, :at), packed = 0, "
        "preview = iif(:preview <> '', :preview, preview), title = iif(title = '', :title, title), "
        "folded_title = iif(title = '', :folded_title, folded_title) WHERE number = :number",
        {
            "at": message.created_at,
            "preview": one_line(message.content, PREVIEW_CHARS),
            "title": title,
            "folded_title": fold(title),
            "number": number,
        },
    )


def _default(connection: sqlite3.Connection, owner: str) -> Session | None:
    for session in select_sessions(connection, "owner = ? AND is_default = 1", (owner,)):
        return session
    return None


def _create(connection: sqlite3.Connection, owner: str, title: str, *, is_default: bool = False) -> Session:
    now, session_id, title = time.time(), f"s-{token_hex(8)}", one_line(title, TITLE_CHARS)
    connection.execute(
        "INSERT INTO sessions(id, title, folded_title, owner, created_at, updated_at, is_default) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (session_id, title, fold(title), owner, now, now, is_default),
    )
    return get_session(connection, session_id)
