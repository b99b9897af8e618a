"""Sessions in Redis: found, made, changed, removed."""

from __future__ import annotations

import time
from secrets import token_hex
from typing import Unpack

from backend.memory import search
from backend.memory.errors import UnknownSession
from backend.memory.records import SessionChanges, SessionPage
from backend.memory.redis import retention, scripts
from backend.memory.redis.connection import RedisConnections
from backend.memory.redis.index import RedisIndex
from backend.memory.redis.layout import (
    PREFIX,
    folded_title,
    get_session,
    newest_sessions,
    sessions_by_id,
)
from backend.memory.terms import fold
from backend.memory.values import TITLE_CHARS, check_integers, one_line
from backend.schema.records import Session

LOOKED_AT_ONCE = 2_000
"""Sessions whose titles the server compares in one step, some milliseconds."""


class RedisSessions:
    """A `SessionStore` in Redis."""

    def __init__(self, connections: RedisConnections) -> None:
        self._connections = connections
        self._index = RedisIndex(connections)

    async def default(self, owner: str, *, counted: bool = True) -> Session:
        reader = self._connections.reader
        if (found := await reader.call("HGET", f"{PREFIX}defaults", owner)) is not None:
            for session in (await sessions_by_id(reader, [found.decode()])).values():
                return session
        # of two callers that find none, one makes it and both get it
        return await self._create(owner, "", is_default=True)

    async def create(self, owner: str, title: str = "") -> Session:
        return await self._create(owner, title, is_default=False)

    async def get(self, session_id: str) -> Session:
        return await get_session(self._connections.reader, session_id)

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
        kept: list[Session] = []
        if words:
            return await self._with(words, owner, archived=include_archived, limit=limit)
        async for session in newest_sessions(self._connections.reader, owner):
            if include_archived or not session.archived:
                kept.append(session)
            if len(kept) > limit:
                break
        return SessionPage(kept[:limit], more=len(kept) > limit)

    async def _with(self, words: str, owner: str | None, *, archived: bool, limit: int) -> SessionPage:
        """Return the sessions with words in their titles or messages, newest use first."""
        found, complete = await search.sessions_with(
            self._index, words, owner=owner, archived=archived, limit=limit
        )
        connection, folded = self._connections.search, fold(words)
        kept: list[Session] = []
        start = 0
        while len(kept) <= limit:
            looked_at, *ids = await connection.run(
                scripts.LIST,
                PREFIX,
                "sessions" if owner is None else f"so:{owner}",
                start,
                LOOKED_AT_ONCE,
                int(archived),
                folded,
                limit + 1 - len(kept),
                *found,
            )
            if not looked_at:
                break
            start += looked_at
            sessions = (await sessions_by_id(connection, (one.decode() for one in ids))).values()
            # the server folds ASCII only: other titles are compared here
            kept += [one for one in sessions if one.id in found or folded in fold(one.title)]
        return SessionPage(kept[:limit], more=len(kept) > limit or not complete)

    async def patch(self, session_id: str, **changes: Unpack[SessionChanges]) -> Session:
        flat: list[str] = []
        for name, value in changes.items():
            text = str(int(value)) if isinstance(value, bool) else str(value)
            if name == "title":
                text = one_line(text, TITLE_CHARS)
                flat += ["folded", folded_title(text)]
            flat += [name, text]
        if not await self._connections.writer.run(scripts.PATCH, PREFIX, session_id, *flat):
            raise UnknownSession(session_id)
        return await get_session(self._connections.writer, session_id)

    async def delete(self, session_id: str) -> None:
        await retention.delete_session(self._connections.writer, session_id)

    async def _create(self, owner: str, title: str, *, is_default: bool) -> Session:
        connection = self._connections.writer
        title = one_line(title, TITLE_CHARS)
        session_id = await connection.run(
            scripts.CREATE,
            PREFIX,
            f"s-{token_hex(8)}",
            owner,
            title,
            str(int(is_default)),
            repr(time.time()),
            folded_title(title),
        )
        return await get_session(connection, session_id.decode())
