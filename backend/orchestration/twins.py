"""The gateways that serve one fleet: who leads, who died, and calls handed from one to another.

Every gateway of a fleet has one of these, and acts by what the shared log and the leases say. Knows no transport.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from typing import Any

import msgspec
from msgspec import Struct

from backend.memory.faults import MemoryFault
from backend.memory.journal import Beat, Fenced, Journal, Member
from backend.orchestration.shared_stream import SharedStream
from backend.schema.errors import ErrorCode, TektonError
from backend.wire import encoder

log = logging.getLogger(__name__)

BEATS_A_LEASE = 8
RunHere = Callable[[str, str, dict[str, Any]], Awaitable[Any]]
"""Runs an action here: request id, name of the action, its params as plain values."""


class Call(Struct, tag="call"):
    """An action handed to another gateway; `to` is its life."""

    to: str
    number: str
    action: str
    params: dict[str, Any]
    request_id: str = ""


class Answer(Struct, tag="answer", omit_defaults=True):
    """What came of a call; `to` is the life that asked."""

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


class Twins:
    """`members` are the gateways as the last beat showed them, this one among them.

    `on_lead` is awaited when this gateway takes the lead, `on_buried` with `NAME LIFE` of one whose turns wait for an
    heir, `on_changed` with what another gateway changed. `run_here` is given by whoever can run an action.
    """

    def __init__(self, journal: Journal, stream: SharedStream) -> None:
        self.journal = journal
        self.members: list[Member] = []
        self.leader = ""
        self.on_lead: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.on_buried: Callable[[str], Awaitable[None]] | None = None
        self.on_changed: Callable[[str], Awaitable[None]] | None = None
        self.on_beat: Callable[[], None] | None = None
        self.run_here: RunHere | None = None
        self._stream = stream
        self._asked: dict[str, tuple[str, asyncio.Future[Any]]] = {}
        self._numbers = count(1)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._led = False
        stream.on_note = self._on_note

    @property
    def leads(self) -> bool:
        return self.leader == self.journal.name

    @property
    def leader_life(self) -> str:
        return next((member.life for member in self.members if member.name == self.leader), "")

    async def open(self) -> None:
        """Take the first beat: who is there, who leads. Whoever leads now is expected to act as leader already."""
        self._learn(await self.journal.beat())
        self._led = self.leads

    def start(self) -> None:
        self._keep(asyncio.create_task(self._beat(), name="twins"))

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail_asked("this gateway is ending", lambda life: True)

    async def look(self) -> None:
        """Ask the store who is there now. Raises `MemoryFault`."""
        self._learn(await self.journal.beat())

    async def is_member(self, life: str) -> bool:
        """Return whether a life of a gateway is listed; asks the store when it is not known here."""
        if not any(member.life == life for member in self.members):
            await self.look()
        return any(member.life == life for member in self.members)

    def rows(self) -> list[dict[str, object]]:
        """Return the gateways for a person to see."""
        return [
            {
                "name": member.name,
                **{key: value for key, value in member.facts.items() if key != "life"},
                "leads": member.name == self.leader,
                "here": member.life == self.journal.life,
                "alive": member.leased,
            }
            for member in sorted(self.members, key=lambda member: member.name)
        ]

    def tell_changed(self, what: str) -> None:
        self._stream.note(encoder.encode(Changed(what)))

    async def ask(self, life: str, action: str, params: dict[str, Any], request_id: str = "") -> Any:
        """Have another gateway run an action; return its result as plain values.

        Raises:
            TektonError: What the action raised there, or `backend_lost` when that gateway died before it answered.
        """
        if self._stream.away:
            raise TektonError(
                f"the gateway this is for cannot be reached: {self._stream.away}", code="backend_lost"
            )
        number = f"{self.journal.life}-{next(self._numbers)}"
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = (life, future)
        self._stream.note(encoder.encode(Call(life, number, action, params, request_id)))
        try:
            return await future
        finally:
            del self._asked[number]

    # the beat

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.journal.lease_s / BEATS_A_LEASE)
            try:
                beat = await self.journal.beat()
                await self._act(beat)
            except Fenced:
                return
            except MemoryFault as error:
                log.warning("beat: %s", error.message)
            except Exception:  # the lease must be renewed whatever goes wrong beside it
                log.exception("beat")

    async def _act(self, beat: Beat) -> None:
        buried = list(beat.buried)
        for member in beat.members:
            if not member.leased and member.life != self.journal.life and await self.journal.bury(member):
                log.warning(
                    "the gateway %s was silent for %g s: declared dead", member.name, self.journal.lease_s
                )
                buried.append(f"{member.name} {member.life}")
        if buried:
            beat = await self.journal.beat()
        if beat.epoch and beat.epoch != self._stream.epoch:
            self._stream.begin_epoch(beat.epoch)
        self._learn(beat)
        if self.leads and not self._led:
            self._led = True
            log.warning("this gateway leads the fleet now")
            if self.on_lead is not None:
                self._keep(asyncio.create_task(self.on_lead(), name="take the lead"))
        for entry in buried:
            if self.on_buried is not None:
                await self.on_buried(entry)
        lives = {member.life for member in beat.members}
        self._fail_asked("the gateway that ran this ended before it answered", lambda life: life not in lives)
        if self.on_beat is not None:
            self.on_beat()

    def _learn(self, beat: Beat) -> None:
        self.members, self.leader = beat.members, beat.leader

    def _fail_asked(self, text: str, gone: Callable[[str], bool]) -> None:
        for life, future in list(self._asked.values()):
            if gone(life) and not future.done():
                future.set_exception(TektonError(text, code="backend_lost"))

    # notes

    def _on_note(self, origin: str, data: bytes) -> None:
        note = _notes.decode(data)
        ours = origin.endswith(f" {self.journal.life}")
        match note:
            case Call() if note.to == self.journal.life:
                self._keep(asyncio.create_task(self._serve(origin.rpartition(" ")[2], note)))
            case Answer() if note.to == self.journal.life:
                self._take_answer(note)
            case Changed() if not ours and self.on_changed is not None:
                self._keep(asyncio.create_task(self._changed(note.what)))
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
        self._stream.note(encoder.encode(answer))

    def _take_answer(self, answer: Answer) -> None:
        asked = self._asked.get(answer.number)
        if asked is None or asked[1].done():
            return
        if answer.code is None:
            asked[1].set_result(answer.result)
        else:
            asked[1].set_exception(
                TektonError(answer.message, code=answer.code, evidence=answer.evidence, detail=answer.detail)
            )

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
