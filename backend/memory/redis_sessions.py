"""Sessions in Redis: found, made, changed, removed.

Every function works through the lane it is given. Knows nothing of messages but their number.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from secrets import token_hex
from typing import Any

from backend.memory import redis_scripts as scripts
from backend.memory.faults import no_session
from backend.memory.redis_link import RedisLane
from backend.memory.sessions import TITLE_CHARS, one_line
from backend.memory.texts import storable
from backend.schema.records import Session

PREFIX = "tekton:"
PAGE = 500
"""Sessions read in one trip while listing."""
_FIELDS = (
    "title",
    "owner",
    "created_at",
    "updated_at",
    "messages",
    "archived",
    "preview",
    "provider",
    "model",
)


async def get(lane: RedisLane, session_id: str) -> Session:
    """Return a session. Raises `UnknownSession`."""
    found = await _read(lane, [session_id])
    if not found:
        raise no_session(session_id)
    return found[0]


async def must_exist(lane: RedisLane, session_id: str) -> None:
    """Raises `UnknownSession`."""
    if not await lane.call("EXISTS", f"{PREFIX}s:{session_id}"):
        raise no_session(session_id)


async def find_default(lane: RedisLane, owner: str) -> Session | None:
    session_id = await lane.call("HGET", f"{PREFIX}defaults", owner)
    if session_id is None:
        return None
    found = await _read(lane, [session_id.decode()])
    return found[0] if found else None


async def create(lane: RedisLane, owner: str, title: str, *, is_default: bool = False) -> Session:
    """Make a session; as default, return the one there is if another caller was first."""
    title = one_line(storable(title), TITLE_CHARS)
    now = repr(time.time())
    command = lane.script(
        scripts.CREATE, PREFIX, f"s-{token_hex(8)}", owner, title, str(int(is_default)), now
    )
    return await get(lane, (await lane.call(*command)).decode())


async def listed(
    lane: RedisLane,
    owner: str | None,
    include_archived: bool,
    limit: int,
    *,
    title_part: str | None = None,
    found: set[str] | None = None,
) -> list[Session]:
    """Return sessions, newest use first; with `title_part` those whose title has it or whose id is in `found`."""
    part = title_part.lower() if title_part is not None else None
    kept: list[Session] = []
    async for session in _newest_first(lane, owner):
        if session.archived and not include_archived:
            continue
        if part is not None and part not in session.title.lower() and session.id not in (found or ()):
            continue
        kept.append(session)
        if len(kept) >= limit:
            break
    return kept[:limit]


async def patch(lane: RedisLane, session_id: str, changes: dict[str, Any]) -> Session:
    """Set the given fields; a new default takes the mark from the owner's old one."""
    flat: list[str] = []
    for name, value in changes.items():
        text = one_line(storable(value), TITLE_CHARS) if name == "title" else value
        flat += [name, str(int(text)) if isinstance(text, bool) else str(text)]
    if not await lane.call(*lane.script(scripts.PATCH, PREFIX, session_id, *flat)):
        raise no_session(session_id)
    return await get(lane, session_id)


async def titles(lane: RedisLane, session_ids: Sequence[str]) -> dict[str, Session]:
    """Return the sessions of these ids that exist."""
    return {session.id: session for session in await _read(lane, list(dict.fromkeys(session_ids)))}


async def _newest_first(lane: RedisLane, owner: str | None) -> AsyncIterator[Session]:
    key = f"{PREFIX}sessions" if owner is None else f"{PREFIX}so:{owner}"
    start = 0
    while members := await lane.call("ZRANGE", key, start, start + PAGE - 1, "REV"):
        for session in await _read(lane, [member.decode().partition(":")[2] for member in members]):
            yield session
        start += PAGE


async def _read(lane: RedisLane, ids: Sequence[str]) -> list[Session]:
    if not ids:
        return []
    rows = await lane.batch([("HMGET", f"{PREFIX}s:{session_id}", *_FIELDS) for session_id in ids])
    there = [(session_id, row) for session_id, row in zip(ids, rows, strict=True) if row[1] is not None]
    if not there:
        return []
    defaults = await lane.call("HMGET", f"{PREFIX}defaults", *(row[1] for _, row in there))
    return [
        _as_session(session_id, row, default == session_id.encode())
        for (session_id, row), default in zip(there, defaults, strict=True)
    ]


def _as_session(session_id: str, row: list[bytes], is_default: bool) -> Session:
    title, owner, created, updated, messages, archived, preview, provider, model = (
        value.decode() for value in row
    )
    return Session(
        session_id,
        title,
        owner,
        float(created),
        float(updated),
        int(messages),
        is_default,
        archived == "1",
        preview,
        provider,
        model,
    )
