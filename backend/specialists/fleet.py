"""What the parts of the supervisor share: settings, rows, placements, links, the registry, the error ledger's door.

Holds and reaches; decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from backend.catalog import Catalog, Component
from backend.config import Settings
from backend.home import Home
from backend.registry.writer import RegistryWriter
from backend.schema.records import ProviderChoice, RegistryEntry, SpecialistStatus
from backend.specialists.board import Board
from backend.specialists.launcher import Launcher, Placement
from backend.specialists.link import CONNECT_TIMEOUT_S, Channel, Link
from backend.specialists.turnbook import TurnBook
from backend.tls import Trust, is_loopback


class RecordError(Protocol):
    """The ledger's door: a failure of `where` with a code and words."""

    def __call__(
        self,
        where: str,
        code: str,
        message: str,
        *,
        phase: str = "",
        evidence: str = "",
        request_id: str = "",
    ) -> None: ...


@dataclass
class Fleet:
    """One platform's specialists. `placements` are processes that live, `links` the ways to ask them."""

    home: Home
    settings: Settings
    catalog: Catalog
    environment: Mapping[str, str]
    choice: ProviderChoice
    board: Board
    turns: TurnBook
    registry: RegistryWriter
    launcher: Launcher
    record_error: RecordError
    token: str
    placements: dict[str, Placement] = field(default_factory=dict[str, Placement])
    links: dict[str, Channel] = field(default_factory=dict[str, Channel])
    choices: dict[str, ProviderChoice] = field(default_factory=dict[str, ProviderChoice])
    """Provider and model set by hand, by specialist; they outrank the configuration."""
    trust: Trust | None = None
    """Whom to believe beyond this machine; without it, links are not encrypted."""

    async def reach(self, ai_id: str, host: str, port: int, timeout_s: float = CONNECT_TIMEOUT_S) -> Link:
        """Open a link to a specialist. Raises `LinkBroken`."""
        trust = None if is_loopback(host) else self.trust
        return await Link.open(host, port, token=self.token, ai_id=ai_id, timeout_s=timeout_s, trust=trust)

    def component(self, ai_id: str) -> Component | None:
        """Return the catalogue's row; `None` for a worker that is no longer configured."""
        return self.catalog.components.get(ai_id)

    def choice_for(self, component: Component) -> ProviderChoice:
        """Return which provider and model a specialist uses, and why."""
        if set_by_hand := self.choices.get(component.id):
            return set_by_hand
        kind = component.provider or "auto"
        if kind in ("auto", self.choice.provider):
            return named(self.choice.provider, component.model or self.choice.model, self.choice.reason)
        return named(kind, component.model or self.default_model(kind), "named in the configuration")

    def default_model(self, kind: str) -> str:
        """Return the model a provider uses when none is named."""
        if kind == self.choice.provider:
            return self.choice.model
        if kind == "embedded":
            from backend.providers.weights import MODEL_NAME

            return MODEL_NAME
        return getattr(getattr(self.settings.providers, kind, None), "model", kind)


def named(provider: str, model: str, reason: str) -> ProviderChoice:
    """Return a choice with the model's display name."""
    from backend.providers.names import display_name

    return ProviderChoice(provider, model, reason, display_name(provider, model))


def new_row(component: Component, choice: ProviderChoice) -> SpecialistStatus:
    """Return the row of a specialist that does not run."""
    row = SpecialistStatus(
        id=component.id,
        name=component.name,
        title=component.title,
        component=component.name,
        since=time.time(),
        groups=list(component.groups),
        description=component.description,
        capabilities=list(component.capabilities),
        roles=list(component.roles),
        temperature=component.temperature,
        transport=component.transport,
        port=component.ai_port,
    )
    return msgspec.structs.replace(row, **choice_fields(choice))


def row_of_entry(ai_id: str, entry: RegistryEntry) -> SpecialistStatus:
    """Return the row of a worker that runs and is not, or no longer, in the catalogue."""
    return SpecialistStatus(
        id=ai_id,
        name=ai_id.removesuffix("-ai"),
        title="not configured any more",
        component=entry.component,
        since=time.time(),
        capabilities=list(entry.capabilities),
        provider=entry.provider,
        model=entry.model,
        transport=entry.transport,
        host=entry.host,
        port=entry.port,
    )


def choice_fields(choice: ProviderChoice) -> dict[str, object]:
    """Return what a choice sets in a row."""
    return {
        "provider": choice.provider,
        "model": choice.model,
        "model_display": choice.display or choice.model,
        "provider_reason": choice.reason,
    }


def entry_of(row: SpecialistStatus, placement: Placement, state: str) -> RegistryEntry:
    """Return the registry entry of a placed specialist."""
    return RegistryEntry(
        port=placement.port,
        component=row.component,
        host=placement.host,
        pid=placement.identity.pid,
        process_start=placement.identity.start,
        model=row.model,
        provider=row.provider,
        state=state,
        transport=row.transport,
        capabilities=row.capabilities,
        launcher=placement.launcher,
        metadata=placement.identity.metadata(),
    )
