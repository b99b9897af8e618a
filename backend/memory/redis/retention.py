"""What becomes of old rows in Redis: messages deleted, sessions packed and removed, the error log and the usage cut.

Works in small steps, so that appends never wait long. A removal that a crash cut short is finished at the next `open` or
`retain`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from backend.memory.errors import StoreFailed, UnknownSession
from backend.memory.records import BOOKED_DAYS, DAY_S, Retention, RetentionReport
from backend.memory.redis import scripts, sent
from backend.memory.redis.connection import RedisConnection
from backend.memory.redis.index import words_of
from backend.memory.redis.layout import PREFIX, packed, read_messages, sessions_by_id
from backend.memory.redis.tool_calls import delete_old
from backend.memory.redis.turns import decode_turn
from backend.schema.records import StoredMessage

log = logging.getLogger(__name__)

STEP_ROWS = 200
"""Rows read, deleted or packed in one trip."""


async def retain(connection: RedisConnection, ages: Retention, now: float) -> RetentionReport:
    """Delete and pack what is older than its age. The server gives memory back by itself."""
    report = RetentionReport()
    await finish_removals(connection)
    if ages.messages_days:
        before = now - ages.messages_days * DAY_S
        busy = await _busy_sessions(connection)
        passed = 0
        while found := await _delete_messages(connection, before, busy, passed):
            gone, kept = found
            report.messages_deleted, passed = report.messages_deleted + gone, passed + kept
        report.sessions_deleted = await _delete_empty_sessions(connection, before, busy)
        await sent.forget_before(connection, before)
    if ages.compress_after_days:
        before = now - ages.compress_after_days * DAY_S
        while (saved := await _pack_next(connection, before)) is not None:
            report.bytes_packed += saved
            report.sessions_packed += 1
    for days, unseen in ((ages.errors_days, False), (ages.unseen_errors_days, True)):
        if days:
            report.errors_deleted += await _delete_errors(connection, now - days * DAY_S, unseen=unseen)
    if ages.usage_days:
        day = time.strftime("%Y-%m-%d", time.localtime(now - ages.usage_days * DAY_S))
        report.usage_deleted = await _delete_usage(connection, day)
    if ages.tool_calls_days:
        report.tool_calls_deleted = await delete_old(connection, now - ages.tool_calls_days * DAY_S)
    before = repr(now - BOOKED_DAYS * DAY_S)
    # The names go, the usage stays: it was added to the day's figures when the turn was booked.
    await connection.call("ZREMRANGEBYSCORE", f"{PREFIX}booked", "-inf", f"({before}")
    return report


async def delete_session(connection: RedisConnection, session_id: str) -> None:
    """Remove a session: first from sight, in one step, then its messages. Raises `UnknownSession`."""
    if not await connection.run(scripts.REMOVE_SESSION, PREFIX, session_id, ""):
        raise UnknownSession(session_id)
    try:
        await _drop_messages(connection, session_id)
    except StoreFailed:  # the session is gone for everybody; its messages go with the next retention or start
        log.exception("the messages of the deleted session %s are left for later", session_id)


async def finish_removals(connection: RedisConnection) -> None:
    """Drop what is left of sessions whose removal was cut short."""
    for session_id in await connection.call("HKEYS", f"{PREFIX}dying"):
        await _drop_messages(connection, session_id.decode())


async def _busy_sessions(connection: RedisConnection) -> set[str]:
    """Return the sessions in which any gateway is being answered, or a question waits: nothing of them goes."""
    found, cursor = set[str](), b"0"
    while True:
        cursor, names = await connection.call("SCAN", cursor, "MATCH", f"{PREFIX}turns:*", "COUNT", 1_000)
        for name in names:
            # Of every gateway, not of this one alone: each keeps its open turns under a key of its own.
            found |= {decode_turn(row).session_id for row in await connection.call("HVALS", name)}
        if int(cursor) == 0:
            return found


async def _delete_messages(
    connection: RedisConnection, before: float, busy: set[str], passed: int
) -> tuple[int, int] | None:
    """Delete up to `STEP_ROWS` unpinned messages older than `before`, but for those of `busy` sessions.

    The first `passed` are known to stay. Returns how many went and how many were passed over, `None` behind the last.
    """
    limit = ("BYSCORE", "LIMIT", passed, STEP_ROWS)
    ids = await connection.call("ZRANGE", f"{PREFIX}time", "-inf", f"({before!r}", *limit)
    if not ids:
        return None
    old = await read_messages(connection, ids)
    there = await sessions_by_id(connection, [message.session_id for message in old])
    # a message whose session is being removed by someone else goes with it
    gone = [m for m in old if m.session_id in there and m.session_id not in busy]
    owners = {session_id: session.owner for session_id, session in there.items()}
    went = await drop(connection, gone, owners)
    # with nothing deleted and nobody busy the rest is being removed by others: going on would not end
    return (went, len(ids) - went) if busy or went else None


async def _delete_empty_sessions(connection: RedisConnection, before: float, busy: set[str]) -> int:
    """Delete the sessions that held only what was deleted; default sessions stay. Returns how many went."""
    members = await connection.call("ZRANGE", f"{PREFIX}sessions", "-inf", f"({before!r}", "BYSCORE")
    gone = 0
    for member in members:
        session_id = member.decode().partition(":")[2]
        if session_id in busy:
            continue
        if await connection.run(scripts.REMOVE_SESSION, PREFIX, session_id, repr(before)):
            await _drop_messages(connection, session_id)
            gone += 1
    return gone


async def _pack_next(connection: RedisConnection, before: float) -> int | None:
    """Pack the messages of one session untouched since `before`; return bytes saved, `None` when none is left."""
    limit = ("BYSCORE", "LIMIT", 0, 1)
    names = await connection.call("ZRANGE", f"{PREFIX}unpacked", "-inf", f"({before!r}", *limit)
    if not names:
        return None
    session_id = names[0].decode()
    # from here on a new message marks the session as unpacked again
    await connection.call("ZREM", f"{PREFIX}unpacked", session_id)
    saved, after = 0, "-inf"
    limit = ("BYSCORE", "LIMIT", 0, STEP_ROWS)
    while ids := await connection.call("ZRANGE", f"{PREFIX}sm:{session_id}", after, "+inf", *limit):
        saved += await _pack(connection, ids)
        after = f"({int(ids[-1])}"
    return saved


async def _delete_errors(connection: RedisConnection, before: float, *, unseen: bool) -> int:
    """Delete the errors that happened last before a time, acknowledged ones or the others; return how many went."""
    gone = kept = 0
    while members := await connection.call(
        "ZRANGE", f"{PREFIX}errors", "-inf", f"({before!r}", "BYSCORE", "LIMIT", kept, STEP_ROWS
    ):
        commands = [
            connection.script(scripts.DROP_ERROR, PREFIX, int(member), int(unseen)) for member in members
        ]
        dropped = sum(int(answer) for answer in await connection.batch(commands))
        gone, kept = gone + dropped, kept + len(members) - dropped
    return gone


async def _delete_usage(connection: RedisConnection, before_day: str) -> int:
    """Delete the usage of the days before a day; return how many rows went."""
    names = await connection.call("ZRANGE", f"{PREFIX}usage", "-", f"({before_day}", "BYLEX")
    await connection.batch(
        [
            command
            for name in names
            for command in (("DEL", f"{PREFIX}u:".encode() + name), ("ZREM", f"{PREFIX}usage", name))
        ]
    )
    return len(names)


async def _pack(connection: RedisConnection, ids: Sequence[bytes]) -> int:
    blobs = await connection.call("HMGET", f"{PREFIX}m", *ids)
    pairs = [
        (number, blob, smaller)
        for number, blob in zip(ids, blobs, strict=True)
        if blob is not None and (smaller := packed(blob)) is not blob
    ]
    await connection.batch(
        [connection.script(scripts.REPACK, PREFIX, number, smaller) for number, _, smaller in pairs]
    )
    return sum(len(blob) - len(smaller) for _, blob, smaller in pairs)


async def _drop_messages(connection: RedisConnection, session_id: str) -> None:
    owner = await connection.call("HGET", f"{PREFIX}dying", session_id)
    if owner is None:
        return
    while ids := await connection.call("ZRANGE", f"{PREFIX}sm:{session_id}", 0, STEP_ROWS - 1):
        gone = await read_messages(connection, ids)
        await drop(connection, gone, {session_id: owner.decode()})
        await connection.call("ZREM", f"{PREFIX}sm:{session_id}", *ids)
    await sent.forget(connection, session_id)
    await connection.run(scripts.FORGET_SESSION, PREFIX, session_id)


async def drop(connection: RedisConnection, gone: Sequence[StoredMessage], owners: dict[str, str]) -> int:
    """Remove messages from everywhere; return how many were still there."""
    commands = [
        connection.script(
            scripts.DROP,
            PREFIX,
            message.id,
            message.session_id,
            owners[message.session_id],
            message.author,
            message.request_id,
            *words_of(message),
        )
        for message in gone
    ]
    return sum(int(answer) for answer in await connection.batch(commands))
