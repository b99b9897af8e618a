"""The supervisor: what the rest of the platform may ask of the fleet. Composition and the ends of things.

It launches on request only and restarts nothing. Rows, launches, adoption, pulse and upkeep live beside it.

NotRunning    a specialist that is not there was asked      not_running
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from backend.catalog import Catalog
from backend.config import Settings
from backend.home import Home, write_private
from backend.registry import Registry
from backend.registry.store import Corruption
from backend.registry.writer import RegistryWriter
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.frames import ErrorReply, InfoResponse, Phase, Request
from backend.schema.records import (
    FleetPlan,
    LaunchResult,
    ProviderChoice,
    ServiceStatus,
    SpecialistStatus,
    TurnOutcome,
)
from backend.specialists.adoption import adopt_all
from backend.specialists.board import Board, Publish
from backend.specialists.ending import Endings
from backend.specialists.endpoints import Endpoints
from backend.specialists.environment import lendable
from backend.specialists.fleet import Fleet, RecordError, choice_fields, named, new_row
from backend.specialists.following import Following
from backend.specialists.launcher import Happening, Launcher
from backend.specialists.launching import Launching
from backend.specialists.link import Channel, Link
from backend.specialists.local import LocalLauncher
from backend.specialists.logs import log_path, redact, tail
from backend.specialists.nodes import Node
from backend.specialists.plan import make_plan
from backend.specialists.pulse import Pulse
from backend.specialists.service import EmbeddedService
from backend.specialists.state import ANSWERING
from backend.specialists.turnbook import TurnBook
from backend.specialists.upkeep import Upkeep, Wanted
from backend.tls import Trust, trusting

log = logging.getLogger(__name__)

CONFIGURE_TIMEOUT_S = 20.0
"""A worker may have to import another provider's library first."""


DEATH_KNOWN_S = 2.0
"""How long after its connection broke the end of a worker may become known, at most."""


class NotRunning(TektonError):
    code = "not_running"


class Supervisor:
    """One fleet, from one event loop. Every change of a row is published on topic `fleet`.

    `wanted` says whether anybody reads a topic: log files are not read for nobody.
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
        wanted: Wanted = lambda topic: True,
        launcher: Launcher | None = None,
        registry: Registry | None = None,
    ) -> None:
        registry = registry or Registry(home.registry, home.audit)
        registry.on_corrupt = self._on_corrupt
        board = Board(publish)
        self._fleet = Fleet(
            home=home,
            settings=settings,
            catalog=catalog,
            environment=environment,
            choice=choice,
            board=board,
            turns=TurnBook(board),
            registry=RegistryWriter(registry),
            launcher=launcher or LocalLauncher(home, settings, environment),
            record_error=record_error,
            token=worker_token(home),
            trust=_trust(settings, launcher),
        )
        for component in catalog:
            board.put(new_row(component, self._fleet.choice_for(component)))
        self._embedded = EmbeddedService(self._fleet)
        self._endpoints = Endpoints(self._fleet)
        self._launching = Launching(self._fleet, self._embedded, self._endpoints)
        self._endings = Endings(self._fleet, self._embedded, self._endpoints, self._launching)
        self.following = Following(self._fleet, self._endpoints)
        self._pulse = Pulse(self._fleet)
        self._upkeep = Upkeep(self._fleet, publish, wanted)
        self._lent: set[tuple[int, str]] = set()
        """Which worker (pid) was given the keys of which provider."""
        self._listening: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # life

    async def start(self, *, lead: bool = True) -> None:
        """Begin to watch: as the one who leads the fleet, or copying the rows of the gateway that does."""
        self._loop = asyncio.get_running_loop()
        self._listening = asyncio.create_task(self._listen(), name="launcher events")
        if lead:
            await self.lead()
        else:
            self._fleet.board.copied = True

    async def lead(self) -> None:
        """Adopt what lives, clear what is dead, look after both from now on."""
        board = self._fleet.board
        board.copied = False
        for row in list(board.rows.values()):
            if row.state in ("starting", "stopping"):  # who saw to it is gone: only a look tells how it ended
                board.change(row.id, state="lost", cause="the gateway that led the fleet ended meanwhile")
        self._embedded.adopt()
        await adopt_all(self._fleet)
        await self._endpoints.rejoin(await self._fleet.registry.read())
        for row in list(board.rows.values()):
            if row.state in ANSWERING and row.id not in self._fleet.links:
                board.change(
                    row.id, state="lost", phase=None, cause="it ended while the lead of the fleet changed"
                )
            self._fleet.turns.refresh(row.id)
        self._pulse.start()
        self._upkeep.start()

    async def close(self, stop_fleet: bool) -> None:
        """Stop watching; end every specialist and the model server first if asked, else leave them running."""
        self._pulse.stop()
        self._upkeep.stop()
        self.following.stop()
        if stop_fleet:
            await self.kill([row.id for row in self.statuses() if row.pid or row.id in self._fleet.links])
            await self._embedded.stop()
        for link in list(self._fleet.links.values()):
            link.close("the backend ended")
        self._embedded.detach()
        self._fleet.launcher.close()
        if self._listening is not None:
            self._listening.cancel()
        await self._fleet.registry.flush()

    # looking

    def statuses(self) -> list[SpecialistStatus]:
        """Return every row, in table order."""
        return list(self._fleet.board.rows.values())

    def status(self, ai_id: str) -> SpecialistStatus:
        """Return one row.

        Raises:
            TektonError: `unknown_specialist`.
        """
        if (row := self._fleet.board.rows.get(ai_id)) is None:
            raise TektonError(f"there is no specialist {ai_id!r}", code="unknown_specialist")
        return row

    def services(self) -> list[ServiceStatus]:
        return list(self._fleet.board.services.values())

    def link(self, ai_id: str) -> Channel:
        """Return the way to ask a specialist.

        Raises:
            NotRunning: It does not run, or does not answer.
        """
        row, link = self.status(ai_id), self._fleet.links.get(ai_id)
        if row.state not in ANSWERING or link is None or link.closed.done():
            if row.state in ANSWERING:
                raise NotRunning(f"the connection to {row.name} broke a moment ago and is being looked at")
            if row.state == "lost" and row.pid:
                raise NotRunning(f"{row.cause}; wait until it answers, or kill it and launch it anew")
            why = f" ({row.cause})" if row.cause else ""
            raise NotRunning(f"{row.name} is {row.state}{why}; launch it first")
        return link

    def log_path(self, ai_id: str, *, previous: bool = False) -> Path:
        return log_path(self._fleet.home.logs, ai_id, previous=previous)

    def sources(self) -> list[str]:
        """Return whose logs can be read."""
        return self._upkeep.sources()

    async def read_log(self, source: str, *, tail: int = 200, previous: bool = False) -> dict[str, Any]:
        """Return `{"source", "path", "lines", "remote"}` with the newest lines of a log, oldest first.

        Of a `remote` one the file is a copy, brought up to date by this call and while somebody reads topic `logs`.
        """
        path = self.log_path(source, previous=previous)
        if not previous and self._fleet.launcher.remote:
            await self._fleet.launcher.fetch_logs(source)
            self._upkeep.brought(source)
        lines = await asyncio.to_thread(_tail, path, tail)
        remote = self._fleet.launcher.remote and source in self._fleet.placements
        shown = [redact(line) for line in lines]
        return {"source": source, "path": str(path), "lines": shown, "remote": remote}

    # acting

    async def plan(self, ids: list[str]) -> FleetPlan:
        """Return what launching these would do, without doing it."""
        return await make_plan(self._fleet, [self.status(ai_id).id for ai_id in ids])

    async def launch(self, ids: list[str]) -> list[LaunchResult]:
        """Launch in parallel; a result for each, in order. One that runs already is no failure."""
        known = [self.status(ai_id).id for ai_id in ids]
        return list(await asyncio.gather(*(self._launching.launch(ai_id) for ai_id in known)))

    async def kill(self, ids: list[str], force: bool = False) -> list[LaunchResult]:
        """End in parallel: SIGTERM, grace, SIGKILL (`force`: at once); a result for each, in order."""
        known = [self.status(ai_id).id for ai_id in ids]
        return await self._endings.kill(known, force=force)

    async def restart(self, ids: list[str]) -> list[LaunchResult]:
        """End and launch, by the operator's wish."""
        await self.kill(ids)
        return await self.launch(ids)

    async def set_model(self, ai_id: str, provider: str | None, model: str | None) -> None:
        """Change what a specialist uses, now if it runs and from now on; a running turn keeps what it has.

        Raises:
            TektonError: The worker cannot use that provider; it goes on as before.
        """
        fleet, row = self._fleet, self.status(ai_id)
        kind = provider or row.provider
        if kind == "auto":
            kind = fleet.choice.provider
        chosen = model or (row.model if kind == row.provider else fleet.default_model(kind))
        if not chosen:
            raise TektonError(f"no model is named for {kind}: give one", code="invalid_request")
        choice = named(kind, chosen, "set by hand")
        if kind == "embedded":
            self._embedded.ensure()
        if row.state in ANSWERING:
            await self._configure(row, choice)
        fleet.choices[ai_id] = choice
        fleet.board.change(ai_id, **choice_fields(choice))

    async def _configure(self, row: SpecialistStatus, choice: ProviderChoice) -> None:
        request = Request(
            type="configure",
            provider=choice.provider,
            model=choice.model,
            token=self._fleet.token,
            lent=self._lendable(choice.provider),
        )
        reply = await self.link(row.id).call(request, timeout_s=CONFIGURE_TIMEOUT_S)
        if isinstance(reply, ErrorReply):
            raise TektonError(reply.message, code=reply.code)
        if isinstance(reply, InfoResponse) and (placement := self._fleet.placements.get(row.id)):
            await self._fleet.registry.apply(
                lambda change: change.update(
                    row.id,
                    expect=(placement.identity.pid, placement.identity.start),
                    provider=choice.provider,
                    model=choice.model,
                )
            )

    def _lendable(self, kind: str) -> dict[str, str]:
        """Return keys a worker may be given over its socket: none beyond this machine, where nodes have their own."""
        if self._fleet.launcher.remote:
            return {}
        return lendable(self._fleet.environment, kind, self._fleet.settings)

    async def nodes(self) -> list[Node]:
        """Return the hosts specialists may run on, with who runs where."""
        return await self._fleet.launcher.nodes()

    async def lend_keys(self, ai_id: str, kind: str) -> None:
        """Give a worker what it lacks to ask another provider than its own; a failure shows in the turn itself."""
        row, values = self.status(ai_id), self._lendable(kind)
        if kind == "embedded":
            self._embedded.ensure()
        if kind == row.provider or not values or row.transport != "socket" or (row.pid, kind) in self._lent:
            return
        self._lent.add((row.pid, kind))
        request = Request(type="configure", token=self._fleet.token, lent=values)
        await self.link(ai_id).call(request, timeout_s=CONFIGURE_TIMEOUT_S)

    def service_note(
        self, name: str, title: str, detail: str, *, ended: Literal["", "done", "failed"] = ""
    ) -> None:
        """Show work of the backend itself as a service: running with words, or how it ended."""
        if ended:
            state = "stopped" if ended == "done" else "exited"
            self._fleet.board.change_service(name, title, state=state, detail="", cause=detail)
        else:
            self._fleet.board.change_service(name, title, state="busy", detail=detail, cause="")

    def report(self, where: str, code: str, message: str) -> None:
        """Enter a failure somebody else saw into the ledger."""
        self._fleet.record_error(where, code, message)

    # what the turn manager says

    def turn_began(self, ai_id: str, request_id: str) -> None:
        self._fleet.turns.began(ai_id, request_id)

    def turn_phase(
        self, ai_id: str, request_id: str, phase: Phase, *, detail: str = "", position: int = 0
    ) -> None:
        self._fleet.turns.phase(ai_id, request_id, phase, detail=detail, position=position)

    def hold_streams(self, held: bool) -> None:
        """Stop reading from every worker, or go on, while readers of the platform catch up."""
        for link in self._fleet.links.values():
            if isinstance(link, Link):
                link.hold(held)

    def turn_progressed(self, ai_id: str, request_id: str, pieces: int = 1) -> None:
        self._fleet.turns.progressed(ai_id, request_id, pieces)

    def turn_ended(self, ai_id: str, request_id: str, outcome: TurnOutcome) -> None:
        self._fleet.turns.ended(ai_id, request_id, outcome)

    async def died_with(self, ai_id: str, request_id: str) -> bool:
        """Wait whether a turn that was cut is named in its worker's death record; false when the worker lives on.

        A connection may break a moment before the end of its process is known.
        """
        within_s = DEATH_KNOWN_S if ai_id in self._fleet.placements else 0.0
        return await self._fleet.turns.was_named(ai_id, request_id, within_s)

    def cost_changed(self, ai_id: str, costs: dict[str, float], currency: str) -> None:
        """Show what a specialist's turns cost today: sums by currency, and the currency to show first."""
        self._fleet.board.change(ai_id, cost=costs.get(currency), currency=currency, costs=costs)

    # what the launcher says

    async def _listen(self) -> None:
        async for happening in self._fleet.launcher.watch():
            try:
                self._on(happening)
            except Exception:  # one specialist's trouble must not blind us for the others
                log.exception("%s of %s", happening.kind, happening.ai_id)

    def _on(self, happening: Happening) -> None:
        if happening.kind == "warm":
            self._on_warm(happening.ai_id, happening.problem, happening.code)
        elif happening.kind in ("exited", "lost"):
            self._endings.ended(happening)

    def _on_warm(self, ai_id: str, problem: str, code: ErrorCode | None) -> None:
        changes: dict[str, object] = {"warming": False}
        if problem:
            changes |= {"last_error": problem, "last_error_code": code}
            self._fleet.record_error(ai_id, code or "provider_unavailable", problem, phase="warming")
        self._fleet.turns.idle(ai_id, problem, **changes)

    def _on_corrupt(self, corruption: Corruption) -> None:
        """Called from whatever thread met the damage."""

        def tell() -> None:
            kept = ", ".join(corruption.kept) or "none"
            text = f"the registry was damaged and set aside as {corruption.path}; entries kept: {kept}"
            self._fleet.record_error("registry", "registry_corrupt", text, evidence=corruption.problem)
            self._upkeep.registry_damaged()

        if self._loop is not None:
            self._loop.call_soon_threadsafe(tell)


def _trust(settings: Settings, launcher: Launcher | None) -> Trust | None:
    """Return whom to believe of specialists on other hosts. Raises `TlsRefused`."""
    if launcher is None or not launcher.remote or not settings.tls.ca:
        return None
    return trusting(settings.tls.ca, settings.tls.name)


def worker_token(home: Home) -> str:
    """Return the secret workers and this platform share, made at first use, readable by the user alone."""
    path = home.run / "worker.token"
    try:
        if token := path.read_text().strip():
            return token
    except FileNotFoundError:
        pass
    token = secrets.token_urlsafe(32)
    write_private(path, token.encode())
    return token


def _tail(path: Path, lines: int) -> list[str]:
    return tail(path, lines)
