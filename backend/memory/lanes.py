"""Threads that own a database connection each and run jobs on it, one after another.

A writing lane gathers what waits into one transaction (group commit): a caller hears of success only after the
commit. Knows connections and jobs; not tables.
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

from backend.memory.faults import StoreClosed, store_failed

log = logging.getLogger(__name__)

MAX_JOBS_A_COMMIT = 512
T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]


@dataclass
class _Order:
    job: Job[Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None


class Lane:
    """One thread, one connection. `writes` makes each batch of jobs one transaction."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], *, writes: bool = False) -> None:
        self._connect, self._writes = connect, writes
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"memory-{name}", daemon=True)
        self._closed = False
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs ordered and not begun."""
        return self._orders.qsize()

    async def run(self, job: Job[T]) -> T:
        """Run a job on the lane's connection and return what it returns.

        A caller that is cancelled stops waiting; the job is done all the same.

        Raises:
            StoreClosed: The lane was closed.
            StoreFailed: The database refused.
        """
        if self._closed:
            raise StoreClosed("the conversation store is closed")
        loop = asyncio.get_running_loop()
        order = _Order(job, loop.create_future(), loop)
        self._orders.put(order)
        return cast(T, await order.future)

    def close(self) -> None:
        """Do what was ordered, close the connection and end the thread. Blocks."""
        if not self._closed:
            self._closed = True
            self._orders.put(None)
        self._thread.join()

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        last = False
        while not last:
            batch, last = self._next_batch()
            if not batch:
                break
            try:
                connection = connection or self._connect()
                self._write(connection, batch) if self._writes else self._read(connection, batch)
            except BaseException as error:
                for order in batch:
                    order.error = order.error or error
            _settle_all(batch)
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                if self._writes:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.close()

    def _next_batch(self) -> tuple[list[_Order], bool]:
        """Wait for an order and take what else waits; the flag says that nothing comes after."""
        first = self._orders.get()
        if first is None:
            return [], True
        batch = [first]
        while self._writes and len(batch) < MAX_JOBS_A_COMMIT:
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                break
            if order is None:
                return batch, True
            batch.append(order)
        return batch, False

    def _read(self, connection: sqlite3.Connection, batch: list[_Order]) -> None:
        for order in batch:
            _do(order, connection)

    def _write(self, connection: sqlite3.Connection, batch: list[_Order]) -> None:
        """Run the batch in one transaction; a job that fails undoes only itself."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            for order in batch:
                connection.execute("SAVEPOINT job")
                _do(order, connection)
                if (
                    not connection.in_transaction
                ):  # SQLite itself rolled everything back: disk full, I/O error
                    raise cast(BaseException, order.error)
                if order.error is not None:
                    connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _do(order: _Order, connection: sqlite3.Connection) -> None:
    try:
        order.result = order.job(connection)
    except Exception as error:
        order.error = error


def _settle_all(batch: list[_Order]) -> None:
    """Hand the results over, one wake-up for each event loop that waits."""
    for loop in {order.loop for order in batch}:
        mine = [order for order in batch if order.loop is loop]
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, mine)


def _settle(orders: list[_Order]) -> None:
    for order in orders:
        if order.future.done():
            if order.error is not None:
                log.error("a job nobody waits for failed: %s", order.error)
        elif order.error is None:
            order.future.set_result(order.result)
        elif isinstance(order.error, sqlite3.Error):
            failure = store_failed(order.error)
            failure.__cause__ = order.error
            order.future.set_exception(failure)
        else:
            order.future.set_exception(order.error)
