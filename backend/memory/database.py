"""The database file: opened, checked, private, set aside when damaged.

Knows SQLite; not what the tables mean.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from pathlib import Path

from backend.memory.schema_versions import migrate
from backend.memory.texts import unpack

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 5.0
CHECKED_BYTES = 16 * 1024 * 1024
"""A file up to this size is checked in full at start (about 0.1 s); a larger one only in its head."""
PAGE_CACHE_KIB = 8 * 1024
SUSPECT_SUFFIX = ".suspect"
"""A file of this suffix says that damage was met while running: the next start checks the whole database."""
SIDE_FILES = ("", "-wal", "-shm")


def prepare(path: Path) -> Path | None:
    """Make the database ready to be opened; return where a damaged one was set aside, `None` when all was well.

    Blocks on the disk. The file is readable by the user alone; SQLite gives its side files the same rights.

    Raises:
        StoreFailed: The file is of a newer version.
        sqlite3.Error: The file cannot be used for another reason than damage.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        _open_once(path)
        _suspect_mark(path).unlink(missing_ok=True)
        return None
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        aside = set_aside(path)
        _suspect_mark(path).unlink(missing_ok=True)
        log.error("the database %s is damaged (%s) and was set aside as %s", path, error, aside)
    _open_once(path)
    return aside


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection for the calling thread. Transactions are begun and ended by hand."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=256)
    connection.create_function("unpack", 1, unpack, deterministic=True)
    connection.execute("PRAGMA journal_mode = WAL")
    # Losing power may undo the newest commits but never damage the file; losing the process loses nothing.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def set_aside(path: Path) -> Path:
    """Rename the database and its side files to `<name>.corrupt-<time>`, never over an earlier one."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.corrupt-{stamp}-{count}")
    for suffix in SIDE_FILES:
        source = path.with_name(path.name + suffix)
        if source.exists():
            os.replace(source, aside.with_name(aside.name + suffix))
    return aside


def _open_once(path: Path) -> None:
    """Create or check the file, tighten its rights and bring it to the newest version."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    fresh = path.stat().st_size == 0
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        if fresh:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.create_function("unpack", 1, unpack, deterministic=True)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not fresh and (path.stat().st_size <= CHECKED_BYTES or _suspect_mark(path).exists()):
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"malformed: {verdict}")
        migrate(connection)
    finally:
        connection.close()


def is_damage(error: BaseException | None) -> bool:
    """Tell whether an error speaks of a damaged file, not of one that is merely out of reach."""
    text = str(error)
    return isinstance(error, sqlite3.DatabaseError) and any(
        word in text for word in ("malformed", "not a database", "corrupt")
    )


def suspect(path: Path) -> None:
    """Have the next start check the whole database."""
    _suspect_mark(path).touch(mode=0o600)


def _suspect_mark(path: Path) -> Path:
    return path.with_name(path.name + SUSPECT_SUFFIX)
