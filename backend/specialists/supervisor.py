"""The supervisor: everything the rest of the platform may do with the fleet.

It launches on request only and restarts nothing. The parts it is composed of are the modules beside it.

NotRunning    the specialist does not run, or does not answer      not_running
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

import msgspec

from backend.catalog import Catalog
from backend.config import Settings
from backend.home import Home, read_token, write_private
from backend.log import redact
from backend.registry import Registry
from backend.registry.store import Corruption
from backend.registry.writer import RegistryWriter
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.frames import EmbedResponse, Phase
from backend.schema.records import (
    FleetPlan,
    LaunchResult,
    Node,
    ProviderChoice,
    ServiceStatus,
    SpecialistStatus,
    TurnOutcome,
)
from backend.schema.results import LogText
from backend.schema.states import LIVE, RUNNING
from backend.specialists.adoption import adopt_all
from backend.specialists.configuring import Configuring
from backend.specialists.context import RecordError, SupervisorContext, choice_fields, new_row
from backend.specialists.endpoints import Endpoints
from backend.specialists.follower import Follower
from backend.specialists.heartbeat import Heartbeat
from backend.specialists.launcher import Launcher, LauncherEvent
from backend.specialists.launching import Launching
from backend.specialists.local import LocalLauncher
from backend.specialists.logs import log_path
from backend.specialists.logs import tail as read_tail
from backend.specialists.model_server import ModelServer
from backend.specialists.plan import check_providers, make_plan
from backend.specialists.reconciler import HasSubscribers, Reconciler
from backend.specialists.reconfigure import drop_removed, reconfigure
from backend.specialists.status_table import Publish, StatusTable
from backend.specialists.termination import Termination
from backend.specialists.turn_stats import TurnStats
from backend.specialists.worker_client import Channel, OnDirect, WorkerClient
from backend.tls import Trust, trusting

log = logging.getLogger(__name__)

DEATH_RECORD_S = 2.0
"""Longest time between the break of a worker's connection and the record of its death."""


class NotRunning(TektonError):
    code = "not_running"


class Supervisor:
    """One fleet, used from one event loop. Every change of a row is published on topic `fleet`.

    Log files are published on topic `logs` while `has_subscribers` says that somebody reads it.
    """

    def __init__(
        self,
        home: Home,
        settings: Settings,
        catalog: Catalog,
        *,
        environment: Mapping[str, str],
        choice: ProviderChoice,
        publish: Publish,
        record_error: RecordError,
        has_subscribers: HasSubscribers = lambda topic: True,
        launcher: Launcher | None = None,
        registry: Registry | None = None,
    ) -> None:
        registry = registry or Registry(home.registry, home.audit)
        # Whoever reads the registry may find it damaged, in whichever thread: the report comes back to the
        # loop.
        registry.on_corrupt = self._on_corrupt
        table = StatusTable(publish)
        self._context = SupervisorContext(
            home=home,
            settings=settings,
            catalog=catalog,
            environment=environment,
            choice=choice,
            table=table,
            turns=TurnStats(table),
            registry=RegistryWriter(registry),
            launcher=launcher or LocalLauncher(home, settings, environment),
            record_error=record_error,
            token=worker_token(home),
            trust=_trust(settings, launcher),
        )
        for component in catalog:
            table.put(new_row(component, self._context.choice_for(component)))
        self._model_server = ModelServer(self._context)
        self._endpoints = Endpoints(self._context)
        self._launching = Launching(self._context, self._model_server, self._endpoints)
        self._termination = Termination(self._context, self._model_server, self._endpoints, self._launching)
        self._configuring = Configuring(self._context, self._model_server, self.channel)
        self.follower = Follower(self._context, self._endpoints)
        self._heartbeat = Heartbeat(self._context)
        self._reconciler = Reconciler(self._context, publish, has_subscribers)
        self._restarting: dict[str, asyncio.Future[None]] = {}
        """Resolved when the restart that somebody asked for has come to its end, well or not."""
        self._event_task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # start and end

    async def start(self, *, lead: bool = True) -> None:
        """Start: as the gateway that leads the fleet, or copying the rows of the one that does."""
        self._loop = asyncio.get_running_loop()
        # Before anything is adopted: an end that is reported meanwhile waits in the launcher's queue, and is
        # not lost.
        self._event_task = asyncio.create_task(self._handle_events(), name="launcher events")
        if lead:
            await self.lead()
        else:
            self._context.table.copied = True

    async def lead(self) -> None:
        """Adopt what lives, remove what is dead, and keep watch from now on."""
        table = self._context.table
        table.copied = False
        for row in list(table.rows.values()):
            table.update(row.id, restarting=False)
            # The gateway that was starting or stopping it is gone; adoption finds out what became of it.
            if row.state in ("starting", "stopping"):
                table.update(row.id, state="lost", cause="the gateway that led the fleet ended meanwhile")
        # First: workers that are adopted next are shown with the server that they wait for.
        self._model_server.adopt()
        await adopt_all(self._context)
        await self._endpoints.rejoin(await self._context.registry.read())
        for row in list(table.rows.values()):
            if row.state in LIVE and row.id not in self._context.channels:
                table.update(
                    row.id, state="lost", phase=None, cause="it ended while the lead of the fleet changed"
                )
            self._context.turns.refresh(row.id)
        self.follower.stop()
        self._heartbeat.start()
        self._reconciler.start()

    async def close(self, stop_fleet: bool) -> None:
        """Stop watching. With `stop_fleet` every specialist and the model server are ended first.

        What became of a specialist before this call is in the registry when it returns.
        """
        self._heartbeat.stop()
        self._reconciler.stop()
        self.follower.stop()
        if stop_fleet:
            await self.kill(
                [row.id for row in self.statuses() if row.pid or row.id in self._context.channels]
            )
            await self._model_server.stop()
        for channel in list(self._context.channels.values()):
            channel.close("the backend ended")
        # Detached, not ended: specialists and their server outlive a backend, and the next one adopts them.
        self._model_server.detach()
        self._context.launcher.close()
        if self._event_task is not None:
            self._event_task.cancel()
        # An end that was shown a moment ago may not have reached the writer yet: its task comes first.
        await self._termination.settled()
        await self._context.registry.flush()

    # queries

    def statuses(self) -> list[SpecialistStatus]:
        """Return every row, in table order."""
        return list(self._context.table.rows.values())

    def status(self, ai_id: str) -> SpecialistStatus:
        """Return one row.

        Raises:
            TektonError: `unknown_specialist`.
        """
        if (row := self._context.table.rows.get(ai_id)) is None:
            raise TektonError(f"there is no specialist {ai_id!r}", code="unknown_specialist")
        return row

    def services(self) -> list[ServiceStatus]:
        """Return the row of every service, such as the embedded model server."""
        return list(self._context.table.services.values())

    def channel(self, ai_id: str) -> Channel:
        """Return the channel to a specialist.

        Raises:
            NotRunning: It does not run, or does not answer.
        """
        row, channel = self.status(ai_id), self._context.channels.get(ai_id)
        if row.state not in LIVE or channel is None or channel.closed.done():
            if row.state in LIVE:
                raise NotRunning(f"the connection to {row.name} broke a moment ago and is being looked at")
            if row.restarting:
                raise NotRunning(f"{row.name} is being restarted: ask again once it is ready")
            if row.state in ("starting", "stopping"):
                after = (
                    "ask again once it is ready"
                    if row.state == "starting"
                    else "launch it once it has stopped"
                )
                raise NotRunning(f"{row.name} is {row.state}: {after}")
            if row.state == "lost" and row.pid:
                raise NotRunning(f"{row.cause}; wait until it answers, or kill it and launch it anew")
            why = f" ({row.cause})" if row.cause else ""
            raise NotRunning(f"{row.name} is {row.state}{why}; launch it first")
        return channel

    def sources(self) -> list[str]:
        """Return whose logs `read_log` can read."""
        return self._reconciler.sources()

    async def read_log(self, source: str, *, tail: int = 200, previous: bool = False) -> LogText:
        """Return the newest lines of a log, oldest first.

        The file of a `remote` specialist is a copy, brought up to date by this call and while topic `logs` is read.
        """
        path = log_path(self._context.home.logs, source, previous=previous)
        if not previous and self._context.launcher.remote:
            await self._context.launcher.fetch_logs(source)
            self._reconciler.skip_to_end(source)
        lines = await asyncio.to_thread(read_tail, path, tail)
        remote = self._context.launcher.remote and source in self._context.placements
        shown = [redact(line) for line in lines]
        return LogText(source, str(path), shown, remote)

    # what comes to the workers' own ports

    @property
    def on_direct(self) -> OnDirect | None:
        """Called with what workers report of it, once it is set; to be set before `start`."""
        return self._context.on_direct

    @on_direct.setter
    def on_direct(self, handler: OnDirect) -> None:
        self._context.on_direct = handler

    # actions

    async def plan(self, ids: list[str]) -> FleetPlan:
        """Return what launching these specialists would do. Starts nothing."""
        return await make_plan(self._context, [self.status(ai_id).id for ai_id in ids])

    async def model_problems(self, ids: list[str]) -> dict[str, str]:
        """Ask each provider of these once whether it would answer; return why not, in words, by specialist."""
        components = [self._context.catalog.components[ai_id] for ai_id in ids]
        return await check_providers(self._context, [one for one in components if one.transport == "socket"])

    async def launch(self, ids: list[str]) -> list[LaunchResult]:
        """Launch in parallel; return a result for each, in order. One that runs already is no failure."""
        known = [self.status(ai_id).id for ai_id in ids]
        return list(await asyncio.gather(*(self._launching.launch(ai_id) for ai_id in known)))

    async def kill(self, ids: list[str], force: bool = False) -> list[LaunchResult]:
        """Stop in parallel: SIGTERM, SIGKILL after the grace time (`force`: at once); return a result for each."""
        known = [self.status(ai_id).id for ai_id in ids]
        return await self._termination.kill(known, force=force)

    async def restart(self, ids: list[str]) -> list[LaunchResult]:
        """Stop and launch again; return the results of the launches."""
        known = [self.status(ai_id).id for ai_id in ids]
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Noted for both halves: between stop and launch the row says `stopped`, and who asks then is told to
        # wait.
        self._restarting |= dict.fromkeys(known, ended)
        for ai_id in known:
            self._context.table.update(ai_id, restarting=True)
        try:
            await self.kill(known)
            return await self.launch(known)
        finally:
            ended.set_result(None)
            for ai_id in known:
                if self._restarting.get(ai_id) is ended:
                    del self._restarting[ai_id]
                    self._context.table.update(ai_id, restarting=False)

    def coming(self, ai_id: str) -> asyncio.Future[Any] | None:
        """Return what ends when the launch or restart of a specialist that is under way has ended; `None` without one.

        How it ended is in the row. To be waited for with `asyncio.wait`: others wait for it, too.
        """
        found = self._restarting.get(ai_id) or self._launching.under_way.get(ai_id)
        found = found or self.follower.coming.get(ai_id)
        return None if found is None or found.done() else found

    def use(self, choice: ProviderChoice, settings: Settings) -> None:
        """Take another provider and model for all that have none of their own, from their next launch on."""
        context = self._context
        context.choice, context.settings = choice, settings
        for component in context.catalog:
            if context.table.rows[component.id].state not in RUNNING:
                context.table.update(component.id, **choice_fields(context.choice_for(component)))

    def reconfigure(self, settings: Settings, catalog: Catalog) -> None:
        """Take other rows; specialists that run stay as they were started, and say so."""
        reconfigure(
            self._context,
            msgspec.structs.replace(settings, providers=self._context.settings.providers),
            catalog,
        )

    def drop_removed(self) -> None:
        """Take out the rows of specialists that are no longer configured and run no more."""
        drop_removed(self._context)

    def own_model(self, ai_id: str) -> tuple[str, str]:
        """Return provider and model of a specialist's turns that name no other."""
        row = self.status(ai_id)
        return row.provider, row.model

    def own_tools(self, ai_id: str) -> list[str]:
        """Return the names of the tools that a specialist's own servers give now."""
        return [name for server in self.status(ai_id).tools for name in server.tools]

    async def set_model(self, ai_id: str, provider: str | None, model: str | None) -> None:
        """Change the provider and model of a specialist, for its later turns and launches.

        Raises:
            TektonError: The worker cannot use them; nothing was changed.
        """
        await self._configuring.set_model(self.status(ai_id), provider, model)

    async def set_agent_option(self, ai_id: str, option: str, value: str | bool) -> None:
        """Set an option of an external agent, for all its conversations until it ends.

        Raises:
            TektonError: It is none, does not run, or has no such option or value; nothing was changed.
        """
        await self._configuring.set_agent_option(self.status(ai_id), option, value)

    async def embed(self, ai_id: str, texts: list[str], model: str = "") -> EmbedResponse:
        """Return the vectors of texts by a specialist's provider: its own model, or the one that is named.

        Raises:
            TektonError: It does not run, its provider makes no vectors, or failed.
        """
        return await self._configuring.embed(self.status(ai_id), texts, model)

    async def send_keys(self, ai_id: str, kind: str) -> None:
        """Send a worker the keys it lacks to use another provider than its own, once."""
        await self._configuring.send_keys(self.status(ai_id), kind)

    async def nodes(self) -> list[Node]:
        """Return the hosts specialists may run on, with who runs where."""
        return await self._context.launcher.nodes()

    def weights_came(self) -> None:
        """Start the embedded model server for specialists that run and wait for its weights."""
        if any(row.pid and row.provider == "embedded" for row in self._context.table.rows.values()):
            self._model_server.ensure()

    def show_service(
        self,
        name: str,
        title: str,
        detail: str,
        *,
        ended: Literal["", "done", "failed"] = "",
        publish: bool = True,
    ) -> None:
        """Show work of the backend itself as a service: `detail` says what it does, or how it `ended`.

        Without `publish` only those see it who ask for the rows.
        """
        if ended:
            state = "stopped" if ended == "done" else "exited"
            self._context.table.update_service(
                name, title, publish=publish, state=state, detail="", cause=detail
            )
        else:
            self._context.table.update_service(
                name, title, publish=publish, state="busy", detail=detail, cause=""
            )

    def report(self, where: str, code: str, message: str) -> None:
        """Enter a failure of another part of the platform into the error log."""
        self._context.record_error(where, code, message)

    # reports of the turn manager

    def turn_began(self, ai_id: str, request_id: str) -> None:
        """Note the begin of a turn in its specialist's row."""
        self._context.turns.began(ai_id, request_id)

    def turn_phase(
        self, ai_id: str, request_id: str, phase: Phase, *, detail: str = "", position: int = 0
    ) -> None:
        """Note a turn's phase in its specialist's row."""
        self._context.turns.phase(ai_id, request_id, phase, detail=detail, position=position)

    def turn_progressed(self, ai_id: str, request_id: str, pieces: int = 1) -> None:
        """Note that pieces of a turn's text came."""
        self._context.turns.progressed(ai_id, request_id, pieces)

    def turn_ended(self, ai_id: str, request_id: str, outcome: TurnOutcome) -> None:
        """Note how a turn ended."""
        self._context.turns.ended(ai_id, request_id, outcome)

    async def in_death_record(self, ai_id: str, request_id: str) -> bool:
        """Return whether the record of a worker's death names a turn that was lost; false when the worker lives.

        Waits for that record, because a connection may break a moment before the end of its process is known.
        """
        within_s = DEATH_RECORD_S if ai_id in self._context.placements else 0.0
        return await self._context.turns.in_death_record(ai_id, request_id, within_s)

    @property
    def activity(self) -> TurnStats:
        """Who counts what the specialists write."""
        return self._context.turns

    def context_changed(self, ai_id: str, used: int, window: int) -> None:
        """Show how many tokens a specialist's newest turn took, and how many its model can take."""
        self._context.table.update(ai_id, context_used=used, context_window=window)

    def cost_changed(self, ai_id: str, costs: dict[str, float], currency: str) -> None:
        """Show what a specialist's turns cost today: sums by currency, and the currency to show first."""
        self._context.table.update(ai_id, cost=costs.get(currency), currency=currency, costs=costs)

    def pause_streams(self, paused: bool) -> None:
        """Stop reading from every worker, or read again, while slow readers of the event log catch up."""
        for channel in self._context.channels.values():
            if isinstance(channel, WorkerClient):
                channel.pause_reading(paused)

    # events of the launcher

    async def _handle_events(self) -> None:
        async for event in self._context.launcher.events():
            try:
                self._handle(event)
            except Exception:  # a failure with one specialist must not stop the watch over the others
                log.exception("%s of %s", event.kind, event.ai_id)

    def _handle(self, event: LauncherEvent) -> None:
        if event.kind == "warm":
            self._on_warm(event.ai_id, event.problem, event.code)
        elif event.kind in ("exited", "lost"):
            self._termination.ended(event)

    def _on_warm(self, ai_id: str, problem: str, code: ErrorCode | None) -> None:
        changes: dict[str, object] = {"warming": False}
        if problem:
            changes |= {"last_error": problem, "last_error_code": code}
            self._context.record_error(ai_id, code or "provider_unavailable", problem, phase="warming")
        self._context.turns.idle(ai_id, problem, **changes)

    def _on_corrupt(self, corruption: Corruption) -> None:
        """Record a damaged registry; called from whichever thread found it."""

        def report() -> None:
            kept = ", ".join(corruption.kept) or "none"
            text = f"the registry was damaged and set aside as {corruption.path}; entries kept: {kept}"
            self._context.record_error("registry", "registry_corrupt", text, evidence=corruption.problem)
            self._reconciler.registry_damaged()

        if self._loop is not None:
            self._loop.call_soon_threadsafe(report)


def _trust(settings: Settings, launcher: Launcher | None) -> Trust | None:
    """Return which certificates of specialists on other hosts to accept. Raises `TlsRefused`."""
    if launcher is None or not launcher.remote or not settings.tls.ca:
        return None
    return trusting(settings.tls.ca, settings.tls.name)


def worker_token(home: Home) -> str:
    """Return the secret that this platform and its workers share; made at first use, readable by the user alone."""
    path = home.worker_token
    with suppress(FileNotFoundError):
        return read_token(path)
    token = secrets.token_urlsafe(32)
    write_private(path, token.encode())
    return token
