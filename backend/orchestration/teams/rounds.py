"""A team turn of several rounds: in each after the first, every member sees the others' last answers.

Only the last round is moderated. Knows teams; not transports.
"""

from __future__ import annotations

import asyncio

from backend.orchestration.teams.manager import TeamManager
from backend.orchestration.teams.team_turn import TeamOutcome, TeamRequest
from backend.orchestration.turns.manager import new_request_id
from backend.schema.errors import TektonError


async def run_rounds(teams: TeamManager, request: TeamRequest, rounds: int) -> list[TeamOutcome]:
    """Run a team turn and its discussion to the end; return what came of each round, the first one first.

    Ends early when fewer than two members answered, or somebody cancelled, between two rounds too. All events belong to
    the first round's request id. A caller that is cancelled cancels the round under way.

    Raises:
        TektonError: The team could not be asked; see `TeamManager.start`.
    """
    request.request_id = request.request_id or new_request_id()
    mode = request.mode
    if rounds > 1:
        request.mode = "directed" if mode == "directed" else "pass_through"
    run = await teams.start(request)
    outcomes: list[TeamOutcome] = []
    with teams.holding_session(run):
        try:
            while True:
                outcomes.append(await asyncio.shield(run.done))
                if len(outcomes) == rounds or len(outcomes[-1].answers) < 2 or run.stopped:
                    return outcomes
                run = await teams.discuss(
                    run.request_id,
                    new_request=f"{request.request_id}/round-{len(outcomes) + 1}",
                    mode=mode if len(outcomes) + 1 == rounds else "pass_through",
                    key=request.request_id,
                )
        except TektonError as error:
            if error.code not in ("cancelled", "unknown_session") or not outcomes:
                raise  # else it was ended between two rounds, by itself or with its session
            return outcomes
        except asyncio.CancelledError:
            teams.cancel_soon(run)
            raise
