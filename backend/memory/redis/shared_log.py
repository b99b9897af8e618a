"""The shared log of a fleet in Redis: its gateways, their leases and the one log of events.

Every connection made here and in the store begins by asking whether this incarnation is still listed, so a fenced
gateway cannot write by any of them. Knows no event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from secrets import token_hex
from typing import Any, cast

import msgspec
from redis.exceptions import RedisError

from backend.memory.errors import StoreFailed
from backend.memory.records import OpenTurn
from backend.memory.redis import shared_log_scripts as scripts
from backend.memory.redis.connection import (
    Address,
    FencedOff,
    NotListed,
    RedisConnection,
    connect,
    store_failed,
)
from backend.memory.redis.layout import PREFIX
from backend.memory.redis.turns import decode_turn, turns_key
from backend.memory.shared_log import Entry, EpochChanged, Fenced, Member, Renewal

LEASE_S = 4.0
"""A gateway that is silent for longer may be fenced by the others."""
KEPT_EVENTS = 65_536
"""Events that the log keeps for gateways that read behind."""
CLAIM_S = 86_400
"""How long a request id belongs to the gateway that took it first, seconds."""
READ_AT_ONCE = 256
_SCRIPTS = [value for name, value in vars(scripts).items() if name.isupper()]
_decode_facts = msgspec.json.Decoder(dict[str, object]).decode


class RedisSharedLog:
    """One gateway's access to the shared log of its fleet. `join` before use, `leave` after."""

    def __init__(self, address: Address, fleet: str, name: str, *, lease_s: float = LEASE_S) -> None:
        self.name, self.incarnation, self.lease_s = name, token_hex(8), lease_s
        self.epoch, self.first_seq = "", 0
        self.on_fenced: Callable[[bool], None] | None = None
        self.on_forgotten: Callable[[], None] | None = None
        self._address = address
        self._keys = fleet_keys(fleet)
        self._lease: RedisConnection | None = None
        self._writer: RedisConnection | None = None
        self._reader = connect(address, name=self.client_name, on_connect=self.check_listed)
        self._facts: dict[str, object] = {}
        self._was_fenced = False

    @property
    def client_name(self) -> str:
        """Name of our connections at the server; whoever fences us cuts them by it."""
        return f"tekton:{self.incarnation}"

    async def check_listed(self, connection: Any) -> None:
        """Set up a new connection; refuse it when the server no longer lists this incarnation.

        A server that forgot it, and was not told that it is dead, lists it again with the next renewal of the lease.
        """
        await connection.on_connect()
        await connection.send_command("HGET", f"{self._keys}incarnations", self.name)
        listed = await connection.read_response()
        if listed == self.incarnation.encode():
            return
        await connection.send_command("EXISTS", f"{self._keys}dead:{self.incarnation}")
        if listed is None and not await connection.read_response():
            raise NotListed("the server has forgotten this gateway; it is listed again in a moment")
        self._notify_fenced(listed is not None)
        raise FencedOff("this gateway was silent for longer than its lease and was fenced")

    async def join(self) -> None:
        """Enter the fleet, in place of an earlier incarnation of the same name."""
        self._lease = RedisConnection(self._address, _SCRIPTS)
        answer = await self._lease.run(
            scripts.JOIN,
            self._keys,
            self.name,
            self.incarnation,
            msgspec.json.encode({"incarnation": self.incarnation}),
            int(self.lease_s * 1000),
            token_hex(8),
        )
        self.epoch, self.first_seq = answer[0].decode(), int(answer[1])
        self._writer = RedisConnection(
            self._address, _SCRIPTS, name=self.client_name, on_connect=self.check_listed
        )

    async def publish_facts(self, facts: dict[str, object]) -> None:
        self._facts = facts
        await _made(self._writer).call("HSET", f"{self._keys}members", self.name, msgspec.json.encode(facts))

    async def renew_lease(self) -> Renewal:
        connection = _made(self._lease)
        answer = await connection.run(
            scripts.RENEW_LEASE,
            self._keys,
            self.name,
            self.incarnation,
            int(self.lease_s * 1000),
            msgspec.json.encode(self._facts or {"incarnation": self.incarnation}),
            token_hex(8),
        )
        if len(answer) == 1:
            self._notify_fenced(bool(answer[0]))
            raise Fenced("this gateway was silent for longer than its lease and was fenced")
        leader, epoch, flat, fenced, again = answer
        if again and self.on_forgotten is not None:
            self.on_forgotten()
        members = [
            Member(name.decode(), incarnation.decode(), leased == b"1", _decode_facts(facts))
            for name, incarnation, leased, facts in zip(
                flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True
            )
        ]
        entries = [entry.decode() for entry in fenced]
        return Renewal(leader.decode(), epoch.decode(), members, entries, bool(again))

    async def leave(self) -> None:
        """Leave in order, and disconnect. Safe to call twice."""
        lease, writer, self._lease, self._writer = self._lease, self._writer, None, None
        if writer is not None:
            await writer.close()
        if lease is not None:
            with contextlib.suppress(StoreFailed):  # the lease runs out by itself
                await lease.run(scripts.LEAVE, self._keys, self.name, self.incarnation)
            await lease.close()
        await self._reader.aclose()

    async def fence(self, member: Member) -> bool:
        connection = _made(self._writer)
        return bool(
            await connection.run(scripts.FENCE, self._keys, member.name, member.incarnation, self.name)
        )

    async def take_over(self, fenced: str) -> list[OpenTurn] | None:
        name, _, incarnation = fenced.rpartition(" ")
        connection = _made(self._writer)
        # Its connections first: what they still have under way must not arrive after its turns were taken over.
        listed = await connection.call("CLIENT", "LIST")
        for line in listed.decode("utf-8", "replace").splitlines():
            facts = dict(part.partition("=")[::2] for part in line.split(" "))
            if facts.get("name") == f"tekton:{incarnation}":
                await connection.call("CLIENT", "KILL", "ID", facts["id"])
        answer = await connection.run(
            scripts.TAKE_OVER, self._keys, fenced, turns_key(name), turns_key(self.name)
        )
        if not answer[0]:
            return None
        return sorted((decode_turn(row) for row in answer[1][1::2]), key=lambda turn: turn.opened_at)

    async def append(self, batch: int, known: int, count: int, data: bytes) -> int:
        connection = _made(self._writer)
        origin = f"{self.name} {self.incarnation}"
        answer = await connection.run(
            scripts.APPEND,
            self._keys,
            self.incarnation,
            batch,
            self.epoch,
            known,
            count,
            KEPT_EVENTS,
            origin,
            data,
        )
        if answer[0] < 0:
            raise EpochChanged("the numbers of events begin anew: the store holds another epoch")
        return int(answer[0])

    async def read(self, after: str, *, wait_s: float) -> list[Entry]:
        try:
            answer: Any = await cast(Any, self._reader).execute_command(
                "XREAD",
                "COUNT",
                READ_AT_ONCE,
                "BLOCK",
                int(wait_s * 1000),
                "STREAMS",
                f"{self._keys}events",
                after,
            )
        except (RedisError, OSError, TimeoutError) as error:
            raise store_failed(error, self._address) from error
        if not answer:
            return []
        return [_entry(number, fields) for number, fields in answer[0][1]]

    async def contains(self, entry: Entry) -> bool:
        connection = _made(self._writer)
        events = f"{self._keys}events"
        found, first = await connection.batch(
            [("XRANGE", events, entry.id, entry.id), ("XRANGE", events, "-", "+", "COUNT", 1)]
        )
        if found:
            return _entry(*found[0]) == entry
        # the old end is cut off as the log grows
        return bool(first) and _entry(*first[0]).seq > entry.seq

    async def rotate_epoch(self, known: int) -> str:
        connection = _made(self._writer)
        answer = await connection.run(scripts.ROTATE, self._keys, self.epoch, token_hex(8), known)
        return answer.decode()

    async def claim(self, request_id: str) -> str:
        connection = _made(self._writer)
        answer = await connection.run(scripts.CLAIM, self._keys, request_id, self.incarnation, CLAIM_S)
        return answer.decode()

    async def claimant(self, request_id: str) -> str:
        answer = await _made(self._writer).call("GET", f"{self._keys}req:{request_id}")
        return (answer or b"").decode()

    def _notify_fenced(self, replaced: bool) -> None:
        if not self._was_fenced:
            self._was_fenced = True
            if self.on_fenced is not None:
                asyncio.get_running_loop().call_soon(self.on_fenced, replaced)


def fleet_keys(fleet: str) -> str:
    """Return what the keys of a fleet begin with."""
    return f"{PREFIX}fleet:{fleet}:"


def _entry(number: bytes, fields: list[bytes]) -> Entry:
    text = number.decode()
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    return Entry(text, int(text.partition("-")[0]), int(named[b"n"]), named[b"o"].decode(), named[b"d"])


def _made(connection: RedisConnection | None) -> RedisConnection:
    if connection is None:
        raise StoreFailed("this gateway has left its fleet")
    return connection
