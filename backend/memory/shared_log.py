"""What several gateways share besides conversations: one log of events, leases, and claims of request ids.

A store kept by one gateway alone has no shared log. Knows no command of any server and no meaning of an event.

Terms: a gateway keeps its *name* for good; each start of it is an *incarnation*. A gateway renews a *lease*; one whose
lease ran out may be *fenced* by another: it can write nothing any more, and another gateway *takes over* its open turns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from backend.memory.errors import StoreFailed
from backend.memory.records import OpenTurn
from backend.schema.records import StoredMessage, UsageRow
from backend.schema.sent import SentTurn


class Fenced(StoreFailed):
    """This gateway was fenced by another one: it may write nothing any more."""


class EpochChanged(StoreFailed):
    """The event numbers in force are of another epoch, or the server lost some it had given out."""


class Member(Struct, frozen=True):
    """A gateway of the fleet. `leased` is false once it has not renewed its lease in time."""

    name: str
    incarnation: str
    leased: bool
    facts: dict[str, object]


class Renewal(Struct, frozen=True):
    """The state of the fleet as a renewal of the lease returns it.

    `leader` is a gateway's name. `fenced` are `NAME INCARNATION` whose open turns nobody has taken over yet. `again` says that
    the store had forgotten this gateway, and with it perhaps others that are not listed again yet.
    """

    leader: str
    epoch: str
    members: list[Member]
    fenced: list[str]
    again: bool = False


class Entry(Struct, frozen=True):
    """One entry of the log: `count` events, the last of which has number `seq`; with `count` 0 a note without number.

    `origin` is `NAME INCARNATION` of the gateway that appended it.
    """

    id: str
    seq: int
    count: int
    origin: str
    data: bytes


class SharedLog(Protocol):
    """The log and the members of one fleet. `name` and `incarnation` are this gateway's own."""

    name: str
    incarnation: str
    lease_s: float
    epoch: str
    first_seq: int
    """Newest event number of the log when this gateway joined."""
    on_fenced: Callable[[bool], None] | None
    """Called once, when the store refuses this gateway: with true when another gateway has come under its name, with false when
    it was only declared dead."""
    on_forgotten: Callable[[], None] | None
    """Called when the store had forgotten this gateway, as after it was emptied, and lists it again."""

    async def publish_facts(self, facts: dict[str, object]) -> None:
        """Store where this gateway serves, for the other members to read."""
        ...

    async def renew_lease(self) -> Renewal:
        """Renew the lease for `lease_s` seconds and return the state of the fleet. Raises `Fenced`."""
        ...

    async def leave(self) -> None:
        """Leave the fleet in order, so that nobody needs to fence this gateway. Safe to call twice."""
        ...

    async def fence(self, member: Member) -> bool:
        """Fence a gateway whose lease ran out; return whether this call did it."""
        ...

    async def take_over(self, fenced: str) -> list[OpenTurn] | None:
        """Cut a fenced gateway's connections and take over its open turns; `None` when another gateway did."""
        ...

    async def append(self, batch: int, known: int, count: int, data: bytes) -> int:
        """Append `count` events and return the newest event number.

        `batch` counts the appends of this incarnation: one that is sent twice is appended once. `known` is the highest
        event number this gateway has seen.

        Raises:
            Fenced: This gateway was fenced.
            EpochChanged: The numbers begin anew.
            StoreFailed: The server cannot be reached; whether the entry was appended is not known.
        """
        ...

    async def read(self, after: str, *, wait_s: float) -> list[Entry]:
        """Return entries after an entry id (`0-0`: from the beginning), waiting up to `wait_s` for the first one."""
        ...

    async def contains(self, entry: Entry) -> bool:
        """Return whether the log still is the one this entry was read from; false when it was lost and begun anew."""
        ...

    async def rotate_epoch(self, known: int) -> str:
        """End the epoch, if it is still ours, and return the one in force."""
        ...

    async def claim(self, request_id: str) -> str:
        """Claim a request id; return the incarnation that has it: ours, unless another one was first."""
        ...

    async def claimant(self, request_id: str) -> str:
        """Return the incarnation that has claimed this request id, empty when none has."""
        ...


class StoredLate(Struct, frozen=True):
    """A late answer as it is stored, and the end of its turn that gave way to it, if one did."""

    message: StoredMessage
    lost: StoredMessage | None = None


class LateAnswers(Protocol):
    """Answers that were told as not stored yet by a gateway that was fenced before it could store them."""

    async def put(
        self, answer: StoredMessage, *, prompt_id: int, used: UsageRow | None, sent: SentTurn | None
    ) -> StoredLate | None:
        """Store the answer of a turn that another gateway has ended meanwhile, once; return it as it is stored.

        An end of the same turn that was stored as lost, with a part of this text, gives way to it in one step: number, place
        and pin stay. Beside any other end it is stored as a further message. `used` is added to the day's usage with it.
        `None` says that another gateway is still ending the turn, or changes its end now: try again.

        Raises:
            UnknownSession: Its conversation is gone.
            UnknownMessage: Its question, message `prompt_id`, is gone; 0 where the question is not the turn's own.
            StoreFailed: The store takes nothing.
        """
        ...
