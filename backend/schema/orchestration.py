"""The orchestration settings an operator may change at run time: whom `@auto` asks, how teams are moderated."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Mode = Literal["pass_through", "synthesis", "consensus", "directed"]
Style = Literal["collaborative", "directive", "autonomous"]
Strategy = Literal["round-robin", "all", "best"]
Concurrency = Annotated[int, Meta(ge=1, le=1000)]


class RoutingRule(Struct, forbid_unknown_fields=True):
    """Requests whose text matches `pattern` (a regular expression of RE2, case ignored) go to these specialists."""

    pattern: str
    specialists: list[str]
    strategy: Strategy = "best"


class TimeoutSettings(Struct, forbid_unknown_fields=True):
    """Seconds a member of a team has for its answer."""

    default: Annotated[float, Meta(gt=0)] = 180.0
    per_specialist: dict[str, Annotated[float, Meta(gt=0)]] = {}


class TimeoutChanges(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Changes to `TimeoutSettings`; what is left unset stays as it is."""

    default: Annotated[float, Meta(gt=0)] | UnsetType = UNSET
    per_specialist: dict[str, Annotated[float, Meta(gt=0)]] | UnsetType = UNSET


class OrchestrationSettings(Struct, forbid_unknown_fields=True):
    """How requests are led: whom `@auto` asks, how teams are moderated, how many work at once."""

    orchestration_mode: Style = "collaborative"
    max_concurrent_specialists: Concurrency = 20
    routing_rules: list[RoutingRule] = []
    timeouts: TimeoutSettings = msgspec.field(default_factory=TimeoutSettings)
    moderation_mode: Mode = "pass_through"

    def timeout_for(self, ai_id: str) -> float:
        """Return the seconds one specialist has."""
        per = self.timeouts.per_specialist
        return per.get(ai_id, per.get(ai_id.removesuffix("-ai"), self.timeouts.default))


class OrchestrationChanges(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Changes to `OrchestrationSettings`; what is left unset stays as it is."""

    orchestration_mode: Style | UnsetType = UNSET
    max_concurrent_specialists: Concurrency | UnsetType = UNSET
    routing_rules: list[RoutingRule] | UnsetType = UNSET
    timeouts: TimeoutChanges | UnsetType = UNSET
    moderation_mode: Mode | UnsetType = UNSET
