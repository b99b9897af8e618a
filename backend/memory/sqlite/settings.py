"""Settings in SQL: JSON text by key."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from backend.memory.sqlite.database import SqliteDatabase


def peek(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """Return settings from a database that is not opened here, and may be open elsewhere; empty where there is none.

    Raises:
        sqlite3.Error: The file cannot be read.
    """
    if not path.exists():
        return {}
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        marks = ",".join("?" * len(keys))
        rows = connection.execute(f"SELECT key, value FROM settings WHERE key IN ({marks})", keys)
        return {key: msgspec.json.decode(value) for key, value in rows}


class SqliteSettings:
    """A `SettingStore` in the database."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def get(self, key: str) -> Any:
        def read(connection: sqlite3.Connection) -> Any:
            row = connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
            return msgspec.json.decode(row[0]) if row else None

        return await self._database.read(read)

    async def put(self, key: str, value: Any) -> None:
        text = None if value is None else msgspec.json.encode(value).decode()

        def write(connection: sqlite3.Connection) -> None:
            if text is None:
                connection.execute("DELETE FROM settings WHERE key = ?", (key,))
            else:
                connection.execute(
                    "INSERT INTO settings VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                    (key, text),
                )

        await self._database.write(write)

    async def with_prefix(self, prefix: str) -> dict[str, Any]:
        def read(connection: sqlite3.Connection) -> dict[str, Any]:
            rows = connection.execute(
                "SELECT key, value FROM settings WHERE substr(key, 1, length(:prefix)) = :prefix ORDER BY key",
                {"prefix": prefix},
            )
            return {key: msgspec.json.decode(value) for key, value in rows}

        return await self._database.read(read)
