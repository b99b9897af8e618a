"""The specialist that leads a team: the prompts of further rounds, one synthesis of the answers, or what they agree on."""

from __future__ import annotations

from collections.abc import Callable

from backend.orchestration.settings import OrchestrationSettingsStore
from backend.orchestration.teams.team_turn import TeamRun
from backend.orchestration.turns.manager import TurnManager
from backend.orchestration.turns.request import ChatRequest
from backend.schema.errors import TektonError
from backend.schema.frames import PreviousOutput, TurnContext
from backend.schema.orchestration import Style
from backend.schema.records import TurnOutcome

MODERATOR = "rhetor-ai"

_STYLES: dict[Style, str] = {
    "collaborative": "Build on what is good in each answer and keep what they agree on.",
    "directive": "Decide: choose the strongest position, say so plainly and give the next step.",
    "autonomous": "Weigh the answers yourself and write the answer you would give, naming your sources.",
}

_ROUNDS: dict[Style, str] = {
    "collaborative": "Say what you would take from the others, what you would add, and where you still differ.",
    "directive": "Say which one position should stand, and why, in at most three sentences.",
    "autonomous": "Reconsider your own answer in the light of the others and give it again, improved.",
}


class Moderator:
    """Asks the moderator. Its failure is the run's `unmoderated`; the answers stay."""

    def __init__(self, turns: TurnManager, settings: OrchestrationSettingsStore) -> None:
        self._turns, self._settings = turns, settings

    async def synthesis(self, run: TeamRun) -> str:
        """Return one joint answer, or an empty text when it could not be written."""
        return await self._write(run, synthesis_prompt, "synthesis")

    async def consensus(self, run: TeamRun) -> str:
        """Return what the members agree and differ on, or an empty text when it could not be written."""
        return await self._write(run, consensus_prompt, "consensus")

    async def _write(self, run: TeamRun, prompt: Callable[[str, list[str], Style], str], kind: str) -> str:
        missing = [outcome.ai_id.removesuffix("-ai") for outcome in run.failures]
        style = run.request.style or self._settings.current.orchestration_mode
        request = ChatRequest(
            ai_id=MODERATOR,
            content=prompt(run.request.question or run.request.content, missing, style),
            session_id=run.session_id,
            request_id=f"{run.request_id}/{kind}",
            group=run.request_id,
            context=TurnContext(previous=[PreviousOutput(a.ai_id, a.handed_on) for a in run.answers]),
            history=False,
            record_prompt=False,
            tools=False,
            key=run.request.key,
            owners=run.request.owners,
            timeout_s=run.request.timeout_s or self._settings.current.timeout_for(MODERATOR),
        )
        run.moderation = request.request_id
        try:
            outcome = await self._turns.ask(request)
        except TektonError as error:
            outcome = TurnOutcome(
                request.request_id,
                MODERATOR,
                "",
                session_id=run.session_id,
                code=error.code,
                error=f"no {kind}: {error.message}",
            )
            await self._turns.refuse(outcome, group=run.request_id, key=run.request.key)
        finally:
            run.moderation = ""
        if outcome.code:
            run.unmoderated = outcome
            return ""
        return outcome.content


def synthesis_prompt(question: str, missing: list[str], style: Style) -> str:
    """Return what the moderator is asked once the members have answered; their answers come as context."""
    return (
        f"The team was asked: {question}\n\n"
        f"Their answers are given above, each under its author's name.{_absence(missing)} "
        f"Write one joint answer for the person who asked. {_STYLES[style]}"
    )


def consensus_prompt(question: str, missing: list[str], style: Style) -> str:
    """Return what the moderator is asked to find agreement and dissent."""
    return (
        f"The team was asked: {question}\n\n"
        f"Their answers are given above, each under its author's name.{_absence(missing)} "
        "State first what all of them agree on, then each point on which they differ and who holds which view, "
        f"then whether there is a consensus: yes, partly or no. {_STYLES[style]}"
    )


def round_prompt(question: str, style: Style) -> str:
    """Return what each member is asked in a discussion round; the others' last answers come as context."""
    return f"We discuss this question: {question}\n\nThe other members' last answers are given above. {_ROUNDS[style]}"


def _absence(missing: list[str]) -> str:
    return f" No answer came from {', '.join(missing)}; say so if it matters." if missing else ""
