"""The members of a team turn: each is asked once, and once more when somebody asks for it.

Knows turns and runs; not who belongs to a team, nor what is made of the answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from backend.orchestration.orders import ChatOrder
from backend.orchestration.settings import SettingsBook
from backend.orchestration.team_turn import TeamOrder, TeamRun
from backend.orchestration.turns import TurnManager, new_request_id
from backend.schema.errors import TektonError
from backend.schema.frames import TurnContext
from backend.schema.records import TurnOutcome

log = logging.getLogger(__name__)

Hear = Callable[[str], None]


class TeamMembers:
    """Asks members. What they said is in the run when the call returns."""

    def __init__(self, turns: TurnManager, settings: SettingsBook) -> None:
        self._turns, self._settings = turns, settings

    def ask(self, run: TeamRun, ai_id: str, hear: Hear | None = None) -> asyncio.Task[TurnOutcome]:
        """Begin to ask a member for the first time."""
        return self._begin(run, self._order(run, ai_id, run.start.lanes[ai_id], run.order.key), hear)

    def ask_again(self, run: TeamRun, ai_id: str, request_id: str = "") -> asyncio.Task[TurnOutcome]:
        """Begin to ask a member the same question once more, or join that very call if it is known.

        The turn's request id is `<team turn>/<member>/<request_id>`. While the team still answers, it is part of what
        the team waits for and its events are the team's; later they are told under `request_id`.

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
        prefix = f"{run.order.request_id}/{ai_id}/"
        lane = call if call.startswith(prefix) else prefix + call
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
        return self._begin(run, self._order(run, ai_id, lane, key), None)

    def _begin(self, run: TeamRun, order: ChatOrder, hear: Hear | None) -> asyncio.Task[TurnOutcome]:
        async def ask() -> TurnOutcome:
            fresh = self._turns.find(order.request_id) is None
            async with run.places:
                try:
                    outcome = await self._ask(run, order, hear)
                except Exception as error:  # the boundary of a lane: the others go on, this one is told
                    log.exception("%s could not be asked", order.ai_id)
                    outcome = _failed(run, order, TektonError(f"{order.ai_id} could not be asked: {error}"))
            if fresh:
                run.take(outcome)
            return outcome

        task = run.asking[order.ai_id] = asyncio.create_task(ask(), name=order.request_id)
        return task

    async def _ask(self, run: TeamRun, order: ChatOrder, hear: Hear | None) -> TurnOutcome:
        ended = run.done.done()
        try:
            if run.stopped and not ended:
                raise TektonError("cancelled before it was asked", code="cancelled")
            run.turns[order.ai_id] = await self._turns.start(order, on_text=hear)
            if run.stopped and not ended:
                self._turns.cancel_soon(order.request_id)
            return await self._turns.ask(order)
        except TektonError as error:
            return await self._refused(run, order, error)

    async def _refused(self, run: TeamRun, order: ChatOrder, error: TektonError) -> TurnOutcome:
        """Make a member that could not even be asked visible: as a stream error and in the session."""
        outcome = _failed(run, order, error)
        await self._turns.refuse(outcome, group=order.group, key=order.key)
        return outcome

    def _order(self, run: TeamRun, ai_id: str, request_id: str, key: str) -> ChatOrder:
        order = run.order
        return ChatOrder(
            ai_id=ai_id,
            content=order.content,
            session_id=run.session_id,
            request_id=request_id,
            group=order.request_id,
            temperature=order.temperature,
            max_tokens=order.max_tokens,
            context=_context(order, ai_id),
            record_prompt=False,
            timeout_s=order.timeout_s or self._settings.current.timeout_for(ai_id),
            messages=order.messages,
            key=key,
        )


def _failed(run: TeamRun, order: ChatOrder, error: TektonError) -> TurnOutcome:
    return TurnOutcome(
        order.request_id,
        order.ai_id,
        "",
        session_id=run.session_id,
        code=error.code,
        error=error.message,
        detail=error.detail,
    )


def _context(order: TeamOrder, ai_id: str) -> TurnContext | None:
    """Return what a member knows beside the prompt: the others' earlier answers among it."""
    others = [answer for answer in order.previous if answer.specialist_id != ai_id]
    if not others:
        return order.context
    context = msgspec.structs.replace(order.context) if order.context else TurnContext()
    context.previous = [*context.previous, *others]
    return context
