"""What old conversations become in Redis: deleted past the retention, packed when long untouched.

Works in small steps, so that appends never wait long. A removal cut short by a crash is finished at the next `open`.
"""

from __future__ import annotations

from collections.abc import Sequence

from backend.memory import redis_messages as messages
from backend.memory import redis_scripts as scripts
from backend.memory import redis_sessions as sessions
from backend.memory.faults import no_session
from backend.memory.redis_link import RedisLane
from backend.memory.redis_sessions import PREFIX
from backend.schema.records import StoredMessage

STEP_MESSAGES = 200
"""Messages deleted or packed in one trip."""


async def delete_session(lane: RedisLane, session_id: str) -> None:
    """Remove a session: first from sight, in one step, then its messages. Raises `UnknownSession`."""
    if not await lane.call(*lane.script(scripts.REMOVE_SESSION, PREFIX, session_id, "")):
        raise no_session(session_id)
    await _bury(lane, session_id)


async def finish_removals(lane: RedisLane) -> None:
    """Drop what is left of sessions whose removal was cut short."""
    for session_id in await lane.call("HKEYS", f"{PREFIX}dying"):
        await _bury(lane, session_id.decode())


async def delete_some(lane: RedisLane, before: float) -> int:
    """Delete up to `STEP_MESSAGES` unpinned messages older than `before`; return how many went."""
    limit = ("BYSCORE", "LIMIT", 0, STEP_MESSAGES)
    ids = await lane.call("ZRANGE", f"{PREFIX}time", "-inf", f"({before!r}", *limit)
    old = await messages.read(lane, ids)
    there = await sessions.titles(lane, [message.session_id for message in old])
    # a message whose session is being removed by someone else goes with it
    gone = [message for message in old if message.session_id in there]
    owners = {session_id: session.owner for session_id, session in there.items()}
    return await _drop(lane, gone, owners)


async def delete_empty_sessions(lane: RedisLane, before: float) -> int:
    """Delete the sessions that held only what was deleted; default sessions stay. Returns how many went."""
    members = await lane.call("ZRANGE", f"{PREFIX}sessions", "-inf", f"({before!r}", "BYSCORE")
    gone = 0
    for member in members:
        session_id = member.decode().partition(":")[2]
        command = lane.script(scripts.REMOVE_SESSION, PREFIX, session_id, repr(before))
        if await lane.call(*command):
            await _bury(lane, session_id)
            gone += 1
    return gone


async def pack_next(lane: RedisLane, before: float) -> int | None:
    """Pack the messages of one session untouched since `before`; return bytes saved, `None` when none is left."""
    limit = ("BYSCORE", "LIMIT", 0, 1)
    names = await lane.call("ZRANGE", f"{PREFIX}unpacked", "-inf", f"({before!r}", *limit)
    if not names:
        return None
    session_id = names[0].decode()
    # from here on a new message marks the session as unpacked again
    await lane.call("ZREM", f"{PREFIX}unpacked", session_id)
    saved, after = 0, "-inf"
    limit = ("BYSCORE", "LIMIT", 0, STEP_MESSAGES)
    while ids := await lane.call("ZRANGE", f"{PREFIX}sm:{session_id}", after, "+inf", *limit):
        saved += await _pack(lane, ids)
        after = f"({int(ids[-1])}"
    return saved


async def _pack(lane: RedisLane, ids: Sequence[bytes]) -> int:
    blobs = await lane.call("HMGET", f"{PREFIX}m", *ids)
    pairs = [
        (number, blob, smaller)
        for number, blob in zip(ids, blobs, strict=True)
        if blob is not None and (smaller := messages.packed(blob)) is not blob
    ]
    await lane.batch([lane.script(scripts.REPACK, PREFIX, number, smaller) for number, _, smaller in pairs])
    return sum(len(blob) - len(smaller) for _, blob, smaller in pairs)


async def _bury(lane: RedisLane, session_id: str) -> None:
    owner = await lane.call("HGET", f"{PREFIX}dying", session_id)
    if owner is None:
        return
    while ids := await lane.call("ZRANGE", f"{PREFIX}sm:{session_id}", 0, STEP_MESSAGES - 1):
        gone = await messages.read(lane, ids)
        await _drop(lane, gone, {session_id: owner.decode()})
        await lane.call("ZREM", f"{PREFIX}sm:{session_id}", *ids)
    await lane.call(*lane.script(scripts.BURY, PREFIX, session_id))


async def _drop(lane: RedisLane, gone: Sequence[StoredMessage], owners: dict[str, str]) -> int:
    commands = [messages.drop(lane, message, owners[message.session_id]) for message in gone]
    return sum(int(answer) for answer in await lane.batch(commands))
