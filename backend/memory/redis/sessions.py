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
from backend.memory.redis.layout import PREFIX, get_session, newest_sessions, sessions_by_id
from backend.memory.search import fold
from backend.memory.values import TITLE_CHARS, check_integers, one_line
from backend.schema.records import Session


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
        folded, found, complete = fold(words), set[str](), True
        if words:
            found, complete = await search.sessions_with(self._index, words, owner)
        kept: list[Session] = []
        async for session in newest_sessions(
            self._connections.search if words else self._connections.reader, owner
        ):
            matches = folded in fold(session.title) or session.id in found
            if matches and (include_archived or not session.archived):
                kept.append(session)
            if len(kept) > limit:
                break
        return SessionPage(kept[:limit], more=len(kept) > limit or not complete)

    async def patch(self, session_id: str, **changes: Unpack[SessionChanges]) -> Session:
        flat: list[str] = []
        for name, value in changes.items():
            text = str(int(value)) if isinstance(value, bool) else str(value)
            flat += [name, one_line(text, TITLE_CHARS) if name == "title" else text]
        if not await self._connections.writer.run(scripts.PATCH, PREFIX, session_id, *flat):
            raise UnknownSession(session_id)
        return await get_session(self._connections.writer, session_id)

    async def delete(self, session_id: str) -> None:
        await retention.delete_session(self._connections.writer, session_id)

    async def _create(self, owner: str, title: str, *, is_default: bool) -> Session:
        connection = self._connections.writer
        session_id = await connection.run(
            scripts.CREATE,
            PREFIX,
            f"s-{token_hex(8)}",
            owner,
            one_line(title, TITLE_CHARS),
            str(int(is_default)),
            repr(time.time()),
        )
        return await get_session(connection, session_id.decode())
