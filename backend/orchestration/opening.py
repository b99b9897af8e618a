"""Open a platform: read the settings, open the stores, put the rooms together and begin to work."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Literal

from backend import catalog as catalog_module
from backend import config
from backend.catalog import Catalog
from backend.cluster.membership import Joined, Membership, join
from backend.config import Settings
from backend.events import EventStream
from backend.home import Home
from backend.log import redact
from backend.matching.matcher import Matcher
from backend.memory import MemoryStore, choose_store
from backend.monitor import Monitor
from backend.orchestration.action import ACTIONS
from backend.orchestration.approvals.manager import Approvals
from backend.orchestration.approvals.own_tools import OwnTools
from backend.orchestration.attention import AttentionQueue
from backend.orchestration.backpressure import Backpressure
from backend.orchestration.bulk import BulkManager
from backend.orchestration.caller import caller
from backend.orchestration.error_log import ErrorLog
from backend.orchestration.maintenance import Maintenance
from backend.orchestration.models import ModelService
from backend.orchestration.pipelines.manager import PipelineManager
from backend.orchestration.platform import Platform
from backend.orchestration.recent import RememberedBytes
from backend.orchestration.request_names import RequestNames
from backend.orchestration.selection import Selector
from backend.orchestration.sessions import Sessions
from backend.orchestration.settings import OrchestrationSettingsStore
from backend.orchestration.specialist_watch import SpecialistWatch, Stamp, stamp_of
from backend.orchestration.stored import Stored
from backend.orchestration.teams.manager import TeamManager
from backend.orchestration.turns.budgets import Budgets
from backend.orchestration.turns.context_builder import ContextBuilder
from backend.orchestration.turns.direct import DirectTurns
from backend.orchestration.turns.embeddings import Embeddings
from backend.orchestration.turns.manager import TurnManager
from backend.orchestration.turns.parts import TurnParts
from backend.providers.choice import settings_with
from backend.providers.discovery import choose
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.records import ActiveTurn, TurnOutcome
from backend.specialists.launcher_factory import choose_launcher
from backend.specialists.supervisor import Supervisor

log = logging.getLogger(__name__)


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
    # Before the files are read, so that a change in between counts as one.
    read_at = stamp_of(home)
    settings = config.load(home, env)
    catalog = catalog_module.load(settings)
    memory = choose_store(home, settings, env, place=place)
    async with AsyncExitStack() as undo:
        return await _open_rooms(home, env, settings, catalog, memory, read_at, undo)


async def _open_rooms(
    home: Home,
    env: Mapping[str, str],
    settings: Settings,
    catalog: Catalog,
    memory: MemoryStore,
    read_at: Stamp,
    undo: AsyncExitStack,
) -> Platform:
    """Open the store and put the rooms around it; `undo` ends again what was begun when that fails."""
    await memory.open()
    undo.push_async_callback(memory.close)
    remembered = RememberedBytes.of(settings.memory.remembered_mib)
    joined, events, error_log = await _open_logs(memory, remembered)
    undo.push_async_callback(error_log.close)
    if joined is not None:
        undo.push_async_callback(joined.stream.end)
    provider = await choose(settings, home, env)
    settings = settings_with(settings, provider)
    launcher = await choose_launcher(home, settings, env)
    fleet = Supervisor(
        home,
        settings,
        catalog,
        environment=env,
        choice=provider,
        publish=lambda event, topic: events.publish(topic, event),
        record_error=error_log.record,
        has_subscribers=events.wanted,
        launcher=launcher,
    )
    stored = Stored(memory.settings, error_log)
    orchestration = OrchestrationSettingsStore(stored)
    await _survive(error_log, "reading the orchestration settings", orchestration.open())
    budgets = Budgets(settings, memory.turns, fleet)
    await _survive(error_log, "reading the day's usage", budgets.open())
    approvals = Approvals(
        home=home,
        settings=settings,
        catalog=catalog,
        calls=memory.tool_calls,
        stored=stored,
        events=events,
        error_log=error_log,
        mask=redact,
    )
    under_way = () if joined is None else joined.replica.turns
    await _survive(error_log, "reading the rules over tools", approvals.open(under_way))
    contexts = ContextBuilder(settings, catalog, memory.messages, fleet.own_model, fleet.own_tools)
    sessions = Sessions(memory.sessions)
    names = RequestNames()
    parts = TurnParts(
        fleet=fleet,
        messages=memory.messages,
        turn_store=memory.turns,
        sessions=sessions,
        events=events,
        error_log=error_log,
        contexts=contexts,
        budgets=budgets,
        approvals=approvals,
    )
    turns = TurnManager(parts, remembered, names)
    selector = Selector(catalog, fleet, Matcher(catalog), orchestration)
    pipelines = PipelineManager(
        catalog=catalog,
        fleet=fleet,
        selector=selector,
        turns=turns,
        sessions=sessions,
        store=stored,
        events=events,
        error_log=error_log,
        names=names,
    )
    platform = Platform(
        home=home,
        settings=settings,
        catalog=catalog,
        environment=env,
        events=events,
        memory=memory,
        error_log=error_log,
        fleet=fleet,
        monitor=Monitor(fleet, events, budgets.used_today),
        budgets=budgets,
        attention=AttentionQueue(
            fleet=fleet,
            error_log=error_log,
            budgets=budgets,
            stored=stored,
            events=events,
            approvals=approvals,
        ),
        sessions=sessions,
        turns=turns,
        embeddings=Embeddings(fleet, budgets, memory.turns),
        direct=DirectTurns(fleet, budgets, memory.turns, error_log),
        orchestration=orchestration,
        selector=selector,
        teams=TeamManager(
            catalog=catalog,
            fleet=fleet,
            messages=memory.messages,
            turn_store=memory.turns,
            events=events,
            sessions=sessions,
            turns=turns,
            selector=selector,
            settings=orchestration,
            max_bytes=remembered.teams,
            names=names,
        ),
        bulks=BulkManager(turns, catalog, memory.sessions, stored, names),
        pipelines=pipelines,
        approvals=approvals,
        models=ModelService(
            home, settings, env, catalog, fleet, provider, lambda event: events.publish("fleet", event), names
        ),
        backpressure=Backpressure(events, fleet.pause_streams),
        maintenance=Maintenance(
            memory, error_log, settings.memory, contexts.estimator, forget_runs=pipelines.forget_before
        ),
    )
    watch = _watch_files(platform, read_at)
    _give_facts(platform, contexts)
    platform.attention.follow(turns.on_ended, platform.teams.on_ended)
    undo.pop_all()
    undo.push_async_callback(platform.close, stop_fleet=False)
    await _start(platform, joined, watch)
    undo.pop_all()
    return platform


async def _open_logs(
    memory: MemoryStore, remembered: RememberedBytes
) -> tuple[Joined | None, EventStream, ErrorLog]:
    """Open the event log and the error log; join the log that gateways share, where the store has one."""
    shared_log = memory.shared_log
    joined = None if shared_log is None else await join(shared_log, max_bytes=remembered.events)
    events = EventStream(max_bytes=remembered.events) if joined is None else joined.stream
    error_log = ErrorLog(memory.errors, events)
    await error_log.open()
    if memory.damage:
        error_log.record("memory", "internal", memory.damage)
    return joined, events, error_log


def _watch_files(platform: Platform, read_at: Stamp) -> SpecialistWatch:
    """Return the watch over the files of specialists, which puts changed settings into force."""

    def take(changed: Settings) -> None:
        platform.settings = changed
        platform.approvals.reconfigure(changed)

    platform.watch = SpecialistWatch(
        platform.home,
        platform.environment,
        platform.settings,
        fleet=platform.fleet,
        selector=platform.selector,
        budgets=platform.budgets,
        error_log=platform.error_log,
        take=take,
        read_at=read_at,
    )
    return platform.watch


async def _start(platform: Platform, joined: Joined | None, watch: SpecialistWatch) -> None:
    """Begin to work: alone, or beside the gateways that share the store."""
    if joined is None:
        await platform.turns.recover()
        await platform.fleet.start()
        await _look_after_fleet(platform)
    else:
        platform.cluster = Membership(joined, platform.fleet, _LocalGateway(platform))
        platform.approvals.elsewhere = platform.cluster
        await _start_shared(platform, platform.cluster)
    await _read_kept(platform)
    platform.maintenance.start()
    watch.start(platform.catalog)
    platform.models.watch()


def _give_facts(platform: Platform, contexts: ContextBuilder) -> None:
    """Let specialists see what the platform counts, and ask for it by a tool."""
    memory, budgets = platform.memory, platform.budgets

    async def platform_facts() -> str:
        summary = await platform.monitor.summary(await memory.errors.find(unacknowledged=True, limit=20))
        return f"{summary}\n\n{await budgets.facts()}"

    contexts.give_facts("numa-ai", platform_facts)
    contexts.give_facts("penia-ai", budgets.facts)
    contexts.facts_for_stand_in = platform_facts
    platform.approvals.own = OwnTools(
        catalog=platform.catalog,
        messages=memory.messages,
        sessions=memory.sessions,
        turns=platform.turns,
        facts=platform_facts,
    )


async def _read_kept(platform: Platform) -> None:
    """Read what earlier lives left: which ids name runs and bulks, and what was learned of token counts."""
    errors = platform.error_log
    await _survive(
        errors, "reading which pipelines ran", platform.pipelines.open(alone=platform.cluster is None)
    )
    await _survive(errors, "reading which bulks ran", platform.bulks.open())
    await _survive(errors, "reading what was learned of token counts", platform.maintenance.open())


async def _survive(error_log: ErrorLog, what: str, work: Awaitable[None]) -> None:
    """Do something that a start can do without; its failure is entered in the error log."""
    try:
        await work
    except Exception as error:
        log.exception("%s", what)
        error_log.record("backend", "internal", f"{what} failed at the start: {error}")


async def _look_after_fleet(platform: Platform) -> None:
    """Begin what one gateway of a fleet does, the one that leads: measure it, and gather what waits for a person."""
    platform.monitor.start()
    await _survive(platform.error_log, "reading what waits for the operator", platform.attention.open())


async def _start_shared(platform: Platform, cluster: Membership) -> None:
    """Take this gateway's place among those that serve the fleet: as the one that leads, or as another one."""
    await cluster.end_lost(cluster.is_own_past)
    await platform.fleet.start(lead=cluster.peers.leads)
    if cluster.peers.leads:
        await _look_after_fleet(platform)
    await cluster.start()


class _LocalGateway:
    """The port through which membership reaches this gateway's services."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def run_action(self, name: str, params: dict[str, Any]) -> Any:
        found = ACTIONS.get(name)
        if found is None:
            raise TektonError(
                f"this gateway knows no action {name!r}: is it of another version?", code="not_found"
            )
        return await found.run_here(self._platform, found.read_params(params))

    def watched(self, conversation: str) -> bool:
        return self._platform.events.watched("asks", conversation)

    def caller(self) -> str:
        return caller.get()

    def act_for(self, by: str) -> None:
        caller.set(by)

    def asks_changed(self) -> None:
        self._platform.approvals.on_changed()

    async def recall(self, request_id: str) -> TurnOutcome:
        outcome = await self._platform.turns.recall(request_id)
        if outcome is None:
            raise TektonError(
                "the gateway that took this call ended before anything of an answer was kept; nothing was asked again",
                code="backend_lost",
                detail={"request_id": request_id},
            )
        if outcome.code:
            detail: dict[str, object] = {"partial": outcome.content, "request_id": request_id}
            raise TektonError(outcome.error, code=outcome.code, detail=detail)
        return outcome

    async def lead(self) -> None:
        platform = self._platform
        try:
            await platform.fleet.lead()
        except Exception as error:  # the fleet goes on as far as it was taken over
            log.exception("taking the lead of the fleet")
            platform.error_log.record(
                "cluster", "internal", f"the fleet was taken over in part only: {error}"
            )
        await _look_after_fleet(platform)

    async def end_lost_turns(self, turns: Mapping[str, ActiveTurn]) -> None:
        await self._platform.turns.recover(turns)
        await self._platform.approvals.end_left(turns)

    async def read_again(self, what: Literal["usage", "orchestration", "rules"]) -> None:
        if what == "usage":
            await self._platform.budgets.open()
        elif what == "rules":
            await self._platform.approvals.rule_book.read()
        else:
            await self._platform.orchestration.open()

    def record_failure(self, where: str, code: ErrorCode, text: str) -> None:
        self._platform.error_log.record(where, code, text)

    def show_unacknowledged(self, count: int) -> None:
        self._platform.error_log.count_again(count)

    def stop(self) -> None:
        self._platform.declared_dead.set()
