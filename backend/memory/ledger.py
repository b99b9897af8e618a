"""The error ledger, the usage counters, the settings and the open turns in SQL.

Every function runs on the connection of the calling lane.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from backend.memory.store import OpenTurn, UsageRow
from backend.memory.texts import storable
from backend.schema.records import ErrorRecord

MESSAGE_CHARS = 4_000
EVIDENCE_CHARS = 16_000
_COLUMNS = "id, place, code, message, first, last, count, phase, evidence, request_id, acknowledged"


def record_error(connection: sqlite3.Connection, failure: ErrorRecord) -> ErrorRecord:
    """Store a failure, or count it on the equal record nobody has acknowledged. Of evidence, the end is kept."""
    row = connection.execute(
        "INSERT INTO errors(place, code, message, first, last, phase, evidence, request_id) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(place, code, message) WHERE acknowledged = 0 DO UPDATE SET "
        "count = count + 1, last = excluded.last, phase = excluded.phase, request_id = excluded.request_id, "
        "evidence = CASE WHEN excluded.evidence <> '' THEN excluded.evidence ELSE evidence END "
        f"RETURNING {_COLUMNS}",
        (
            failure.where,
            failure.code,
            storable(failure.message[:MESSAGE_CHARS]),
            failure.first,
            failure.last,
            failure.phase,
            storable(failure.evidence[-EVIDENCE_CHARS:]),
            failure.request_id,
        ),
    ).fetchall()[0]
    return ErrorRecord(*row)


def errors(
    connection: sqlite3.Connection, unacknowledged: bool, where: str | None, limit: int
) -> list[ErrorRecord]:
    conditions, values = ["1"], list[Any]()
    if unacknowledged:
        conditions.append("acknowledged = 0")
    if where is not None:
        conditions.append("place = ?")
        values.append(where)
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM errors WHERE {' AND '.join(conditions)} ORDER BY last DESC, id DESC LIMIT ?",
        (*values, limit),
    )
    return [ErrorRecord(*row) for row in rows]


def acknowledge(connection: sqlite3.Connection, ids: list[int] | None, at: float) -> list[int]:
    """Mark the records and return the ids newly marked, in order."""
    if ids is None:
        rows = connection.execute("SELECT id FROM errors WHERE acknowledged = 0").fetchall()
        ids = [int(row[0]) for row in rows]
    marked: list[int] = []
    for number in sorted(set(ids)):
        cursor = connection.execute(
            "UPDATE errors SET acknowledged = ? WHERE id = ? AND acknowledged = 0", (at, number)
        )
        if cursor.rowcount:
            marked.append(number)
    return marked


def unacknowledged(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM errors WHERE acknowledged = 0").fetchone()[0])


def add_usage(connection: sqlite3.Connection, row: UsageRow) -> None:
    connection.execute(
        "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "tokens_in = tokens_in + excluded.tokens_in, tokens_out = tokens_out + excluded.tokens_out, "
        "cost = cost + excluded.cost, turns = turns + excluded.turns, unpriced = unpriced + excluded.unpriced",
        msgspec.structs.astuple(row),
    )


def usage(connection: sqlite3.Connection, day: str | None, since: str | None) -> list[UsageRow]:
    rows = connection.execute(
        "SELECT day, ai_id, provider, model, currency, tokens_in, tokens_out, cost, turns, unpriced FROM usage "
        "WHERE (?1 IS NULL OR day = ?1) AND (?2 IS NULL OR day >= ?2) "
        "ORDER BY day, ai_id, provider, model, currency",
        (day, since),
    )
    return [UsageRow(*row) for row in rows]


def get_setting(connection: sqlite3.Connection, key: str) -> Any:
    row = connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
    return msgspec.json.decode(row[0]) if row else None


def put_setting(connection: sqlite3.Connection, key: str, value: str | None) -> None:
    """Keep JSON text under the key; `None` removes it."""
    if value is None:
        connection.execute("DELETE FROM settings WHERE key = ?", (key,))
    else:
        connection.execute(
            "INSERT INTO settings VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (key, value),
        )


def settings(connection: sqlite3.Connection, prefix: str) -> dict[str, Any]:
    rows = connection.execute(
        "SELECT key, value FROM settings WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key", (prefix,)
    )
    return {key: msgspec.json.decode(value) for key, value in rows}


def turn_opened(connection: sqlite3.Connection, turn: OpenTurn) -> None:
    connection.execute("INSERT OR REPLACE INTO open_turns VALUES (?, ?, ?, ?)", msgspec.structs.astuple(turn))


def turn_closed(connection: sqlite3.Connection, request_id: str) -> None:
    connection.execute("DELETE FROM open_turns WHERE request_id = ?", (request_id,))


def open_turns(connection: sqlite3.Connection) -> list[OpenTurn]:
    rows = connection.execute(
        "SELECT request_id, ai_id, session_id, opened_at FROM open_turns ORDER BY opened_at"
    )
    return [OpenTurn(*row) for row in rows]
