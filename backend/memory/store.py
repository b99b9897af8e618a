"""The memory protocol (Engram): what the platform may ask of a conversation store, embedded or served.

Knows neither SQL nor files. All methods are coroutines that never block the event loop; a write that returned
survives the death of this process. Expected failures are `MemoryFault`s.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from msgspec import Struct

from backend.schema.errors import ErrorCode
from backend.schema.frames import FinishReason, MemoryHit, Usage
from backend.schema.records import ErrorRecord, SearchHit, Session, StoredMessage

TEAM = "team"
"""Owner of the sessions in which the whole team is asked."""
YOU = "you"
"""Author of what the operator wrote."""

if TYPE_CHECKING:
    from backend.memory.journal import Journal

Role = Literal["user", "assistant", "system"]
ExportFormat = Literal["md", "json"]


class Conversation(Struct):
    """What a turn's context is chosen from. `messages` oldest first; `earlier` counts those before them.

    `pinned` are the pinned messages older than `messages`, oldest first.
    """

    session: Session
    messages: list[StoredMessage]
    pinned: list[StoredMessage]
    earlier: int = 0


class OpenTurn(Struct):
    """A turn that was begun and not ended: after a crash, what must be told to the operator."""

    request_id: str
    ai_id: str
    session_id: str
    opened_at: float


class UsageRow(Struct):
    """What one specialist used of one model on one day (`YYYY-MM-DD`), paid in one currency.

    `turns` counts calls, `unpriced` those of them whose price is unknown and not in `cost`; their `currency` is empty.
    """

    day: str
    ai_id: str
    provider: str
    model: str
    currency: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    turns: int = 0
    unpriced: int = 0


class Export(Struct):
    """A session written out; `filename` is safe on every file system."""

    filename: str
    content: str


class RetentionReport(Struct):
    """What a retention run did; `bytes_saved` counts text bytes packed away."""

    messages_deleted: int = 0
    sessions_deleted: int = 0
    sessions_packed: int = 0
    bytes_saved: int = 0


class MemoryStore(Protocol):
    """Sessions, messages, search, and what the platform must not forget."""

    set_aside: Path | None
    """Where a damaged database was kept at `open`, if it was."""
    journal: Journal | None
    """What gateways share that serve one fleet on this store; none where one gateway has the store alone."""

    @property
    def place(self) -> str:
        """Where conversations lie, in words for the operator; after `open`."""
        ...

    def figures(self) -> dict[str, int]:
        """Return `waiting_<lane>` jobs, and `bytes` on disk where that is known. Never blocks long."""
        ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    # sessions

    async def default_session(self, owner: str) -> Session:
        """Return the owner's default session, made at the first call. `owner` is a specialist id or `team`."""
        ...

    async def create_session(self, owner: str, title: str = "") -> Session: ...

    async def get_session(self, session_id: str) -> Session:
        """Raises `UnknownSession`, as do all methods that take a session id."""
        ...

    async def sessions(
        self,
        owner: str | None = None,
        query: str | None = None,
        include_archived: bool = False,
        limit: int = 200,
    ) -> list[Session]:
        """Return sessions, newest use first. `query` finds words of titles and of messages."""
        ...

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
        """Change what is given and return the session. A new default takes the mark from the old one."""
        ...

    async def rename(self, session_id: str, title: str) -> Session: ...

    async def delete_session(self, session_id: str) -> None:
        """Remove a session, its messages and their place in the index, for good."""
        ...

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
        """Store a message. Once this returns, the message survives a kill of this process.

        `closes_turn` ends the open turn of `request_id`, `booked` is added to the day's counters: in the same commit,
        so that a kill at any moment leaves all of it or nothing.
        """
        ...

    async def messages(
        self, session_id: str, *, before_id: int | None = None, after_id: int | None = None, limit: int = 50
    ) -> list[StoredMessage]:
        """Return the newest `limit` messages before `before_id`, or the first after `after_id`; oldest first."""
        ...

    async def message(self, message_id: int) -> StoredMessage: ...

    async def request_messages(self, request_id: str) -> list[StoredMessage]:
        """Return the messages a turn stored, oldest first; empty when the id was never used."""
        ...

    async def context_messages(
        self, session_id: str, limit: int = 240, *, for_ai: str = ""
    ) -> list[StoredMessage]:
        """Return the newest messages, oldest first; with `for_ai` the other specialists' are left out."""
        ...

    async def conversation(self, session_id: str, limit: int = 240, *, for_ai: str = "") -> Conversation:
        """Return all that windowing needs of a session, read at one moment."""
        ...

    async def pin(self, message_id: int, pinned: bool = True) -> StoredMessage:
        """Pin or unpin a message: pinned ones always enter the context. Raises `UnknownMessage`."""
        ...

    # finding

    async def search(
        self, query: str, *, owner: str | None = None, session_id: str | None = None, limit: int = 20
    ) -> list[SearchHit]:
        """Find messages by their words, best first. Any text is a valid query; none of it is syntax but quotes."""
        ...

    async def recall(self, hints: list[str], *, limit: int = 3, exclude_session: str = "") -> list[MemoryHit]:
        """Return the messages that fit the hints best, for a turn's context."""
        ...

    async def export(
        self, session_id: str, format: ExportFormat = "md", *, secrets: Sequence[str] = ()
    ) -> Export:
        """Write a session out; what looks like a key is masked, and so is each of `secrets`."""
        ...

    async def retain(
        self, *, retention_days: int, compress_after_days: int, now: float | None = None
    ) -> RetentionReport:
        """Delete what is older than the retention (0: nothing; never what is pinned), pack what is old."""
        ...

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
        """Store a failure. Equal ones (where, code, message) nobody has acknowledged share one record."""
        ...

    async def errors(
        self, *, unacknowledged: bool = False, where: str | None = None, limit: int = 200
    ) -> list[ErrorRecord]:
        """Return records, newest first."""
        ...

    async def acknowledge(self, ids: list[int] | None = None) -> list[int]:
        """Mark records as seen, all when `ids` is `None`; return the ids that were not marked before."""
        ...

    async def unacknowledged(self) -> int: ...

    # what else must not be forgotten

    async def add_usage(self, row: UsageRow) -> None:
        """Add a row's figures to the day's counters."""
        ...

    async def usage(self, day: str | None = None, *, since: str | None = None) -> list[UsageRow]:
        """Return the counters of a day, of all days from `since` on, or of all."""
        ...

    async def get_setting(self, key: str) -> Any:
        """Return what was put under the key, `None` when nothing was."""
        ...

    async def put_setting(self, key: str, value: Any) -> None:
        """Keep a JSON value (drafts, choices made on the screen); `None` forgets the key."""
        ...

    async def settings(self, prefix: str = "") -> dict[str, Any]:
        """Return all values whose key begins with `prefix`."""
        ...

    async def turn_opened(self, request_id: str, ai_id: str, session_id: str) -> None: ...

    async def turn_closed(self, request_id: str) -> None: ...

    async def open_turns(self) -> list[OpenTurn]:
        """Return the turns begun and not ended, oldest first."""
        ...
