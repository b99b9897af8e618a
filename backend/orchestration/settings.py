"""Rhetor's settings: a validated schema that persists and takes effect at once."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from backend.memory import MemoryStore
from backend.orchestration.action import InvalidRequest, explain

SETTINGS_KEY = "orchestration"

Mode = Literal["pass_through", "synthesis", "consensus", "directed"]
Style = Literal["collaborative", "directive", "autonomous"]
Strategy = Literal["round-robin", "all", "best"]


class RoutingRule(Struct, forbid_unknown_fields=True):
    """Requests whose text matches `pattern` (a regular expression, case ignored) go to these specialists."""

    pattern: str
    specialists: list[str]
    strategy: Strategy = "best"


class TimeoutSettings(Struct, forbid_unknown_fields=True):
    """Seconds a member of a team has for its answer."""

    default: Annotated[float, Meta(gt=0)] = 180.0
    per_specialist: dict[str, Annotated[float, Meta(gt=0)]] = {}


class OrchestrationSettings(Struct, forbid_unknown_fields=True):
    """How Rhetor leads: whom `@auto` asks, how teams are moderated, how many work at once."""

    orchestration_mode: Style = "collaborative"
    max_concurrent_specialists: Annotated[int, Meta(ge=1, le=1000)] = 20
    routing_rules: list[RoutingRule] = []
    timeouts: TimeoutSettings = msgspec.field(default_factory=TimeoutSettings)
    moderation_mode: Mode = "pass_through"

    def timeout_for(self, ai_id: str) -> float:
        """Return the seconds one specialist has."""
        per = self.timeouts.per_specialist
        return per.get(ai_id, per.get(ai_id.removesuffix("-ai"), self.timeouts.default))


class SettingsBook:
    """The settings in force, and the change of them. `pending` holds a change kept for the next start."""

    def __init__(self, memory: MemoryStore) -> None:
        self._memory = memory
        self.current = OrchestrationSettings()

    async def open(self) -> None:
        stored = await self._memory.get_setting(SETTINGS_KEY)
        if stored is not None:
            self.current = msgspec.convert(stored, OrchestrationSettings)

    async def change(
        self, changes: dict[str, Any], *, apply_immediately: bool = True
    ) -> OrchestrationSettings:
        """Merge changes into the settings, persist them and return what is stored.

        With `apply_immediately` false they take effect at the next start of the backend.

        Raises:
            InvalidRequest: A key is unknown or a value wrong; nothing was changed.
        """
        merged = {**msgspec.to_builtins(self.current), **changes}
        try:
            settings = msgspec.convert(merged, OrchestrationSettings)
        except msgspec.ValidationError as error:
            raise InvalidRequest(explain("configure_orchestration", str(error))) from error
        for rule in settings.routing_rules:
            _check(rule)
        await self._memory.put_setting(SETTINGS_KEY, msgspec.to_builtins(settings))
        if apply_immediately:
            self.current = settings
        return settings


def _check(rule: RoutingRule) -> None:
    try:
        re.compile(rule.pattern)
    except re.error as error:
        raise InvalidRequest(
            f"routing_rules: the pattern {rule.pattern!r} is not a regular expression: {error}"
        ) from error
    if not rule.specialists:
        raise InvalidRequest(f"routing_rules: the rule {rule.pattern!r} names no specialist")
