"""Messages in Redis: appended, read in windows, pinned, found."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from backend.memory.errors import UnknownMessage, UnknownSession
from backend.memory.records import YOU, Conversation, OpenTurn
from backend.memory.redis import retention, scripts
from backend.memory.redis import sent as sent_turns
from backend.memory.redis.connection import RedisConnection, RedisConnections
from backend.memory.redis.index import RedisIndex, words_of
from backend.memory.redis.layout import (
    PREFIX,
    folded_title,
    get_session,
    read_messages,
    sessions_by_id,
)
from backend.memory.redis.turns import encoded_turn, turns_key, usage_words
from backend.memory.search import Searched
from backend.memory.values import (
    PREVIEW_CHARS,
    auto_title,
    check_integers,
    one_line,
    storable_message,
)
from backend.schema.records import StoredMessage, UsageRow
from backend.schema.sent import SentTurn


class RedisMessages(Searched):
    """A `MessageStore` in Redis. `gateway` is the one whose open turns are closed with their answers."""

    def __init__(self, connections: RedisConnections, gateway: str) -> None:
        self._connections, self._turns_key = connections, turns_key(gateway)
        index = RedisIndex(connections)
        super().__init__(index, index)

    async def append(
        self,
        message: StoredMessage,
        *,
        opens: Mapping[str, str] | None = None,
        ends_turn: bool = False,
        used: UsageRow | None = None,
        sent: SentTurn | None = None,
    ) -> StoredMessage:
        given = storable_message(message)
        opened = [
            text
            for request_id, ai_id in (opens or {}).items()
            for text in (request_id, encoded_turn(OpenTurn(request_id, ai_id, given.session_id, time.time())))
        ]
        title = auto_title(given)
        if sent is not None:  # before the answer: one whose commit fails is given again
            await sent_turns.put(self._connections.writer, sent)
        # One script, so that answer, end of the turn, usage and index are kept together or not at all.
        number = await self._connections.writer.run(
            scripts.APPEND,
            PREFIX,
            given.session_id,
            msgspec.json.encode(given),
            given.author,
            repr(given.created_at),
            given.request_id,
            str(int(given.pinned)),
            one_line(given.content, PREVIEW_CHARS),
            title,
            self._turns_key if ends_turn or opened else "",
            msgspec.json.encode(opened) if opened else "",
            *(usage_words(used) if used is not None else ("",) * 6),
            folded_title(title),
            *words_of(given),
        )
        # What was sent lies under the turn's name by now; without its session nobody would ever forget it.
        if not number:
            if sent is not None:
                await sent_turns.forget_turn(self._connections.writer, given.request_id)
            raise UnknownSession(given.session_id)
        given.id = int(number)
        return given

    async def read(
        self, session_id: str, *, before_id: int | None = None, after_id: int | None = None, limit: int = 50
    ) -> list[StoredMessage]:
        check_integers(before_id=before_id, after_id=after_id, limit=limit)
        connection = self._connections.reader
        await get_session(connection, session_id)
        low = "-inf" if after_id is None else f"({after_id}"
        high = "+inf" if before_id is None else f"({before_id}"
        key, page = f"{PREFIX}sm:{session_id}", ("LIMIT", 0, limit)
        if after_id is not None:
            ids = await connection.call("ZRANGE", key, low, high, "BYSCORE", *page)
        else:
            ids = (await connection.call("ZRANGE", key, high, low, "BYSCORE", "REV", *page))[::-1]
        return await read_messages(connection, ids)

    async def of_request(self, request_id: str) -> list[StoredMessage]:
        connection = self._connections.reader
        if not request_id:
            return []
        return await read_messages(
            connection, await connection.call("ZRANGE", f"{PREFIX}r:{request_id}", 0, -1)
        )

    async def forget(self, request_id: str) -> int:
        connection = self._connections.writer
        found = await self.of_request(request_id)
        # Of a session that is being removed the messages go with it: dropped here too, its count would be
        # wrong.
        there = await sessions_by_id(connection, [message.session_id for message in found])
        gone = [message for message in found if message.session_id in there]
        await retention.drop(connection, gone, {name: session.owner for name, session in there.items()})
        await sent_turns.forget_turn(connection, request_id)
        return len(gone)

    async def conversation(self, session_id: str, limit: int = 240, *, for_ai: str = "") -> Conversation:
        check_integers(limit=limit)
        connection = self._connections.reader
        session = await get_session(connection, session_id)
        keys = [f"{PREFIX}sm:{session_id}"]
        if for_ai:
            # A set for each author, so that in a team's session a specialist's own lines need not be looked for
            # among all.
            keys = [f"{PREFIX}sa:{session_id}:{author}" for author in dict.fromkeys((for_ai, YOU, "system"))]
        newest = await read_messages(connection, await _newest(connection, keys, limit))
        first = newest[0].id if newest else 0
        high = "+inf" if for_ai else f"({first}"
        older = await connection.call("ZRANGE", f"{PREFIX}sp:{session_id}", "-inf", high, "BYSCORE")
        authors = (for_ai, YOU, "system")
        pinned = [
            m for m in await read_messages(connection, older) if m.id < first or m.author not in authors
        ]
        earlier = 0
        if len(newest) == limit:
            earlier = sum([int(await connection.call("ZCOUNT", key, "-inf", f"({first}")) for key in keys])
        return Conversation(session, newest, pinned, earlier)

    async def pin(self, message_id: int, pinned: bool = True) -> StoredMessage:
        check_integers(message_id=message_id)
        connection = self._connections.writer
        found = await read_messages(connection, [message_id])
        # a message is gone with its session, though it may not be dropped yet
        if not found or not await sessions_by_id(connection, [found[0].session_id]):
            raise UnknownMessage(message_id)
        message = found[0]
        created = repr(message.created_at)
        if not await connection.run(
            scripts.PIN, PREFIX, message_id, message.session_id, str(int(pinned)), created
        ):
            raise UnknownMessage(message_id)
        message.pinned = pinned
        return message


async def _newest(connection: RedisConnection, keys: Sequence[str], limit: int) -> list[int]:
    """Return the newest ids of some sets together, oldest first."""
    if limit < 1:
        return []
    lists = await connection.batch([("ZRANGE", key, 0, limit - 1, "REV") for key in keys])
    return sorted({int(number) for ids in lists for number in ids})[-limit:]
