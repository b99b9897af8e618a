"""What the platform may ask of a conversation store: seven small protocols, and the store that has a part for each.

A part is handed alone to whoever needs it. Knows neither SQL nor files nor servers. All coroutines run without blocking
the event loop; a write that returned survives the death of this process. Expected failures are `MemoryFault`s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Unpack

from backend.memory.records import (
    Conversation,
    OpenTurn,
    Retention,
    RetentionReport,
    SessionChanges,
    SessionPage,
)
from backend.memory.shared_log import LateAnswers, SharedLog
from backend.schema.frames import MemoryHit
from backend.schema.records import ErrorRecord, SearchPage, Session, StoredMessage, UsageRow
from backend.schema.sent import SentTurn
from backend.schema.tools import ToolRecord


class SessionStore(Protocol):
    """The sessions. Methods that take a session id raise `UnknownSession`."""

    async def default(self, owner: str, *, counted: bool = True) -> Session:
        """Return the owner's default session, made at the first call. `owner` is a specialist id or `team`.

        Where it need not be `counted`, its messages, times, title and preview may be those of an earlier moment.
        """
        ...

    async def create(self, owner: str, title: str = "") -> Session:
        """Begin a session. Without a title it gets one from the first words of the operator."""
        ...

    async def get(self, session_id: str) -> Session:
        """Return one session."""
        ...

    async def find(
        self,
        *,
        owner: str | None = None,
        query: str | None = None,
        include_archived: bool = False,
        limit: int = 200,
    ) -> SessionPage:
        """Return sessions, newest use first. `query` finds parts of titles and words of messages."""
        ...

    async def patch(self, session_id: str, **changes: Unpack[SessionChanges]) -> Session:
        """Change what is given and return the session. A new default takes the mark from the old one."""
        ...

    async def delete(self, session_id: str) -> None:
        """Remove a session, its messages and their place in the index, for good."""
        ...


class MessageStore(Protocol):
    """The messages of all sessions. Methods that take a session id raise `UnknownSession`."""

    async def append(
        self,
        message: StoredMessage,
        *,
        opens: Mapping[str, str] | None = None,
        ends_turn: bool = False,
        used: UsageRow | None = None,
        sent: SentTurn | None = None,
    ) -> StoredMessage:
        """Store a message and return it with the id it was given; the `id` it came with is not looked at.

        `opens` are the turns that a question opens: specialists by request id; one that waited waits no more. `ends_turn`
        closes the turn of the message's `request_id` with its answer, and `used` is added to the day's usage. All is one
        commit, so that a kill at any moment leaves all of it or nothing. An answer that comes again after its turn was
        closed, as after a confirmation that was lost, is stored once. `sent` is what the turn sent its model; see
        `SentStore`.
        """
        ...

    async def read(
        self, session_id: str, *, before_id: int | None = None, after_id: int | None = None, limit: int = 50
    ) -> list[StoredMessage]:
        """Return the newest `limit` messages before `before_id`, or the first after `after_id`; oldest first."""
        ...

    async def of_request(self, request_id: str) -> list[StoredMessage]:
        """Return the messages a turn stored, oldest first; empty when the id was never used."""
        ...

    async def forget(self, request_id: str) -> int:
        """Delete the messages of a turn, and what was sent for it, for good; return how many messages there were."""
        ...

    async def conversation(self, session_id: str, limit: int = 240, *, for_ai: str = "") -> Conversation:
        """Return all that windowing needs of a session, read at one moment.

        With `for_ai` the messages of other specialists are left out, but for pinned ones.
        """
        ...

    async def pin(self, message_id: int, pinned: bool = True) -> StoredMessage:
        """Pin or unpin a message: pinned ones always enter the context. Raises `UnknownMessage`."""
        ...

    async def search(
        self,
        query: str,
        *,
        owner: str | None = None,
        session_id: str | None = None,
        before_id: int | None = None,
        limit: int = 20,
    ) -> SearchPage:
        """Find messages by their words, newest first, older than `before_id` if it is given.

        Any text is a valid query; none of it is syntax but quotes around a phrase. The last word may be the beginning of
        one. Where fewer than `limit` messages have all the words, those with some of them follow, best first.
        """
        ...

    async def recall(
        self, hints: Sequence[str], *, limit: int = 3, owners: Sequence[str] = (), exclude_session: str = ""
    ) -> list[MemoryHit]:
        """Return the messages that fit the hints best, for a turn's context: from sessions of these owners, if any."""
        ...


class SentStore(Protocol):
    """What was sent for turns. It goes with its session, and with its age when messages do."""

    async def get(self, request_id: str) -> SentTurn | None:
        """Return what was sent for a turn, `None` when nothing is kept of it."""
        ...

    async def newest(self, session_id: str, ai_id: str, *, before: float | None = None) -> SentTurn | None:
        """Return what was sent for a specialist's newest turn in a session, or for the newest before a time."""
        ...


class TurnStore(Protocol):
    """The turns under way, which must be known after a crash, and what ended ones have used."""

    async def begin(self, request_id: str, ai_id: str, session_id: str) -> None:
        """Record a turn without a question to store as open; one that is open already is replaced.

        `MessageStore.append` opens a turn with its question, and closes it with its answer.
        """
        ...

    async def wait(self, opens: Mapping[str, str], session_id: str, question: str) -> None:
        """Record turns as open whose one question waits in its session: `opens` maps request ids to specialists.

        All of them or none; those that are open already are replaced.
        """
        ...

    async def end(self, *request_ids: str) -> None:
        """Close open turns that store no answer."""
        ...

    async def book(self, name: str, used: UsageRow | None) -> bool:
        """Add to the day's usage what a turn without an answer to store has used; return whether it was new.

        A turn of this name that was booked before, by whichever gateway, is not counted again. Names are known for
        `BOOKED_DAYS`.
        """
        ...

    async def unfinished(self) -> list[OpenTurn]:
        """Return the turns begun and not ended, oldest first."""
        ...

    async def usage(self, day: str | None = None, *, since: str | None = None) -> list[UsageRow]:
        """Return what was used on a day (`YYYY-MM-DD`), on all days from `since` on, or on all days."""
        ...


class ErrorStore(Protocol):
    """The error log: failures, until a person acknowledges them and after."""

    async def record(self, error: ErrorRecord) -> ErrorRecord:
        """Store a failure and return its record; the `id` it came with is not looked at.

        An equal one (`where`, `code`, `message`) that nobody has acknowledged is counted on by `count` instead, and
        its `last`, `phase`, `evidence` and `request_id` replaced. Of endless evidence the end is kept.
        """
        ...

    async def find(
        self, *, unacknowledged: bool = False, where: str | None = None, limit: int = 200
    ) -> list[ErrorRecord]:
        """Return records, newest first."""
        ...

    async def acknowledge(self, ids: Sequence[int] | None = None) -> list[int]:
        """Mark records as seen, all when `ids` is `None`; return the ids that were not marked before, in order."""
        ...

    async def unacknowledged(self) -> int:
        """Return how many records nobody has acknowledged."""
        ...


class ToolCallStore(Protocol):
    """The tool calls, each written before it runs and completed after it."""

    async def put(self, record: ToolRecord) -> None:
        """Store a record in the place of the one with its id, if there is one."""
        ...

    async def find(
        self, *, ai_id: str | None = None, states: tuple[str, ...] = (), limit: int = 200
    ) -> list[ToolRecord]:
        """Return records, newest first: of one specialist, or in certain states."""
        ...


class SettingStore(Protocol):
    """Small JSON values by key: drafts, choices made on the screen, saved pipelines."""

    async def get(self, key: str) -> Any:
        """Return what was put under the key, `None` when nothing was."""
        ...

    async def put(self, key: str, value: Any) -> None:
        """Keep a JSON value; `None` removes the key."""
        ...

    async def with_prefix(self, prefix: str) -> dict[str, Any]:
        """Return all values whose key begins with `prefix`, in the order of their keys."""
        ...


class MemoryStore(Protocol):
    """A conversation store. Open it before use, close it after."""

    set_aside: Path | None
    """Where a damaged database was kept at `open`, if it was."""
    damage: str
    """What was wrong at `open` and what became of it, in words; empty when all was well."""
    shared_log: SharedLog | None
    """What several gateways on this store share; `None` where one gateway has the store alone."""
    late_answers: LateAnswers | None
    """Takes what a gateway that was fenced had confirmed; `None` where there is no shared log."""

    @property
    def sessions(self) -> SessionStore: ...

    @property
    def messages(self) -> MessageStore: ...

    @property
    def sent(self) -> SentStore: ...

    @property
    def turns(self) -> TurnStore: ...

    @property
    def errors(self) -> ErrorStore: ...

    @property
    def settings(self) -> SettingStore: ...

    @property
    def tool_calls(self) -> ToolCallStore: ...

    @property
    def place(self) -> str:
        """Where conversations are kept, in words for the operator; after `open`."""
        ...

    def figures(self) -> dict[str, int]:
        """Return `waiting_<thread or connection>` jobs, and `bytes` on disk where known. Never blocks long."""
        ...

    async def open(self) -> None:
        """Connect, or open the file. Raises `StoreFailed`."""
        ...

    async def close(self) -> None:
        """Finish what was asked for and close. Safe to call twice."""
        ...

    async def retain(self, ages: Retention, now: float | None = None) -> RetentionReport:
        """Delete and compress what is older than its age, and free what that leaves empty.

        Works in small slices between which other calls are served. `now` in unix seconds.
        """
        ...
