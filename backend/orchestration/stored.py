"""Values read back from the store: one that cannot be understood is set aside, never a reason to stop."""

from __future__ import annotations

import logging
from typing import Any, TypeVar

import msgspec

from backend.memory import SettingStore
from backend.orchestration.error_log import ErrorLog

log = logging.getLogger(__name__)

T = TypeVar("T")
SET_ASIDE = "set-aside:"
"""Before the key of a value that could not be read; what was there is kept under it."""


class Stored:
    """Small values in the store, read as the types they were written as."""

    def __init__(self, store: SettingStore, error_log: ErrorLog) -> None:
        self._store, self._error_log = store, error_log

    async def get(self, key: str, kind: type[T]) -> T | None:
        """Return a value, `None` when nothing is stored under the key or it cannot be read as this type.

        What cannot be read is kept under `set-aside:KEY` and entered in the error log.
        """
        value = await self._store.get(key)
        if value is None:
            return None
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            await self._set_aside(key, value, str(error))
            return None

    async def put(self, key: str, value: Any) -> None:
        """Keep a value, `None` to forget the key."""
        await self._store.put(key, msgspec.to_builtins(value))

    async def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with a prefix, in order."""
        return list(await self._store.with_prefix(prefix))

    async def _set_aside(self, key: str, value: Any, why: str) -> None:
        log.error("the stored value %r cannot be read: %s", key, why)
        self._error_log.record(
            "memory",
            "internal",
            f"what was stored as {key!r} cannot be read ({why}); it is set aside as {SET_ASIDE + key!r}",
        )
        await self._store.put(SET_ASIDE + key, value)
        await self._store.put(key, None)
