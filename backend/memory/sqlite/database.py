"""The database file: opened, checked, private, set aside when damaged; and the threads that work on it.

Knows SQLite; not what the tables mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import sqlite3
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from backend.memory.errors import StoreClosed, StoreFailed
from backend.memory.sqlite.executor import SqliteExecutor, T, Work, store_failed
from backend.memory.sqlite.migrations import STEPS, migrate, version
from backend.memory.sqlite.salvage import SIDE_FILES, left_aside, salvage

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 5.0
SALVAGED_BYTES = 256 * 1024 * 1024
"""A damaged file up to this size is salvaged at the start; a larger one by `tekton doctor --repair`."""
CHECKED_BYTES = 16 * 1024 * 1024
"""A file up to this size is checked in full at start (about 0.1 s); a larger one only in its head."""
PAGE_CACHE_KIB = 8 * 1024
MAX_LOG_BYTES = 8 * 1024 * 1024
"""Size to which the write-ahead log is cut after a burst of writes."""
NOTE_EVERY_S = 1.0
"""How often the number of the newest message is written down while messages come."""
SUSPECT_SUFFIX = ".suspect"
"""A file of this suffix says that damage was met while running: the next start checks the whole database."""

Purpose = Literal["writer", "reader", "search", "recall"]


class SqliteDatabase:
    """The open file, and a thread for each purpose: two of them run what may take many milliseconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._executors: dict[Purpose, SqliteExecutor] = {}
        self._files: dict[str, tuple[int, int] | None] = {}
        """Device and inode of the files that are open, by suffix."""
        self._newest = 0
        """Number of the newest message that was committed in this life."""
        self._noting: asyncio.TimerHandle | None = None
        self.written_at = -math.inf
        """When the newest write was asked for that is no chore, by the monotonic clock."""
        self.damage = ""
        """What was wrong with the file at `open`, and what became of it; empty when all was well."""

    async def open(self) -> Path | None:
        """Open or make the file; return where a damaged one was set aside, `None` when all was well.

        Raises:
            StoreFailed: It cannot be used: no rights, disk full, written by a newer version.
        """
        try:
            self.damage = ""
            aside = await asyncio.to_thread(prepare, self.path)
            if aside is not None:
                self.damage = await asyncio.to_thread(_bring_back, aside, self.path)
            elif lost := await asyncio.to_thread(missing, self.path):
                self.damage = lost
            await asyncio.to_thread(note_newest, self.path)
        except sqlite3.Error as error:
            raise store_failed(error) from error
        # Taken before the first write: a file that is swapped from here on is another one, however much it
        # looks alike.
        found = self.path.stat()
        self._files = {"": (found.st_dev, found.st_ino)}
        read = partial(connect, self.path, read_only=True)
        self._executors = {
            # One connection writes, so no writer ever waits for another's lock; under WAL readers wait for
            # nobody.
            "writer": SqliteExecutor("writer", partial(connect, self.path), writes=True),
            "reader": SqliteExecutor("reader", read),
            "search": SqliteExecutor("search", read),
            "recall": SqliteExecutor("recall", read),
        }
        return aside

    async def close(self) -> None:
        """Finish what was asked for and close. Safe to call twice."""
        executors, self._executors = self._executors, {}
        if self._noting is not None:
            self._noting.cancel()
            self._noting = None
        # The writer last: it empties the write-ahead log, which no reader may hold open then.
        for executor in reversed(executors.values()):
            await asyncio.to_thread(executor.close)
        if executors:
            try:
                self._check_files(SIDE_FILES[:1])
            except StoreFailed as error:  # who put another file there is told at the next start what it lacks
                log.error("%s", error.message)
            else:
                await asyncio.to_thread(note_newest, self.path)

    async def write(self, work: Work[T], *, chore: bool = False) -> T:
        """Run work in a transaction; it is committed once this returns. A `chore` is no write that others give way to.

        Raises:
            StoreFailed: The database refused, or its files are no more the ones that were opened: what would be written
                now is in no file that the next start finds.
        """

        def there(connection: sqlite3.Connection) -> T:
            self._check_files()
            return work(connection)

        if not chore:
            self.written_at = time.monotonic()
        return await self.run("writer", there)

    def stored(self, number: int) -> None:
        """Take note of the number of a message that was committed: by it the next start knows that the log was lost."""
        if number <= self._newest:
            return
        self._newest = number
        if self._noting is None and self._executors:
            # Once a second at most, and behind the commit: what a kill -9 leaves is a mark that is too low,
            # which claims no loss.
            self._noting = asyncio.get_running_loop().call_later(NOTE_EVERY_S, self._note)

    def _note(self) -> None:
        self._noting = None
        _write_mark(self.path, self._newest)

    def _check_files(self, suffixes: Sequence[str] = SIDE_FILES[:2]) -> None:
        """See whether the opened files still stand under their names; the log is there from the first write on."""
        for suffix in suffixes:
            name = self.path.with_name(self.path.name + suffix)
            try:
                found = name.stat()
                identity = found.st_dev, found.st_ino
            except FileNotFoundError:
                identity = None
            if self._files.setdefault(suffix, identity) is None:
                self._files[suffix] = identity
            if identity != self._files[suffix]:
                raise StoreFailed(
                    f"The conversation store failed: {name} was removed or replaced while the backend ran. Nothing is kept "
                    "until it stands there again; after a restore, stop the backend first and start it afterwards."
                )

    async def read(self, work: Work[T]) -> T:
        """Run a quick read."""
        return await self.run("reader", work)

    async def run(self, purpose: Purpose, work: Work[T], *, alone: bool = False) -> T:
        """Run work on the thread of a purpose; `alone` keeps it out of a transaction.

        Raises:
            StoreClosed: The database is not open.
            StoreFailed: The database refused; after damage the next start checks the whole file.
        """
        executor = self._executors.get(purpose)
        if executor is None:
            raise StoreClosed()
        try:
            return await executor.run(work, alone=alone)
        except StoreFailed as error:
            if is_damage(error.__cause__):
                # A file, not a flag: it has to outlive this process, which may not come to its own end.
                await asyncio.to_thread(suspect, self.path)
            raise

    async def checkpoint(self) -> None:
        """Write the log back into the file and cut both to their size, unless somebody reads at this moment."""

        def checkpoint(connection: sqlite3.Connection) -> None:
            # Appends queue behind this job, so it does not wait for readers.
            # TRUNCATE wants no reader on the log; with the time-out it would hold all appends for that long.
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")

        await self.run("writer", checkpoint, alone=True)

    async def write_back(self) -> None:
        """Write the log back into the file beside the writing thread, which goes on meanwhile."""

        def write_back() -> None:
            # the thread has a connection of its own; whoever reads only may do this, too
            with contextlib.closing(connect(self.path, read_only=True)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

        with contextlib.suppress(sqlite3.Error):  # the writing thread does it then
            await asyncio.to_thread(write_back)

    def figures(self) -> dict[str, int]:
        """Return bytes on disk (write-ahead log included) and the jobs that wait for each thread."""
        files = [self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal")]
        return {
            "bytes": sum(file.stat().st_size for file in files if file.exists()),
            **{f"waiting_{name}": executor.waiting for name, executor in self._executors.items()},
        }


def repair(path: Path) -> list[str]:
    """Check the whole database, set a damaged one aside, and bring back what can be read; return what was done.

    Also of those that were set aside earlier. Nobody else may have the database open. Blocks.

    Raises:
        StoreFailed: The file is of a newer version.
        sqlite3.Error: It cannot be used for another reason than damage.
        OSError: There is no room for a copy.
    """
    suspect(path)
    aside = prepare(path)
    done = [] if aside is None else [f"{path} was damaged and set aside as {aside}"]
    done += [f"{damaged.name}: {salvage(damaged, path)}" for damaged in left_aside(path)]
    note_newest(path)
    return done


def missing(path: Path) -> str:
    """Say so if messages that were here at the end of an earlier life are here no more; empty when all are."""
    try:
        before = int(_newest_mark(path).read_text(encoding="ascii"))
        now = _newest(path)
    except (OSError, ValueError, sqlite3.Error):  # damage is found by who reads the tables
        return ""
    if now >= before:
        return ""
    what = "is empty" if now == 0 else f"ends at message {now:,}"
    return (
        f"conversations are lost: the database {path} {what}, and message {before:,} was in it. The file or its -wal was "
        "removed or replaced: put back a copy of both, with the backend stopped"
    )


def note_newest(path: Path) -> None:
    """Write down the number of the newest message, by which a lost database is known."""
    with contextlib.suppress(OSError, sqlite3.Error):
        _write_mark(path, _newest(path))


def _write_mark(path: Path, number: int) -> None:
    with contextlib.suppress(OSError):
        mark = _newest_mark(path)
        mark.touch(mode=0o600)
        mark.write_text(str(number), encoding="ascii")


def _newest(path: Path) -> int:
    """Return the highest number that a message ever had, 0 without any."""
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
    return int(row[0]) if row else 0


def _newest_mark(path: Path) -> Path:
    return path.with_name(path.name + ".newest")


def _bring_back(aside: Path, path: Path) -> str:
    """Salvage a database that was just set aside; return what to tell of it."""
    text = f"the database was damaged and set aside as {aside}"
    if aside.stat().st_size > SALVAGED_BYTES:
        return f"{text}; with the backend stopped, `tekton doctor --repair` brings back what can be read"
    try:
        return f"{text}; {salvage(aside, path)}"
    except (OSError, sqlite3.Error) as error:
        log.exception("salvaging %s", aside)
        return f"{text}; it could not be salvaged ({error}): try `tekton doctor --repair` with the backend stopped"


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
        # Renamed, never deleted: what is readable in it is brought back, now or by hand.
        aside = set_aside(path)
        _suspect_mark(path).unlink(missing_ok=True)
        log.error("the database %s is damaged (%s) and was set aside as %s", path, error, aside)
    _open_once(path)
    return aside


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection for the calling thread. Transactions are begun and ended by hand."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=256)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # Losing power may undo the newest commits but never damage the file; losing the process loses nothing.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {MAX_LOG_BYTES}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
        if read_only:
            # Not `mode=ro`: that cannot make the shared memory of the write-ahead log where it is missing.
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def set_aside(path: Path) -> Path:
    """Rename the database and its side files to `<name>.corrupt-<time>`, never over an earlier one."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    count = 1
    # Two starts within a second, each with a damaged file, must not write over the first one's.
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}.corrupt-{stamp}-{count}")
    for suffix in SIDE_FILES:
        source = path.with_name(path.name + suffix)
        if source.exists():
            # The log goes along: left behind, SQLite would play it into the new file.
            os.replace(source, aside.with_name(aside.name + suffix))
    return aside


def _open_once(path: Path) -> None:
    """Create or check the file, tighten its rights and bring it to the newest version."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    # One that was copied here, or made by an early version, may be readable by others.
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    fresh = path.stat().st_size == 0
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        if fresh:
            # Only a file without tables takes this setting.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        # Opening alone reads nothing: this finds a file that is no database.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not fresh and (path.stat().st_size <= CHECKED_BYTES or _suspect_mark(path).exists()):
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"malformed: {verdict}")
        if not fresh and (have := version(connection)) < len(STEPS):
            _copy_aside(connection, path.with_name(f"{path.name}.version-{have}"))
        migrate(connection)
    finally:
        connection.close()


def _copy_aside(connection: sqlite3.Connection, aside: Path) -> None:
    """Copy the database as it is, before its first change; a copy that is there already is of before and stays.

    Raises:
        sqlite3.Error: There is no room for it, or it cannot be written; then nothing is changed.
    """
    if aside.exists():
        return
    # Under another name until it is whole: a copy cut short by a crash must not pass for one.
    coming = aside.with_name(f"{aside.name}.part")
    coming.unlink(missing_ok=True)
    os.close(os.open(coming, os.O_RDWR | os.O_CREAT, 0o600))
    copy = sqlite3.connect(coming)
    try:
        connection.backup(copy)
    finally:
        copy.close()
    os.replace(coming, aside)
    log.info("the conversation store gets a newer version; as it was it is kept as %s", aside)


def is_damage(error: BaseException | None) -> bool:
    """Return whether an error means a damaged file, not one that is merely unreachable."""
    text = str(error)
    return isinstance(error, sqlite3.DatabaseError) and any(
        word in text for word in ("malformed", "not a database", "corrupt")
    )


def suspect(path: Path) -> None:
    """Have the next start check the whole database."""
    _suspect_mark(path).touch(mode=0o600)


def _suspect_mark(path: Path) -> Path:
    return path.with_name(path.name + SUSPECT_SUFFIX)
