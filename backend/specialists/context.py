"""What the parts of the supervisor share: settings, rows, placements, channels, the registry, the error log.

Holds state and opens connections; decides nothing.
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
from backend.providers.choice import default_model, named
from backend.registry.writer import RegistryWriter
from backend.schema.frames import AgentReport, ToolsReport
from backend.schema.records import ProviderChoice, RegistryEntry, SpecialistStatus
from backend.specialists.launcher import Launcher, Placement
from backend.specialists.status_table import StatusTable
from backend.specialists.turn_stats import TurnStats
from backend.specialists.worker_client import CONNECT_TIMEOUT_S, Channel, OnDirect, WorkerClient
from backend.tls import Trust, is_loopback


class RecordError(Protocol):
    """Enters a failure into the error log. `where` is a specialist's id or a part of the platform."""

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
class SupervisorContext:
    """One platform's specialists: `placements` are the live processes, `channels` the connections to them, by id."""

    home: Home
    settings: Settings
    catalog: Catalog
    environment: Mapping[str, str]
    choice: ProviderChoice
    table: StatusTable
    turns: TurnStats
    registry: RegistryWriter
    launcher: Launcher
    record_error: RecordError
    token: str
    placements: dict[str, Placement] = field(default_factory=dict[str, Placement])
    channels: dict[str, Channel] = field(default_factory=dict[str, Channel])
    choices: dict[str, ProviderChoice] = field(default_factory=dict[str, ProviderChoice])
    """Provider and model set by the operator, by specialist; they take precedence over the configuration."""
    on_direct: OnDirect | None = None
    """Called with what workers report of questions that came to their own ports."""
    trust: Trust | None = None
    """Which certificates to accept beyond this machine; without it, connections are not encrypted."""

    async def connect(
        self, ai_id: str, host: str, port: int, timeout_s: float = CONNECT_TIMEOUT_S
    ) -> WorkerClient:
        """Connect to a worker. Raises `ChannelClosed`."""
        trust = None if is_loopback(host) else self.trust
        return await WorkerClient.open(
            host,
            port,
            token=self.token,
            ai_id=ai_id,
            timeout_s=timeout_s,
            trust=trust,
            on_direct=self.on_direct,
            on_tools=self._show_report,
        )

    def _show_report(self, report: ToolsReport | AgentReport) -> None:
        """Show how a specialist's tool servers are, or its agent."""
        if isinstance(report, ToolsReport):
            self._show_tools(report)
        elif report.ai_id in self.table.rows:
            self._show_agent(report)

    def _show_agent(self, report: AgentReport) -> None:
        row, agent = self.table.rows[report.ai_id], report.agent
        changes: dict[str, object] = {"agent": agent}
        if agent.context_window:
            changes |= {"context_used": agent.context_used, "context_window": agent.context_window}
        if agent.model:
            changes |= {"model": agent.model, "model_display": agent.model}
        logged_in = agent.state == "ready" and row.agent is not None and row.agent.state == "login"
        if logged_in and row.last_error_code == "provider_auth":
            changes |= {"last_error": "", "last_error_code": None}
        if agent.state == "login" or logged_in:
            self.turns.idle(report.ai_id, "needs login" if agent.state == "login" else "", **changes)
        else:
            self.table.update(report.ai_id, **changes)

    def _show_tools(self, report: ToolsReport) -> None:
        """Show how tool servers are; one that has failed is an error, each time it fails anew."""
        row = self.table.rows.get(report.ai_id)
        if row is None or row.tools == report.servers:
            return
        before = {server.server: server.problem for server in row.tools}
        self.table.update(report.ai_id, tools=report.servers)
        for server in report.servers:
            if server.failed and before.get(server.server) != server.problem:
                self.record_error(
                    report.ai_id, "tool_server", f"the tool server {server.server}: {server.problem}"
                )

    def component(self, ai_id: str) -> Component | None:
        """Return the catalogue's row; `None` for a worker that is not configured any more."""
        return self.catalog.components.get(ai_id)

    def choice_for(self, component: Component) -> ProviderChoice:
        """Return which provider and model a specialist uses, and why."""
        if chosen := self.choices.get(component.id):
            return chosen
        if component.transport == "acp":
            return named("acp", component.model or component.command_name, "an agent of its own")
        kind = component.provider or "auto"
        if kind in ("auto", self.choice.provider):
            return named(self.choice.provider, component.model or self.choice.model, self.choice.reason)
        return named(kind, component.model or self.default_model(kind), "named in the configuration")

    def default_model(self, kind: str) -> str:
        """Return the model a provider uses when none is named."""
        if kind == self.choice.provider:
            return self.choice.model
        return default_model(kind, self.settings)


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
        short=component.short,
        capabilities=list(component.capabilities),
        roles=list(component.roles),
        temperature=component.temperature,
        transport=component.transport,
        port=component.ai_port,
    )
    return msgspec.structs.replace(row, **choice_fields(choice))


def row_of_entry(ai_id: str, entry: RegistryEntry) -> SpecialistStatus:
    """Return the row of a worker that runs and is not in the catalogue."""
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
    """Return the fields of a row that a choice sets."""
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
