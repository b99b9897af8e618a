"""The served memory store: Redis, for many gateways on one store.

Puts the rooms of Redis behind the `MemoryStore` protocol; holds no command itself. A write that returned was confirmed
by the server; what the server keeps when it dies is its own setting, checked at `open` and told in `durability`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from backend.memory import (
    redis_checks,
    redis_ledger,
    redis_messages,
    redis_retention,
    redis_scripts,
    redis_search,
    redis_sessions,
)
from backend.memory.export import export
from backend.memory.faults import StoreClosed
from backend.memory.journal import Journal
from backend.memory.redis_journal import RedisJournal
from backend.memory.redis_link import Address, RedisLane
from backend.memory.store import Conversation, Export, ExportFormat, OpenTurn, RetentionReport, Role, UsageRow
from backend.schema.errors import ErrorCode
from backend.schema.frames import FinishReason, MemoryHit, Usage
from backend.schema.records import ErrorRecord, SearchHit, Session, StoredMessage

DAY_S = 86_400.0
EXPORT_PAGE = 2_000
"""Messages read in one trip while exporting."""
_SCRIPTS = [value for name, value in vars(redis_scripts).items() if name.isupper()]


class RedisStore:
    """A `MemoryStore` on a Redis server. Open it before use, close it after; any number of gateways may.

    `gateway` names this gateway for good: the turns it left open are found again under that name. With `fleet` it
    shares that fleet with other gateways through a journal.
    """

    def __init__(self, address: Address, gateway: str, *, fleet: str = "", volatile: bool = False) -> None:
        self.address, self.gateway = address, gateway
        self._journal = RedisJournal(address, fleet, gateway) if fleet else None
        self.journal: Journal | None = self._journal
        self.set_aside: Path | None = None
        self.durability = ""
        """In words, what the server keeps when it dies; known after `open`."""
        self._volatile = volatile
        self._writer: RedisLane | None = None
        self._reader: RedisLane | None = None
        self._searcher: RedisLane | None = None

    @property
    def place(self) -> str:
        return f"Redis at {self.address.shown}, which {self.durability}"

    async def open(self) -> None:
        """Connect, check that the server can be trusted, and finish what a crash left half removed.

        Raises:
            StoreFailed: It cannot be reached, refuses the password, or might lose what it confirms.
        """
        journal = self._journal
        try:
            if journal is not None:
                await journal.join()
            name, greeting = (journal.client_name, journal.greet) if journal is not None else ("tekton", None)
            self._writer, self._reader, self._searcher = (
                RedisLane(self.address, _SCRIPTS, name=name, greeting=greeting) for _ in range(3)
            )
            self.durability = await redis_checks.check(
                self._writer, self.address.shown, volatile=self._volatile
            )
            await redis_retention.finish_removals(self._writer)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Finish what was ordered and disconnect. Safe to call twice."""
        lanes = [self._searcher, self._reader, self._writer]
        self._writer = self._reader = self._searcher = None
        for lane in lanes:
            if lane is not None:
                await lane.close()
        if self._journal is not None:
            await self._journal.leave()

    def figures(self) -> dict[str, int]:
        """Return the orders waiting in each lane. What the server takes is its own to tell."""
        lanes = {"writer": self._writer, "reader": self._reader, "search": self._searcher}
        return {f"waiting_{name}": lane.waiting for name, lane in lanes.items() if lane is not None}

    @property
    def _write(self) -> RedisLane:
        return _open(self._writer)

    @property
    def _read(self) -> RedisLane:
        return _open(self._reader)

    @property
    def _search(self) -> RedisLane:
        """The lane of what may take many milliseconds, apart from the quick reads."""
        return _open(self._searcher)

    # sessions

    async def default_session(self, owner: str) -> Session:
        found = await redis_sessions.find_default(self._read, owner)
        return found or await redis_sessions.create(self._write, owner, "", is_default=True)

    async def create_session(self, owner: str, title: str = "") -> Session:
        return await redis_sessions.create(self._write, owner, title)

    async def get_session(self, session_id: str) -> Session:
        return await redis_sessions.get(self._read, session_id)

    async def sessions(
        self,
        owner: str | None = None,
        query: str | None = None,
        include_archived: bool = False,
        limit: int = 200,
    ) -> list[Session]:
        words = (query or "").strip()
        if not words:
            return await redis_sessions.listed(self._read, owner, include_archived, limit)
        found = await redis_search.sessions_with(self._search, words)
        return await redis_sessions.listed(
            self._search, owner, include_archived, limit, title_part=words, found=found
        )

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
        return await redis_sessions.patch(self._write, session_id, changes)

    async def rename(self, session_id: str, title: str) -> Session:
        return await self.patch_session(session_id, title=title)

    async def delete_session(self, session_id: str) -> None:
        await redis_retention.delete_session(self._write, session_id)

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
        closes_in = redis_ledger.turns_key(self.gateway) if closes_turn else ""
        return await redis_messages.append(self._write, message, closes_in=closes_in, booked=booked)

    async def messages(
        self, session_id: str, *, before_id: int | None = None, after_id: int | None = None, limit: int = 50
    ) -> list[StoredMessage]:
        return await redis_messages.window(self._read, session_id, before_id, after_id, limit)

    async def message(self, message_id: int) -> StoredMessage:
        return await redis_messages.get(self._read, message_id)

    async def request_messages(self, request_id: str) -> list[StoredMessage]:
        return await redis_messages.of_request(self._read, request_id)

    async def context_messages(
        self, session_id: str, limit: int = 240, *, for_ai: str = ""
    ) -> list[StoredMessage]:
        return (await self.conversation(session_id, limit, for_ai=for_ai)).messages

    async def conversation(self, session_id: str, limit: int = 240, *, for_ai: str = "") -> Conversation:
        return await redis_messages.conversation(self._read, session_id, limit, for_ai)

    async def pin(self, message_id: int, pinned: bool = True) -> StoredMessage:
        return await redis_messages.pin(self._write, message_id, pinned)

    # finding

    async def search(
        self, query: str, *, owner: str | None = None, session_id: str | None = None, limit: int = 20
    ) -> list[SearchHit]:
        return await redis_search.search(self._search, query, owner, session_id, limit)

    async def recall(self, hints: list[str], *, limit: int = 3, exclude_session: str = "") -> list[MemoryHit]:
        return await redis_search.recall(self._search, hints, limit, exclude_session)

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
            while gone := await redis_retention.delete_some(self._write, before):
                report.messages_deleted += gone
            report.sessions_deleted = await redis_retention.delete_empty_sessions(self._write, before)
        cutoff = moment - compress_after_days * DAY_S
        while compress_after_days:
            saved = await redis_retention.pack_next(self._write, cutoff)
            if saved is None:
                break
            report.bytes_saved += saved
            report.sessions_packed += 1
        return report

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
        return await redis_ledger.record_error(self._write, failure)

    async def errors(
        self, *, unacknowledged: bool = False, where: str | None = None, limit: int = 200
    ) -> list[ErrorRecord]:
        return await redis_ledger.errors(self._read, unacknowledged, where, limit)

    async def acknowledge(self, ids: list[int] | None = None) -> list[int]:
        return await redis_ledger.acknowledge(self._write, ids, time.time())

    async def unacknowledged(self) -> int:
        return await redis_ledger.unacknowledged(self._read)

    # what else must not be forgotten

    async def add_usage(self, row: UsageRow) -> None:
        await redis_ledger.add_usage(self._write, row)

    async def usage(self, day: str | None = None, *, since: str | None = None) -> list[UsageRow]:
        return await redis_ledger.usage(self._read, day, since)

    async def get_setting(self, key: str) -> Any:
        return await redis_ledger.get_setting(self._read, key)

    async def put_setting(self, key: str, value: Any) -> None:
        text = None if value is None else msgspec.json.encode(value)
        await redis_ledger.put_setting(self._write, key, text)

    async def settings(self, prefix: str = "") -> dict[str, Any]:
        return await redis_ledger.settings(self._read, prefix)

    async def turn_opened(self, request_id: str, ai_id: str, session_id: str) -> None:
        turn = OpenTurn(request_id, ai_id, session_id, time.time())
        await redis_ledger.turn_opened(self._write, self.gateway, turn)

    async def turn_closed(self, request_id: str) -> None:
        await redis_ledger.turn_closed(self._write, self.gateway, request_id)

    async def open_turns(self) -> list[OpenTurn]:
        return await redis_ledger.open_turns(self._read, self.gateway)


def _open(lane: RedisLane | None) -> RedisLane:
    if lane is None:
        raise StoreClosed("the conversation store is not open")
    return lane
