"""The embedded memory store: SQLite in WAL mode, one writing thread with group commit, two reading ones.

Puts the rooms of SQL behind the `MemoryStore` protocol; holds no SQL itself. A commit reaches the operating system
before the caller hears of it, so the death of this process loses nothing that was confirmed.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from backend.memory import database, ledger, messages, retention, search, sessions
from backend.memory.export import export
from backend.memory.faults import StoreClosed, StoreFailed, store_failed
from backend.memory.journal import Journal
from backend.memory.lanes import Job, Lane, T
from backend.memory.store import Conversation, Export, ExportFormat, OpenTurn, RetentionReport, Role, UsageRow
from backend.schema.errors import ErrorCode
from backend.schema.frames import FinishReason, MemoryHit, Usage
from backend.schema.records import ErrorRecord, SearchHit, Session, StoredMessage

DAY_S = 86_400.0
EXPORT_PAGE = 2_000
"""Messages read in one job while exporting."""


class SqliteStore:
    """A `MemoryStore` in one file. Open it before use, close it after; one process at a time writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_aside: Path | None = None
        self.journal: Journal | None = None
        self._writer: Lane | None = None
        self._reader: Lane | None = None
        self._searcher: Lane | None = None

    @property
    def place(self) -> str:
        return str(self.path)

    async def open(self) -> None:
        """Open or make the database and bring it to the newest version; a damaged one is set aside and kept.

        Raises:
            StoreFailed: It cannot be used: no rights, disk full, written by a newer version.
        """
        try:
            self.set_aside = await asyncio.to_thread(database.prepare, self.path)
        except sqlite3.Error as error:
            raise store_failed(error) from error
        self._writer = Lane("writer", partial(database.connect, self.path), writes=True)
        read = partial(database.connect, self.path, read_only=True)
        self._reader = Lane("reader", read)
        self._searcher = Lane("search", read)

    async def close(self) -> None:
        """Finish what was ordered and close. Safe to call twice."""
        lanes = [self._searcher, self._reader, self._writer]
        self._writer = self._reader = self._searcher = None
        for lane in lanes:
            if lane is not None:
                await asyncio.to_thread(lane.close)

    def figures(self) -> dict[str, int]:
        """Return bytes on disk (log included) and jobs waiting in each lane. Looks at the file; never blocks long."""
        sizes = [self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal")]
        lanes = {"writer": self._writer, "reader": self._reader, "search": self._searcher}
        return {
            "bytes": sum(path.stat().st_size for path in sizes if path.exists()),
            **{f"waiting_{name}": lane.waiting for name, lane in lanes.items() if lane is not None},
        }

    async def _write(self, job: Job[T]) -> T:
        return await self._run(self._writer, job)

    async def _read(self, job: Job[T]) -> T:
        return await self._run(self._reader, job)

    async def _search(self, job: Job[T]) -> T:
        """Run what may take many milliseconds, apart from the quick reads."""
        return await self._run(self._searcher, job)

    async def _run(self, lane: Lane | None, job: Job[T]) -> T:
        if lane is None:
            raise StoreClosed("the conversation store is not open")
        try:
            return await lane.run(job)
        except StoreFailed as error:
            if database.is_damage(error.__cause__):
                await asyncio.to_thread(database.suspect, self.path)
            raise

    # sessions

    async def default_session(self, owner: str) -> Session:
        found = await self._read(lambda c: sessions.find_default(c, owner))
        return found or await self._write(lambda c: sessions.ensure_default(c, owner))

    async def create_session(self, owner: str, title: str = "") -> Session:
        return await self._write(lambda c: sessions.create(c, owner, title))

    async def get_session(self, session_id: str) -> Session:
        return await self._read(lambda c: sessions.get(c, session_id))

    async def sessions(
        self,
        owner: str | None = None,
        query: str | None = None,
        include_archived: bool = False,
        limit: int = 200,
    ) -> list[Session]:
        words = (query or "").strip()
        if not words:
            return await self._read(lambda c: sessions.listed(c, owner, include_archived, limit))

        def find(connection: sqlite3.Connection) -> list[Session]:
            found = search.sessions_with(connection, words)
            return sessions.listed(connection, owner, include_archived, limit, title_part=words, found=found)

        return await self._search(find)

    async def patch_session(
        self,
        session_id: str,
        *,
        title: str | None = None,
        archived: bool | None = None,
        is_default: bool | None = None,
        provider: str | None = None,
        model: str | None = None,
    ) -> Session:
        given = {
            "title": title,
            "archived": archived,
            "is_default": is_default,
            "provider": provider,
            "model": model,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        return await self._write(lambda c: sessions.patch(c, session_id, changes))

    async def rename(self, session_id: str, title: str) -> Session:
        return await self.patch_session(session_id, title=title)

    async def delete_session(self, session_id: str) -> None:
        await self._write(lambda c: sessions.delete(c, session_id))

    # messages

    async def append(
        self,
        session_id: str,
        *,
        author: str,
        role: Role,
        content: str,
        created_at: float | None = None,
        request_id: str = "",
        lane: str = "",
        model: str = "",
        usage: Usage | None = None,
        finish_reason: FinishReason | None = None,
        error_code: ErrorCode | None = None,
        error: str = "",
        first_token_ms: float | None = None,
        total_time: float | None = None,
        reasoning: str = "",
        pinned: bool = False,
        closes_turn: bool = False,
        booked: UsageRow | None = None,
    ) -> StoredMessage:
        message = StoredMessage(
            id=0,
            session_id=session_id,
            author=author,
            role=role,
            content=content,
            created_at=time.time() if created_at is None else created_at,
            request_id=request_id,
            lane=lane,
            model=model,
            usage=usage,
            finish_reason=finish_reason,
            error_code=error_code,
            error=error,
            first_token_ms=first_token_ms,
            total_time=total_time,
            reasoning=reasoning,
            pinned=pinned,
        )

        def store(connection: sqlite3.Connection) -> StoredMessage:
            stored = messages.append(connection, message)
            if closes_turn:
                ledger.turn_closed(connection, request_id)
            if booked is not None:
                ledger.add_usage(connection, booked)
            return stored

        return await self._write(store)

    async def messages(
        self, session_id: str, *, before_id: int | None = None, after_id: int | None = None, limit: int = 50
    ) -> list[StoredMessage]:
        return await self._read(lambda c: messages.window(c, session_id, before_id, after_id, limit))

    async def message(self, message_id: int) -> StoredMessage:
        return await self._read(lambda c: messages.get(c, message_id))

    async def request_messages(self, request_id: str) -> list[StoredMessage]:
        return await self._read(lambda c: messages.of_request(c, request_id))

    async def context_messages(
        self, session_id: str, limit: int = 240, *, for_ai: str = ""
    ) -> list[StoredMessage]:
        return (await self.conversation(session_id, limit, for_ai=for_ai)).messages

    async def conversation(self, session_id: str, limit: int = 240, *, for_ai: str = "") -> Conversation:
        return await self._read(lambda c: messages.conversation(c, session_id, limit, for_ai))

    async def pin(self, message_id: int, pinned: bool = True) -> StoredMessage:
        return await self._write(lambda c: messages.pin(c, message_id, pinned))

    # finding

    async def search(
        self, query: str, *, owner: str | None = None, session_id: str | None = None, limit: int = 20
    ) -> list[SearchHit]:
        return await self._search(lambda c: search.search(c, query, owner, session_id, limit))

    async def recall(self, hints: list[str], *, limit: int = 3, exclude_session: str = "") -> list[MemoryHit]:
        return await self._search(lambda c: search.recall(c, hints, limit, exclude_session))

    async def export(
        self, session_id: str, format: ExportFormat = "md", *, secrets: Sequence[str] = ()
    ) -> Export:
        session = await self.get_session(session_id)
        pages: list[StoredMessage] = []
        page = await self.messages(session_id, after_id=0, limit=EXPORT_PAGE)
        while page:
            pages += page
            page = await self.messages(session_id, after_id=page[-1].id, limit=EXPORT_PAGE)
        return await asyncio.to_thread(export, session, pages, format, secrets)

    async def retain(
        self, *, retention_days: int, compress_after_days: int, now: float | None = None
    ) -> RetentionReport:
        report = RetentionReport()
        moment = time.time() if now is None else now
        if retention_days:
            before = moment - retention_days * DAY_S
            while gone := await self._write(lambda c: retention.delete_some(c, before)):
                report.messages_deleted += gone
            report.sessions_deleted = await self._write(lambda c: retention.delete_empty_sessions(c, before))
        cutoff = moment - compress_after_days * DAY_S
        while compress_after_days:
            number = await self._write(lambda c: retention.next_unpacked(c, cutoff))
            if number is None:
                break
            report.bytes_saved += await self._pack(number)
            report.sessions_packed += 1
        if report.messages_deleted or report.bytes_saved:
            await self._write(retention.free_pages)
        return report

    async def _pack(self, number: int) -> int:
        saved, after = 0, 0
        while True:
            last, gain = await self._write(partial(retention.pack_some, number=number, after_id=after))
            saved += gain
            if last is None:
                return saved
            after = last

    # the error ledger

    async def record_error(
        self,
        where: str,
        code: str,
        message: str,
        *,
        phase: str = "",
        evidence: str = "",
        request_id: str = "",
        at: float | None = None,
    ) -> ErrorRecord:
        moment = time.time() if at is None else at
        failure = ErrorRecord(
            id=0,
            where=where,
            code=code,
            message=message,
            first=moment,
            last=moment,
            phase=phase,
            evidence=evidence,
            request_id=request_id,
        )
        return await self._write(lambda c: ledger.record_error(c, failure))

    async def errors(
        self, *, unacknowledged: bool = False, where: str | None = None, limit: int = 200
    ) -> list[ErrorRecord]:
        return await self._read(lambda c: ledger.errors(c, unacknowledged, where, limit))

    async def acknowledge(self, ids: list[int] | None = None) -> list[int]:
        return await self._write(lambda c: ledger.acknowledge(c, ids, time.time()))

    async def unacknowledged(self) -> int:
        return await self._read(ledger.unacknowledged)

    # what else must not be forgotten

    async def add_usage(self, row: UsageRow) -> None:
        await self._write(lambda c: ledger.add_usage(c, row))

    async def usage(self, day: str | None = None, *, since: str | None = None) -> list[UsageRow]:
        return await self._read(lambda c: ledger.usage(c, day, since))

    async def get_setting(self, key: str) -> Any:
        return await self._read(lambda c: ledger.get_setting(c, key))

    async def put_setting(self, key: str, value: Any) -> None:
        text = None if value is None else msgspec.json.encode(value).decode()
        await self._write(lambda c: ledger.put_setting(c, key, text))

    async def settings(self, prefix: str = "") -> dict[str, Any]:
        return await self._read(lambda c: ledger.settings(c, prefix))

    async def turn_opened(self, request_id: str, ai_id: str, session_id: str) -> None:
        turn = OpenTurn(request_id, ai_id, session_id, time.time())
        await self._write(lambda c: ledger.turn_opened(c, turn))

    async def turn_closed(self, request_id: str) -> None:
        await self._write(lambda c: ledger.turn_closed(c, request_id))

    async def open_turns(self) -> list[OpenTurn]:
        return await self._read(ledger.open_turns)
