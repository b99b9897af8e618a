"""Messages in Redis: appended, read in windows, pinned, dropped.

Every function works through the lane it is given. A message lies as one JSON text, packed when old; its id, its session's
sets and its pin lie beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from backend.memory import redis_scripts as scripts
from backend.memory import redis_sessions as sessions
from backend.memory.faults import UnknownMessage, no_session
from backend.memory.redis_ledger import usage_words
from backend.memory.redis_link import Command, RedisLane
from backend.memory.redis_sessions import PREFIX
from backend.memory.redis_terms import index_terms
from backend.memory.sessions import AUTO_TITLE_CHARS, PREVIEW_CHARS, one_line
from backend.memory.store import YOU, Conversation, UsageRow
from backend.memory.texts import PACK_MIN_CHARS, storable
from backend.schema.records import StoredMessage

_decode = msgspec.json.Decoder(StoredMessage).decode
_encode = msgspec.json.encode


async def append(
    lane: RedisLane, message: StoredMessage, *, closes_in: str = "", booked: UsageRow | None = None
) -> StoredMessage:
    """Store a message and give it its id; `closes_in` is the key of the open turns its turn is to leave.

    Raises `UnknownSession`.
    """
    message.content, message.error = storable(message.content), storable(message.error)
    message.reasoning = storable(message.reasoning)
    title = one_line(message.content, AUTO_TITLE_CHARS) if message.role == "user" else ""
    command = lane.script(
        scripts.APPEND,
        PREFIX,
        message.session_id,
        _encode(message),
        message.author,
        repr(message.created_at),
        message.request_id,
        str(int(message.pinned)),
        one_line(message.content, PREVIEW_CHARS),
        title,
        closes_in,
        *(usage_words(booked) if booked is not None else ("",) * 6),
        *index_terms(message.content),
    )
    number = await lane.call(*command)
    if not number:
        raise no_session(message.session_id)
    message.id = int(number)
    return message


async def window(
    lane: RedisLane, session_id: str, before_id: int | None, after_id: int | None, limit: int
) -> list[StoredMessage]:
    """Return the newest messages before an id, or the first after one; oldest first."""
    await sessions.must_exist(lane, session_id)
    low = "-inf" if after_id is None else f"({after_id}"
    high = "+inf" if before_id is None else f"({before_id}"
    key = f"{PREFIX}sm:{session_id}"
    if after_id is not None:
        return await read(lane, await lane.call("ZRANGE", key, low, high, "BYSCORE", "LIMIT", 0, limit))
    ids = await lane.call("ZRANGE", key, high, low, "BYSCORE", "REV", "LIMIT", 0, limit)
    return await read(lane, ids[::-1])


async def conversation(lane: RedisLane, session_id: str, limit: int, for_ai: str) -> Conversation:
    """Read session, newest messages and older pinned ones; with `for_ai` leave the other specialists' out."""
    session = await sessions.get(lane, session_id)
    keys = [f"{PREFIX}sm:{session_id}"]
    if for_ai:
        keys = [f"{PREFIX}sa:{session_id}:{author}" for author in dict.fromkeys((for_ai, YOU, "system"))]
    newest_ids, pinned_ids = await _newest(lane, keys, limit), f"{PREFIX}sp:{session_id}"
    newest = await read(lane, newest_ids)
    first = newest[0].id if newest else 0
    pinned = await read(lane, await lane.call("ZRANGE", pinned_ids, "-inf", f"({first}", "BYSCORE"))
    earlier = session.messages - len(newest) if len(newest) == limit and not for_ai else 0
    return Conversation(session, newest, pinned, max(0, earlier))


async def get(lane: RedisLane, message_id: int) -> StoredMessage:
    """Return one message. Raises `UnknownMessage`, also when its session was deleted."""
    found = await read(lane, [message_id])
    if not found or not await lane.call("EXISTS", f"{PREFIX}s:{found[0].session_id}"):
        raise UnknownMessage(f"There is no message {message_id}.")
    return found[0]


async def of_request(lane: RedisLane, request_id: str) -> list[StoredMessage]:
    if not request_id:
        return []
    return await read(lane, await lane.call("ZRANGE", f"{PREFIX}r:{request_id}", 0, -1))


async def pin(lane: RedisLane, message_id: int, pinned: bool) -> StoredMessage:
    message = await get(lane, message_id)
    created = repr(message.created_at)
    command = lane.script(scripts.PIN, PREFIX, message_id, message.session_id, str(int(pinned)), created)
    if not await lane.call(*command):
        raise UnknownMessage(f"There is no message {message_id}.")
    message.pinned = pinned
    return message


async def read(lane: RedisLane, ids: Sequence[int | bytes]) -> list[StoredMessage]:
    """Return the messages of these ids that exist, in this order."""
    if not ids:
        return []
    blobs, pins = await lane.batch([("HMGET", f"{PREFIX}m", *ids), ("SMISMEMBER", f"{PREFIX}pinned", *ids)])
    found: list[StoredMessage] = []
    for number, blob, pinned in zip(ids, blobs, pins, strict=True):
        if blob is not None:
            message = _decode(plain(blob))
            message.id, message.pinned = int(number), bool(pinned)
            found.append(message)
    return found


def drop(lane: RedisLane, message: StoredMessage, owner: str) -> Command:
    """Return the command that removes a message from everywhere."""
    return lane.script(
        scripts.DROP,
        PREFIX,
        message.id,
        message.session_id,
        owner,
        message.author,
        message.request_id,
        *index_terms(message.content),
    )


def plain(blob: bytes) -> bytes:
    """Return the JSON of a stored message: JSON begins with a brace, packed texts do not."""
    return blob if blob.startswith(b"{") else zlib.decompress(blob)


def packed(blob: bytes) -> bytes:
    """Return the stored message compressed, or unchanged where that would not make it smaller."""
    if len(blob) < PACK_MIN_CHARS or not blob.startswith(b"{"):
        return blob
    smaller = zlib.compress(blob, 6)
    return smaller if len(smaller) < len(blob) else blob


async def _newest(lane: RedisLane, keys: Sequence[str], limit: int) -> list[int]:
    """Return the newest ids of some sets together, oldest first."""
    if limit < 1:
        return []
    lists = await lane.batch([("ZRANGE", key, 0, limit - 1, "REV") for key in keys])
    return sorted({int(number) for ids in lists for number in ids})[-limit:]
