"""Sessions in Redis: found, made, changed, removed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from secrets import token_hex
from typing import Unpack

from backend.memory import search
from backend.memory.errors import UnknownSession
from backend.memory.records import SessionChanges, SessionPage
from backend.memory.redis import retention, scripts
from backend.memory.redis.connection import RedisConnection, RedisConnections
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

LOOKED_AT_ONCE = 4_000
"""Sessions whose titles the server compares in one step, some milliseconds."""
CHECKED_AT_ONCE = 500
"""Sessions whose titles are put into the list of titles in one step."""


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
        async for session in newest_sessions(self._connections.reader, owner, wanted=limit + 1):
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
        start, behind_last = 0, False
        while len(kept) <= limit and not behind_last:
            wanted = limit + 1 - len(kept)
            looked_at, *ids = await connection.run(
                scripts.LIST,
                PREFIX,
                "sessions" if owner is None else f"so:{owner}",
                start,
                LOOKED_AT_ONCE,
                int(archived),
                folded,
                wanted,
                *found,
            )
            # it stops early where it found as many as were wanted, of which some may not be meant
            behind_last = looked_at < LOOKED_AT_ONCE and len(ids) < wanted
            start += looked_at
            sessions = (await sessions_by_id(connection, (one.decode() for one in ids))).values()
            # a gateway of another version may have changed them past the list of titles
            kept += [
                one
                for one in sessions
                if (one.id in found or folded in fold(one.title)) and (archived or not one.archived)
            ]
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


async def check_titles(connection: RedisConnection) -> None:
    """See that the list of titles has each session as it is.

    A home of before that list has none of them, and a gateway of an earlier version beside us changes them past it.
    """
    # by cursors: whoever comes to the front of the list meanwhile moves nobody past us
    cursor = b"0"
    while True:
        cursor, found = await connection.call("ZSCAN", f"{PREFIX}sessions", cursor, "COUNT", CHECKED_AT_ONCE)
        await _check_titles(connection, [member.decode().partition(":")[2] for member in found[::2]])
        if cursor == b"0":
            break
    titles, sessions = await connection.batch([("HLEN", f"{PREFIX}titles"), ("ZCARD", f"{PREFIX}sessions")])
    while titles > sessions:  # titles of sessions that others have removed
        cursor, found = await connection.call("HSCAN", f"{PREFIX}titles", cursor, "COUNT", CHECKED_AT_ONCE)
        await _check_titles(connection, [session_id.decode() for session_id in found[::2]])
        if cursor == b"0":
            break


async def _check_titles(connection: RedisConnection, ids: Sequence[str]) -> None:
    began = time.monotonic()
    other = [word.decode() for word in await connection.run(scripts.CHECK_TITLES, PREFIX, *ids)]
    await connection.batch(
        [
            connection.script(scripts.LIST_TITLE, PREFIX, session_id, title, folded_title(title))
            for session_id, title in zip(other[::2], other[1::2], strict=True)
        ]
    )
    # the server is everybody's: half of the time is left to others
    await asyncio.sleep(time.monotonic() - began)
