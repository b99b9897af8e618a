"""The end of specialists: those stopped on request, and those that ended by themselves.

Knows which end was asked for; how a process ended comes from the launcher.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from typing import NamedTuple

from backend.schema.errors import TektonError
from backend.schema.records import LaunchResult
from backend.schema.states import RUNNING, SpecialistState
from backend.specialists.context import SupervisorContext
from backend.specialists.endpoints import Endpoints
from backend.specialists.launcher import LauncherEvent, Placement
from backend.specialists.launching import Launching
from backend.specialists.logs import evidence
from backend.specialists.model_server import SERVICE, ModelServer
from backend.specialists.process import ExitStatus, signal_name

log = logging.getLogger(__name__)

ENDED_AT_ONCE = 48
"""How many specialists are ended at the same time: each has the whole grace time, and a machine ends only so many at once."""
NAMED_TURNS = 10
"""How many of the turns that a death ended its record names."""


class _Death(NamedTuple):
    """The record of an end that nobody asked for; `turns` are those it ended."""

    ai_id: str
    code: str
    message: str
    phase: str
    turns: list[str]


class Termination:
    """Stops specialists, and updates row, registry, channel and error log when one has ended."""

    def __init__(
        self,
        context: SupervisorContext,
        model_server: ModelServer,
        endpoints: Endpoints,
        launching: Launching,
    ) -> None:
        self._context, self._model_server, self._endpoints = context, model_server, endpoints
        self._launching = launching
        self._concluding: dict[asyncio.Task[None], str] = {}

    async def kill(self, ids: list[str], *, force: bool) -> list[LaunchResult]:
        """Stop specialists; then the model server too, if nobody uses it any more."""
        wave = asyncio.Semaphore(ENDED_AT_ONCE)

        async def kill(ai_id: str) -> LaunchResult:
            async with wave:
                return await self._kill(ai_id, force)

        # All at once, as each may take its grace time, but not more than `ENDED_AT_ONCE`: their ends load the
        # machine.
        results = list(await asyncio.gather(*map(kill, ids)))
        rows = self._context.table.rows.values()
        # An end is told when the registry has it too; else a launch right behind it would meet the old entry.
        await self.settled(set(ids))
        if not any(row.provider == SERVICE and row.state in RUNNING for row in rows):
            await self._model_server.stop()
        return results

    def ended(self, event: LauncherEvent) -> None:
        """Update everything after an end that the launcher reported."""
        context, ai_id, placement = self._context, event.ai_id, event.placement
        if context.placements.get(ai_id) != placement:
            return  # a failed launch cleaned up after itself, or another worker serves by now
        status = event.exit_status or ExitStatus(cause=event.problem)
        row = context.table.rows[ai_id]
        asked = row.state == "stopping"
        text = describe(status, asked)
        state: SpecialistState = "lost" if event.kind == "lost" else _state(status)
        # Before the channel is closed: that ends the turns, and they are asked for by name here.
        lost = [] if asked else context.turns.lost_turns(ai_id)
        self._forget(ai_id, placement, text, status, "stopped" if asked else state)
        death = None
        if not asked:
            code = "killed" if status.signal is not None else state
            death = _Death(ai_id, code, f"{ai_id} {text}", row.phase or row.state, lost)
            # Its log lies here, so the record is whole at once; of another host the last lines are fetched
            # first.
            if not context.launcher.remote:
                self._record(death, evidence(context.launcher.logs(ai_id)))
                death = None
        self._conclude_soon(ai_id, placement, text, death)

    async def _kill(self, ai_id: str, force: bool) -> LaunchResult:
        context, started = self._context, time.monotonic()
        row = context.table.rows[ai_id]
        if ai_id in context.channels and ai_id not in context.placements:
            # Only an endpoint has a channel and no process.
            return await self._endpoints.release(ai_id)
        if row.state == "starting" and ai_id not in context.placements:
            await asyncio.wait([self._launching.under_way[ai_id]])
        placement = context.placements.get(ai_id)
        if placement is None:
            return LaunchResult(ai_id, True, row.state, message="does not run", code="not_running")
        context.table.update(ai_id, state="stopping", phase=None, detail="")
        status = await context.launcher.stop(ai_id, grace_s=context.settings.fleet.stop_grace_s, force=force)
        # A launch that loses its process cleans up by itself; what follows is for those that had been launched.
        if (launch := self._launching.under_way.get(ai_id)) is not None:
            await asyncio.wait([launch])
        if context.placements.get(ai_id) == placement:
            text = describe(status, True)
            self._forget(ai_id, placement, text, status, "stopped")
            self._conclude_soon(ai_id, placement, text)
        result = LaunchResult(
            ai_id, True, context.table.rows[ai_id].state, placement.identity.pid, placement.port
        )
        result.message = context.table.rows[ai_id].cause
        result.elapsed_s = round(time.monotonic() - started, 3)
        # A process that is not our child has no exit status, so only its identity says whether it still lives.
        unknown = status.signal is None and status.code is None
        if status.by_us and unknown and placement.identity.still_lives():
            result.ok, result.code = False, "internal"
            result.message = f"pid {placement.identity.pid} does not end, not even by SIGKILL"
        return result

    def _forget(
        self, ai_id: str, placement: Placement, text: str, status: ExitStatus, state: SpecialistState
    ) -> None:
        """Close the channel of a specialist that has ended, and show its end."""
        context = self._context
        context.placements.pop(ai_id, None)
        if (channel := context.channels.pop(ai_id, None)) is not None:
            channel.close(text)
        context.table.update(
            ai_id,
            state=state,
            phase=None,
            detail="",
            cause=text,
            pid=0,
            warming=False,
            agent=None,
            exit_code=status.code,
            signal=status.signal,
            queue=0,
            version="",
        )

    async def settled(self, ids: Collection[str] | None = None) -> None:
        """Wait until every end so far, of all specialists or of these, is in the registry and in the error log."""
        # In a loop: an end may be reported while the earlier ones are waited for.
        while tasks := [task for task, ai_id in self._concluding.items() if ids is None or ai_id in ids]:
            await asyncio.wait(tasks)

    def _conclude_soon(
        self, ai_id: str, placement: Placement, text: str, death: _Death | None = None
    ) -> None:
        task = asyncio.create_task(self._conclude(ai_id, placement, text, death), name=f"end of {ai_id}")
        self._concluding[task] = ai_id
        task.add_done_callback(self._concluding.pop)

    async def _conclude(self, ai_id: str, placement: Placement, text: str, death: _Death | None) -> None:
        """Record a death on another host, then remove the specialist from the registry.

        Its last log lines have to be fetched first, which takes seconds; row and channel do not wait for that. In this
        order a backend that is killed meanwhile leaves the registry entry, by which the next one records the death.
        """
        if death is not None:
            self._record(death, await self._last_lines(ai_id))
        expect = (placement.identity.pid, placement.identity.start)
        try:
            await self._context.registry.apply(
                lambda change: change.deregister(ai_id, expect=expect, reason=text)
            )
        except TektonError as error:
            self._context.record_error(ai_id, error.code, error.message, phase="ending")

    def _record(self, death: _Death, lines: str) -> None:
        self._context.record_error(
            death.ai_id, death.code, death.message, phase=death.phase,
            evidence=lines + _describe_lost(death.turns),
            request_id=death.turns[0] if death.turns else "",
        )  # fmt: skip

    async def _last_lines(self, ai_id: str) -> str:
        try:
            return await self._context.launcher.last_lines(ai_id)
        except Exception as error:  # a log that cannot be read must not cost the record of the death
            log.exception("the log of %s", ai_id)
            return f"its log could not be read: {error}"


def _describe_lost(turns: list[str]) -> str:
    """Return a last line of evidence that names the turns a death ended; empty when there are none."""
    if not turns:
        return ""
    more = f" and {len(turns) - NAMED_TURNS} more" if len(turns) > NAMED_TURNS else ""
    return f"\nit was answering {', '.join(turns[:NAMED_TURNS])}{more}"


def describe(status: ExitStatus, asked: bool) -> str:
    """Return an end in words. `asked`: the operator stopped it."""
    left = "; processes it had left were killed" if status.leftover else ""
    if not asked:
        return status.describe() + left
    if status.by_us == "SIGTERM, SIGKILL":
        return f"did not end in the grace time after SIGTERM; stopped by SIGKILL{left}"
    if status.by_us and (status.signal is None or status.by_us.endswith(signal_name(status.signal))):
        return f"stopped by {status.by_us}{left}"
    return f"stopped: {status.describe()}{left}"


def _state(status: ExitStatus) -> SpecialistState:
    return "killed" if status.signal is not None else "exited"
