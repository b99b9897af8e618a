"""The rules over tool calls: those of the configuration and of specialists' files, and those that people made.

Says what they come to for a call; asks nobody and runs nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

import msgspec

from backend.catalog import FILE, Catalog
from backend.config import ConfigError, Settings
from backend.config.settings import Rules
from backend.config.specialist_files import SKILL
from backend.orchestration.approvals.places import real_places
from backend.orchestration.approvals.rules import (
    NOWHERE_ELSE,
    ORDER,
    RuleError,
    decide,
    globs_for,
    narrowed,
    read_pattern,
    values_of,
    written,
)
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.stored import Stored
from backend.schema.errors import TektonError
from backend.schema.tools import AGENTS_SERVER, Ask, CallRules, Decision, Rule, Verdict

RULES_KEY = "tool-rules"
"""Under which the rules made from answers are stored."""
OWN = "tekton:"
"""The platform's own tools only read; they are allowed unless a rule says else."""


class Elsewhere(Protocol):
    """The other gateways of the fleet, which read the same store, and what waits for a person there."""

    @property
    def asks(self) -> list[Ask]:
        """What waits there, the oldest first."""
        ...

    async def watched(self, conversation: str) -> bool:
        """Return whether somebody who may answer reads what is asked there, or in that conversation."""
        ...

    def rules_changed(self) -> None:
        """Have the rules made from answers read again there."""
        ...


class RuleBook:
    """All rules in force. `elsewhere` returns the other gateways, `None` where this one is alone."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        stored: Stored,
        error_log: ErrorLog,
        elsewhere: Callable[[], Elsewhere | None],
    ) -> None:
        self._settings, self._catalog, self._stored, self._error_log = settings, catalog, stored, error_log
        self._elsewhere = elsewhere
        self._rules: list[Rule] = []
        self._changing = asyncio.Lock()
        self._own: dict[str, Rules] = {}
        """Rules of the specialists' own tables and files, by id."""
        tables = [("the platform", settings.rules), *settings.group_rules.items()]
        tables += [(name, row.rules) for name, row in settings.specialists.items() if row.rules is not None]
        for whose, table in tables:
            if wrong := _unreadable(table):
                raise ConfigError(f"{FILE}: {whose}: {wrong}") from wrong
        self.reconfigure(settings)

    async def read(self) -> None:
        """Read the rules made from answers: at the start, and when another gateway changed them."""
        self._rules = await self._stored.get(RULES_KEY, list[Rule]) or []

    def reconfigure(self, settings: Settings) -> None:
        """Take the rules of the specialists' tables and files as they are now; the catalogue has taken its own.

        A specialist whose rules cannot be read is denied every call. Of one that is configured no longer the rules stay:
        it may run on. A folder with a `SKILL.md` may come from anywhere: it allows nothing.
        """
        self._settings = settings
        known = self._catalog.components
        own = {ai_id: table for ai_id, table in self._own.items() if ai_id not in known}
        for name, row in settings.own_specialists.items():
            if row.rules is None or not (found := [one for one in known.values() if one.name == name]):
                continue
            ai_id, table = found[0].id, row.rules
            where = settings.files.where.get(name, FILE)
            if where.endswith(f"/{SKILL}"):
                table = msgspec.structs.replace(table, allow=[])
            if wrong := _unreadable(table):
                text = f"{where}: {wrong}. Every call of {name} is denied until that is corrected."
                self._error_log.record("specialists", "config_invalid", text)
                table = Rules(deny=["*"])
            own[ai_id] = table
        self._own = own

    @property
    def rules(self) -> list[Rule]:
        """All rules: those of the configuration and of specialists' files, then those made from answers."""
        groups = self._settings.group_rules.items()
        tables = [("", self._settings.rules), *groups, *self._own.items()]
        written: list[Rule] = []
        for scope, table in tables:
            for verdict in ORDER:
                written += [Rule(verdict, pattern, scope) for pattern in table.patterns(verdict)]
        return [*written, *self._rules]

    async def explain(
        self,
        tool: str,
        arguments: str,
        ai_id: str = "",
        session_id: str = "",
        narrower: CallRules | None = None,
    ) -> Decision:
        """Return what the rules say of a call, and which one; `narrower` are those that its question brought along."""
        rules, scopes, cwd = self.rules, self._scopes(ai_id, session_id), self._cwd_of(tool, ai_id)
        globs = globs_for([*rules, *written(narrower)], tool)

        def decided() -> Decision:
            elsewhere = cwd is not None and globs
            real = real_places(values_of(arguments), globs, cwd or "") if elsewhere else NOWHERE_ELSE
            decision = decide(rules, tool, arguments, scopes, default=self._default(tool), real=real)
            return narrowed(decision, narrower, tool, arguments, real)

        # links are looked up on a disk, and long arguments have many readings: neither on the event loop
        return await asyncio.to_thread(decided) if globs else decided()

    def _cwd_of(self, tool: str, ai_id: str) -> str | None:
        """Return where relative paths of a call begin, empty where that is not known; `None` for files of another machine."""
        name = tool.partition(":")[0]
        if name == AGENTS_SERVER:
            row = self._catalog.components.get(ai_id)
            return (row.cwd if row is not None else None) or ""
        server = self._settings.tools.get(name)
        return None if server is None or server.url else os.path.expanduser(server.cwd or "")

    def _scopes(self, ai_id: str, session_id: str) -> list[str]:
        groups = [name for name in self._catalog.groups if ai_id in self._members(name)] if ai_id else []
        return ["", *groups, *([ai_id] if ai_id else []), *([f"session/{session_id}"] if session_id else [])]

    def _members(self, group: str) -> list[str]:
        return [row.id for row in self._catalog.expand([group])]

    @staticmethod
    def _default(tool: str) -> Verdict:
        return "allow" if tool.startswith(OWN) else "ask"

    async def add(self, rule: Rule) -> Rule:
        """Keep a rule.

        Raises:
            RuleError: Its pattern cannot be read.
        """
        read_pattern(rule.pattern)

        def added(rules: list[Rule]) -> list[Rule]:
            rule.id = max((one.id for one in rules), default=0) + 1
            return [*rules, rule]

        await self._change(added)
        return rule

    async def remove(self, number: int) -> Rule:
        """Forget a rule made from an answer.

        Raises:
            TektonError: `not_found`.
        """
        removed: list[Rule] = []

        def without(rules: list[Rule]) -> list[Rule]:
            removed.extend(one for one in rules if one.id == number)
            return [one for one in rules if one.id != number]

        await self._change(without)
        if not removed:
            raise TektonError(f"there is no rule {number}; `tekton rules` lists them", code="not_found")
        return removed[0]

    async def _change(self, change: Callable[[list[Rule]], list[Rule]]) -> None:
        """Change the rules made from answers, one change after the other; one that is not stored is not in force."""
        async with self._changing:
            if self._elsewhere() is not None:  # another gateway may have changed them in this very moment
                await self.read()
            changed = change(self._rules)
            if changed == self._rules:
                return
            await self._stored.put(RULES_KEY, changed)
            self._rules = changed
        if (others := self._elsewhere()) is not None:
            others.rules_changed()


def _unreadable(table: Rules) -> RuleError | None:
    """Return what is wrong with the first pattern of a table that cannot be read."""
    for verdict in ORDER:
        for pattern in table.patterns(verdict):
            try:
                read_pattern(pattern)
            except RuleError as error:
                return RuleError(f"{verdict}: {error}")
    return None
