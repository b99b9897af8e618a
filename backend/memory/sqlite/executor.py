"""A thread that owns a database connection and runs jobs on it, one after another.

A writing one gathers what waits into one transaction (group commit): a caller learns of success only after the commit.
Knows connections and jobs; not tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from backend.memory.errors import StoreClosed, StoreFailed

log = logging.getLogger(__name__)

MAX_JOBS_PER_COMMIT = 512
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


@dataclass
class Job:
    """One piece of work, and the future of the caller who waits for it."""

    work: Work[Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    alone: bool = False
    """Run outside of a transaction."""
    result: Any = None
    error: BaseException | None = None


class SqliteExecutor:
    """One thread, one connection. With `writes` each batch of jobs is one transaction."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], *, writes: bool = False) -> None:
        self._connect, self._writes = connect, writes
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # A daemon, so that a disk that hangs cannot keep the process from its end; `close` joins it all the
        # same.
        self._thread = threading.Thread(target=self._run, name=f"memory-{name}", daemon=True)
        self._closed = False
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return self._queue.qsize()

    async def run(self, work: Work[T], *, alone: bool = False) -> T:
        """Run work on this thread's connection and return what it returns; `alone` keeps it out of a transaction.

        A caller that is cancelled stops waiting; what was to be written is written all the same.

        Raises:
            StoreClosed: The executor was closed.
            StoreFailed: The database refused.
        """
        if self._closed:
            raise StoreClosed()
        loop = asyncio.get_running_loop()
        job = Job(work, loop.create_future(), loop, alone)
        self._queue.put(job)
        return cast(T, await job.future)

    def close(self) -> None:
        """Do the jobs that wait, close the connection and end the thread. Blocks."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        last = False
        while not last:
            batch, last = self._next_batch()
            if not batch:
                break
            try:
                # At the first job, not before: so a caller learns why it cannot be opened.
                connection = connection or self._connect()
                if self._writes:
                    self._write(connection, [job for job in batch if not job.alone])
                    # SQLite refuses checkpoints and some pragmas inside a transaction.
                    self._read(connection, [job for job in batch if job.alone])
                else:
                    self._read(connection, batch)
            # Whatever it is: callers wait for these futures, and the thread has to serve the next ones.
            except BaseException as error:
                for job in batch:
                    job.error = job.error or error
            _settle_all(batch)
            del batch  # not to be held until the next job comes: a message may be many megabytes
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                if self._writes:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()

    def _next_batch(self) -> tuple[list[Job], bool]:
        """Wait for a job and take what else waits; the flag says that nothing comes after."""
        first = self._queue.get()
        if first is None:
            return [], True
        batch = [first]
        # A commit costs a sync of the disk; who came while the one before ran shares the next.
        while self._writes and len(batch) < MAX_JOBS_PER_COMMIT:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _read(self, connection: sqlite3.Connection, batch: list[Job]) -> None:
        for job in batch:
            # nobody waits for what a cancelled caller wanted to know
            if not job.future.cancelled():
                _do(job, connection)

    def _write(self, connection: sqlite3.Connection, batch: list[Job]) -> None:
        """Commit the batch, in one transaction if all of it fits.

        SQLite itself rolls the whole transaction back when the disk is full or fails. Who does not fit must not take
        its neighbours along, so each is then committed by itself.
        """
        try:
            self._commit(connection, batch)
            return
        except sqlite3.Error:
            if len(batch) < 2:
                raise
        for job in batch:
            # Run anew from nothing: the transaction that was rolled back has undone what it had done.
            job.result = job.error = None
            try:
                self._commit(connection, [job])
            except Exception as error:
                job.error = job.error or error

    def _commit(self, connection: sqlite3.Connection, batch: list[Job]) -> None:
        """Run the batch in one transaction; a job that fails undoes only itself."""
        # Takes the lock for writing now: SQLite may refuse it to a transaction that began by reading.
        connection.execute("BEGIN IMMEDIATE")
        try:
            for job in batch:
                connection.execute("SAVEPOINT job")
                _do(job, connection)
                # SQLite itself rolls everything back when the disk is full or broken
                if not connection.in_transaction:
                    raise job.error or sqlite3.OperationalError("the transaction was rolled back")
                if job.error is not None:
                    connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _do(job: Job, connection: sqlite3.Connection) -> None:
    try:
        job.result = job.work(connection)
    except Exception as error:
        job.error = error


def _settle_all(batch: list[Job]) -> None:
    """Hand the results over, with one wake-up for each event loop that waits."""
    for loop in {job.loop for job in batch}:
        mine = [job for job in batch if job.loop is loop]
        # a closed loop has nobody who waits any more
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, mine)


def _settle(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():
            if job.error is not None:
                log.error("a job nobody waits for failed: %s", job.error)
        elif job.error is None:
            job.future.set_result(job.result)
        elif isinstance(job.error, sqlite3.Error):
            failure = store_failed(job.error)
            failure.__cause__ = job.error
            job.future.set_exception(failure)
        else:
            job.future.set_exception(job.error)


def store_failed(error: sqlite3.Error) -> StoreFailed:
    """Return the failure that says what the database refused, and how to fix it."""
    text = str(error)
    if "full" in text:
        advice = "Free some disk space and try again."
    elif "readonly" in text or "unable to open" in text:
        advice = "See that the folder `state` of TEKTON_HOME may be written by you."
    elif "malformed" in text or "not a database" in text:
        advice = "Stop the backend and start it again: a damaged database is set aside and kept."
    else:
        advice = "See the backend's log."
    return StoreFailed(f"The conversation store failed: {text}. {advice}", evidence=text)
