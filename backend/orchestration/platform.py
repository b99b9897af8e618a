"""The platform: the rooms of one backend put together, opened and closed in order. Composition only."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import backend
from backend import catalog as catalog_module
from backend import config
from backend.catalog import Catalog
from backend.config import Settings
from backend.events import EventStream
from backend.home import Home
from backend.memory import MemoryStore, choose_store
from backend.monitor import Monitor
from backend.orchestration.budgets import Budgets
from backend.orchestration.bulk import BulkManager
from backend.orchestration.contexts import ContextBuilder
from backend.orchestration.housekeeping import Housekeeping
from backend.orchestration.ledger import Ledger
from backend.orchestration.matching import Matcher
from backend.orchestration.modeldesk import ModelDesk
from backend.orchestration.pipelines import PipelineManager
from backend.orchestration.pressure import Pressure
from backend.orchestration.routing import Router
from backend.orchestration.settings import SettingsBook
from backend.orchestration.sharing import Sharing
from backend.orchestration.team import TeamManager
from backend.orchestration.turns import TurnManager
from backend.providers import choose
from backend.schema.events import Snapshot
from backend.schema.records import PlatformInfo, ProviderChoice
from backend.specialists.choosing import choose_launcher
from backend.specialists.supervisor import Supervisor

log = logging.getLogger(__name__)

SECRET_ENDINGS = ("_KEY", "_TOKEN", "_SECRET", "PASSWORD")
"""Ends of the names of environment variables whose values are secrets."""


@dataclass
class Platform:
    """Everything one backend is made of. Built by `open_platform`, ended by `close`."""

    home: Home
    settings: Settings
    catalog: Catalog
    environment: Mapping[str, str]
    provider: ProviderChoice
    events: EventStream
    memory: MemoryStore
    ledger: Ledger
    fleet: Supervisor
    monitor: Monitor
    budgets: Budgets
    turns: TurnManager
    book: SettingsBook
    router: Router
    teams: TeamManager
    bulks: BulkManager
    pipelines: PipelineManager
    models: ModelDesk
    pressure: Pressure
    housekeeping: Housekeeping
    sharing: Sharing | None = None
    """What joins this gateway to others that serve the same fleet; only a store they share makes that possible."""
    gateway_address: str = ""
    gateway_report: Callable[[], dict[str, object]] = dict
    """Given by the gateway, if one serves this platform."""
    started_at: float = field(default_factory=time.time)
    stop_asked: asyncio.Future[bool] | None = None
    """Resolves to whether the fleet is stopped too, once a client asked the backend to end."""

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
            provider=self.provider,
            lifecycle_on=self.settings.fleet.lifecycle_on,
            starter=list(self.settings.fleet.starter),
            port_profile=self.settings.ports.profile,
            store=self.memory.place,
        )

    def snapshot(self, *, resync: bool = False) -> Snapshot:
        """Return the whole state at this moment; made without waiting, so that its number is exact."""
        shared = self.sharing.mirror if self.sharing is not None else None
        turns = shared.turns if shared else self.turns.active
        teams = shared.teams if shared else self.teams.active
        return Snapshot(
            epoch=self.events.epoch,
            at_seq=self.events.seq,
            platform=self.info(),
            specialists=self.fleet.statuses(),
            services=self.fleet.services(),
            turns=[turn.as_active() for turn in turns.values()],
            unacknowledged=self.ledger.unacknowledged,
            resync=resync,
            teams=[run.start for run in teams.values()],
        )

    async def close(self, *, stop_fleet: bool) -> None:
        """End what is under way as visible errors, then the fleet if asked, then the stores."""
        steps: list[Callable[[], Awaitable[None]]] = [
            self.pipelines.close,
            self.teams.close,
            self.turns.close,
            self.pressure.close,
            self.monitor.close,
            lambda: self.fleet.close(stop_fleet),
            self.housekeeping.close,
            self.ledger.close,
            self.memory.close,
        ]
        if self.sharing is not None:
            steps.insert(-1, self.sharing.end)
        for step in steps:
            try:
                await step()
            except Exception:  # a store that is away must not keep the backend from its end
                log.exception("ending the backend")


async def open_platform(
    home: Home, environment: Mapping[str, str] | None = None, *, place: int = 1
) -> Platform:
    """Read the settings, open the stores, adopt what lives and put the rooms together.

    `place` counts the gateways of this home, where its store allows several.

    Raises:
        ConfigError: The configuration cannot be used; nothing was started.
    """
    home.prepare()
    env = {**config.read_env_file(home), **(os.environ if environment is None else environment)}
    settings = config.load(home, env)
    catalog = catalog_module.load(settings)
    memory = choose_store(home, settings, env, place=place)
    await memory.open()
    sharing = None if memory.journal is None else Sharing(memory.journal)
    if sharing is not None:
        await sharing.begin()
    events = EventStream() if sharing is None else sharing.stream
    ledger = Ledger(memory, events)
    await ledger.open()
    if memory.set_aside:
        ledger.record(
            "engram", "internal", f"the database could not be read and was set aside as {memory.set_aside}"
        )
    provider = await choose(settings, home, env)
    launcher = await choose_launcher(home, settings, env)
    fleet = Supervisor(
        home,
        settings,
        catalog,
        environment=env,
        choice=provider,
        publish=lambda event, topic: events.publish(topic, event),
        record_error=ledger.record,
        wanted=events.wanted,
        launcher=launcher,
    )
    book = SettingsBook(memory)
    await book.open()
    budgets = Budgets(settings, memory, fleet)
    await budgets.open()
    contexts = ContextBuilder(settings, catalog, memory)
    turns = TurnManager(
        fleet=fleet, memory=memory, events=events, ledger=ledger, contexts=contexts, budgets=budgets
    )
    router = Router(catalog, fleet, Matcher(catalog), book)
    platform = Platform(
        home=home,
        settings=settings,
        catalog=catalog,
        environment=env,
        provider=provider,
        events=events,
        memory=memory,
        ledger=ledger,
        fleet=fleet,
        monitor=Monitor(fleet, events),
        budgets=budgets,
        turns=turns,
        book=book,
        router=router,
        teams=TeamManager(
            catalog=catalog,
            fleet=fleet,
            memory=memory,
            events=events,
            turns=turns,
            router=router,
            settings=book,
        ),
        bulks=BulkManager(turns, catalog),
        pipelines=PipelineManager(
            catalog=catalog, fleet=fleet, router=router, turns=turns, memory=memory, events=events
        ),
        models=ModelDesk(home, settings, env, catalog, fleet),
        pressure=Pressure(events, fleet.hold_streams),
        housekeeping=Housekeeping(memory, ledger, settings.memory, contexts.estimator),
        sharing=sharing,
    )

    async def platform_facts() -> str:
        return await platform.monitor.summary(await memory.errors(unacknowledged=True, limit=20))

    contexts.give_facts("numa-ai", platform_facts)
    contexts.give_facts("penia-ai", budgets.facts)
    if sharing is None:
        await turns.recover()
        await fleet.start()
        platform.monitor.start()
    else:
        await _start_shared(platform, sharing)
    await platform.housekeeping.open()
    platform.housekeeping.start()
    return platform


async def _start_shared(platform: Platform, sharing: Sharing) -> None:
    """Take this gateway's place among those that serve the fleet: at their head, or behind it."""
    sharing.attach(platform)
    await sharing.tell_lost(sharing.is_own_past)
    await platform.fleet.start(lead=sharing.twins.leads)
    if sharing.twins.leads:
        platform.monitor.start()
    await sharing.start()
