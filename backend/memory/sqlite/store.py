"""The embedded memory store: SQLite in WAL mode, one writing thread with group commit, two reading ones.

Composition of its parts; holds no SQL. A commit reaches the operating system before the caller learns of it, so the death
of this process loses nothing that was confirmed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from backend.memory.errors import MemoryFault, StoreFailed
from backend.memory.records import Retention, RetentionReport
from backend.memory.shared_log import LateAnswers, SharedLog
from backend.memory.sqlite import index, retention
from backend.memory.sqlite.database import SqliteDatabase, is_damage
from backend.memory.sqlite.error_log import SqliteErrors
from backend.memory.sqlite.messages import SqliteMessages
from backend.memory.sqlite.sent import SqliteSent
from backend.memory.sqlite.sessions import SqliteSessions
from backend.memory.sqlite.settings import SqliteSettings
from backend.memory.sqlite.tool_calls import SqliteToolCalls
from backend.memory.sqlite.turns import SqliteTurns
from backend.tasks import end_tasks

log = logging.getLogger(__name__)

INDEXED_AT_ONCE = 200
"""Messages indexed in one transaction (some tens of milliseconds)."""


class SqliteStore:
    """A `MemoryStore` in one file; one process at a time writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_aside: Path | None = None
        self.damage = ""
        self.shared_log: SharedLog | None = None
        self.late_answers: LateAnswers | None = None
        self._database = SqliteDatabase(path)
        self._indexing: asyncio.Task[None] | None = None
        self.sessions = SqliteSessions(self._database)
        self.messages = SqliteMessages(self._database)
        self.sent = SqliteSent(self._database)
        self.turns = SqliteTurns(self._database)
        self.errors = SqliteErrors(self._database)
        self.settings = SqliteSettings(self._database)
        self.tool_calls = SqliteToolCalls(self._database)

    @property
    def place(self) -> str:
        return str(self.path)

    async def open(self) -> None:
        """Open or make the database and bring it to the newest version.

        A damaged one is set aside and kept, and what can be read of it brought into the new one.

        Raises:
            StoreFailed: It cannot be used: no rights, disk full, written by a newer version.
        """
        await self._open()
        try:
            await self._begin()
        except StoreFailed as error:
            # damage that only showed when the tables were read: this time the whole file is checked and set aside
            await self.close()
            if not is_damage(error.__cause__):
                raise
            await self._open()
            await self._begin()

    async def _open(self) -> None:
        self.set_aside = await self._database.open()
        self.damage = self._database.damage

    async def _begin(self) -> None:
        if await self._database.write(index.prepare):
            self._indexing = asyncio.create_task(self._index_older(), name="memory-index")
        await retention.finish_removals(self._database)

    async def close(self) -> None:
        await end_tasks(self._indexing)
        await self._database.close()

    def figures(self) -> dict[str, int]:
        return self._database.figures()

    async def retain(self, ages: Retention, now: float | None = None) -> RetentionReport:
        return await retention.retain(self._database, ages, time.time() if now is None else now)

    async def _index_older(self) -> None:
        """Index the messages that an index of another version had, leaving the writing thread free half of the time."""
        try:
            more = True
            while more:
                began = time.monotonic()
                more = await self._database.write(lambda c: index.index_older(c, INDEXED_AT_ONCE))
                await asyncio.sleep(time.monotonic() - began)
        except MemoryFault as error:
            log.error("older messages cannot be found until the next start: %s", error.message)
