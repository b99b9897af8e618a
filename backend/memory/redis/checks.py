"""Whether a Redis server can be trusted with conversations: version, persistence, eviction. Asked once, at start."""

from __future__ import annotations

from backend.memory.errors import StoreFailed
from backend.memory.redis.connection import RedisConnection
from backend.memory.redis.layout import PREFIX

OLDEST_SERVER = (7, 0)
LAYOUT = b"2"
"""Version of the keys in `scripts`; what is indexed has a version of its own."""
EARLIER = b"1"
"""A layout that differs by its index alone, which is made anew in any case."""


async def check(connection: RedisConnection, shown: str, *, volatile: bool) -> str:
    """Return in words what the server keeps when it dies.

    With `volatile` a server that keeps nothing on disk is taken, because the operator said so.

    Raises:
        StoreFailed: The server is too old, may throw conversations away, or holds those of a newer version.
    """
    facts = _read(await connection.call("INFO"))
    version = facts.get("redis_version", "0.0")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
        raise StoreFailed(f"Redis at {shown} is version {version}; 7.0 or newer is needed.")
    policy = facts.get("maxmemory_policy", "noeviction")
    if facts.get("maxmemory", "0") != "0" and policy != "noeviction":
        raise StoreFailed(
            f"Redis at {shown} throws keys away when its memory is full (maxmemory-policy {policy}): conversations "
            "would vanish. Set `maxmemory-policy noeviction` there, or name another server."
        )
    if facts.get("aof_enabled") != "1" and not volatile:
        raise StoreFailed(
            f"Redis at {shown} does not write each change to disk (appendonly no): its end would lose messages. "
            "Set `appendonly yes` and `appendfsync always` there, or set memory.volatile_store = true in config.toml "
            "to accept the loss."
        )
    await _check_layout(connection, shown)
    return await _durability(connection, facts)


async def _check_layout(connection: RedisConnection, shown: str) -> None:
    await connection.call("SETNX", f"{PREFIX}layout", LAYOUT)
    found = await connection.call("GET", f"{PREFIX}layout")
    if found == EARLIER:
        await connection.call("SET", f"{PREFIX}layout", LAYOUT)
    elif found != LAYOUT:
        raise StoreFailed(
            f"The conversations in Redis at {shown} have layout {found.decode('utf-8', 'replace')}, this program "
            f"knows layout {LAYOUT.decode()}. Install the newer version of tekton-tui, or name another database."
        )


async def _durability(connection: RedisConnection, facts: dict[str, str]) -> str:
    if facts.get("aof_enabled") != "1":
        return "keeps nothing on disk but snapshots: its end loses messages"
    try:
        answer = await connection.call("CONFIG", "GET", "appendfsync")
    except StoreFailed:  # a hosted server may not let itself be asked
        return "writes each change to disk; how soon is not known"
    fsync = answer[1].decode() if answer else "unknown"
    if fsync == "always":
        return "has each change on disk before it confirms it"
    return f"may lose its last two seconds when it dies (appendfsync {fsync}; `always` loses nothing)"


def _read(info: bytes) -> dict[str, str]:
    lines = info.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
