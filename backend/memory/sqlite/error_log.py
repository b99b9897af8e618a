"""The error log in SQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from backend.memory.sqlite.database import SqliteDatabase
from backend.memory.values import check_integers, storable_error
from backend.schema.records import ErrorRecord

_COLUMNS = "id, place, code, message, first, last, count, phase, evidence, request_id, acknowledged"

SLICE_ACKNOWLEDGED = 500
"""Records marked in one transaction (some ten milliseconds)."""


class SqliteErrors:
    """An `ErrorStore` in the database."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def record(self, error: ErrorRecord) -> ErrorRecord:
        given = storable_error(error)

        def record(connection: sqlite3.Connection) -> ErrorRecord:
            [row] = connection.execute(
                "INSERT INTO errors(place, code, message, first, last, count, phase, evidence, request_id) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(place, code, message) WHERE acknowledged = 0 DO UPDATE "
                "SET count = count + excluded.count, last = excluded.last, phase = excluded.phase, "
                "request_id = excluded.request_id, "
                "evidence = CASE WHEN excluded.evidence <> '' THEN excluded.evidence ELSE evidence END "
                f"RETURNING {_COLUMNS}",
                (
                    given.where,
                    given.code,
                    given.message,
                    given.first,
                    given.last,
                    given.count,
                    given.phase,
                    given.evidence,
                    given.request_id,
                ),
            ).fetchall()
            return ErrorRecord(*row)

        return await self._database.write(record)

    async def find(
        self, *, unacknowledged: bool = False, where: str | None = None, limit: int = 200
    ) -> list[ErrorRecord]:
        check_integers(limit=limit)
        conditions, values = ["1"], list[Any]()
        if unacknowledged:
            conditions.append("acknowledged = 0")
        if where is not None:
            conditions.append("place = ?")
            values.append(where)
        query = f"SELECT {_COLUMNS} FROM errors WHERE {' AND '.join(conditions)} ORDER BY last DESC, id DESC LIMIT ?"

        def find(connection: sqlite3.Connection) -> list[ErrorRecord]:
            return [ErrorRecord(*row) for row in connection.execute(query, (*values, limit))]

        return await self._database.read(find)

    async def acknowledge(self, ids: Sequence[int] | None = None) -> list[int]:
        for number in ids or ():
            check_integers(id=number)

        open_ids = "SELECT id FROM errors WHERE acknowledged = 0"
        wanted = (
            [int(number) for (number,) in await self._database.read(lambda c: c.execute(open_ids).fetchall())]
            if ids is None
            else ids
        )
        wanted, marked = sorted(set(wanted)), list[int]()
        # In slices: the log of two years may hold many thousands, and answers are stored by the same thread.
        for start in range(0, len(wanted), SLICE_ACKNOWLEDGED):
            part = wanted[start : start + SLICE_ACKNOWLEDGED]
            marked += await self._database.write(lambda c, part=part: _acknowledge(c, part))
        return marked

    async def unacknowledged(self) -> int:
        def count(connection: sqlite3.Connection) -> int:
            return connection.execute("SELECT count(*) FROM errors WHERE acknowledged = 0").fetchone()[0]

        return await self._database.read(count)


def _acknowledge(connection: sqlite3.Connection, ids: Sequence[int]) -> list[int]:
    """Mark the records that are not marked; return their ids."""
    mark = "UPDATE errors SET acknowledged = ? WHERE id = ? AND acknowledged = 0"
    now = time.time()
    return [number for number in ids if connection.execute(mark, (now, number)).rowcount]
