"""What was sent for turns in Redis: a hash of records, their order, and the texts of each session with their last use."""

from __future__ import annotations

import msgspec

from backend.memory.redis.connection import RedisConnection, RedisConnections
from backend.memory.redis.layout import PREFIX, read_messages
from backend.memory.sent import own_texts, with_texts, without_texts
from backend.memory.values import pack, unpack
from backend.schema.sent import SentTurn

_decode = msgspec.json.Decoder(SentTurn).decode
_PAGE = 500
RECORDS, BY_AGE = f"{PREFIX}st", f"{PREFIX}st:time"


class RedisSent:
    """A `SentStore` in Redis."""

    def __init__(self, connections: RedisConnections) -> None:
        self._connections = connections

    async def get(self, request_id: str) -> SentTurn | None:
        connection = self._connections.reader
        record = await connection.call("HGET", RECORDS, request_id)
        return None if record is None else await _whole(connection, _record(record))

    async def newest(self, session_id: str, ai_id: str, *, before: float | None = None) -> SentTurn | None:
        connection = self._connections.reader
        high = "+inf" if before is None else f"({before!r}"
        key = f"{PREFIX}sz:{session_id}:{ai_id}"
        names = await connection.call("ZRANGE", key, high, "-inf", "BYSCORE", "REV", "LIMIT", 0, 1)
        return await self.get(names[0].decode()) if names else None


async def put(connection: RedisConnection, turn: SentTurn) -> None:
    """Keep what was sent for a turn. The texts before the record: one that is found can be read whole."""
    record, texts = without_texts(turn)
    sid, at = turn.session_id, repr(turn.at)
    for digest, text in texts.items():
        await connection.batch(
            [
                ("HSETNX", f"{PREFIX}sd:{sid}", digest, _bytes(pack(text))),
                ("ZADD", f"{PREFIX}sq:{sid}", at, digest),
            ]
        )
    await connection.batch(
        [
            ("SADD", f"{PREFIX}sw:{sid}", turn.ai_id),
            ("ZADD", f"{PREFIX}sz:{sid}:{turn.ai_id}", at, turn.request_id),
            ("ZADD", BY_AGE, at, turn.request_id),
            ("HSET", RECORDS, turn.request_id, _bytes(pack(msgspec.json.encode(record).decode()))),
        ]
    )


async def forget(connection: RedisConnection, session_id: str) -> None:
    """Delete all that was kept of a session."""
    authors = await connection.call("SMEMBERS", f"{PREFIX}sw:{session_id}")
    # the list of names last: a crash in between leaves a list by which the rest is found again
    for author in authors:
        key = f"{PREFIX}sz:{session_id}:{author.decode()}"
        while names := await connection.call("ZRANGE", key, 0, _PAGE - 1):
            await connection.batch(
                [("HDEL", RECORDS, *names), ("ZREM", BY_AGE, *names), ("ZREM", key, *names)]
            )
    await connection.call(
        "DEL", f"{PREFIX}sw:{session_id}", f"{PREFIX}sd:{session_id}", f"{PREFIX}sq:{session_id}"
    )


async def forget_turn(connection: RedisConnection, request_id: str) -> None:
    """Delete what was sent for one turn, its own words with it."""
    record = await connection.call("HGET", RECORDS, request_id)
    if record is None:
        return
    turn = _record(record)
    await connection.batch(
        [
            ("ZREM", f"{PREFIX}sz:{turn.session_id}:{turn.ai_id}", request_id),
            ("ZREM", BY_AGE, request_id),
            ("HDEL", RECORDS, request_id),
        ]
    )
    if digests := own_texts(turn):
        await connection.batch(
            [
                ("HDEL", f"{PREFIX}sd:{turn.session_id}", *digests),
                ("ZREM", f"{PREFIX}sq:{turn.session_id}", *digests),
            ]
        )


async def forget_before(connection: RedisConnection, before: float) -> None:
    """Delete what was sent before a time, and the texts that nothing has used since."""
    limit = ("BYSCORE", "LIMIT", 0, _PAGE)
    while names := await connection.call("ZRANGE", BY_AGE, "-inf", f"({before!r}", *limit):
        rows = [row for row in await connection.call("HMGET", RECORDS, *names) if row is not None]
        sessions = {turn.session_id for turn in map(_record, rows)}
        turns = [
            (f"{PREFIX}sz:{turn.session_id}:{turn.ai_id}", turn.request_id) for turn in map(_record, rows)
        ]
        await connection.batch(
            [
                *[("ZREM", key, name) for key, name in turns],
                ("HDEL", RECORDS, *names),
                ("ZREM", BY_AGE, *names),
            ]
        )
        for session_id in sessions:
            key = f"{PREFIX}sq:{session_id}"
            while digests := await connection.call("ZRANGE", key, "-inf", f"({before!r}", *limit):
                await connection.batch(
                    [("HDEL", f"{PREFIX}sd:{session_id}", *digests), ("ZREM", key, *digests)]
                )


async def _whole(connection: RedisConnection, turn: SentTurn) -> SentTurn:
    ids = sorted({part.message_id for part in turn.parts if part.message_id})
    messages = {message.id: message.content for message in await read_messages(connection, ids)}
    digests = sorted({part.digest for part in turn.parts if part.digest and not part.message_id})
    texts: dict[str, str] = {}
    if digests:
        rows = await connection.call("HMGET", f"{PREFIX}sd:{turn.session_id}", *digests)
        texts = {name: _text(row) for name, row in zip(digests, rows, strict=True) if row is not None}
    return with_texts(turn, texts, messages)


def _record(row: bytes) -> SentTurn:
    return _decode(_text(row))


def _bytes(packed: str | bytes) -> bytes:
    """Return a packed text as it is stored: what is compressed begins with a zero byte, which no text does."""
    return packed.encode() if isinstance(packed, str) else b"\0" + packed


def _text(stored: bytes) -> str:
    return unpack(stored[1:]) if stored.startswith(b"\0") else stored.decode()
