"""Rhetor over a team's answers: one synthesis, or what they agree on. Knows turns and runs; the words are `moderation`'s."""

from __future__ import annotations

from collections.abc import Callable

from backend.orchestration.moderation import consensus_prompt, synthesis_prompt
from backend.orchestration.orders import ChatOrder
from backend.orchestration.settings import SettingsBook, Style
from backend.orchestration.team_turn import TeamRun
from backend.orchestration.turns import TurnManager
from backend.schema.errors import TektonError
from backend.schema.frames import PreviousOutput, TurnContext
from backend.schema.records import TurnOutcome

MODERATOR = "rhetor-ai"


class Moderator:
    """Asks Rhetor. A failure of Rhetor's is the run's `unmoderated`; the answers stay."""

    def __init__(self, turns: TurnManager, settings: SettingsBook) -> None:
        self._turns, self._settings = turns, settings

    async def synthesis(self, run: TeamRun) -> str:
        """Return one joint answer, or an empty text when it could not be written."""
        return await self._write(run, synthesis_prompt, "synthesis")

    async def consensus(self, run: TeamRun) -> str:
        """Return what the members agree and differ on, or an empty text when it could not be written."""
        return await self._write(run, consensus_prompt, "consensus")

    async def _write(self, run: TeamRun, prompt: Callable[[str, list[str], Style], str], kind: str) -> str:
        missing = [outcome.ai_id.removesuffix("-ai") for outcome in run.failures]
        style = run.order.style or self._settings.current.orchestration_mode
        order = ChatOrder(
            ai_id=MODERATOR,
            content=prompt(run.order.question or run.order.content, missing, style),
            session_id=run.session_id,
            request_id=f"{run.order.request_id}/{kind}",
            group=run.order.request_id,
            context=TurnContext(previous=[PreviousOutput(a.ai_id, a.content) for a in run.answers]),
            history=False,
            record_prompt=False,
            key=run.order.key,
            timeout_s=run.order.timeout_s or self._settings.current.timeout_for(MODERATOR),
        )
        run.moderation = order.request_id
        try:
            outcome = await self._turns.ask(order)
        except TektonError as error:
            outcome = TurnOutcome(
                order.request_id,
                MODERATOR,
                "",
                session_id=run.session_id,
                code=error.code,
                error=f"no {kind}: {error.message}",
            )
            await self._turns.refuse(outcome, group=run.order.request_id, key=run.order.key)
        finally:
            run.moderation = ""
        if outcome.code:
            run.unmoderated = outcome
            return ""
        return outcome.content
