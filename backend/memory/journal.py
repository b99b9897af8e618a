"""What gateways that share a store may ask of it besides memory: an order of events, leases, claims.

A store kept by one gateway alone has none. Knows no command of any server and no meaning of an event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from backend.memory.faults import StoreFailed
from backend.memory.store import OpenTurn


class Fenced(StoreFailed):
    """This gateway was declared dead by another one: it may write nothing any more."""


class ForeignEpoch(StoreFailed):
    """The numbers in force are of another epoch, or the server forgot some it had given out."""


class Member(Struct, frozen=True):
    """A gateway of the fleet. `life` names this run of it; `leased` is false once it was silent for too long."""

    name: str
    life: str
    leased: bool
    facts: dict[str, object]


class Beat(Struct, frozen=True):
    """What a renewal of the lease tells. `buried` are `NAME LIFE` whose turns nobody has taken over yet."""

    leader: str
    epoch: str
    members: list[Member]
    buried: list[str]


class Entry(Struct, frozen=True):
    """One entry of the log: `count` events that end with number `seq`, or, with 0, a note between gateways."""

    id: str
    seq: int
    count: int
    origin: str
    data: bytes


class Journal(Protocol):
    """The shared log of one fleet and its gateways. `name` and `life` are this gateway's."""

    name: str
    life: str
    lease_s: float
    epoch: str
    first_seq: int
    """Newest number of the log as this gateway joined."""
    on_fenced: Callable[[], None] | None
    """Called once, when the store refused this gateway."""

    async def tell_facts(self, facts: dict[str, object]) -> None:
        """Say where this gateway serves."""
        ...

    async def beat(self) -> Beat:
        """Renew the lease. Raises `Fenced`."""
        ...

    async def leave(self) -> None: ...

    async def bury(self, member: Member) -> bool:
        """Declare a gateway dead whose lease ran out; return whether it was this call that did."""
        ...

    async def inherit(self, buried: str) -> list[OpenTurn] | None:
        """Cut a buried gateway off and take over its open turns; `None` when another one did."""
        ...

    async def append(self, batch: int, known: int, count: int, data: bytes) -> int:
        """Append an entry with the next `count` numbers and return the newest; the same batch is appended once.

        Raises:
            Fenced: This gateway is buried.
            ForeignEpoch: See there.
            StoreFailed: The server cannot be reached; whether it was appended is not known.
        """
        ...

    async def read(self, after: str, *, wait_s: float) -> list[Entry]:
        """Return entries behind an id (`0-0`: from the beginning), waiting for the first one."""
        ...

    async def holds(self, entry: Entry) -> bool:
        """Return whether the log still is the one this entry was read from; false when it was lost and begun anew."""
        ...

    async def rotate(self, known: int) -> str:
        """End the epoch, if it is still ours, and return the one in force."""
        ...

    async def claim(self, request_id: str) -> str:
        """Return the life that has this request id: ours, unless another one was first."""
        ...

    async def claimed(self, request_id: str) -> str:
        """Return the life that has this request id, empty when nobody has."""
        ...
