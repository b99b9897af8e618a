"""The journal of a fleet in Redis: its gateways, their leases and the one log of events they share.

Every connection made here and in the store begins by asking whether this life is still listed: a gateway that was
declared dead finds each door closed. Knows no event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from secrets import token_hex
from typing import Any

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from backend.memory import redis_journal_scripts as scripts
from backend.memory.faults import StoreFailed
from backend.memory.journal import Beat, Entry, Fenced, ForeignEpoch, Member
from backend.memory.redis_link import Address, RedisLane, connect, store_failed
from backend.memory.redis_sessions import PREFIX
from backend.memory.store import OpenTurn

LEASE_S = 4.0
KEPT_EVENTS = 65_536
CLAIM_S = 86_400
READ_AT_ONCE = 256
_SCRIPTS = [value for name, value in vars(scripts).items() if name.isupper()]
_decode_turn = msgspec.json.Decoder(OpenTurn).decode
_decode_facts = msgspec.json.Decoder(dict[str, object]).decode


class Refused(RedisConnectionError):
    """The server no longer lists this gateway."""


class RedisJournal:
    """One gateway's part of a fleet's journal. `join` before use, `leave` and `close` after."""

    def __init__(self, address: Address, fleet: str, name: str, *, lease_s: float = LEASE_S) -> None:
        self.name, self.life, self.lease_s = name, token_hex(8), lease_s
        self.epoch, self.first_seq = "", 0
        self.on_fenced: Callable[[], None] | None = None
        self._address = address
        self._keys = f"{PREFIX}fleet:{fleet}:"
        self._door: RedisLane | None = None
        self._pen: RedisLane | None = None
        self._eye = connect(address, name=self.client_name, greeting=self.greet)
        self._facts: dict[str, object] = {}
        self._refused = False

    @property
    def client_name(self) -> str:
        """What our connections are called at the server: whoever declares us dead cuts them by it."""
        return f"tekton:{self.life}"

    async def greet(self, connection: Any) -> None:
        """Say who connects, and go away if the server no longer lists us."""
        await connection.on_connect()
        await connection.send_command("HGET", f"{self._keys}lives", self.name)
        if await connection.read_response() != self.life.encode():
            self._tell_fenced()
            raise Refused("this gateway was silent for longer than its lease and was declared dead")

    async def join(self) -> None:
        """Enter the fleet, in place of an earlier life of the same name."""
        self._door = RedisLane(self._address, _SCRIPTS)
        answer = await self._door.call(
            *self._door.script(
                scripts.JOIN,
                self._keys,
                self.name,
                self.life,
                msgspec.json.encode({"life": self.life}),
                int(self.lease_s * 1000),
                token_hex(8),
            )
        )
        self.epoch, self.first_seq = answer[0].decode(), int(answer[1])
        self._pen = RedisLane(self._address, _SCRIPTS, name=self.client_name, greeting=self.greet)

    async def tell_facts(self, facts: dict[str, object]) -> None:
        await _made(self._pen).call("HSET", f"{self._keys}members", self.name, msgspec.json.encode(facts))

    async def beat(self) -> Beat:
        lane = _made(self._door)
        answer = await lane.call(
            *lane.script(scripts.BEAT, self._keys, self.name, self.life, int(self.lease_s * 1000))
        )
        if not answer:
            self._tell_fenced()
            raise Fenced("this gateway was silent for longer than its lease and was declared dead")
        leader, epoch, flat, buried = answer
        members = [
            Member(name.decode(), life.decode(), leased == b"1", _decode_facts(facts))
            for name, life, leased, facts in zip(flat[::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
        ]
        return Beat(leader.decode(), epoch.decode(), members, [entry.decode() for entry in buried])

    async def leave(self) -> None:
        """Leave in order, and disconnect. Safe to call twice."""
        door, pen, self._door, self._pen = self._door, self._pen, None, None
        if pen is not None:
            await pen.close()
        if door is not None:
            with contextlib.suppress(StoreFailed):  # the lease runs out by itself
                await door.call(*door.script(scripts.LEAVE, self._keys, self.name, self.life))
            await door.close()
        await self._eye.aclose()

    async def bury(self, member: Member) -> bool:
        lane = _made(self._pen)
        return bool(
            await lane.call(*lane.script(scripts.BURY, self._keys, member.name, member.life, self.name))
        )

    async def inherit(self, buried: str) -> list[OpenTurn] | None:
        name, _, life = buried.rpartition(" ")
        lane = _made(self._pen)
        listed = await lane.call("CLIENT", "LIST")
        for line in listed.decode("utf-8", "replace").splitlines():
            facts = dict(part.partition("=")[::2] for part in line.split(" "))
            if facts.get("name") == f"tekton:{life}":
                await lane.call("CLIENT", "KILL", "ID", facts["id"])
        answer = await lane.call(
            *lane.script(
                scripts.INHERIT, self._keys, buried, f"{PREFIX}turns:{name}", f"{PREFIX}turns:{self.name}"
            )
        )
        if not answer[0]:
            return None
        return sorted((_decode_turn(row) for row in answer[1][1::2]), key=lambda turn: turn.opened_at)

    async def append(self, batch: int, known: int, count: int, data: bytes) -> int:
        lane = _made(self._pen)
        origin = f"{self.name} {self.life}"
        answer = await lane.call(
            *lane.script(
                scripts.APPEND,
                self._keys,
                self.life,
                batch,
                self.epoch,
                known,
                count,
                KEPT_EVENTS,
                origin,
                data,
            )
        )
        if answer[0] < 0:
            raise ForeignEpoch("the numbers of events begin anew: the store holds another epoch")
        return int(answer[0])

    async def read(self, after: str, *, wait_s: float) -> list[Entry]:
        try:
            answer = await self._eye.execute_command(
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

    async def holds(self, entry: Entry) -> bool:
        lane = _made(self._pen)
        events = f"{self._keys}events"
        found, first = await lane.batch(
            [("XRANGE", events, entry.id, entry.id), ("XRANGE", events, "-", "+", "COUNT", 1)]
        )
        if found:
            return _entry(*found[0]) == entry
        return bool(first) and _entry(*first[0]).seq > entry.seq  # the old end is cut off as the log grows

    async def rotate(self, known: int) -> str:
        lane = _made(self._pen)
        answer = await lane.call(*lane.script(scripts.ROTATE, self._keys, self.epoch, token_hex(8), known))
        return answer.decode()

    async def claim(self, request_id: str) -> str:
        lane = _made(self._pen)
        answer = await lane.call(*lane.script(scripts.CLAIM, self._keys, request_id, self.life, CLAIM_S))
        return answer.decode()

    async def claimed(self, request_id: str) -> str:
        answer = await _made(self._pen).call("GET", f"{self._keys}req:{request_id}")
        return (answer or b"").decode()

    def _tell_fenced(self) -> None:
        if not self._refused:
            self._refused = True
            if self.on_fenced is not None:
                asyncio.get_running_loop().call_soon(self.on_fenced)


def _entry(number: bytes, fields: list[bytes]) -> Entry:
    text = number.decode()
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    return Entry(text, int(text.partition("-")[0]), int(named[b"n"]), named[b"o"].decode(), named[b"d"])


def _made(lane: RedisLane | None) -> RedisLane:
    if lane is None:
        raise StoreFailed("this gateway has left its fleet")
    return lane
