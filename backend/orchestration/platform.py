"""The platform: the rooms of one backend put together, and closed in order. `opening` builds one."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import backend
from backend.catalog import Catalog
from backend.cluster.membership import Membership
from backend.config import Settings
from backend.events import EventStream
from backend.home import Home
from backend.memory import MemoryStore
from backend.monitor import Monitor
from backend.orchestration.approvals.manager import Approvals
from backend.orchestration.attention import AttentionQueue
from backend.orchestration.backpressure import Backpressure
from backend.orchestration.bulk import BulkManager
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.maintenance import Maintenance
from backend.orchestration.models import ModelService
from backend.orchestration.pipelines.manager import PipelineManager
from backend.orchestration.selection import Selector
from backend.orchestration.sessions import Sessions
from backend.orchestration.settings import OrchestrationSettingsStore
from backend.orchestration.specialist_watch import SpecialistWatch
from backend.orchestration.teams.manager import TeamManager
from backend.orchestration.turns.budgets import Budgets
from backend.orchestration.turns.completion import Unstored
from backend.orchestration.turns.direct import DirectTurns
from backend.orchestration.turns.embeddings import Embeddings
from backend.orchestration.turns.manager import TurnManager
from backend.schema.events import Snapshot
from backend.schema.records import ErrorRecord, PlatformInfo, RunRecord
from backend.schema.results import EventFigures, GatewayReport
from backend.schema.tools import ToolRecord
from backend.specialists.supervisor import Supervisor

log = logging.getLogger(__name__)

SECRET_ENDINGS = ("_KEY", "_TOKEN", "_SECRET", "PASSWORD")
"""Ends of the names of environment variables whose values are secrets."""


def _no_gateway() -> GatewayReport:
    return GatewayReport("", [], 0, 0, 0, [], [], EventFigures(0, 0, 0, 0.0))


@dataclass
class Held:
    """What a backend held that its store did not take: ends of turns, failures, records of tool calls, pipeline runs."""

    turns: Sequence[Unstored]
    errors: Sequence[ErrorRecord]
    calls: Sequence[ToolRecord]
    runs: Sequence[RunRecord]

    @property
    def answers(self) -> list[str]:
        """Request ids of the answers among them."""
        return [one.outcome.request_id for one in self.turns if one.answer is not None]


@dataclass
class Platform:
    """Everything one backend is made of. Built by `opening.open_platform`, ended by `close`."""

    home: Home
    settings: Settings
    catalog: Catalog
    environment: Mapping[str, str]
    events: EventStream
    memory: MemoryStore
    error_log: ErrorLog
    fleet: Supervisor
    monitor: Monitor
    budgets: Budgets
    attention: AttentionQueue
    sessions: Sessions
    turns: TurnManager
    direct: DirectTurns
    embeddings: Embeddings
    orchestration: OrchestrationSettingsStore
    selector: Selector
    teams: TeamManager
    bulks: BulkManager
    pipelines: PipelineManager
    models: ModelService
    approvals: Approvals
    backpressure: Backpressure
    maintenance: Maintenance
    watch: SpecialistWatch | None = None
    cluster: Membership | None = None
    """What joins this gateway to others that serve the same fleet; only a store they share makes that possible."""
    gateway_address: str = ""
    in_clear: bool = False
    """Whether that address can be reached from other machines without TLS."""
    gateway_report: Callable[[], GatewayReport] = _no_gateway
    """Given by the gateway, if one serves this platform."""
    started_at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.monotonic)
    """The same by a clock that nobody sets."""
    stop_asked: asyncio.Future[bool] | None = None
    """Resolves to whether the fleet is stopped too, once a client asked the backend to end."""
    declared_dead: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once another gateway declared this one dead: it may write nothing any more, and has to end."""

    def secrets(self) -> list[str]:
        """Return what must never leave the platform as text: its token and the keys in its environment."""
        names = [name for name in self.environment if name.upper().endswith(SECRET_ENDINGS)]
        token = self.home.token.read_text(encoding="ascii").strip() if self.home.token.exists() else ""
        return [value for value in (token, *(self.environment[name] for name in names)) if len(value) >= 8]

    def info(self) -> PlatformInfo:
        """Return what the header shows."""
        return PlatformInfo(
            version=backend.__version__,
            home=str(self.home.root),
            gateway=self.gateway_address,
            pid=os.getpid(),
            started_at=self.started_at,
            provider=self.models.choice,
            lifecycle_on=self.settings.fleet.lifecycle_on,
            starter=list(self.settings.fleet.starter),
            port_profile=self.settings.ports.profile,
            store=self.memory.place,
            in_clear=self.in_clear,
            offer=self.models.offer,
        )

    def snapshot(self, *, resync: bool = False) -> Snapshot:
        """Return the whole state at this moment; made without waiting, so that its number is exact."""
        shared = self.cluster.replica if self.cluster is not None else None
        turns = shared.turns if shared else self.turns.active
        teams = shared.teams if shared else self.teams.active
        return Snapshot(
            epoch=self.events.epoch,
            at_seq=self.events.seq,
            platform=self.info(),
            specialists=self.fleet.statuses(),
            services=self.fleet.services(),
            turns=[turn.as_active() for turn in turns.values()],
            unacknowledged=self.error_log.unacknowledged,
            resync=resync,
            teams=[run.start for run in teams.values()],
            asks=[ask for _, ask in shared.asks.values()] if shared else self.approvals.asks,
            history=self.monitor.history.record(),
            attention=self.attention.items,
            pipelines=list(shared.pipes if shared else self.pipelines.active),
        )

    def held(self) -> Held:
        """Return what the store has not taken; after `close`, what it never took."""
        return Held(
            self.turns.unstored,
            self.error_log.unstored,
            self.approvals.call_log.unstored,
            self.pipelines.kept.unstored,
        )

    async def take(self, held: Held) -> None:
        """Store what a platform of this gateway held when another gateway declared it dead, now or later. Never raises."""
        late_answers = self.memory.late_answers
        assert late_answers is not None, "only gateways that share a store declare each other dead"
        await self.error_log.take(held.errors)
        await self.turns.take_late(held.turns, late_answers)
        await self.approvals.call_log.take(held.calls)
        await self.pipelines.kept.take(held.runs)

    async def end_questions(self) -> None:
        """End every question that waits or runs as a visible error, and ask nobody any more."""
        # the turns first: what they belong to then ends by their failure, not as if somebody had cancelled it
        await _end_in_order([self.turns.close, self.teams.close, self.pipelines.close])

    async def close(self, *, stop_fleet: bool) -> None:
        """End what is under way, then the fleet if asked, then the stores."""
        steps: list[Callable[[], Awaitable[None]]] = [
            self.end_questions,
            self.backpressure.close,
            self.approvals.close,
            self.monitor.close,
            self.attention.close,
            self.direct.close,
            self.models.close,
            *([self.watch.close] if self.watch is not None else []),
            lambda: self.fleet.close(stop_fleet),
            self.maintenance.close,
            self.error_log.close,
            self.memory.close,
        ]
        if self.cluster is not None:
            # Before the store closes, over which the other gateways hear of it.
            steps.insert(-1, self.cluster.end)
        await _end_in_order(steps)


async def _end_in_order(steps: Sequence[Callable[[], Awaitable[None]]]) -> None:
    for step in steps:
        try:
            await step()
        except Exception:  # a store that is away must not keep the backend from its end
            log.exception("ending the backend")
