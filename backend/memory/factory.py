"""Which conversation store a home uses: the file in its folder, or the Redis server its settings name.

Redis's library is imported only where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from urllib.parse import urlsplit

from backend.config import ConfigError, Settings
from backend.home import Home, write_private
from backend.memory.errors import StoreFailed
from backend.memory.sqlite.store import SqliteStore
from backend.memory.store import MemoryStore

PASSWORD_VARIABLE = "TEKTON_REDIS_PASSWORD"


def choose_store(
    home: Home, settings: Settings, environment: Mapping[str, str], *, place: int = 1
) -> MemoryStore:
    """Return the store, not yet opened; `place` counts the gateways of the home, 1 the first.

    Raises:
        ConfigError: `memory.store` is no address of a Redis server, or holds its password.
        StoreFailed: The library for Redis is not installed.
    """
    url = settings.memory.store
    if not url:
        return SqliteStore(home.database)
    check_address(url)
    try:
        from backend.memory.redis.connection import Address
        from backend.memory.redis.store import RedisStore
    except ModuleNotFoundError as error:
        raise StoreFailed(
            f"memory.store names a Redis server, but {error.name} is not installed: pip install 'tekton-tui[redis]'"
        ) from error
    address = Address(url, environment.get(PASSWORD_VARIABLE, ""))
    fleet = gateway_name(home)
    name = fleet if place == 1 else f"{fleet}.{place}"
    return RedisStore(address, name, fleet=fleet, volatile=settings.memory.volatile_store)


def check_address(url: str) -> None:
    """Raises `ConfigError` unless the URL is `redis://` or `rediss://HOST[:PORT][/DATABASE]` without a secret."""
    wanted = "expected redis://HOST:PORT/DATABASE, or rediss:// for TLS"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"memory.store: {wanted}; found one whose port is no number") from error
    if parts.password is not None:
        raise ConfigError(
            "memory.store: the address holds a password, which would be seen in process lists and logs; "
            f"put it into {PASSWORD_VARIABLE} (environment or .env.tekton) and leave it out here"
        )
    database = parts.path.strip("/")
    good = parts.scheme in ("redis", "rediss") and parts.hostname and (not database or database.isdecimal())
    if not good or port == 0 or parts.query or parts.fragment:
        raise ConfigError(f"memory.store: {wanted}; found {url!r}")


def gateway_name(home: Home) -> str:
    """Return the name of this home's gateway, made at the first call and kept."""
    path = home.state / "gateway_name"
    if not path.exists():
        write_private(path, f"g-{token_hex(8)}\n".encode())
    return path.read_text(encoding="utf-8").strip()
