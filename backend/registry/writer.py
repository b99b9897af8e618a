"""The registry for an event loop: changes requested at the same time share one lock, one write and one fsync.

Decides nothing; changes are made in the order of the calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from backend.registry.store import Registry, Transaction
from backend.schema.records import RegistryEntry

Change = Callable[[Transaction], object]


class RegistryWriter:
    """Groups changes to one registry. For one event loop."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._waiting: list[tuple[Change, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def apply(self, change: Change) -> None:
        """Make a change and return when it is on disk.

        Raises:
            RegistryBusy: The lock stayed held until the time-out; nothing was written.
            RegistryError: The file cannot be read or written.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((change, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="registry writer")
        await done

    async def read(self) -> dict[str, RegistryEntry]:
        """Return all entries. Raises as `Registry.read`."""
        return await asyncio.to_thread(self.registry.read)

    async def flush(self) -> None:
        """Wait until every change requested so far is on disk or has failed."""
        # In a loop: a change that came while the last batch was settled has begun another task.
        while self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        try:
            while self._waiting:
                # All that wait go in one transaction: twenty specialists that start together cost one write,
                # not twenty.
                batch, self._waiting = self._waiting, []
                try:
                    await asyncio.to_thread(self._commit, [change for change, _ in batch])
                except Exception as error:  # raised again in every caller that waits
                    _settle(batch, error)
                else:
                    _settle(batch, None)
        finally:
            self._writing = None

    def _commit(self, changes: list[Change]) -> None:
        with self.registry.transaction() as transaction:
            for change in changes:
                change(transaction)


def _settle(batch: list[tuple[Change, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, done in batch:
        # Its caller was cancelled; the change is on disk all the same.
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
