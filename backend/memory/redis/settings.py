"""Settings in Redis: JSON text by key."""

from __future__ import annotations

from typing import Any

import msgspec

from backend.memory.redis.connection import RedisConnections
from backend.memory.redis.layout import PREFIX

_KEY = f"{PREFIX}settings"


class RedisSettings:
    """A `SettingStore` in Redis."""

    def __init__(self, connections: RedisConnections) -> None:
        self._connections = connections

    async def get(self, key: str) -> Any:
        value = await self._connections.reader.call("HGET", _KEY, key)
        return None if value is None else msgspec.json.decode(value)

    async def put(self, key: str, value: Any) -> None:
        if value is None:
            await self._connections.writer.call("HDEL", _KEY, key)
        else:
            await self._connections.writer.call("HSET", _KEY, key, msgspec.json.encode(value))

    async def with_prefix(self, prefix: str) -> dict[str, Any]:
        connection = self._connections.reader
        keys = sorted(key.decode() for key in await connection.call("HKEYS", _KEY))
        wanted = [key for key in keys if key.startswith(prefix)]
        values: list[bytes | None] = await connection.call("HMGET", _KEY, *wanted) if wanted else []
        pairs = zip(wanted, values, strict=True)
        return {key: msgspec.json.decode(value) for key, value in pairs if value is not None}
