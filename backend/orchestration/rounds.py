"""A team turn of several rounds: in each after the first, every member sees the others' last answers.

Only the last round is moderated. Knows teams; not transports.
"""

from __future__ import annotations

import asyncio
import logging

from backend.orchestration.team import TeamManager
from backend.orchestration.team_turn import TeamOrder, TeamOutcome, TeamRun
from backend.orchestration.turns import new_request_id
from backend.schema.errors import TektonError

log = logging.getLogger(__name__)

MAX_ROUNDS = 10
_endings: set[asyncio.Task[None]] = set()


async def hold_rounds(teams: TeamManager, order: TeamOrder, rounds: int) -> list[TeamOutcome]:
    """Run a team turn and its discussion to the end; return what came of each round, the first one first.

    Ends early when fewer than two members answered, or somebody cancelled. All events belong to the first round's
    request id. A caller that is cancelled cancels the round under way.

    Raises:
        TektonError: The team could not be asked; see `TeamManager.start`.
    """
    order.request_id = order.request_id or new_request_id()
    mode = order.mode
    if rounds > 1:
        order.mode = "directed" if mode == "directed" else "pass_through"
    run = await teams.start(order)
    outcomes: list[TeamOutcome] = []
    try:
        while True:
            outcomes.append(await asyncio.shield(run.done))
            last = outcomes[-1]
            cancelled = any(failure.code == "cancelled" for failure in last.failures)
            if len(outcomes) == rounds or len(last.answers) < 2 or cancelled:
                return outcomes
            run = await teams.discuss(
                run.order.request_id,
                new_request=f"{order.request_id}/round-{len(outcomes) + 1}",
                mode=mode if len(outcomes) + 1 == rounds else "pass_through",
                key=order.request_id,
            )
    except asyncio.CancelledError:
        _end_soon(teams, run)
        raise


def _end_soon(teams: TeamManager, run: TeamRun) -> None:
    async def end() -> None:
        try:
            await teams.cancel(run.order.request_id)
        except TektonError as error:
            log.warning("ending an abandoned discussion: %s", error)

    task = asyncio.create_task(end())
    _endings.add(task)
    task.add_done_callback(_endings.discard)
