"""The error log in Redis."""

from __future__ import annotations

import time
from collections.abc import Sequence

from backend.memory.redis import scripts
from backend.memory.redis.connection import RedisConnections
from backend.memory.redis.layout import PREFIX
from backend.memory.values import check_integers, storable_error
from backend.schema.records import ErrorRecord

_PARTS = "\x1f"
_FIELDS = ("id where code message first last count phase evidence request_id acknowledged").split()
_PAGE = 200


class RedisErrors:
    """An `ErrorStore` in Redis."""

    def __init__(self, connections: RedisConnections) -> None:
        self._connections = connections

    async def record(self, error: ErrorRecord) -> ErrorRecord:
        given = storable_error(error)
        flat = await self._connections.writer.run(
            scripts.RECORD_ERROR,
            PREFIX,
            _PARTS.join((given.where, given.code, given.message)),
            repr(given.last),
            given.where,
            given.code,
            given.message,
            given.phase,
            given.evidence,
            given.request_id,
            str(given.count),
            repr(given.first),
        )
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        return _record([fields[name.encode()] for name in _FIELDS])

    async def find(
        self, *, unacknowledged: bool = False, where: str | None = None, limit: int = 200
    ) -> list[ErrorRecord]:
        check_integers(limit=limit)
        connection = self._connections.reader
        key = f"{PREFIX}errors" if where is None else f"{PREFIX}errors:{where}"
        found: list[ErrorRecord] = []
        start = 0
        while len(found) < limit:
            members = await connection.call("ZRANGE", key, start, start + _PAGE - 1, "REV")
            if not members:
                break
            rows = await connection.batch(
                [("HMGET", f"{PREFIX}e:{int(member)}", *_FIELDS) for member in members]
            )
            records = [_record(row) for row in rows if row[0] is not None]
            found += [record for record in records if not (unacknowledged and record.acknowledged)]
            start += _PAGE
        return found[:limit]

    async def acknowledge(self, ids: Sequence[int] | None = None) -> list[int]:
        for number in ids or ():
            check_integers(id=number)
        which: list[str | int] = ["all"] if ids is None else sorted(set(ids))
        if not which:
            return []
        marked = await self._connections.writer.run(scripts.ACKNOWLEDGE, PREFIX, repr(time.time()), *which)
        return [int(number) for number in marked]

    async def unacknowledged(self) -> int:
        return int(await self._connections.reader.call("HLEN", f"{PREFIX}open_errors"))


def _record(row: list[bytes]) -> ErrorRecord:
    number, where, code, message, first, last, count, phase, evidence, request_id, acknowledged = (
        value.decode() for value in row
    )
    return ErrorRecord(
        int(number), where, code, message, float(first), float(last), int(count),
        phase, evidence, request_id, float(acknowledged),
    )  # fmt: skip
