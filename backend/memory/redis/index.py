"""The inverted index of messages in Redis: a set of message ids for each stem, and a list of all words with their stems.

A plain Redis server has no full-text search. The sets meet in the server; a word that is not yet written to its end stands
for the words of the list that begin with it. An index of an earlier version is made anew in slices, newest messages first,
while the store serves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from backend.memory.redis import scripts
from backend.memory.redis.connection import RedisConnection, RedisConnections
from backend.memory.redis.layout import PREFIX, read_messages, sessions_by_id
from backend.memory.terms import INDEX_VERSION, Group, Key, index_words
from backend.schema.records import Session, StoredMessage

MAX_LOOKED_AT = 5_000
"""So many of the newest messages with the rarest word are compared with the other words, in the server."""
MAX_EXPANSIONS = 200
"""The beginning of a word stands for so many words."""
INDEXED_AT_ONCE = 200


class RedisIndex:
    """A `MessageIndex` in Redis."""

    def __init__(self, connections: RedisConnections) -> None:
        self._connections = connections

    async def newest(
        self,
        groups: Sequence[Group],
        *,
        limit: int,
        before_id: int | None = None,
        owners: Sequence[str] = (),
        session_id: str = "",
        without_session: str = "",
    ) -> tuple[list[int], bool]:
        connection = self._connections.search
        sets: list[list[str]] = []
        complete = await connection.call("EXISTS", f"{PREFIX}indexed_from") == 0
        for group in groups:
            stems, all_of_them = await _stems(connection, group)
            complete = complete and all_of_them
            sets.append([scripts.stems + stem for stem in stems])
        if owners:
            sets.append([f"om:{owner}" for owner in owners])
        if session_id:
            sets.append([f"sm:{session_id}"])
        *found, looked_at_all = await connection.run(
            scripts.FIND,
            PREFIX,
            msgspec.json.encode(sets),
            limit + 1,
            MAX_LOOKED_AT,
            f"({before_id}" if before_id is not None else "+inf",
            f"sm:{without_session}" if without_session else "",
        )
        return [int(number) for number in found[:limit]], bool(
            complete and looked_at_all and len(found) <= limit
        )

    async def messages(self, ids: Sequence[int]) -> list[StoredMessage]:
        return await read_messages(self._connections.search, ids)

    async def sessions(self, ids: Iterable[str]) -> dict[str, Session]:
        return await sessions_by_id(self._connections.search, ids)

    async def total(self) -> int:
        return int(await self._connections.search.call("HLEN", f"{PREFIX}m"))


def words_of(message: StoredMessage) -> list[str]:
    """Return the words of a message as the scripts take them: `WORD STEM`."""
    return [f"{word} {stem}" for word, stem in index_words(message.content).items()]


async def prepare(connection: RedisConnection) -> bool:
    """Begin to make the index anew if it is of another version; return whether older messages are to be indexed."""
    return bool(await connection.run(scripts.BEGIN_INDEX, PREFIX, INDEX_VERSION))


async def remove_earlier(connection: RedisConnection) -> None:
    """Remove the sets of stems of other versions."""
    cursor = b"0"
    while True:
        cursor, keys = await connection.call("SCAN", cursor, "MATCH", f"{PREFIX}w*:*", "COUNT", 1_000)
        ours = f"{PREFIX}{scripts.stems}".encode()
        if earlier := [key for key in keys if not key.startswith(ours)]:
            await connection.call("UNLINK", *earlier)
        if cursor == b"0":
            return


async def index_older(connection: RedisConnection) -> bool:
    """Index some of the newest messages that are not indexed yet; return whether there are more.

    Any number of gateways may do this at the same time: a slice that two have done is done once.
    """
    start = await connection.call("GET", f"{PREFIX}indexed_from")
    if start is None:
        return False
    before = int(start)
    # newest first: a search in the middle of it goes on from the oldest id it found
    ids = list(range(before - 1, max(0, before - 1 - INDEXED_AT_ONCE), -1))
    commands = [
        connection.script(scripts.INDEX, PREFIX, message.id, *words_of(message))
        for message in await read_messages(connection, ids)
    ]
    await connection.batch(commands)
    return bool(await connection.run(scripts.INDEXED, PREFIX, before, ids[-1] if ids and ids[-1] > 1 else 0))


async def _stems(connection: RedisConnection, group: Group) -> tuple[list[str], bool]:
    """Return the stems that a message must have one of, and whether the words that begin like a key are all there."""
    stems = dict.fromkeys(key.text for key in group if not key.prefix)
    complete = True
    for key in group:
        if key.prefix:
            words = await _words(connection, key)
            complete = complete and len(words) <= MAX_EXPANSIONS
            stems.update(dict.fromkeys(word.partition(" ")[2] for word in words[:MAX_EXPANSIONS]))
    return list(stems), complete


async def _words(connection: RedisConnection, key: Key) -> list[str]:
    low = key.text.encode()
    # 0xff is no byte of UTF-8: all words that begin so sort before it
    found = await connection.call(
        "ZRANGE", f"{PREFIX}words", b"[" + low, b"(" + low + b"\xff", "BYLEX", "LIMIT", 0, MAX_EXPANSIONS + 1
    )
    return [word.decode() for word in found]
