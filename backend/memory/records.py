"""What a conversation store returns and takes besides the records of the schema; none of it leaves the backend."""

from __future__ import annotations

from typing import TypedDict

from msgspec import Struct

from backend.schema.records import Session, StoredMessage

TEAM = "team"
"""Owner of the sessions in which the whole team is asked."""
YOU = "you"
"""Author of what the operator wrote."""
DAY_S = 86_400.0
BOOKED_DAYS = 30
"""For how long the names of booked turns are known; a worker reports one again within seconds, or when it is next met."""


class SessionChanges(TypedDict, total=False):
    """What can be changed of a session; what is not given stays as it is."""

    title: str
    archived: bool
    is_default: bool
    provider: str
    model: str


class Conversation(Struct):
    """What the context of a turn is chosen from. `messages` are oldest first; `earlier` counts those before them.

    `pinned` are the pinned messages that are not among them: older ones, and those of other specialists; oldest first.
    """

    session: Session
    messages: list[StoredMessage]
    pinned: list[StoredMessage]
    earlier: int = 0


class OpenTurn(Struct):
    """A turn that was accepted and has not ended. `opened_at` in unix seconds.

    `waiting` is its question while that waits in its session: nobody was asked, and it is no message yet.
    """

    request_id: str
    ai_id: str
    session_id: str
    opened_at: float
    waiting: str | None = None


class SessionPage(Struct):
    """Sessions, newest use first. `more` says that there are others, or may be."""

    sessions: list[Session]
    more: bool = False


class Retention(Struct, frozen=True):
    """How long rows are kept, in days; 0 keeps them for good.

    Messages that are pinned and default sessions stay, however old.
    """

    messages_days: int = 0
    compress_after_days: int = 0
    """Sessions untouched for so long are compressed; they read and search as before."""
    errors_days: int = 0
    """Of errors that somebody has acknowledged."""
    unseen_errors_days: int = 0
    """Of errors that nobody has acknowledged, since they last happened."""
    usage_days: int = 0
    tool_calls_days: int = 0
    """Of tool calls that have ended; those that wait or run stay."""


class RetentionReport(Struct):
    """What a retention run did. `bytes_packed` counts bytes of text that compression saved, `bytes_freed` those on disk."""

    messages_deleted: int = 0
    sessions_deleted: int = 0
    sessions_packed: int = 0
    errors_deleted: int = 0
    usage_deleted: int = 0
    tool_calls_deleted: int = 0
    bytes_packed: int = 0
    bytes_freed: int = 0
