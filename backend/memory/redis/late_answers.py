"""Answers of a gateway that was fenced before it could store them: each takes the place of the end others gave its turn."""

from __future__ import annotations

import msgspec

from backend.memory.errors import UnknownMessage
from backend.memory.redis import scripts
from backend.memory.redis import sent as sent_turns
from backend.memory.redis.connection import RedisConnections
from backend.memory.redis.index import words_of
from backend.memory.redis.layout import PREFIX, get_session, read_messages
from backend.memory.redis.messages import RedisMessages
from backend.memory.redis.shared_log import fleet_keys
from backend.memory.redis.turns import turns_key, usage_words
from backend.memory.shared_log import StoredLate
from backend.memory.values import PREVIEW_CHARS, one_line, storable_message
from backend.schema.records import StoredMessage, UsageRow
from backend.schema.sent import SentTurn


class RedisLateAnswers:
    """A `LateAnswers` in Redis, of the gateway of this name."""

    def __init__(
        self, connections: RedisConnections, messages: RedisMessages, fleet: str, gateway: str
    ) -> None:
        self._connections, self._messages = connections, messages
        self._keys, self._gateway = fleet_keys(fleet), gateway

    async def put(
        self, answer: StoredMessage, *, prompt_id: int, used: UsageRow | None, sent: SentTurn | None
    ) -> StoredLate | None:
        connection, given = self._connections.writer, storable_message(answer)
        await get_session(connection, given.session_id)
        if prompt_id and not await connection.call("HEXISTS", f"{PREFIX}m", prompt_id):
            raise UnknownMessage(prompt_id)
        if await self._is_open_elsewhere(given.request_id):
            return None
        ids = await connection.call("ZRANGE", f"{PREFIX}r:{given.request_id}", 0, -1)
        # Before they are decoded: what is replaced must be the very bytes that were looked at.
        blobs = await connection.batch([("HGET", f"{PREFIX}m", number) for number in ids])
        ends = {
            message.id: message
            for message in await read_messages(connection, ids)
            if (message.author, message.session_id) == (given.author, given.session_id)
        }
        same = [end for end in ends.values() if _says(end) == _says(given)]
        if same:
            return StoredLate(same[-1])
        if not ends:
            return StoredLate(await self._messages.append(given, ends_turn=True, used=used, sent=sent))
        lost = [
            end
            for end in ends.values()
            if end.error_code == "backend_lost" and given.content.startswith(end.content)
        ]
        if not lost:
            return StoredLate(await self._messages.append(given, used=used, sent=sent))
        blob = next(blob for number, blob in zip(ids, blobs, strict=True) if int(number) == lost[-1].id)
        return await self._replace(lost[-1], blob, given, used, sent)

    async def _replace(
        self,
        end: StoredMessage,
        blob: bytes | None,
        given: StoredMessage,
        used: UsageRow | None,
        sent: SentTurn | None,
    ) -> StoredLate | None:
        connection = self._connections.writer
        given.created_at = end.created_at  # its age is kept beside it, too
        if sent is not None:
            await sent_turns.put(connection, sent)
        words = words_of(given)
        gone = sorted({*words_of(end)}.difference(words))
        replaced = await connection.run(
            scripts.REPLACE,
            PREFIX,
            end.id,
            given.session_id,
            blob or b"",
            msgspec.json.encode(given),
            one_line(given.content, PREVIEW_CHARS),
            *(usage_words(used) if used is not None else ("",) * 6),
            len(gone),
            *gone,
            *words,
        )
        if not replaced:
            return None
        given.id, given.pinned = end.id, end.pinned
        return StoredLate(given, end)

    async def _is_open_elsewhere(self, request_id: str) -> bool:
        """Return whether another gateway has taken a turn over, or has one of this name, and has not ended it yet."""
        connection = self._connections.writer
        listed, fenced = await connection.batch(
            [("HKEYS", f"{self._keys}incarnations"), ("SMEMBERS", f"{self._keys}fenced")]
        )
        names = {name.decode() for name in listed} | {entry.decode().rpartition(" ")[0] for entry in fenced}
        others = sorted(names - {self._gateway})
        return any(await connection.batch([("HEXISTS", turns_key(name), request_id) for name in others]))


def _says(message: StoredMessage) -> tuple[object, ...]:
    return message.content, message.error_code, message.finish_reason
