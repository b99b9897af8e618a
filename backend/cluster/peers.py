"""The gateways that serve one fleet: who leads, who died, and calls handed from one to another.

Every gateway of a fleet has one of these, and acts by what the shared log and the leases say. Knows no transport.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from backend.cluster.replicated_log import ReplicatedLog
from backend.memory.errors import MemoryFault
from backend.memory.shared_log import Fenced, Member, Renewal, SharedLog
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.results import GatewayPeer
from backend.tasks import Background
from backend.wire import encoder

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 8
GRACE_LEASES = 1.0
"""For how many leases this gateway must have renewed its own, without a gap, before it declares another one dead."""
MISSING_LEASES = 0.5
"""For how many leases another's must have been missing, at each of our renewals, before it is declared dead: when the store's clock
is set ahead all leases run out at once, and who lives has renewed its own long before that."""
ANSWERS_KEPT = 100
"""Answers to other gateways that are kept, for calls that come again as the store lost what was said."""
RunHere = Callable[[str, str, dict[str, Any]], Awaitable[Any]]
"""Runs an action here: request id, name of the action, its params as plain values."""


class Call(Struct, tag="call"):
    """An action handed to another gateway; `to` is its incarnation, `by` who called, in words."""

    to: str
    number: str
    action: str
    params: dict[str, Any]
    request_id: str = ""
    by: str = ""


class Answer(Struct, tag="answer", omit_defaults=True):
    """What came of a call; `to` is the incarnation that asked."""

    to: str
    number: str
    result: Any = None
    code: ErrorCode | None = None
    message: str = ""
    evidence: str = ""
    detail: dict[str, object] = {}


class Changed(Struct, tag="changed"):
    """Something others keep a copy of was changed in the store."""

    what: str


_notes = msgspec.json.Decoder(Call | Answer | Changed)


class Peers:
    """`members` are the gateways as the last renewal of the lease returned them, this one among them.

    `on_lead` is awaited when this gateway takes the lead, `on_peer_fenced` with `NAME INCARNATION` of a gateway whose
    turns are to be taken over, `on_changed` with what another gateway changed. `on_renewed` is called after each
    renewal. `run_here` is given by whoever can run an action; `caller` says who calls now, and `act_for` is told for whom
    another gateway's call is run, in the task that runs it.
    """

    def __init__(self, shared_log: SharedLog, stream: ReplicatedLog) -> None:
        self.shared_log = shared_log
        self.members: list[Member] = []
        self.leader = ""
        self.on_lead: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.on_peer_fenced: Callable[[str], Awaitable[None]] | None = None
        self.on_changed: Callable[[str], Awaitable[None]] | None = None
        self.on_renewed: Callable[[], None] | None = None
        self.run_here: RunHere | None = None
        self.caller: Callable[[], str] = lambda: ""
        self.act_for: Callable[[str], None] = lambda by: None
        self._stream = stream
        self._asked: dict[str, tuple[Call, asyncio.Future[Any]]] = {}
        self._served: dict[str, bytes] = {}
        """Calls of others by number, with the answer once there is one: a call that comes again is not run again."""
        self._numbers = count(1)
        self._tasks = Background()
        self._led = False
        self._beat_at = -math.inf
        self._steady_since = 0.0
        """Since when each renewal of our own lease succeeded in time; another's lease is judged after a whole lease of these."""
        self._missing: dict[str, float] = {}
        """Since when the lease of an incarnation is seen to have run out."""
        self._forgotten: list[Member] = []
        """Gateways that an emptied store does not list again yet: members without a lease until they come back, or are fenced."""
        stream.on_note = self._on_note
        stream.on_epoch = self._ask_again

    @property
    def leads(self) -> bool:
        return self.leader == self.shared_log.name

    @property
    def leader_incarnation(self) -> str:
        return next((member.incarnation for member in self.members if member.name == self.leader), "")

    async def open(self) -> None:
        """Renew the lease once: who is a member, who leads. A gateway that leads now is expected to act as leader already."""
        await self.look()
        self._led = self.leads

    def start(self) -> None:
        self._tasks.start(self._renew(), "peers")

    async def close(self) -> None:
        await self._tasks.end()
        self._fail_asked("this gateway is ending", lambda incarnation: True)

    async def look(self) -> None:
        """Read from the store who is a member now. Raises `MemoryFault`."""
        self._learn(await self._beat())

    async def is_member(self, incarnation: str) -> bool:
        """Return whether an incarnation is listed; asks the store when it is not known here."""
        if not any(member.incarnation == incarnation for member in self.members):
            await self.look()
        return any(member.incarnation == incarnation for member in self.members)

    def rows(self) -> list[GatewayPeer]:
        """Return the gateways by name, for a person to see."""
        return [
            msgspec.convert(
                {
                    **member.facts,
                    "name": member.name,
                    "leads": member.name == self.leader,
                    "here": member.incarnation == self.shared_log.incarnation,
                    "alive": member.leased,
                },
                GatewayPeer,
            )
            for member in sorted(self.members, key=lambda member: member.name)
        ]

    def announce_change(self, what: str) -> None:
        self._stream.note(encoder.encode(Changed(what)))

    async def ask(self, incarnation: str, action: str, params: dict[str, Any], request_id: str = "") -> Any:
        """Have another gateway run an action; return its result as plain values.

        Raises:
            TektonError: What the action raised there, or `backend_lost` when that gateway died before it answered.
        """
        # otherwise it would wait with the queue, and be run long after the caller went away
        if self._stream.away:
            raise TektonError(
                f"the gateway this is for cannot be reached: {self._stream.away}", code="backend_lost"
            )
        number = f"{self.shared_log.incarnation}-{next(self._numbers)}"
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = Call(incarnation, number, action, params, request_id, self.caller())
        self._asked[number] = call, future
        self._stream.note(encoder.encode(call))
        try:
            return await future
        finally:
            del self._asked[number]

    # the lease

    async def _renew(self) -> None:
        while True:
            # Several renewals a lease, so that one that is lost or late costs nobody the lead.
            await asyncio.sleep(self.shared_log.lease_s / RENEWALS_PER_LEASE)
            try:
                await self._act(await self._beat())
            except Fenced:
                return
            except MemoryFault as error:
                log.warning("renewing the lease: %s", error.message)
            except Exception:  # the lease must be renewed whatever goes wrong beside it
                log.exception("renewing the lease")

    async def _beat(self) -> Renewal:
        """Renew the lease; among the members are those that the store has only forgotten."""
        renewal = await self.shared_log.renew_lease()
        if renewal.again:
            self._forgotten = [
                replace(one, leased=False)
                for one in self.members
                if one.incarnation != self.shared_log.incarnation
            ]
        here = {one.name for one in renewal.members} | {entry.partition(" ")[0] for entry in renewal.fenced}
        self._forgotten = [one for one in self._forgotten if one.name not in here]
        return replace(renewal, members=[*renewal.members, *self._forgotten])

    def _may_judge(self) -> bool:
        """Return whether others could have renewed their leases as long as we could: the store was there for both."""
        now, lease_s = time.monotonic(), self.shared_log.lease_s
        # We ourselves stood still, or the store was away: who was silent then may have been as well as we are.
        if now - self._beat_at > lease_s / 2:
            self._steady_since = now
        self._beat_at = now
        return now - self._steady_since >= lease_s * GRACE_LEASES

    def _silent(self, renewal: Renewal) -> list[Member]:
        """Return the other gateways that are silent, as far as we could have heard them."""
        now, may_judge = time.monotonic(), self._may_judge()
        gone = [
            member
            for member in renewal.members
            if not member.leased and member.incarnation != self.shared_log.incarnation
        ]
        self._missing = {one.incarnation: self._missing.get(one.incarnation, now) for one in gone}
        patience_s = self.shared_log.lease_s * MISSING_LEASES
        return [one for one in gone if may_judge and now - self._missing[one.incarnation] >= patience_s]

    async def _act(self, renewal: Renewal) -> None:
        fenced = list(renewal.fenced)
        for member in self._silent(renewal):
            # Only one of those who see it succeeds, and that one makes it known: its turns are ended once.
            if await self.shared_log.fence(member):
                log.warning(
                    "the gateway %s was silent for %g s: declared dead", member.name, self.shared_log.lease_s
                )
                fenced.append(f"{member.name} {member.incarnation}")
        # Read anew: who leads may have changed by the fencing.
        if fenced:
            renewal = await self._beat()
        # Before the new leader acts: what it publishes must stand in the epoch that readers begin with.
        if renewal.epoch and renewal.epoch != self._stream.epoch:
            self._stream.begin_epoch(renewal.epoch)
        self._learn(renewal)
        if self.leads and not self._led:
            self._led = True
            log.warning("this gateway leads the fleet now")
            if self.on_lead is not None:
                # A task of its own: taking over a fleet takes longer than the lease.
                self._tasks.start(self.on_lead(), "take the lead")
        for entry in fenced:
            if self.on_peer_fenced is not None:
                await self.on_peer_fenced(entry)
        incarnations = {member.incarnation for member in renewal.members}
        self._fail_asked(
            "the gateway that ran this ended before it answered",
            lambda incarnation: incarnation not in incarnations,
        )
        if self.on_renewed is not None:
            self.on_renewed()

    def _learn(self, renewal: Renewal) -> None:
        self.members, self.leader = renewal.members, renewal.leader

    def _fail_asked(self, text: str, gone: Callable[[str], bool]) -> None:
        for call, future in list(self._asked.values()):
            if gone(call.to) and not future.done():
                future.set_exception(TektonError(text, code="backend_lost"))

    # notes

    def _on_note(self, origin: str, data: bytes) -> None:
        note = _notes.decode(data)
        ours = origin.endswith(f" {self.shared_log.incarnation}")
        match note:
            case Call() if note.to == self.shared_log.incarnation and note.number in self._served:
                if answer := self._served[note.number]:
                    self._stream.note(answer)
            case Call() if note.to == self.shared_log.incarnation:
                self._served[note.number] = b""
                self._tasks.start(self._serve(origin.rpartition(" ")[2], note), "serve a gateway")
            case Answer() if note.to == self.shared_log.incarnation:
                self._take_answer(note)
            case Changed() if not ours and self.on_changed is not None:
                self._tasks.start(self._changed(note.what), "follow a change")
            case _:
                pass

    async def _changed(self, what: str) -> None:
        try:
            if self.on_changed is not None:
                await self.on_changed(what)
        except TektonError as error:
            log.warning("reading the changed %s: %s", what, error.message)

    async def _serve(self, asker: str, call: Call) -> None:
        answer = Answer(asker, call.number)
        began = time.monotonic()
        try:
            if self.run_here is None:
                raise TektonError("this gateway is still starting", code="conflict")
            if call.by:
                self.act_for(call.by)
            answer.result = await self.run_here(call.request_id, call.action, call.params)
        except TektonError as error:
            answer.code, answer.message = error.code, error.message
            answer.evidence, answer.detail = error.evidence, error.detail
        except Exception:  # the boundary of a call
            log.exception("%s for another gateway failed", call.action)
            answer.code, answer.message = (
                "internal",
                f"{call.action} failed inside the backend; its log has more",
            )
        log.info("%s for another gateway took %.3f s", call.action, time.monotonic() - began)
        del self._served[call.number]  # the oldest answers are let go first, and no call that runs
        self._served[call.number] = encoder.encode(answer)
        self._stream.note(self._served[call.number])
        for number in [number for number, answer in self._served.items() if answer][:-ANSWERS_KEPT]:
            del self._served[number]

    def _ask_again(self) -> None:
        """Hand over what has no answer yet: the note, or its answer, may be lost with the epoch that ended."""
        for call, _ in self._asked.values():
            self._stream.note(encoder.encode(call))

    def _take_answer(self, answer: Answer) -> None:
        # Unknown: its caller was cancelled, or an earlier incarnation of this gateway asked.
        asked = self._asked.get(answer.number)
        if asked is None or asked[1].done():
            return
        if answer.code is None:
            asked[1].set_result(answer.result)
        else:
            asked[1].set_exception(
                TektonError(answer.message, code=answer.code, evidence=answer.evidence, detail=answer.detail)
            )
