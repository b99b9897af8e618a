"""The database's shape, as numbered steps. A step once released is never changed; a new shape is a new step.

Knows SQL and the version number; not who reads or writes the tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from backend.memory.errors import StoreFailed
from backend.memory.terms import fold

_CONVERSATIONS = """
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    owner TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    messages INTEGER NOT NULL DEFAULT 0,
    is_default INTEGER NOT NULL DEFAULT 0,
    archived INTEGER NOT NULL DEFAULT 0,
    preview TEXT NOT NULL DEFAULT '',
    provider TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    packed INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX one_default_an_owner ON sessions(owner) WHERE is_default = 1;
CREATE INDEX sessions_by_owner ON sessions(owner, updated_at);
CREATE INDEX sessions_by_time ON sessions(updated_at);

-- content and reasoning are text, or zlib bytes once the session is old
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session INTEGER NOT NULL REFERENCES sessions(number) ON DELETE CASCADE,
    author TEXT NOT NULL,
    role TEXT NOT NULL,
    content NOT NULL,
    created_at REAL NOT NULL,
    request_id TEXT NOT NULL DEFAULT '',
    lane TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '',
    usage TEXT,
    finish_reason TEXT,
    error_code TEXT,
    error TEXT NOT NULL DEFAULT '',
    first_token_ms REAL,
    total_time REAL,
    reasoning NOT NULL DEFAULT '',
    pinned INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX messages_by_session ON messages(session, id);
CREATE INDEX messages_by_request ON messages(request_id) WHERE request_id <> '';
CREATE INDEX messages_by_time ON messages(created_at);
CREATE INDEX messages_pinned ON messages(session, id) WHERE pinned = 1;

CREATE VIEW message_texts AS SELECT id, unpack(content) AS content FROM messages;
CREATE VIRTUAL TABLE found USING fts5(
    content, content='message_texts', content_rowid='id', tokenize="porter unicode61 remove_diacritics 2"
);
CREATE TRIGGER message_added AFTER INSERT ON messages BEGIN
    INSERT INTO found(rowid, content) VALUES (new.id, unpack(new.content));
END;
CREATE TRIGGER message_removed AFTER DELETE ON messages BEGIN
    INSERT INTO found(found, rowid, content) VALUES ('delete', old.id, unpack(old.content));
END;
"""

_PLATFORM = """
CREATE TABLE errors (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    place TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    first REAL NOT NULL,
    last REAL NOT NULL,
    count INTEGER NOT NULL DEFAULT 1,
    phase TEXT NOT NULL DEFAULT '',
    evidence TEXT NOT NULL DEFAULT '',
    request_id TEXT NOT NULL DEFAULT '',
    acknowledged REAL NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX errors_open ON errors(place, code, message) WHERE acknowledged = 0;
CREATE INDEX errors_by_time ON errors(last);

CREATE TABLE usage (
    day TEXT NOT NULL,
    ai_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    tokens_in INTEGER NOT NULL DEFAULT 0,
    tokens_out INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0,
    turns INTEGER NOT NULL DEFAULT 0,
    unpriced INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, ai_id, provider, model)
) WITHOUT ROWID;

CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE open_turns (
    request_id TEXT PRIMARY KEY,
    ai_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    opened_at REAL NOT NULL
) WITHOUT ROWID;
"""

_CURRENCIES = """
CREATE TABLE usage_by_currency (
    day TEXT NOT NULL,
    ai_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    currency TEXT NOT NULL,
    tokens_in INTEGER NOT NULL DEFAULT 0,
    tokens_out INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0,
    turns INTEGER NOT NULL DEFAULT 0,
    unpriced INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, ai_id, provider, model, currency)
) WITHOUT ROWID;
INSERT INTO usage_by_currency
    SELECT day, ai_id, provider, model, iif(turns > unpriced, 'USD', ''), tokens_in, tokens_out, cost, turns, unpriced
    FROM usage;
DROP TABLE usage;
ALTER TABLE usage_by_currency RENAME TO usage;
"""
"""Rows of before do not say their currency; they were shown as dollars."""

_SEARCH = """
DROP TRIGGER message_added;
DROP TRIGGER message_removed;
DROP TABLE found;
DROP VIEW message_texts;
-- messages from this id on are in the index of this version; the index itself is made where it is filled
CREATE TABLE search_index (version INTEGER NOT NULL, indexed_from INTEGER NOT NULL);
INSERT INTO search_index VALUES (0, 0);

ALTER TABLE sessions ADD COLUMN folded_title TEXT NOT NULL DEFAULT '';
UPDATE sessions SET folded_title = fold(title);
-- a session being removed: gone for everybody, its messages deleted in slices
ALTER TABLE sessions ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;

DROP INDEX messages_by_time;
CREATE INDEX messages_by_age ON messages(created_at) WHERE pinned = 0;
CREATE INDEX sessions_unpacked ON sessions(updated_at) WHERE packed = 0 AND messages > 0;
CREATE INDEX sessions_removed ON sessions(number) WHERE removed = 1;
"""

_PARTS = """
-- all of a message in order where it is more than text: JSON, or zlib bytes of it; empty for plain text
ALTER TABLE messages ADD COLUMN parts NOT NULL DEFAULT '';
"""

_TOOL_CALLS = """
CREATE TABLE tool_calls (
    id TEXT PRIMARY KEY,
    at REAL NOT NULL,
    ai_id TEXT NOT NULL,
    state TEXT NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX tool_calls_by_time ON tool_calls(at);
CREATE INDEX tool_calls_open ON tool_calls(state) WHERE state IN ('waiting', 'running');
"""

_BOOKED = """
-- what workers reported of direct questions: a report that comes again is known
CREATE TABLE booked (id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX booked_by_time ON booked(at);
"""

_SENT = """
CREATE TABLE sent_turns (
    request_id TEXT PRIMARY KEY,
    session INTEGER NOT NULL,
    ai_id TEXT NOT NULL,
    at REAL NOT NULL,
    record NOT NULL
) WITHOUT ROWID;
CREATE INDEX sent_turns_by_time ON sent_turns(session, ai_id, at);
CREATE INDEX sent_turns_by_age ON sent_turns(at);

-- each text that was sent once a session; those of the session's own messages are theirs
CREATE TABLE sent_texts (session INTEGER NOT NULL, digest TEXT NOT NULL, at REAL NOT NULL, text NOT NULL);
CREATE UNIQUE INDEX sent_texts_by_digest ON sent_texts(session, digest);
CREATE INDEX sent_texts_by_age ON sent_texts(at);
"""

_WAITING = """
-- the question of a turn that waits in its session, NULL once it is asked
ALTER TABLE open_turns ADD COLUMN waiting TEXT;
"""

STEPS: Sequence[str] = (
    _CONVERSATIONS,
    _PLATFORM,
    _CURRENCIES,
    _SEARCH,
    _PARTS,
    _TOOL_CALLS,
    _BOOKED,
    _SENT,
    _WAITING,
)
"""Step n brings a database of version n to version n + 1."""


def version(connection: sqlite3.Connection) -> int:
    """Return how many steps the database has had."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, steps: Sequence[str] = STEPS) -> int:
    """Bring the database to the newest version, all missing steps or none of them; return the version.

    Raises:
        StoreFailed: The database was written by a newer version of the platform; it is left as it is.
        sqlite3.Error: A step failed; the database is as before.
    """
    have = version(connection)
    if have > len(steps):
        raise StoreFailed(
            f"The conversation store has version {have}, this program knows versions up to {len(steps)}. "
            "Install the newer version of tekton-tui, or name another TEKTON_HOME."
        )
    if have == len(steps):
        return have
    connection.create_function("fold", 1, fold, deterministic=True)
    missing = "\n".join(steps[have:])
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{missing}\nPRAGMA user_version = {len(steps)};\nCOMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(steps)
