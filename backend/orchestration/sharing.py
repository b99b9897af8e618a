"""One fleet served by several gateways: what this gateway makes of the shared log, and which calls it hands on.

Composition of stream, mirror and twins with the rooms of the platform. A platform whose store has no journal has none
of this.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from backend import jsonlog
from backend.memory.journal import Journal
from backend.orchestration.action import ACTIONS, Action
from backend.orchestration.mirror import Mirror
from backend.orchestration.shared_stream import SharedStream
from backend.orchestration.twins import Twins
from backend.schema.errors import TektonError
from backend.schema.events import (
    ErrorEntry,
    ErrorsAcknowledged,
    Event,
    PipelineEnd,
    ServiceEvent,
    SpecialistEvent,
    TeamEnd,
    Topic,
    TurnStarted,
    event_decoder,
)
from backend.schema.frames import StreamChunk, StreamEnd, StreamError, StreamPhase, Usage
from backend.schema.records import (
    ActiveTurn,
    ServiceStatus,
    SpecialistStatus,
    StoredMessage,
    TurnOutcome,
)

if TYPE_CHECKING:
    from backend.orchestration.platform import Platform

log = logging.getLogger(__name__)

FOLDED: frozenset[Topic] = frozenset({"chat", "fleet", "errors", "pipes"})
STORE = "store"
"""Name of the service row that says how the store is."""
BOOKS_AFTER_S = 1.0


class Sharing:
    """`attach` it to the platform before anything is published."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.stream = SharedStream(journal)
        self.mirror = Mirror()
        self.twins = Twins(journal, self.stream)
        self.stream.on_lines = self._on_lines
        self.stream.on_away = self._on_away
        self.fenced = ""
        """Why this gateway had to end, once another one declared it dead."""
        self._platform: Platform | None = None
        self._books: asyncio.Task[None] | None = None

    # life

    async def begin(self) -> None:
        """Read the shared log, take the first beat: who leads is known after this."""
        await self.stream.begin()
        await self.twins.open()

    def attach(self, platform: Platform) -> None:
        self._platform = platform
        self.twins.on_lead = self._lead
        self.twins.on_buried = self._inherit
        self.twins.on_changed = self._changed
        self.twins.on_beat = self._look_at_links
        self.journal.on_fenced = self._fenced

    async def start(self) -> None:
        """Begin to beat; a gateway that does not lead takes over the rows of the one that does."""
        self.twins.start()
        for run in self.mirror.turns.values():
            if not self._ours(run.origin) and run.turn.ai_id in self._rows():
                self._at.fleet.turn_began(run.turn.ai_id, run.turn.request_id)
        if self.twins.leads:
            return
        try:
            shown = await asyncio.wait_for(
                self.twins.ask(self.twins.leader_life, "snapshot", {}), self.journal.lease_s
            )
        except (TektonError, TimeoutError) as error:
            log.warning("the gateway that leads did not show its fleet: %s", error)
            return
        for row in msgspec.convert(shown["specialists"], list[SpecialistStatus]):
            self._at.fleet.following.copy(row)
        for service in msgspec.convert(shown["services"], list[ServiceStatus]):
            self._at.fleet.following.copy_service(service)
        await self._at.fleet.following.settled()

    async def tell_address(self, url: str) -> None:
        """Say to the others where this gateway serves."""
        here = {"url": url, "pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        await self.journal.tell_facts({"life": self.journal.life, **here})

    async def end(self) -> None:
        await self.twins.close()
        await self.stream.end()

    # calls

    async def route(self, action: Action, params: Struct, here: Callable[[], Awaitable[Any]]) -> Any:
        """Run an action at the gateway it belongs to.

        Raises:
            TektonError: What the action raises; `backend_lost` when the gateway that had it died.
        """
        request_id: str = getattr(params, "request_id", "")
        if action.where == "leader":
            if self.twins.leads:
                return await here()
            result = await self._ask(self.twins.leader_life, action, params, jsonlog.request_id.get())
            await self._at.fleet.following.settled()
            return result
        await self._at.fleet.following.settled()
        if action.where == "owner":
            named: str = getattr(params, "team_request_id", request_id)
            life = await self._owner(named)
        else:
            life = await self.journal.claim(request_id) if request_id else ""
        if not life or life == self.journal.life:
            return await here()
        if await self.twins.is_member(life):
            try:
                return await self._ask(life, action, params, request_id)
            except TektonError as error:
                if error.code != "backend_lost" or await self.twins.is_member(life):
                    raise
        if action.where == "owner":
            raise TektonError(
                "the gateway that ran this has ended, and the turn with it", code="backend_lost"
            )
        return await self._recall(request_id)

    async def _owner(self, request_id: str) -> str:
        known = self.mirror.owner(request_id).rpartition(" ")[2]
        return known or await self.journal.claimed(request_id)

    async def _ask(self, life: str, action: Action, params: Struct, request_id: str = "") -> Any:
        if not life:
            raise TektonError("no gateway leads the fleet at this moment: try again", code="conflict")
        return await self.twins.ask(life, action.name, msgspec.to_builtins(params), request_id)

    async def _recall(self, request_id: str) -> TurnOutcome:
        """Answer a call whose gateway died from what memory holds of it; nothing is asked again."""
        stored = [m for m in await self._at.memory.request_messages(request_id) if m.role == "assistant"]
        if not stored:
            raise TektonError(
                "the gateway that took this call ended before anything of an answer was kept; nothing was asked again",
                code="backend_lost",
                detail={"request_id": request_id},
            )
        message = stored[-1]
        if message.error_code:
            detail: dict[str, object] = {"partial": message.content, "request_id": request_id}
            raise TektonError(message.error, code=message.error_code, detail=detail)
        return _outcome(message)

    async def run_here(self, name: str, params: dict[str, Any]) -> Any:
        """Run an action another gateway handed over."""
        found = ACTIONS.get(name)
        if found is None or found.handler is None:
            raise TektonError(
                f"this gateway knows no action {name!r}: is it of another version?", code="not_found"
            )
        return await found.handler(self._at, found.read_params(params))

    # the log

    def _on_lines(self, origin: str, topic: Topic, lines: Sequence[bytes], old: bool) -> None:
        if topic not in FOLDED:
            return
        foreign = not old and self._platform is not None and not self._ours(origin)
        for line in lines:
            event: Event = event_decoder.decode(line)
            if foreign:
                self._take_foreign(event)
            self.mirror.take(origin, event)

    def _take_foreign(self, event: Event) -> None:
        """Account for what another gateway's turns and its lead of the fleet tell."""
        at = self._at
        match event:
            case SpecialistEvent() if not self.twins.leads:
                at.fleet.following.copy(event.status)
            case ServiceEvent() if event.status.name != STORE:
                at.fleet.following.copy_service(event.status)
            case ErrorEntry() | ErrorsAcknowledged():
                at.ledger.unacknowledged = event.unacknowledged
            case TurnStarted() if event.ai_id in self._rows():
                at.fleet.turn_began(event.ai_id, event.request_id)
            case StreamChunk() | StreamPhase() | StreamEnd() | StreamError():
                run = self.mirror.turns.get(event.request_id)
                if run is not None and run.turn.ai_id in self._rows():
                    self._account(
                        run.as_active() if isinstance(event, StreamEnd | StreamError) else run.turn, event
                    )
            case _:
                pass

    def _account(self, turn: ActiveTurn, event: StreamChunk | StreamPhase | StreamEnd | StreamError) -> None:
        fleet, name, request_id = self._at.fleet, turn.ai_id, turn.request_id
        match event:
            case StreamChunk():
                if turn.phase != "streaming":
                    fleet.turn_phase(name, request_id, "streaming")
                fleet.turn_progressed(name, request_id)
            case StreamPhase():
                fleet.turn_phase(name, request_id, event.phase, detail=event.detail, position=event.position)
            case _:
                fleet.turn_ended(name, request_id, _foreign_outcome(turn, event))
                if self._books is None or self._books.done():
                    self._books = asyncio.create_task(self._read_books(), name="read the books")

    async def _read_books(self) -> None:
        """What others spent counts against the same budgets."""
        await asyncio.sleep(BOOKS_AFTER_S)
        try:
            await self._at.budgets.open()
        except TektonError as error:
            log.warning("reading the day's usage: %s", error.message)

    # what happens to gateways

    async def _lead(self) -> None:
        at = self._at
        at.ledger.record("rhetor", "backend_lost", "another gateway ended; this one leads the fleet now")
        try:
            await at.fleet.lead()
        except Exception as error:
            log.exception("taking the lead of the fleet")
            at.ledger.record("rhetor", "internal", f"the fleet could not be taken over whole: {error}")
        at.monitor.start()

    async def _inherit(self, buried: str) -> None:
        turns = await self.journal.inherit(buried)
        if turns is not None:
            await self.tell_lost(lambda origin: origin == buried)

    async def tell_lost(self, lost: Callable[[str], bool]) -> None:
        """End, for all to see, what gateways that are gone had under way."""
        at, mirror = self._at, self.mirror
        runs = {run.turn.request_id: run for run in mirror.turns.values() if lost(run.origin)}
        for name, run in runs.items():
            if run.turn.ai_id in self._rows():
                outcome = TurnOutcome(
                    name, run.turn.ai_id, "", code="backend_lost", error="its gateway ended"
                )
                at.fleet.turn_ended(run.turn.ai_id, name, outcome)
        await at.turns.recover({key: run.as_active() for key, run in runs.items()})
        for team in [team for team in mirror.teams.values() if lost(team.origin)]:
            start = team.start
            failed = team.failed + max(0, len(start.lanes) - team.answered - team.failed - team.cancelled)
            took = time.time() - start.timestamp
            end = TeamEnd(start.request_id, team.answered, failed, team.cancelled, took)
            self.stream.publish("chat", end, key=start.request_id)
        for start in [start for origin, start in mirror.pipes.values() if lost(origin)]:
            text = "the gateway that ran this pipeline ended meanwhile"
            took = time.time() - start.timestamp
            lost_pipe = PipelineEnd(start.request_id, False, "", took, 0, "backend_lost", text)
            self.stream.publish("pipes", lost_pipe, key=start.request_id)

    def is_own_past(self, origin: str) -> bool:
        """Return whether this was begun by an earlier life of this very gateway."""
        name, _, life = origin.rpartition(" ")
        return name == self.journal.name and life != self.journal.life

    async def _changed(self, what: str) -> None:
        if what == "orchestration":
            await self._at.book.open()

    def _look_at_links(self) -> None:
        if not self.twins.leads:
            for row in self._rows().values():
                self._at.fleet.following.copy(row)

    def _fenced(self) -> None:
        self.fenced = (
            f"this gateway was silent for longer than its lease of {self.journal.lease_s:g} s and another one declared it "
            "dead and took over: it ended. Start it again if you want it back"
        )
        log.error("%s", self.fenced)
        at = self._at
        if at.stop_asked is not None and not at.stop_asked.done():
            at.stop_asked.set_result(False)

    def _on_away(self, reason: str) -> None:
        """Show how the store is: at once to whoever is connected, for the log's numbers cannot be had."""
        if self._platform is None:
            return
        if reason:
            self._at.fleet.service_note(STORE, "Redis store", reason, ended="failed")
            self._at.ledger.record("engram", "internal", reason)
        else:
            self._at.fleet.service_note(STORE, "Redis store", "answers again", ended="done")
        service = next(row for row in self._at.fleet.services() if row.name == STORE)
        self.stream.announce("fleet", ServiceEvent(service, service.since))

    @property
    def _at(self) -> Platform:
        assert self._platform is not None, "attached before anything happens"
        return self._platform

    def _rows(self) -> dict[str, SpecialistStatus]:
        return {row.id: row for row in self._at.fleet.statuses()}

    def _ours(self, origin: str) -> bool:
        return origin.endswith(f" {self.journal.life}")


def _foreign_outcome(turn: ActiveTurn, event: StreamEnd | StreamError) -> TurnOutcome:
    outcome = TurnOutcome(turn.request_id, turn.ai_id, turn.content, session_id=turn.session_id)
    outcome.first_token_ms, outcome.chunks = turn.first_token_ms, turn.chunks
    if isinstance(event, StreamEnd):
        facts = event.metadata
        outcome.usage, outcome.total_time, outcome.model = facts.usage, facts.total_time, facts.model
        if facts.finish_reason == "cancelled":
            outcome.code = "cancelled"
    else:
        outcome.code, outcome.error = event.code, event.message
        outcome.usage = Usage(output_tokens=turn.chunks, estimated=True) if turn.chunks else None
    return outcome


def _outcome(message: StoredMessage) -> TurnOutcome:
    outcome = TurnOutcome(message.request_id, message.author, message.content, session_id=message.session_id)
    outcome.model, outcome.usage, outcome.finish_reason = message.model, message.usage, message.finish_reason
    outcome.first_token_ms, outcome.total_time = message.first_token_ms, message.total_time or 0.0
    outcome.message_id = message.id
    return outcome
