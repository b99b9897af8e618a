"""The members of a team turn: each is asked once, and once more when somebody asks for it.

Knows turns and runs; not who belongs to a team, nor what is made of the answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from backend.orchestration.settings import OrchestrationSettingsStore
from backend.orchestration.teams.team_turn import TeamRequest, TeamRun
from backend.orchestration.turns.manager import TurnManager, new_request_id
from backend.orchestration.turns.request import ChatRequest
from backend.orchestration.turns.turn import Reservation
from backend.schema.errors import TektonError
from backend.schema.frames import TurnContext
from backend.schema.records import TurnOutcome

log = logging.getLogger(__name__)

OnText = Callable[[str], None]


class MemberTurns:
    """Asks members of team turns; what they answer is taken into the run."""

    def __init__(self, turns: TurnManager, settings: OrchestrationSettingsStore) -> None:
        self._turns, self._settings = turns, settings

    def ask(self, run: TeamRun, ai_id: str, on_text: OnText | None = None) -> asyncio.Task[TurnOutcome]:
        """Begin to ask a member for the first time."""
        return self._begin(run, self._request(run, ai_id, run.start.lanes[ai_id], run.request.key), on_text)

    def ask_again(self, run: TeamRun, ai_id: str, request_id: str = "") -> asyncio.Task[TurnOutcome]:
        """Begin to ask a member the same question once more, or join that very call if it is known.

        The turn's request id is `<team turn>/<member>/<request_id>`. While the team still answers, it is part of what
        the team waits for and its events are the team's; later they are published under `request_id`.

        Raises:
            TektonError: `not_found` for somebody who is no member, `conflict` while the member answers, or the team
                was cancelled and has not ended.
        """
        if ai_id not in run.start.lanes:
            members = ", ".join(name.removesuffix("-ai") for name in run.start.lanes)
            raise TektonError(
                f"{ai_id} was not asked in this team turn; its members: {members}", code="not_found"
            )
        call = request_id or new_request_id()
        lane = self.lane(run, ai_id, call)
        if (asking := run.asking.get(ai_id)) is not None and not asking.done():
            if asking.get_name() == lane:
                return asking
            raise TektonError(f"{ai_id} still answers: wait for its end, or cancel it", code="conflict")
        if run.stopped and not run.done.done():
            raise TektonError(
                "the team turn is being cancelled: ask again when it has ended", code="conflict"
            )
        run.calls[call] = lane
        key = call if run.gathered else run.key
        return self._begin(run, self._request(run, ai_id, lane, key), None)

    def lane(self, run: TeamRun, ai_id: str, call: str) -> str:
        """Return the request id of the turn that a call of `ask_again` begins, which may be named by that itself."""
        prefix = f"{member_request_id(run.request, ai_id)}/"
        return call if call.startswith(prefix) else prefix + call

    def _begin(self, run: TeamRun, request: ChatRequest, on_text: OnText | None) -> asyncio.Task[TurnOutcome]:
        reservation = self._turns.reserve(request.request_id)

        async def ask() -> TurnOutcome:
            fresh = self._turns.find(request.request_id) is None
            try:
                outcome = await self._ask(run, request, reservation, on_text)
            except Exception as error:  # the boundary of a lane: the others go on, this one shows the failure
                log.exception("%s could not be asked", request.ai_id)
                outcome = _failed(run, request, TektonError(f"{request.ai_id} could not be asked: {error}"))
            if fresh:
                run.take(outcome)
            return outcome

        task = run.asking[request.ai_id] = asyncio.create_task(ask(), name=request.request_id)
        task.add_done_callback(lambda _: self._turns.release(reservation.request_id))
        return task

    async def _ask(
        self, run: TeamRun, request: ChatRequest, reservation: Reservation, on_text: OnText | None
    ) -> TurnOutcome:
        ended = run.done.done()
        try:
            async with reservation.slot(run.places):
                if run.stopped and not ended:
                    raise TektonError("cancelled before it was asked", code="cancelled")
                run.turns[request.ai_id] = await self._turns.start(request, on_text=on_text)
                if run.stopped and not ended:
                    self._turns.cancel_soon(request.request_id)
                # `start` knows the id by now, so this waits for the turn that was begun, with its time-out.
                return await self._turns.ask(request)
        except TektonError as error:
            return await self._refused(run, request, error)

    async def _refused(self, run: TeamRun, request: ChatRequest, error: TektonError) -> TurnOutcome:
        """Make a member that could not even be asked visible: as a stream error and in the session."""
        outcome = _failed(run, request, error)
        await self._turns.refuse(outcome, group=request.group, key=request.key)
        return outcome

    def _request(self, run: TeamRun, ai_id: str, request_id: str, key: str) -> ChatRequest:
        request = run.request
        return ChatRequest(
            ai_id=ai_id,
            content=request.content,
            session_id=run.session_id,
            request_id=request_id,
            group=request.request_id,
            temperature=request.temperature,
            max_tokens=request.max_tokens,
            context=_context(request, ai_id),
            record_prompt=False,
            timeout_s=request.timeout_s or self._settings.current.timeout_for(ai_id),
            messages=request.messages,
            rules=request.rules,
            key=key,
            owners=request.owners,
        )


def member_request_id(request: TeamRequest, ai_id: str) -> str:
    """Return the request id of a member's turn."""
    return f"{request.request_id}/{ai_id}"


def _failed(run: TeamRun, request: ChatRequest, error: TektonError) -> TurnOutcome:
    return TurnOutcome(
        request.request_id,
        request.ai_id,
        "",
        session_id=run.session_id,
        code=error.code,
        error=error.message,
        detail=error.detail,
    )


def _context(request: TeamRequest, ai_id: str) -> TurnContext | None:
    """Return what a member knows beside the prompt: the others' earlier answers among it."""
    others = [answer for answer in request.previous if answer.specialist_id != ai_id]
    if not others:
        return request.context
    context = msgspec.structs.replace(request.context) if request.context else TurnContext()
    context.previous = [*context.previous, *others]
    return context
