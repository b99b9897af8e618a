"""One fleet served by several gateways: what this gateway makes of the shared log, and which calls it hands on.

A platform whose store has no shared log has none of this. Knows no service of the gateway it belongs to: what it needs
of it comes through two ports, `FleetView` and `LocalGateway`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from backend import log as jsonlog
from backend.cluster.peers import Peers
from backend.cluster.replica import Replica
from backend.cluster.replicated_log import ReplicatedLog
from backend.memory.shared_log import SharedLog
from backend.schema import events
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.frames import Phase, StreamChunk, StreamEnd, StreamError, StreamPhase, Usage
from backend.schema.params import AnyParams
from backend.schema.records import (
    ActiveTurn,
    ServiceStatus,
    SpecialistStatus,
    TurnOutcome,
)
from backend.schema.tools import Ask

log = logging.getLogger(__name__)

FOLDED: frozenset[events.Topic] = frozenset({"chat", "fleet", "errors", "pipes", "asks"})
EMPTIED = (
    "the store was emptied, or brought back from an older copy, while this gateway ran: conversations, errors and usage that "
    "it does not hold any more are lost. This gateway goes on"
)
TAKEN_OVER = (
    "this gateway was silent for longer than its lease of {lease_s:g} s, and another one declared it dead and took over its "
    "turns: it begins anew"
)
REPLACED = (
    "another gateway has come under the name of this one, after it was silent for longer than its lease of {lease_s:g} s: it "
    "ends. See which other machine serves this home"
)
STORE = "store"
"""Name of the service row that shows the state of the store."""
READ_USAGE_AFTER_S = 1.0
WATCHED = "watched"
"""Name of the call by which a gateway asks another one whether somebody there may answer a question."""
WATCHED_WITHIN_S = 2.0
"""A gateway that does not say so in this time has nobody who counts."""


Where = Literal["here", "leader", "owner"]
"""Which gateway runs an action: the one that was asked, the one that leads, or the one whose turn it is about."""


class Routed(Protocol):
    """What routing must know of an action."""

    @property
    def name(self) -> str: ...

    @property
    def where(self) -> Where: ...

    @property
    def params(self) -> type[AnyParams]: ...


class RowCopies(Protocol):
    """The rows of a fleet that another gateway leads."""

    def copy(self, row: SpecialistStatus) -> None: ...

    def drop(self, ai_id: str) -> None: ...

    def copy_service(self, service: ServiceStatus) -> None: ...

    async def settled(self) -> None:
        """Wait until the connections that copied rows ask for are open, or failed."""
        ...


class FleetView(Protocol):
    """The rows shown at this gateway, and how turns of other gateways change them."""

    @property
    def follower(self) -> RowCopies: ...

    def statuses(self) -> list[SpecialistStatus]: ...

    def services(self) -> list[ServiceStatus]: ...

    def show_service(
        self,
        name: str,
        title: str,
        detail: str,
        *,
        ended: Literal["", "done", "failed"] = "",
        publish: bool = True,
    ) -> None: ...

    def turn_began(self, ai_id: str, request_id: str) -> None: ...

    def turn_phase(
        self, ai_id: str, request_id: str, phase: Phase, *, detail: str = "", position: int = 0
    ) -> None: ...

    def turn_progressed(self, ai_id: str, request_id: str, pieces: int = 1) -> None: ...

    def turn_ended(self, ai_id: str, request_id: str, outcome: TurnOutcome) -> None: ...


class LocalGateway(Protocol):
    """What membership asks of its own gateway beside the fleet's rows."""

    async def run_action(self, name: str, params: dict[str, Any]) -> Any:
        """Run an action another gateway handed over. Raises `TektonError`."""
        ...

    def watched(self, conversation: str) -> bool:
        """Return whether somebody connected here may answer what is asked, or what is asked in that conversation."""
        ...

    def caller(self) -> str:
        """Return who calls now, in words."""
        ...

    def act_for(self, by: str) -> None:
        """Have what this task does be put down to somebody."""
        ...

    def asks_changed(self) -> None:
        """Learn that what waits for a person at another gateway has changed."""
        ...

    async def recall(self, request_id: str) -> TurnOutcome:
        """Return the stored answer to a request. Raises `TektonError` when it failed, or none is stored."""
        ...

    async def lead(self) -> None:
        """Take over the fleet: watch its processes, reconcile its rows."""
        ...

    async def end_lost_turns(self, turns: Mapping[str, ActiveTurn]) -> None:
        """Store and publish the end of turns whose gateway is gone, by request id, as others saw them."""
        ...

    async def read_again(self, what: Literal["usage", "orchestration", "rules"]) -> None:
        """Read from the store what another gateway changed there."""
        ...

    def record_failure(self, where: str, code: ErrorCode, text: str) -> None: ...

    def show_unacknowledged(self, count: int) -> None: ...

    def stop(self) -> None:
        """Begin to end this gateway; its specialists live on."""
        ...


class Joined(NamedTuple):
    """A gateway that joined its fleet's shared log. `replica` is exact at the newest event of `stream`."""

    shared_log: SharedLog
    stream: ReplicatedLog
    replica: Replica
    peers: Peers


async def join(shared_log: SharedLog, *, max_bytes: int) -> Joined:
    """Read the shared log and renew the lease once: which gateway leads is known after this.

    `max_bytes` are those of the events that are held here.
    """
    stream, replica = ReplicatedLog(shared_log, max_bytes=max_bytes), Replica()
    peers = Peers(shared_log, stream)

    def fold(origin: str, topic: events.Topic, lines: Sequence[bytes], old: bool) -> None:
        if topic in FOLDED:
            for line in lines:
                replica.take(origin, events.event_decoder.decode(line))

    stream.on_lines = fold
    async with AsyncExitStack() as undo:
        undo.push_async_callback(stream.end)
        await stream.begin()
        await peers.open()
        undo.pop_all()
    return Joined(shared_log, stream, replica, peers)


class Membership:
    """This gateway as one of several. Made before anything is published."""

    def __init__(self, joined: Joined, fleet: FleetView, local: LocalGateway) -> None:
        self.shared_log, self.stream, self.replica, self.peers = joined
        self.fenced = ""
        """Why this gateway may write nothing any more, once another one declared it dead."""
        self.replaced = False
        """Whether another gateway has come under its name, so that it may not come back."""
        self._fleet, self._local = fleet, local
        self._reading_usage: asyncio.Task[None] | None = None
        # Taken over from `join`, which could not show anything yet: from here on rows and asks follow too.
        self.stream.on_lines = self._on_lines
        self.stream.on_away = self._on_away
        self.peers.caller, self.peers.act_for = local.caller, local.act_for
        self.peers.on_lead = self._lead
        self.peers.on_peer_fenced = self._take_over
        self.peers.on_changed = self._changed
        self.peers.on_renewed = self._copy_rows_again
        self.shared_log.on_fenced = self._fenced
        self.shared_log.on_forgotten = self._forgotten

    # start and end

    async def start(self) -> None:
        """Begin to renew the lease; a gateway that does not lead copies the rows of the one that does."""
        self.peers.start()
        for run in self.replica.turns.values():
            if not self._ours(run.origin) and run.turn.ai_id in self._rows():
                self._fleet.turn_began(run.turn.ai_id, run.turn.request_id)
        if self.peers.leads:
            return
        try:
            shown = await asyncio.wait_for(
                self.peers.ask(self.peers.leader_incarnation, "snapshot", {}), self.shared_log.lease_s
            )
        except (TektonError, TimeoutError) as error:
            log.warning("the gateway that leads did not show its fleet: %s", error)
            return
        for row in msgspec.convert(shown["specialists"], list[SpecialistStatus]):
            self._fleet.follower.copy(row)
        for service in msgspec.convert(shown["services"], list[ServiceStatus]):
            self._fleet.follower.copy_service(service)
        await self._fleet.follower.settled()

    async def publish_address(self, url: str) -> None:
        """Store where this gateway serves, for the others to read."""
        here = {"url": url, "pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        await self.shared_log.publish_facts({"incarnation": self.shared_log.incarnation, **here})

    async def end(self) -> None:
        await self.peers.close()
        await self.stream.end()

    # calls

    async def route(self, action: Routed, params: Struct, here: Callable[[], Awaitable[Struct]]) -> object:
        """Run an action at the gateway it belongs to.

        Raises:
            TektonError: What the action raises; `backend_lost` when the gateway that had it died.
        """
        request_id: str = getattr(params, "request_id", "")
        if action.where == "leader":
            if self.peers.leads:
                return await here()
            # What the leader did is published as rows; they are awaited, so that who launched a specialist can
            # ask it here.
            result = await self._ask(self.peers.leader_incarnation, action, params, jsonlog.request_id.get())
            await self._fleet.follower.settled()
            return result
        await self._fleet.follower.settled()
        if action.where == "owner":
            named: str = getattr(params, action.params.about)
            incarnation = await self._owner(named)
        else:
            # the first gateway to claim a request id runs it: a client that asks again at another one joins there
            incarnation = await self.shared_log.claim(request_id) if request_id else ""
        if not incarnation or incarnation == self.shared_log.incarnation:
            return await here()
        if await self.peers.is_member(incarnation):
            try:
                return await self._ask(incarnation, action, params, request_id)
            except TektonError as error:
                # The gateway that had it may have died meanwhile: then the store is asked what came of it.
                # An action there may itself fail by that code, of a worker's backend; while it is a member its
                # word stands.
                if error.code != "backend_lost" or await self.peers.is_member(incarnation):
                    raise
        if action.where == "owner":
            raise TektonError(
                "the gateway that ran this has ended, and the turn with it", code="backend_lost"
            )
        return await self._local.recall(request_id)

    async def run_here(self, name: str, params: dict[str, Any]) -> Any:
        """Run what another gateway handed over. Raises `TektonError`."""
        if name == WATCHED:
            return self._local.watched(params["conversation"])
        return await self._local.run_action(name, params)

    # questions to a person

    @property
    def asks(self) -> list[Ask]:
        """What waits for a person at the other gateways, the oldest first."""
        return [ask for origin, ask in self.replica.asks.values() if not self._ours(origin)]

    def rules_changed(self) -> None:
        """Have the other gateways read the rules over tools again."""
        self.peers.announce_change("rules")

    async def watched(self, conversation: str) -> bool:
        """Return whether somebody at another gateway may answer; one that does not say so in time has nobody."""
        others = [one for one in self.peers.members if one.incarnation != self.shared_log.incarnation]
        asking = [asyncio.create_task(self._watches(one.incarnation, conversation)) for one in others]
        try:
            # The first who says yes is enough; the others need not be waited for.
            for said in asyncio.as_completed(asking, timeout=WATCHED_WITHIN_S):
                if await said:
                    return True
        except TimeoutError:
            log.warning("a gateway did not say within %g s whether anybody watches there", WATCHED_WITHIN_S)
        finally:
            for task in asking:
                task.cancel()
        return False

    async def _watches(self, incarnation: str, conversation: str) -> bool:
        try:
            return await self.peers.ask(incarnation, WATCHED, {"conversation": conversation}) is True
        except TektonError:  # it ended, or is of an older version
            return False

    async def _owner(self, request_id: str) -> str:
        known = self.replica.owner(request_id).rpartition(" ")[2]
        return known or await self.shared_log.claimant(request_id)

    async def _ask(self, incarnation: str, action: Routed, params: Struct, request_id: str = "") -> Any:
        if not incarnation:
            raise TektonError("no gateway leads the fleet at this moment: try again", code="conflict")
        return await self.peers.ask(incarnation, action.name, msgspec.to_builtins(params), request_id)

    # the log

    def _on_lines(self, origin: str, topic: events.Topic, lines: Sequence[bytes], old: bool) -> None:
        if topic not in FOLDED:
            return
        # what was in the log before we joined is in the rows already; what is ours was applied when it was published
        foreign = not old and not self._ours(origin)
        for line in lines:
            event: events.Event = events.event_decoder.decode(line)
            if foreign:
                self._apply_foreign(event)
            self.replica.take(origin, event)

    def _apply_foreign(self, event: events.Event) -> None:
        """Show what another gateway's turns, and its lead of the fleet, change here."""
        fleet = self._fleet
        match event:
            case events.SpecialistGone() if not self.peers.leads:
                fleet.follower.drop(event.id)
            case events.SpecialistEvent() if not self.peers.leads:
                fleet.follower.copy(event.status)
            case events.ServiceEvent() if event.status.name != STORE:
                fleet.follower.copy_service(event.status)
            case events.ErrorEntry() | events.ErrorsAcknowledged():
                self._local.show_unacknowledged(event.unacknowledged)
            case events.AskOpened() | events.AskClosed():
                self._local.asks_changed()
            case events.TurnStarted() if event.ai_id in self._rows():
                fleet.turn_began(event.ai_id, event.request_id)
            case StreamChunk() | StreamPhase() | StreamEnd() | StreamError():
                run = self.replica.turns.get(event.request_id)
                if run is not None and run.turn.ai_id in self._rows():
                    self._account(
                        run.as_active() if isinstance(event, StreamEnd | StreamError) else run.turn, event
                    )
            case _:
                pass

    def _account(self, turn: ActiveTurn, event: StreamChunk | StreamPhase | StreamEnd | StreamError) -> None:
        fleet, name, request_id = self._fleet, turn.ai_id, turn.request_id
        match event:
            case StreamChunk():
                if turn.phase != "streaming":
                    fleet.turn_phase(name, request_id, "streaming")
                fleet.turn_progressed(name, request_id)
            case StreamPhase():
                fleet.turn_phase(name, request_id, event.phase, detail=event.detail, position=event.position)
            case _:
                fleet.turn_ended(name, request_id, _foreign_outcome(turn, event))
                if self._reading_usage is None or self._reading_usage.done():
                    self._reading_usage = asyncio.create_task(self._read_usage(), name="read usage")

    async def _read_usage(self) -> None:
        """Read what turns of other gateways used: it counts against the same budgets. One read covers a burst of endings."""
        # The other gateway publishes the end first and books in the same moment; a burst of ends is read once.
        await asyncio.sleep(READ_USAGE_AFTER_S)
        try:
            await self._local.read_again("usage")
        except TektonError as error:
            log.warning("reading the day's usage: %s", error.message)

    # what happens to gateways

    async def _lead(self) -> None:
        self._local.record_failure(
            "cluster", "backend_lost", "another gateway ended; this one leads the fleet now"
        )
        await self._local.lead()

    async def _take_over(self, fenced: str) -> None:
        turns = await self.shared_log.take_over(fenced)
        if turns is not None:
            await self.end_lost(lambda origin: origin == fenced)

    async def end_lost(self, lost: Callable[[str], bool]) -> None:
        """Store and publish the end of all that gateways of `lost` origins had under way."""
        fleet, replica = self._fleet, self.replica
        runs = {run.turn.request_id: run for run in replica.turns.values() if lost(run.origin)}
        for name, run in runs.items():
            if run.turn.ai_id in self._rows():
                outcome = TurnOutcome(
                    name, run.turn.ai_id, "", code="backend_lost", error="its gateway ended"
                )
                fleet.turn_ended(run.turn.ai_id, name, outcome)
        await self._local.end_lost_turns({key: run.as_active() for key, run in runs.items()})
        for origin, ask in list(replica.asks.values()):
            if lost(origin):
                gone = events.AskClosed(ask.id, ask.ai_id, "deny", "its gateway ended")
                self.stream.publish("asks", gone, key=ask.request_id)
        for team in [team for team in replica.teams.values() if lost(team.origin)]:
            start = team.start
            failed = team.failed + max(0, len(start.lanes) - team.answered - team.failed - team.cancelled)
            took = max(0.0, time.time() - start.timestamp)  # its gateway's clock may be ahead of ours
            end = events.TeamEnd(start.request_id, team.answered, failed, team.cancelled, took)
            self.stream.publish("chat", end, key=start.request_id)
        for start in [start for origin, start in replica.pipes.values() if lost(origin)]:
            text = "the gateway that ran this pipeline ended meanwhile"
            took = max(0.0, time.time() - start.timestamp)  # its gateway's clock may be ahead of ours
            lost_pipe = events.PipelineEnd(start.request_id, False, "", took, 0, "backend_lost", text)
            self.stream.publish("pipes", lost_pipe, key=start.request_id)

    def is_own_past(self, origin: str) -> bool:
        """Return whether this was begun by an earlier incarnation of this very gateway."""
        name, _, incarnation = origin.rpartition(" ")
        return name == self.shared_log.name and incarnation != self.shared_log.incarnation

    async def _changed(self, what: str) -> None:
        if what in ("orchestration", "rules"):
            await self._local.read_again(what)

    def _copy_rows_again(self) -> None:
        if not self.peers.leads:
            for row in self._rows().values():
                self._fleet.follower.copy(row)

    def _forgotten(self) -> None:
        self._local.record_failure("memory", "internal", EMPTIED)

    def _fenced(self, replaced: bool) -> None:
        lease_s = self.shared_log.lease_s
        self.replaced = replaced
        self.fenced = (REPLACED if replaced else TAKEN_OVER).format(lease_s=lease_s)
        log.error("%s", self.fenced)
        self._local.stop()

    def _on_away(self, reason: str) -> None:
        """Show how the store is.

        That it is away is announced at once to the clients of this gateway, without a number, since only the store gives
        numbers. It is not published a second time once it is back: every gateway would repeat it then.
        """
        if not reason:
            self._fleet.show_service(STORE, "Redis store", "answers again", ended="done")
            return
        self._fleet.show_service(STORE, "Redis store", reason, ended="failed", publish=False)
        self._local.record_failure("memory", "internal", reason)
        service = next(row for row in self._fleet.services() if row.name == STORE)
        self.stream.announce("fleet", events.ServiceEvent(service, service.since))

    def _rows(self) -> dict[str, SpecialistStatus]:
        return {row.id: row for row in self._fleet.statuses()}

    def _ours(self, origin: str) -> bool:
        return origin.endswith(f" {self.shared_log.incarnation}")


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
