"""Tool calls in Redis: a hash of records as JSON, and their ids by time."""

from __future__ import annotations

import msgspec

from backend.memory.redis.connection import RedisConnection, RedisConnections
from backend.memory.redis.layout import PREFIX
from backend.memory.values import check_integers
from backend.schema.tools import ToolRecord

_decode = msgspec.json.Decoder(ToolRecord).decode
_PAGE = 200


class RedisToolCalls:
    """A `ToolCallStore` in Redis."""

    def __init__(self, connections: RedisConnections) -> None:
        self._connections = connections

    async def put(self, record: ToolRecord) -> None:
        # the record before its place in the list: one that is listed can be read
        await self._connections.writer.batch(
            [
                ("HSET", f"{PREFIX}tc", record.id, msgspec.json.encode(record)),
                ("ZADD", f"{PREFIX}tc:time", repr(record.at), record.id),
            ]
        )

    async def find(
        self, *, ai_id: str | None = None, states: tuple[str, ...] = (), limit: int = 200
    ) -> list[ToolRecord]:
        check_integers(limit=limit)
        connection = self._connections.reader
        found: list[ToolRecord] = []
        start = 0
        while len(found) < limit:
            ids = await connection.call("ZRANGE", f"{PREFIX}tc:time", start, start + _PAGE - 1, "REV")
            if not ids:
                break
            rows = await connection.call("HMGET", f"{PREFIX}tc", *ids)
            records = [_decode(row) for row in rows if row is not None]
            found += [
                record
                for record in records
                if (ai_id is None or record.ai_id == ai_id) and (not states or record.state in states)
            ]
            start += _PAGE
        return found[:limit]


async def delete_old(connection: RedisConnection, before: float) -> int:
    """Delete the calls before a moment that have ended; return how many."""
    gone, start = 0, 0
    while ids := await connection.call(
        "ZRANGE", f"{PREFIX}tc:time", "-inf", f"({before!r}", "BYSCORE", "LIMIT", start, _PAGE
    ):
        rows = await connection.call("HMGET", f"{PREFIX}tc", *ids)
        old = [
            number
            for number, row in zip(ids, rows, strict=True)
            if row is None or _decode(row).state not in ("waiting", "running")
        ]
        if old:
            await connection.batch([("ZREM", f"{PREFIX}tc:time", *old), ("HDEL", f"{PREFIX}tc", *old)])
        gone += len(old)
        # the deleted ones are gone from the list: only those that stay are passed over
        start += len(ids) - len(old)
    return gone
