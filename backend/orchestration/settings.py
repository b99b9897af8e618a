"""The orchestration settings: a validated schema that persists and takes effect at once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
import re2
from msgspec import UNSET

from backend.orchestration.stored import Stored
from backend.schema.orchestration import (
    OrchestrationChanges,
    OrchestrationSettings,
    RoutingRule,
    TimeoutChanges,
)
from backend.schema.params import InvalidRequest

SETTINGS_KEY = "orchestration"


class OrchestrationSettingsStore:
    """The settings in force, and the change of them. `current` are those in force."""

    def __init__(self, store: Stored) -> None:
        self._store = store
        self.current = OrchestrationSettings()
        self._newest = self.current
        """What is stored: it may be for the next start only."""

    async def open(self) -> None:
        """Read what is stored; the defaults stand where that cannot be read."""
        self._newest = self.current = (
            await self._store.get(SETTINGS_KEY, OrchestrationSettings) or OrchestrationSettings()
        )

    async def change(
        self, changes: OrchestrationChanges, *, apply_immediately: bool = True
    ) -> OrchestrationSettings:
        """Merge changes into the settings, persist them and return what is stored.

        With `apply_immediately` false they take effect at the next start of the backend.

        Raises:
            InvalidRequest: A rule cannot be used; nothing was changed.
        """
        given = {n: v for n, v in msgspec.structs.asdict(changes).items() if v is not UNSET}
        if isinstance(timeouts := given.get("timeouts"), TimeoutChanges):
            seconds = {n: v for n, v in msgspec.structs.asdict(timeouts).items() if v is not UNSET}
            given["timeouts"] = msgspec.structs.replace(self._newest.timeouts, **seconds)
        settings = msgspec.structs.replace(self._newest, **given)
        for rule in settings.routing_rules:
            _check(rule)
        await self._store.put(SETTINGS_KEY, settings)
        self._newest = settings
        if apply_immediately:
            self.current = settings
        return settings


_re2: Any = re2  # it comes without types


def matches(rule: RoutingRule, text: str) -> bool:
    """Return whether a request is one that a rule is for, in a time that grows with the text only.

    Raises:
        InvalidRequest: Its pattern, stored by an earlier version, cannot be used any more.
    """
    return bool(_compiled(rule.pattern).search(text))


@lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> Any:
    options = _re2.Options()
    options.case_sensitive, options.log_errors = False, False
    try:
        return _re2.compile(pattern, options)
    except _re2.error as error:
        why = error.args[0].decode("utf-8", "replace") if error.args else "not understood"
        text = f"routing_rules: the pattern {pattern!r} cannot be used: {why} (look-around and back-references cannot)"
        raise InvalidRequest(text) from error


def _check(rule: RoutingRule) -> None:
    _compiled(rule.pattern)
    if not rule.specialists:
        raise InvalidRequest(f"routing_rules: the rule {rule.pattern!r} names no specialist")
