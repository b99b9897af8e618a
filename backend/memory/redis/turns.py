"""The open turns and the usage of ended ones in Redis."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from backend.memory.records import OpenTurn
from backend.memory.redis import scripts
from backend.memory.redis.connection import RedisConnections
from backend.memory.redis.layout import PREFIX
from backend.memory.values import storable, storable_usage
from backend.schema.records import UsageRow

_PARTS = "\x1f"
"""Between the parts of a row's name; sorts below every character that can be printed."""
_FIGURES = ("tokens_in", "tokens_out", "cost", "turns", "unpriced")
decode_turn = msgspec.json.Decoder(OpenTurn).decode


class RedisTurns:
    """A `TurnStore` in Redis. Open turns are kept under the gateway that runs them: others leave them alone."""

    def __init__(self, connections: RedisConnections, gateway: str) -> None:
        self._connections, self._key = connections, turns_key(gateway)

    async def begin(self, request_id: str, ai_id: str, session_id: str) -> None:
        turn = OpenTurn(request_id, ai_id, session_id, time.time())
        await self._connections.writer.call("HSET", self._key, request_id, encoded_turn(turn))

    async def wait(self, opens: Mapping[str, str], session_id: str, question: str) -> None:
        now, waiting = time.time(), storable(question)
        words = [
            word
            for request_id, ai_id in opens.items()
            for word in (request_id, encoded_turn(OpenTurn(request_id, ai_id, session_id, now, waiting)))
        ]
        await self._connections.writer.call("HSET", self._key, *words)

    async def end(self, *request_ids: str) -> None:
        await self._connections.writer.call("HDEL", self._key, *request_ids)

    async def book(self, name: str, used: UsageRow | None) -> bool:
        words = usage_words(used) if used is not None else ()
        return bool(await self._connections.writer.run(scripts.BOOK, PREFIX, name, repr(time.time()), *words))

    async def unfinished(self) -> list[OpenTurn]:
        rows = await self._connections.reader.call("HVALS", self._key)
        return sorted(map(decode_turn, rows), key=lambda turn: turn.opened_at)

    async def usage(self, day: str | None = None, *, since: str | None = None) -> list[UsageRow]:
        connection = self._connections.reader
        low = "-" if day is None and since is None else f"[{max(day or '', since or '')}"
        # a name is the day and U+001F and more: a space sorts behind all of the day and before the next
        high = "+" if day is None else f"({day}\x20"
        names = [
            name.decode() for name in await connection.call("ZRANGE", f"{PREFIX}usage", low, high, "BYLEX")
        ]
        rows = await connection.batch([("HMGET", f"{PREFIX}u:{name}", *_FIGURES) for name in names])
        return [_usage(name, row) for name, row in zip(names, rows, strict=True)]


def encoded_turn(turn: OpenTurn) -> str:
    return msgspec.json.encode(turn).decode()


def turns_key(gateway: str) -> str:
    """Return the key of a gateway's open turns."""
    return f"{PREFIX}turns:{gateway}"


def usage_words(row: UsageRow) -> tuple[str, ...]:
    """Return a row as the scripts take it: its name (day, specialist, provider, model, currency), then its figures."""
    row = storable_usage(row)
    name = _PARTS.join((row.day, row.ai_id, row.provider, row.model, row.currency))
    return (name, str(row.tokens_in), str(row.tokens_out), repr(row.cost), str(row.turns), str(row.unpriced))


def _usage(name: str, row: list[bytes]) -> UsageRow:
    # rows of before the fifth part had no currency and were shown as dollars
    day, ai_id, provider, model, currency = [*name.split(_PARTS), "USD"][:5]
    tokens_in, tokens_out, cost, turns, unpriced = row
    return UsageRow(
        day, ai_id, provider, model, currency,
        int(tokens_in), int(tokens_out), float(cost), int(turns), int(unpriced),
    )  # fmt: skip
