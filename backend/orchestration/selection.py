"""Whom a free request goes to: the operator's rules first, then matching."""

from __future__ import annotations

from collections import Counter

from backend.catalog import Catalog
from backend.matching.matcher import Matcher
from backend.orchestration.settings import OrchestrationSettingsStore, matches
from backend.schema.errors import TektonError
from backend.schema.orchestration import OrchestrationSettings, RoutingRule
from backend.schema.records import SpecialistStatus
from backend.schema.results import MatchedSpecialist
from backend.schema.states import LIVE
from backend.specialists.supervisor import Supervisor

DIRECTED_MEMBERS = 3
"""How many specialists a directed team turn asks when no rule says otherwise."""
RULE_TEXT_CHARS = 256 * 1024
"""How much of a request the operator's patterns are tried on."""


class Selector:
    """Pick specialists for a request that names none."""

    def __init__(
        self, catalog: Catalog, fleet: Supervisor, matcher: Matcher, settings: OrchestrationSettingsStore
    ) -> None:
        self._catalog, self._fleet, self._matcher, self._settings = catalog, fleet, matcher, settings
        self._turns: Counter[str] = Counter()

    def renew(self, matcher: Matcher) -> None:
        """Match with another matcher from now on: the catalogue changed."""
        self._matcher = matcher

    def match(self, text: str, limit: int) -> list[MatchedSpecialist]:
        """Rank specialists for a request, live ones first among equals, each with its reasons."""
        return self._matcher.match(text, self._statuses(), limit)

    def pick(self, text: str) -> tuple[str, str]:
        """Return the one specialist for a request, and why.

        Raises:
            TektonError: Nobody suitable runs (`not_running`); the message names who would be.
        """
        if rule := self._rule_for(text):
            members = self._live(rule)
            chosen = members[self._turns[rule.pattern] % len(members)]
            self._turns[rule.pattern] += 1
            if rule.strategy == "best":
                chosen = self._best_of(members, text)
            return chosen, f"rule {rule.pattern!r}"
        matches = self.match(text, len(self._catalog.components))
        for match in matches:
            if match.available:
                return match.id, "; ".join(match.why)
        wished = matches[0].id.removesuffix("-ai") if matches else "a specialist"
        raise TektonError(f"nobody runs who could take this; launch {wished} first", code="not_running")

    def members(self, text: str) -> list[str]:
        """Return whom a directed team turn asks: all of a rule, or the best few that run."""
        if rule := self._rule_for(text):
            members = self._live(rule)
            return members if rule.strategy != "best" else [self._best_of(members, text)]
        live = [match.id for match in self.match(text, len(self._catalog.components)) if match.available]
        return live[:DIRECTED_MEMBERS]

    def _rule_for(self, text: str) -> RoutingRule | None:
        current: OrchestrationSettings = self._settings.current
        for rule in current.routing_rules:
            if matches(rule, text[:RULE_TEXT_CHARS]):
                return rule
        return None

    def _live(self, rule: RoutingRule) -> list[str]:
        statuses = self._statuses()
        ids = [component.id for component in self._catalog.expand(rule.specialists)]
        live = [ai_id for ai_id in ids if statuses[ai_id].state in LIVE]
        if not live:
            raise TektonError(
                f"the rule {rule.pattern!r} sends this to {', '.join(rule.specialists)}, and none of them runs",
                code="not_running",
            )
        return live

    def _best_of(self, members: list[str], text: str) -> str:
        ranked = [
            match.id for match in self.match(text, len(self._catalog.components)) if match.id in members
        ]
        return ranked[0] if ranked else members[0]

    def _statuses(self) -> dict[str, SpecialistStatus]:
        return {status.id: status for status in self._fleet.statuses()}
