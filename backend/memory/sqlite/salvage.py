"""What can be read of a damaged database, row by row, brought into the one that is in use.

Reads a copy, so that the damaged files stay as they are. Knows tables and columns; what a page looks like is SQLite's.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from backend.memory.sqlite.layout import select_messages, select_sessions

SIDE_FILES = ("", "-wal", "-shm")
"""Ends of the names of a database's files: itself, its write-ahead log and the index of that."""
AT_ONCE = 256
"""Rows read in one go; where that fails, the half of them, down to one."""
UNKNOWN_ROWS = 20_000
"""Row numbers that are tried where the highest one cannot be read."""
NUMBERED = ("sessions", "messages", "errors", "sent_texts")
"""Tables by row number; the others are read from both ends of their key up to the damage."""
KEYED = {
    "settings": "key",
    "usage": "day",
    "tool_calls": "id",
    "open_turns": "request_id",
    "sent_turns": "request_id",
}
ONLY_FRESH = ("open_turns", "sent_turns", "sent_texts")
"""What names messages by their numbers, which stay only in a database that had none."""
STUB_TITLE = "found after damage"
DONE_SUFFIX = ".salvaged"
"""A file of this suffix beside a damaged database says what was brought back."""

Row = dict[str, Any]


class Salvaged(Struct):
    """Rows brought back by table, those that made no sense, and whether pages could not be read."""

    rows: dict[str, int]
    refused: int = 0
    unread: int = 0
    """Row numbers, or ends of a table, at which reading failed."""

    def __str__(self) -> str:
        """Return it as a sentence without its full stop."""
        found = ", ".join(
            f"{number:,} {name.replace('_', ' ')}" for name, number in self.rows.items() if number
        )
        text = f"brought back: {found or 'nothing'}"
        return (
            f"{text}; what lay in damaged parts of the file is lost" if self.unread or self.refused else text
        )


def salvage(damaged: Path, path: Path) -> Salvaged:
    """Bring the rows of a damaged database into the one at `path`, and note that beside the damaged one. Blocks.

    What is there already stays as it is. Messages whose session is lost come into sessions of their own.

    Raises:
        sqlite3.Error: The database at `path` cannot be written.
        OSError: No room for a copy.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".salvage-") as folder:
        copy = Path(folder) / "copy"
        for suffix in SIDE_FILES:
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(damaged.with_name(damaged.name + suffix), copy.with_name(copy.name + suffix))
        target = sqlite3.connect(path, timeout=5.0, isolation_level=None)
        try:
            target.execute("BEGIN IMMEDIATE")
            with contextlib.closing(_Damaged(copy)) as source:
                done = _Into(target).bring(source)
            # The index is made anew at the next opening.
            target.execute("UPDATE search_index SET version = 0")
            target.execute("COMMIT")
        finally:
            target.close()
    done_mark(damaged).write_text(f"{done}\n", encoding="utf-8")
    return done


def done_mark(damaged: Path) -> Path:
    """Return the file that says that a damaged database was salvaged."""
    return damaged.with_name(damaged.name + DONE_SUFFIX)


def left_aside(path: Path) -> list[Path]:
    """Return the damaged databases beside `path` of which nothing was brought back yet, oldest first."""
    ends = (*SIDE_FILES[1:], DONE_SUFFIX)
    found = path.parent.glob(f"{path.name}.corrupt-*")
    return sorted(one for one in found if not one.name.endswith(ends) and not done_mark(one).exists())


class _Damaged:
    """A database of which any read may fail."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        # By default one text that is no UTF-8 would make its whole row unreadable.
        self._connection.text_factory = _text
        self.unread = 0

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def rows(self, table: str) -> Iterator[Row]:
        """Yield the rows of a table that can be read, none when even its columns cannot."""
        described = self._ask(f"PRAGMA table_info({table})")
        if not described:
            self.unread += described is None  # a database of an older version has fewer tables
            return
        columns = [row[1] for row in described]
        names = ", ".join(columns)
        if table in NUMBERED:
            found: Iterator[tuple[Any, ...]] = self._numbered(table, names)
        else:
            found = self._keyed(table, names, KEYED[table])
        for row in found:
            yield dict(zip(columns, row, strict=True))

    def _ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]] | None:
        try:
            return self._connection.execute(sql, values).fetchall()
        except (sqlite3.Error, OverflowError):
            return None

    def _numbered(self, table: str, names: str) -> Iterator[tuple[Any, ...]]:
        tops = [
            int(rows[0][0])
            for rows in (
                self._ask("SELECT seq FROM sqlite_sequence WHERE name = ?", table),
                self._ask(f"SELECT max(rowid) FROM {table}"),
            )
            if rows and isinstance(rows[0][0], int)
        ]
        top = max(tops, default=UNKNOWN_ROWS)
        for low in range(0, top + 1, AT_ONCE):
            yield from self._between(table, names, low, low + AT_ONCE - 1)

    def _between(self, table: str, names: str, low: int, high: int) -> Iterator[tuple[Any, ...]]:
        found = self._ask(
            f"SELECT {names} FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid", low, high
        )
        if found is not None:
            yield from found
        elif low == high:
            self.unread += 1
        else:
            middle = (low + high) // 2
            yield from self._between(table, names, low, middle)
            yield from self._between(table, names, middle + 1, high)

    def _keyed(self, table: str, names: str, key: str) -> Iterator[tuple[Any, ...]]:
        seen = set[tuple[Any, ...]]()
        for order in ("ASC", "DESC"):
            try:
                for row in self._connection.execute(f"SELECT {names} FROM {table} ORDER BY {key} {order}"):
                    if row not in seen:
                        seen.add(row)
                        yield row
                return
            except sqlite3.Error:
                self.unread += 1


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


class _Into:
    """The database that rows are brought into."""

    def __init__(self, target: sqlite3.Connection) -> None:
        self._target = target
        self._fresh = not self._one("SELECT EXISTS (SELECT 1 FROM messages)")
        self._sessions: dict[Any, int] = {}
        """Row numbers here by those in the damaged database."""
        self._known = set[int]()
        """Sessions that were here before."""
        self._columns = {
            table: {row[1] for row in target.execute(f"PRAGMA table_info({table})")}
            for table in (*NUMBERED, *KEYED)
        }

    def bring(self, source: _Damaged) -> Salvaged:
        brought, refused = Counter[str](), 0
        for table in (*NUMBERED, *KEYED):
            if table in ONLY_FRESH and not self._fresh:
                continue
            for row in source.rows(table):
                self._target.execute("SAVEPOINT row")
                try:
                    there = self._take(table, row)
                except (sqlite3.Error, msgspec.MsgspecError, ValueError, TypeError, OverflowError):
                    self._target.execute("ROLLBACK TO row")
                    there, refused = False, refused + 1
                self._target.execute("RELEASE row")
                brought[table] += there
        self._target.execute(
            "UPDATE sessions SET messages = (SELECT count(*) FROM messages m WHERE m.session = number)"
        )
        return Salvaged(dict(brought), refused, source.unread)

    def _take(self, table: str, row: Row) -> bool:
        """Insert one row as it is to be here; return whether it is new."""
        if table == "sessions":
            return self._take_session(row)
        if table == "messages":
            return self._take_message(row)
        if table in ("settings", "tool_calls"):
            msgspec.json.decode(row["value" if table == "settings" else "record"])
        if table in ("sent_texts", "sent_turns"):
            if row["session"] not in self._sessions:
                raise ValueError("of a session that is lost")
            row["session"] = self._sessions[row["session"]]
        if table == "errors" and not self._fresh:
            del row["id"]
        return self._insert(table, row) > 0

    def _take_session(self, row: Row) -> bool:
        old = row.pop("number")
        number = self._one("SELECT number FROM sessions WHERE id = ?", row["id"])
        if number is not None:
            self._sessions[old] = int(number)
            self._known.add(int(number))
            return False
        if self._one("SELECT 1 FROM sessions WHERE owner = ? AND is_default = 1", row["owner"]):
            row["is_default"] = 0
        number = self._insert("sessions", {**row, "number": old} if self._fresh else row)
        select_sessions(self._target, "number = ?", (number,))
        self._sessions[old] = number
        return True

    def _take_message(self, row: Row) -> bool:
        session = self._sessions.get(row["session"])
        if session is None:
            session = self._sessions[row["session"]] = self._stub(row)
        row["session"] = session
        same = "SELECT 1 FROM messages WHERE session = ? AND created_at = ? AND author = ? AND role = ?"
        known = (session, row["created_at"], row["author"], row["role"])
        if session in self._known and self._one(same, *known):
            return False
        if row["role"] not in ("user", "assistant", "system"):
            raise ValueError(row["role"])
        if not self._fresh:
            del row["id"]
        number = self._insert("messages", row)
        select_messages(self._target, "m.id = ?", (number,))  # what cannot be read again is not kept
        return True

    def _stub(self, row: Row) -> int:
        """Make a session for messages whose own is lost."""
        owner = row["author"] if row["role"] == "assistant" else "team"
        at = row["created_at"]
        values = {
            "id": f"s-found-{row['session']}",
            "title": STUB_TITLE,
            "folded_title": STUB_TITLE,
            "owner": owner,
        }
        return self._insert("sessions", {**values, "created_at": at, "updated_at": at})

    def _insert(self, table: str, row: Row) -> int:
        """Insert a row; return its number, 0 when an equal key is there."""
        names = [name for name in row if name in self._columns[table]]
        marks = ", ".join("?" * len(names))
        done = self._target.execute(
            f"INSERT OR IGNORE INTO {table}({', '.join(names)}) VALUES ({marks})",
            [row[name] for name in names],
        )
        # A table without row numbers has none to return.
        return done.lastrowid or 1 if done.rowcount > 0 else 0

    def _one(self, sql: str, *values: Any) -> Any:
        row = self._target.execute(sql, values).fetchone()
        return row and row[0]
