"""The open turns and the usage of ended ones in SQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping

import msgspec

from backend.memory.records import OpenTurn
from backend.memory.sqlite.database import SqliteDatabase
from backend.memory.values import storable, storable_usage
from backend.schema.records import UsageRow


class SqliteTurns:
    """A `TurnStore` in the database."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def begin(self, request_id: str, ai_id: str, session_id: str) -> None:
        turn = OpenTurn(request_id, ai_id, session_id, time.time())
        await self._database.write(lambda c: begin(c, turn))

    async def wait(self, opens: Mapping[str, str], session_id: str, question: str) -> None:
        now, waiting = time.time(), storable(question)

        def write(connection: sqlite3.Connection) -> None:
            for request_id, ai_id in opens.items():
                begin(connection, OpenTurn(request_id, ai_id, session_id, now, waiting))

        await self._database.write(write)

    async def end(self, *request_ids: str) -> None:
        def write(connection: sqlite3.Connection) -> None:
            for request_id in request_ids:
                end(connection, request_id)

        await self._database.write(write)

    async def book(self, name: str, used: UsageRow | None) -> bool:
        def write(connection: sqlite3.Connection) -> bool:
            # Name and usage in one transaction: a report that comes twice, or after a crash, is counted once.
            done = connection.execute("INSERT OR IGNORE INTO booked VALUES (?, ?)", (name, time.time()))
            if done.rowcount and used is not None:
                add_usage(connection, used)
            return done.rowcount > 0

        return await self._database.write(write)

    async def unfinished(self) -> list[OpenTurn]:
        def read(connection: sqlite3.Connection) -> list[OpenTurn]:
            rows = connection.execute(
                "SELECT request_id, ai_id, session_id, opened_at, waiting FROM open_turns ORDER BY opened_at"
            )
            return [OpenTurn(*row) for row in rows]

        return await self._database.read(read)

    async def usage(self, day: str | None = None, *, since: str | None = None) -> list[UsageRow]:
        def read(connection: sqlite3.Connection) -> list[UsageRow]:
            rows = connection.execute(
                "SELECT day, ai_id, provider, model, currency, tokens_in, tokens_out, cost, turns, unpriced FROM usage "
                "WHERE (:day IS NULL OR day = :day) AND (:since IS NULL OR day >= :since) "
                "ORDER BY day, ai_id, provider, model, currency",
                {"day": day, "since": since},
            )
            return [UsageRow(*row) for row in rows]

        return await self._database.read(read)


def begin(connection: sqlite3.Connection, turn: OpenTurn) -> None:
    """Open a turn, in the transaction of whoever stores its question."""
    connection.execute(
        "INSERT OR REPLACE INTO open_turns(request_id, ai_id, session_id, opened_at, waiting) VALUES (?, ?, ?, ?, ?)",
        msgspec.structs.astuple(turn),
    )


def end(connection: sqlite3.Connection, request_id: str) -> bool:
    """Close an open turn, in the transaction of whoever stores its answer; return whether it was open."""
    return connection.execute("DELETE FROM open_turns WHERE request_id = ?", (request_id,)).rowcount > 0


def add_usage(connection: sqlite3.Connection, row: UsageRow) -> None:
    """Add a row's figures to the day's, in the transaction of whoever stores the answer."""
    connection.execute(
        "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "tokens_in = tokens_in + excluded.tokens_in, tokens_out = tokens_out + excluded.tokens_out, "
        "cost = cost + excluded.cost, turns = turns + excluded.turns, unpriced = unpriced + excluded.unpriced",
        msgspec.structs.astuple(storable_usage(row)),
    )
