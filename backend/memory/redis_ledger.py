"""The error ledger, the usage counters, the settings and the open turns in Redis.

Every function works through the lane it is given.
"""

from __future__ import annotations

from typing import Any

import msgspec

from backend.memory import redis_scripts as scripts
from backend.memory.ledger import EVIDENCE_CHARS, MESSAGE_CHARS
from backend.memory.redis_link import RedisLane
from backend.memory.redis_sessions import PREFIX
from backend.memory.store import OpenTurn, UsageRow
from backend.memory.texts import storable
from backend.schema.records import ErrorRecord

_PARTS = "\x1f"
_FIELDS = ("id where code message first last count phase evidence request_id acknowledged").split()
_PAGE = 200


async def record_error(lane: RedisLane, failure: ErrorRecord) -> ErrorRecord:
    """Store a failure, or count it on the equal record nobody has acknowledged. Of evidence, the end is kept."""
    message = storable(failure.message[:MESSAGE_CHARS])
    command = lane.script(
        scripts.RECORD_ERROR,
        PREFIX,
        _PARTS.join((failure.where, failure.code, message)),
        repr(failure.first),
        failure.where,
        failure.code,
        message,
        failure.phase,
        storable(failure.evidence[-EVIDENCE_CHARS:]),
        failure.request_id,
    )
    flat = await lane.call(*command)
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return _as_record([fields[name.encode()] for name in _FIELDS])


async def errors(lane: RedisLane, unacknowledged: bool, where: str | None, limit: int) -> list[ErrorRecord]:
    """Return records, newest first."""
    key = f"{PREFIX}errors" if where is None else f"{PREFIX}errors:{where}"
    found: list[ErrorRecord] = []
    start = 0
    while len(found) < limit:
        members = await lane.call("ZRANGE", key, start, start + _PAGE - 1, "REV")
        if not members:
            break
        rows = await lane.batch([("HMGET", f"{PREFIX}e:{int(member)}", *_FIELDS) for member in members])
        records = [_as_record(row) for row in rows if row[0] is not None]
        found += [record for record in records if not (unacknowledged and record.acknowledged)]
        start += _PAGE
    return found[:limit]


async def acknowledge(lane: RedisLane, ids: list[int] | None, at: float) -> list[int]:
    """Mark the records and return the ids newly marked, in order."""
    which: list[str | int] = ["all"] if ids is None else sorted(set(ids))
    if not which:
        return []
    return [
        int(number) for number in await lane.call(*lane.script(scripts.ACKNOWLEDGE, PREFIX, repr(at), *which))
    ]


async def unacknowledged(lane: RedisLane) -> int:
    return int(await lane.call("HLEN", f"{PREFIX}open_errors"))


async def add_usage(lane: RedisLane, row: UsageRow) -> None:
    """Add figures to their row."""
    await lane.call(*lane.script(scripts.ADD_USAGE, PREFIX, *usage_words(row)))


def usage_words(row: UsageRow) -> tuple[str, ...]:
    """Return a row as the scripts take it: its name, which is day, specialist, provider, model, currency; figures."""
    name = _PARTS.join((row.day, row.ai_id, row.provider, row.model, row.currency))
    return (name, str(row.tokens_in), str(row.tokens_out), repr(row.cost), str(row.turns), str(row.unpriced))


def turns_key(gateway: str) -> str:
    """Return where the open turns of a gateway lie."""
    return f"{PREFIX}turns:{gateway}"


async def usage(lane: RedisLane, day: str | None, since: str | None) -> list[UsageRow]:
    low = "-" if day is None and since is None else f"[{max(day or '', since or '')}"
    high = "+" if day is None else f"({day}\x20"
    names = [name.decode() for name in await lane.call("ZRANGE", f"{PREFIX}usage", low, high, "BYLEX")]
    fields = ("tokens_in", "tokens_out", "cost", "turns", "unpriced")
    rows = await lane.batch([("HMGET", f"{PREFIX}u:{name}", *fields) for name in names])
    return [_as_usage(name, row) for name, row in zip(names, rows, strict=True)]


async def get_setting(lane: RedisLane, key: str) -> Any:
    value = await lane.call("HGET", f"{PREFIX}settings", key)
    return None if value is None else msgspec.json.decode(value)


async def put_setting(lane: RedisLane, key: str, value: bytes | None) -> None:
    """Keep JSON text under the key; `None` removes it."""
    if value is None:
        await lane.call("HDEL", f"{PREFIX}settings", key)
    else:
        await lane.call("HSET", f"{PREFIX}settings", key, value)


async def settings(lane: RedisLane, prefix: str) -> dict[str, Any]:
    keys = sorted(key.decode() for key in await lane.call("HKEYS", f"{PREFIX}settings"))
    wanted = [key for key in keys if key.startswith(prefix)]
    if not wanted:
        return {}
    values = await lane.call("HMGET", f"{PREFIX}settings", *wanted)
    pairs = zip(wanted, values, strict=True)
    return {key: msgspec.json.decode(value) for key, value in pairs if value is not None}


async def turn_opened(lane: RedisLane, gateway: str, turn: OpenTurn) -> None:
    """Note a turn under the gateway that runs it: another one on the same store leaves it alone."""
    await lane.call("HSET", turns_key(gateway), turn.request_id, msgspec.json.encode(turn))


async def turn_closed(lane: RedisLane, gateway: str, request_id: str) -> None:
    await lane.call("HDEL", turns_key(gateway), request_id)


async def open_turns(lane: RedisLane, gateway: str) -> list[OpenTurn]:
    """Return the turns this gateway began and did not end, oldest first."""
    rows = await lane.call("HVALS", turns_key(gateway))
    return sorted((_decode_turn(row) for row in rows), key=lambda turn: turn.opened_at)


_decode_turn = msgspec.json.Decoder(OpenTurn).decode


def _as_usage(name: str, row: list[bytes]) -> UsageRow:
    day, ai_id, provider, model, *currency = name.split(_PARTS)
    tokens_in, tokens_out, cost, turns, unpriced = row
    paid_in = currency[0] if currency else "USD"  # rows of before said none and were shown as dollars
    return UsageRow(
        day, ai_id, provider, model, paid_in,
        int(tokens_in), int(tokens_out), float(cost), int(turns), int(unpriced),
    )  # fmt: skip


def _as_record(row: list[bytes]) -> ErrorRecord:
    number, where, code, message, first, last, count, phase, evidence, request_id, acknowledged = (
        value.decode() for value in row
    )
    return ErrorRecord(
        int(number),
        where,
        code,
        message,
        float(first),
        float(last),
        int(count),
        phase,
        evidence,
        request_id,
        float(acknowledged),
    )
