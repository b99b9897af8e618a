"""The inverted index of messages: one FTS5 table without texts and positions, filled with the words of `memory.terms`.

Beside its words a message has a word for its session and one for their owner, so that a search in one of them costs no more
than a search in all. An index of an earlier version is made anew in slices, newest messages first, while the store serves.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from backend.memory.sqlite.database import Purpose, SqliteDatabase
from backend.memory.sqlite.layout import select_messages, select_sessions
from backend.memory.terms import INDEX_VERSION, Group, index_words
from backend.memory.values import unpack
from backend.schema.records import MAX_INTEGER, Session, StoredMessage

_TABLES = {
    "found": """
        CREATE VIRTUAL TABLE found USING fts5(
            words, content='', detail=none, columnsize=0, prefix='1 2 3 4', tokenize="ascii tokenchars '_'"
        )
    """,
    "search_words": "CREATE TABLE search_words (word TEXT PRIMARY KEY) WITHOUT ROWID",
}
# Words are ASCII letters and digits, or of other scripts, which the tokenizer `ascii` takes as they are: an underscore marks
# the words that are none of a text. The beginnings of words that have lists of their own in the index are found there; for a
# longer one FTS5 would read the whole lists of all words that begin so: `search_words` tells these, to be asked for as they are.
LISTED_PREFIX_CHARS = 4
MAX_EXPANSIONS = 500
"""A longer beginning of a word stands for so many words."""


class Indexed(NamedTuple):
    """What of a message is in the index; `content` as it is stored."""

    id: int
    session: int
    owner: str
    content: str | bytes


class SqliteIndex:
    """A `MessageIndex` in the database. `purpose` names the thread that looks."""

    def __init__(self, database: SqliteDatabase, purpose: Purpose) -> None:
        self._database = database
        self._purpose: Purpose = purpose

    async def newest(
        self,
        groups: Sequence[Group],
        *,
        limit: int,
        before_id: int | None = None,
        owners: Sequence[str] = (),
        session_id: str = "",
        without_session: str = "",
    ) -> tuple[list[int], bool]:
        def newest(connection: sqlite3.Connection) -> tuple[list[int], bool]:
            complete = not unindexed_from(connection)
            all_of: list[str] = []
            for group in groups:
                words, all_of_them = _alternatives(connection, group)
                all_of.append(_any_of(words))
                complete = complete and all_of_them
            if owners:
                all_of.append(_any_of(f'"{_owner_word(owner)}"' for owner in owners))
            if session_id:
                all_of.append(_session_word(connection, session_id))
            wanted = " AND ".join(all_of)
            if without_session:
                wanted = f"({wanted}) NOT {_session_word(connection, without_session)}"
            where, values = "found MATCH ?", [wanted]
            if before_id is not None:
                where, values = where + " AND rowid < ?", [wanted, before_id]
            rows = connection.execute(
                f"SELECT rowid FROM found WHERE {where} ORDER BY rowid DESC LIMIT ?",
                # One more than asked for says whether there are others, without counting them.
                (*values, min(limit + 1, MAX_INTEGER)),
            ).fetchall()
            return [int(row[0]) for row in rows[:limit]], complete and len(rows) <= limit

        return await self._database.run(self._purpose, newest)

    async def messages(self, ids: Sequence[int]) -> list[StoredMessage]:
        def read(connection: sqlite3.Connection) -> list[StoredMessage]:
            marks = ",".join("?" * len(ids))
            found = {
                message.id: message for message in select_messages(connection, f"m.id IN ({marks})", ids)
            }
            return [found[number] for number in ids if number in found]

        return await self._database.run(self._purpose, read)

    async def sessions(self, ids: Iterable[str]) -> dict[str, Session]:
        def read(connection: sqlite3.Connection) -> dict[str, Session]:
            asked = list(ids)
            condition = f"id IN ({','.join('?' * len(asked))})"
            return {session.id: session for session in select_sessions(connection, condition, asked)}

        return await self._database.run(self._purpose, read)

    async def total(self) -> int:
        def read(connection: sqlite3.Connection) -> int:
            # The highest id, not `count(*)`, which reads the whole table; the estimate needs no more.
            return connection.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0]

        return await self._database.run(self._purpose, read)


def prepare(connection: sqlite3.Connection) -> bool:
    """Begin an empty index if the one there is of another version; return whether older messages are to be indexed."""
    [(version,)] = connection.execute("SELECT version FROM search_index").fetchall()
    if version != INDEX_VERSION:
        for table, create in _TABLES.items():
            connection.execute(f"DROP TABLE IF EXISTS {table}")
            connection.execute(create)
        connection.execute(
            # In the transaction that drops the old one: a crash leaves either index whole. From here on older
            # messages follow in slices.
            "UPDATE search_index SET version = ?, indexed_from = (SELECT coalesce(max(id) + 1, 0) FROM messages)",
            (INDEX_VERSION,),
        )
    return bool(unindexed_from(connection))


def unindexed_from(connection: sqlite3.Connection) -> int:
    """Return the id from which on messages are indexed, 0 when all are."""
    return int(connection.execute("SELECT indexed_from FROM search_index").fetchone()[0])


def index_older(connection: sqlite3.Connection, limit: int) -> bool:
    """Index the newest `limit` messages that are not indexed yet; return whether there are more."""
    rows = _indexed(connection, "m.id < ? ORDER BY m.id DESC LIMIT ?", (unindexed_from(connection), limit))
    add(connection, rows)
    first = rows[-1].id if len(rows) == limit else 0
    connection.execute("UPDATE search_index SET indexed_from = ?", (first,))
    return bool(first)


def add(connection: sqlite3.Connection, rows: Iterable[Indexed]) -> None:
    """Put messages into the index."""
    long: set[str] = set()
    for row in rows:
        words = _words(row)
        connection.execute("INSERT INTO found(rowid, words) VALUES (?, ?)", (row.id, " ".join(words)))
        # Only these: shorter beginnings of words FTS5 finds by its own prefix lists.
        long.update(filter(_is_listed, words))
    # in order, so that neighbours land on one page of the table
    connection.executemany("INSERT OR IGNORE INTO search_words VALUES (?)", zip(sorted(long), strict=False))


def remove_messages(
    connection: sqlite3.Connection, where: str, values: Sequence[object], *, drop_words: bool = True
) -> list[Indexed]:
    """Delete the messages `m` (of sessions `s`) a condition of SQL chooses, with their place in the index; return them.

    Words that no other message has go too, unless the caller sees to it for many messages at once (`drop_words`).
    """
    rows = _indexed(connection, where, values)
    first = unindexed_from(connection)
    # A table without content must be told exactly the words it was given; of one it never got it would count
    # them off.
    words = [(row.id, _words(row)) for row in rows if row.id >= first]
    connection.executemany(
        "INSERT INTO found(found, rowid, words) VALUES ('delete', ?, ?)",
        [(number, " ".join(found)) for number, found in words],
    )
    connection.executemany("DELETE FROM messages WHERE id = ?", [(row.id,) for row in rows])
    if drop_words:
        drop_unused_words(connection, {word for _, found in words for word in found if _is_listed(word)})
    return rows


def words_after(connection: sqlite3.Connection, word: str, limit: int) -> list[str]:
    """Return the next words of the list of long words, in its order."""
    rows = connection.execute(
        "SELECT word FROM search_words WHERE word > ? ORDER BY word LIMIT ?", (word, limit)
    )
    return [str(found) for (found,) in rows]


def drop_unused_words(connection: sqlite3.Connection, words: Iterable[str]) -> None:
    """Take from the list of long words those that no message has: they would stand for nothing, in the place of others."""
    connection.executemany(
        "DELETE FROM search_words WHERE word = ? AND NOT EXISTS (SELECT 1 FROM found WHERE found MATCH ? LIMIT 1)",
        [(word, f'"{word}"') for word in words],
    )


def _indexed(connection: sqlite3.Connection, where: str, values: Sequence[object]) -> list[Indexed]:
    joined = "messages m JOIN sessions s ON s.number = m.session"
    rows = connection.execute(
        f"SELECT m.id, m.session, s.owner, m.content FROM {joined} WHERE {where}", values
    )
    return [Indexed(*row) for row in rows]


def _words(row: Indexed) -> dict[str, None]:
    """Return the words under which a message is found."""
    found = index_words(unpack(row.content))
    return dict.fromkeys((f"_s{row.session}", _owner_word(row.owner), *found, *found.values()))


def _is_listed(word: str) -> bool:
    """Return whether a word of a message stands in the list of long words."""
    return len(word) > LISTED_PREFIX_CHARS and word[0] != "_"


def _alternatives(connection: sqlite3.Connection, group: Group) -> tuple[list[str], bool]:
    """Return what a message must have one of, as FTS5 takes it, and whether these are all words that it may have."""
    words: list[str] = []
    complete = True
    for key in group:
        if not key.prefix or len(key.text) <= LISTED_PREFIX_CHARS:
            words.append(f'"{key.text}"' + " *" * key.prefix)
            continue
        beginning = (key.text, key.text + chr(sys.maxunicode), MAX_EXPANSIONS + 1)
        found = connection.execute(
            "SELECT word FROM search_words WHERE word >= ? AND word < ? LIMIT ?", beginning
        ).fetchall()
        words += [f'"{word}"' for (word,) in found[:MAX_EXPANSIONS]]
        complete = complete and len(found) <= MAX_EXPANSIONS
    # A word that no message has: an empty group would be a syntax error, and must match nothing.
    return words or ['"_"'], complete


def _owner_word(owner: str) -> str:
    return f"_o{owner.encode().hex()}"


def _session_word(connection: sqlite3.Connection, session_id: str) -> str:
    row = connection.execute("SELECT number FROM sessions WHERE id = ?", (session_id,)).fetchone()
    return f'"_s{row[0] if row else 0}"'


def _any_of(words: Iterable[str]) -> str:
    return f"({' OR '.join(words)})"
