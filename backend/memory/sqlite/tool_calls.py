"""Tool calls in SQL: one row a call, the record itself as JSON."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from backend.memory.sqlite.database import SqliteDatabase
from backend.memory.values import check_integers
from backend.schema.tools import ToolRecord

_decode = msgspec.json.Decoder(ToolRecord).decode


class SqliteToolCalls:
    """A `ToolCallStore` in the database."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def put(self, record: ToolRecord) -> None:
        row = (record.id, record.at, record.ai_id, record.state, msgspec.json.encode(record).decode())

        def put(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO tool_calls(id, at, ai_id, state, record) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT(id) DO UPDATE SET state = excluded.state, record = excluded.record",
                row,
            )

        await self._database.write(put)

    async def find(
        self, *, ai_id: str | None = None, states: tuple[str, ...] = (), limit: int = 200
    ) -> list[ToolRecord]:
        check_integers(limit=limit)
        conditions, values = ["1"], list[Any]()
        if ai_id is not None:
            conditions.append("ai_id = ?")
            values.append(ai_id)
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
            values += states
        query = f"SELECT record FROM tool_calls WHERE {' AND '.join(conditions)} ORDER BY at DESC LIMIT ?"
        rows = await self._database.read(lambda c: c.execute(query, (*values, limit)).fetchall())
        return [_decode(row[0]) for row in rows]
