"""Ends: specialists that are stopped on request, and those that ended by themselves.

Knows which end was asked for; how a process ended is the launcher's to tell.
"""

from __future__ import annotations

import asyncio
import time

from backend.schema.errors import TektonError
from backend.schema.records import LaunchResult, SpecialistState
from backend.specialists.endpoints import Endpoints
from backend.specialists.fleet import Fleet
from backend.specialists.launcher import Happening, Placement
from backend.specialists.launching import Launching
from backend.specialists.logs import evidence
from backend.specialists.process import Ending, signal_name
from backend.specialists.service import SERVICE, EmbeddedService
from backend.specialists.state import RUNNING

NAMED_TURNS = 10
"""How many turns a death's record names that were cut by it."""


class Endings:
    """Ends specialists and draws the consequences of an end: row, registry, link, ledger."""

    def __init__(
        self, fleet: Fleet, embedded: EmbeddedService, endpoints: Endpoints, launching: Launching
    ) -> None:
        self._fleet, self._embedded, self._endpoints = fleet, embedded, endpoints
        self._launching = launching
        self._writing: set[asyncio.Task[None]] = set()

    async def kill(self, ids: list[str], *, force: bool) -> list[LaunchResult]:
        """End these; afterwards the model server too, if nobody is left who uses it."""
        results = list(await asyncio.gather(*(self._kill(ai_id, force) for ai_id in ids)))
        rows = self._fleet.board.rows.values()
        await self.settled()
        if not any(row.provider == SERVICE and row.state in RUNNING for row in rows):
            await self._embedded.stop()
        return results

    def ended(self, happening: Happening) -> None:
        """Draw the consequences of an end the launcher saw."""
        fleet, ai_id, placement = self._fleet, happening.ai_id, happening.placement
        if fleet.placements.get(ai_id) != placement:
            return  # a launch that failed cleared its own traces, or another worker serves by now
        ending = happening.ending or Ending(cause=happening.problem)
        row = fleet.board.rows[ai_id]
        asked = row.state == "stopping"
        text = words(ending, asked)
        state: SpecialistState = "lost" if happening.kind == "lost" else _state(ending)
        cut = [] if asked else fleet.turns.named_in_death(ai_id)
        self._forget(ai_id, placement, text, ending, "stopped" if asked else state)
        if not asked:
            proof = evidence(fleet.launcher.logs(ai_id)) + _cut_words(cut)
            code = "killed" if ending.signal is not None else state
            fleet.record_error(
                ai_id, code, f"{ai_id} {text}", phase=row.phase or row.state, evidence=proof,
                request_id=cut[0] if cut else "",
            )  # fmt: skip

    async def _kill(self, ai_id: str, force: bool) -> LaunchResult:
        fleet, started = self._fleet, time.monotonic()
        row = fleet.board.rows[ai_id]
        if ai_id in fleet.links and ai_id not in fleet.placements:
            return await self._endpoints.release(ai_id)
        if row.state == "starting" and ai_id not in fleet.placements:
            await asyncio.wait([self._launching.under_way[ai_id]])
        placement = fleet.placements.get(ai_id)
        if placement is None:
            return LaunchResult(ai_id, True, row.state, message="does not run", code="not_running")
        fleet.board.change(ai_id, state="stopping", phase=None, detail="")
        ending = await fleet.launcher.stop(ai_id, grace_s=fleet.settings.fleet.stop_grace_s, force=force)
        if (launch := self._launching.under_way.get(ai_id)) is not None:
            await asyncio.wait([launch])
        if fleet.placements.get(ai_id) == placement:
            self._forget(ai_id, placement, words(ending, True), ending, "stopped")
        result = LaunchResult(
            ai_id, True, fleet.board.rows[ai_id].state, placement.identity.pid, placement.port
        )
        result.message = fleet.board.rows[ai_id].cause
        result.elapsed_s = round(time.monotonic() - started, 3)
        if (
            ending.by_us
            and ending.signal is None
            and ending.code is None
            and placement.identity.still_lives()
        ):
            result.ok, result.code = False, "internal"
            result.message = f"pid {placement.identity.pid} does not end, not even by SIGKILL"
        return result

    def _forget(
        self, ai_id: str, placement: Placement, text: str, ending: Ending, state: SpecialistState
    ) -> None:
        fleet = self._fleet
        fleet.placements.pop(ai_id, None)
        if (link := fleet.links.pop(ai_id, None)) is not None:
            link.close(text)
        fleet.board.change(
            ai_id,
            state=state,
            phase=None,
            detail="",
            cause=text,
            pid=0,
            warming=False,
            exit_code=ending.code,
            signal=ending.signal,
            queue=0,
        )
        task = asyncio.create_task(self._deregister(ai_id, placement, text), name=f"deregister {ai_id}")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def settled(self) -> None:
        """Wait until every end so far is written down."""
        while self._writing:
            await asyncio.wait(self._writing)

    async def _deregister(self, ai_id: str, placement: Placement, text: str) -> None:
        expect = (placement.identity.pid, placement.identity.start)
        try:
            await self._fleet.registry.apply(
                lambda change: change.deregister(ai_id, expect=expect, reason=text)
            )
        except TektonError as error:
            self._fleet.record_error(ai_id, error.code, error.message, phase="ending")


def _cut_words(cut: list[str]) -> str:
    """Return a last line of evidence that names the turns a death has cut, empty when there are none."""
    if not cut:
        return ""
    more = f" and {len(cut) - NAMED_TURNS} more" if len(cut) > NAMED_TURNS else ""
    return f"\nit was answering {', '.join(cut[:NAMED_TURNS])}{more}"


def words(ending: Ending, asked: bool) -> str:
    """Return an end in words; `asked`: the operator wished it."""
    left = "; processes it had left were killed" if ending.leftover else ""
    if not asked:
        return ending.words() + left
    if ending.by_us == "SIGTERM, SIGKILL":
        return f"did not end in the grace time after SIGTERM; stopped by SIGKILL{left}"
    if ending.by_us and (ending.signal is None or ending.by_us.endswith(signal_name(ending.signal))):
        return f"stopped by {ending.by_us}{left}"
    return f"stopped: {ending.words()}{left}"


def _state(ending: Ending) -> SpecialistState:
    return "killed" if ending.signal is not None else "exited"
