"""How sessions and messages are laid out in Redis, and the reading of them.

A message is one JSON text, packed when old; its id, the sets of its session and its pin are kept beside it. All functions
take the connection to use. The names of the keys are listed in `scripts`.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec

from backend.memory.errors import UnknownSession
from backend.memory.redis import scripts
from backend.memory.redis.connection import RedisConnection
from backend.memory.terms import fold
from backend.memory.values import PACK_MIN_CHARS
from backend.schema.records import Session, StoredMessage

PREFIX = "tekton:"
PAGE_SESSIONS = 500
"""Sessions read in one trip while listing."""
_decode_row = msgspec.json.Decoder(list[str]).decode
_decode = msgspec.json.Decoder(StoredMessage).decode


async def get_session(connection: RedisConnection, session_id: str) -> Session:
    """Return a session. Raises `UnknownSession`."""
    if found := await _read_sessions(connection, [session_id]):
        return found[0]
    raise UnknownSession(session_id)


async def sessions_by_id(connection: RedisConnection, session_ids: Iterable[str]) -> dict[str, Session]:
    """Return the sessions of these ids that exist."""
    found = await _read_sessions(connection, list(dict.fromkeys(session_ids)))
    return {session.id: session for session in found}


async def newest_sessions(
    connection: RedisConnection, owner: str | None, *, wanted: int
) -> AsyncIterator[Session]:
    """Yield the sessions of an owner, or of all, newest use first; about so many are `wanted`, others come all the same."""
    key = f"{PREFIX}sessions" if owner is None else f"{PREFIX}so:{owner}"
    start, page = 0, max(1, min(wanted, PAGE_SESSIONS))
    while members := await connection.call("ZRANGE", key, start, start + page - 1, "REV"):
        ids = [member.decode().partition(":")[2] for member in members]
        for session in await _read_sessions(connection, ids):
            yield session
        start += page


def folded_title(title: str) -> str:
    """Return what of a title is kept in `titles`: as searches compare it, and behind a line end what it was made of.

    A title that was changed by a gateway that does not know of `titles` is told by the latter.
    """
    return f"{fold(title)}\n{title}"


async def read_messages(connection: RedisConnection, ids: Sequence[int | bytes]) -> list[StoredMessage]:
    """Return the messages of these ids that exist, in this order."""
    if not ids:
        return []
    blobs, pins = await connection.batch(
        [("HMGET", f"{PREFIX}m", *ids), ("SMISMEMBER", f"{PREFIX}pinned", *ids)]
    )
    found: list[StoredMessage] = []
    for number, blob, pinned in zip(ids, blobs, pins, strict=True):
        if blob is not None:
            message = _decode(blob if blob.startswith(b"{") else zlib.decompress(blob))
            message.id, message.pinned = int(number), bool(pinned)
            found.append(message)
    return found


def packed(blob: bytes) -> bytes:
    """Return a stored message compressed, or unchanged where that would not make it smaller.

    JSON begins with a brace, which no packed text does.
    """
    if len(blob) < PACK_MIN_CHARS or not blob.startswith(b"{"):
        return blob
    smaller = zlib.compress(blob, 6)
    return smaller if len(smaller) < len(blob) else blob


async def _read_sessions(connection: RedisConnection, ids: Sequence[str]) -> list[Session]:
    pages = [ids[start : start + PAGE_SESSIONS] for start in range(0, len(ids), PAGE_SESSIONS)]
    rows = await connection.batch([connection.script(scripts.SESSIONS, PREFIX, *page) for page in pages])
    return [
        _session(session_id, row)
        for page, found in zip(pages, rows, strict=True)
        for session_id, row in zip(page, found, strict=True)
        if row
    ]


def _session(session_id: str, row: bytes) -> Session:
    title, owner, created, updated, messages, archived, *texts, default = _decode_row(row)
    times_and_number = float(created), float(updated), int(messages)
    return Session(session_id, title, owner, *times_and_number, default == "1", archived == "1", *texts)
