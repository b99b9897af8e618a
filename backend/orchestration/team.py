"""Team chat: one prompt to many specialists at once, their answers side by side, moderated or not.

A member that cannot be asked, fails or is late is reported by name, never dropped. Knows turns, not transports.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from backend.catalog import Catalog
from backend.events import EventStream
from backend.memory import MemoryStore
from backend.orchestration.moderation import round_prompt
from backend.orchestration.moderator import Moderator
from backend.orchestration.routing import Router
from backend.orchestration.settings import Mode, SettingsBook
from backend.orchestration.team_members import TeamMembers
from backend.orchestration.team_turn import TeamOrder, TeamRun
from backend.orchestration.turns import TurnManager, new_request_id
from backend.schema.errors import TektonError
from backend.schema.events import TeamEnd, TeamStart
from backend.schema.frames import PreviousOutput
from backend.schema.records import TurnOutcome
from backend.specialists.supervisor import Supervisor

TEAM = "team"
REMEMBERED_RUNS = 50

HearMember = Callable[[str, str], None]
"""Called with specialist id and text as answers come."""


class TeamManager:
    """Start, follow and discuss team turns. `active` maps request ids to runs under way."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        fleet: Supervisor,
        memory: MemoryStore,
        events: EventStream,
        turns: TurnManager,
        router: Router,
        settings: SettingsBook,
    ) -> None:
        self._catalog, self._fleet, self._memory, self._events = catalog, fleet, memory, events
        self._turns, self._router, self._settings = turns, router, settings
        self._members, self._moderator = TeamMembers(turns, settings), Moderator(turns, settings)
        self.active: dict[str, TeamRun] = {}
        self._ended: OrderedDict[str, TeamRun] = OrderedDict()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, order: TeamOrder, *, on_text: HearMember | None = None) -> TeamRun:
        """Ask the team and return at once; its members are asked as the settings allow. A known request id returns its run.

        Raises:
            TektonError: The prompt is empty, a name is unknown, or nobody of those asked runs.
        """
        order.request_id = order.request_id or new_request_id()
        if known := self.find(order.request_id):
            return known
        if not order.content.strip():
            raise TektonError("the prompt is empty: type something to ask", code="invalid_request")
        order.mode = order.mode or self._settings.current.moderation_mode
        members = self._chosen(order)
        session = (
            await self._memory.get_session(order.session_id)
            if order.session_id
            else await self._memory.default_session(TEAM)
        )
        if known := self.find(
            order.request_id
        ):  # another call with this id passed while the session was read
            return known
        start = TeamStart(
            order.request_id,
            session.id,
            order.content,
            {ai_id: f"{order.request_id}/{ai_id}" for ai_id in members},
            time.time(),
            order.mode,
            round=order.round,
        )
        places = asyncio.Semaphore(self._settings.current.max_concurrent_specialists)
        run = TeamRun(order, session.id, start, asyncio.get_running_loop().create_future(), places)
        self.active[order.request_id] = run
        try:
            await self._memory.append(
                session.id, author="you", role="user", content=order.content, request_id=order.request_id
            )
        except BaseException:  # the caller went away, or the store failed: nobody was asked, nobody may wait
            del self.active[order.request_id]
            run.done.set_result(run.outcome())
            raise
        self._events.publish("chat", start, key=run.key)
        task = asyncio.create_task(self._run(run, on_text), name=f"team {order.request_id}")
        self._keep(task)
        return run

    async def discuss(
        self, request_id: str, *, new_request: str = "", mode: Mode | None = None, key: str = ""
    ) -> TeamRun:
        """Start a discussion round over an ended team turn: each member sees the others' last answers.

        `mode` moderates this round in another way than the turn before; `key` is its conversation.

        Raises:
            TektonError: No such team turn is remembered, it still runs, or fewer than two answers came.
        """
        run = self._known(request_id)
        if not run.done.done() or run.pending:
            raise TektonError("the team is still answering: wait for its end, or cancel it", code="conflict")
        answers = run.answers
        if len(answers) < 2:
            raise TektonError("a discussion needs at least two answers", code="conflict")
        question = run.order.question or run.order.content
        return await self.start(
            TeamOrder(
                content=round_prompt(question, run.order.style or self._settings.current.orchestration_mode),
                target_ids=[answer.ai_id for answer in answers],
                mode=mode or run.order.mode,
                style=run.order.style,
                key=key,
                timeout_s=run.order.timeout_s,
                session_id=run.session_id,
                request_id=new_request,
                round=run.order.round + 1,
                previous=[PreviousOutput(answer.ai_id, answer.content) for answer in answers],
                question=question,
            )
        )

    def ask_again(
        self, team_request_id: str, ai_id: str, *, request_id: str = ""
    ) -> asyncio.Task[TurnOutcome]:
        """Ask one member of a team turn its question once more; see `TeamMembers.ask_again`.

        What it answers stands for it from then on, in a discussion too; a failure leaves an earlier answer standing.

        Raises:
            TektonError: No such team turn is remembered, nobody has this name, or the member cannot be asked now.
        """
        run = self._known(team_request_id)
        task = self._members.ask_again(run, self._catalog.get(ai_id).id, request_id)
        self._keep(task)
        return task

    def find(self, request_id: str) -> TeamRun | None:
        return self.active.get(request_id) or self._ended.get(request_id)

    def turn_of_call(self, request_id: str) -> str:
        """Return the turn that a call of `ask_again` began, under way or ended; empty when there is none."""
        runs = [*self.active.values(), *self._ended.values()]
        return next((run.calls[request_id] for run in runs if request_id in run.calls), "")

    async def cancel(self, request_id: str) -> TeamRun:
        """Cancel every member of a team turn, or of the round its discussion has come to, and wait for its end.

        Raises:
            TektonError: Nobody knows the request id.
        """
        rounds = [run for run in self.active.values() if run.order.key == request_id]
        run = rounds[-1] if rounds else self._known(request_id)
        run.stopped = True
        await asyncio.gather(*map(self._turns.cancel, run.open_turns), return_exceptions=True)
        await asyncio.shield(run.done)
        return run

    def cancel_soon(self, run: TeamRun) -> None:
        """Cancel every member of a team turn without waiting for their word."""
        run.stopped = True
        for request_id in run.open_turns:
            self._turns.cancel_soon(request_id)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _chosen(self, order: TeamOrder) -> list[str]:
        if order.target_ids:
            return [component.id for component in self._catalog.expand(order.target_ids)]
        live = [status.id for status in self._fleet.statuses() if status.state in ("ready", "busy")]
        if not live:
            raise TektonError("nobody runs: launch somebody first", code="not_running")
        if order.mode == "directed":
            return self._router.members(order.content) or live
        return live

    def _known(self, request_id: str) -> TeamRun:
        if (run := self.find(request_id)) is None:
            raise TektonError(
                f"there is no team turn {request_id!r}; the last {REMEMBERED_RUNS} of this backend are remembered",
                code="not_found",
            )
        return run

    async def _run(self, run: TeamRun, on_text: HearMember | None) -> None:
        for ai_id in run.start.lanes:
            self._members.ask(run, ai_id, partial(on_text, ai_id) if on_text else None)
        try:
            while run.pending:  # whoever is asked again meanwhile is waited for too
                await asyncio.wait(run.pending)
            run.gathered = True
            await self._conclude(run)
        except asyncio.CancelledError:
            for task in run.pending:
                task.cancel()
            raise
        finally:
            del self.active[run.order.request_id]
            self._remember(run)
            if not run.done.done():
                run.done.set_result(run.outcome())

    async def _conclude(self, run: TeamRun) -> None:
        synthesis = consensus = ""
        if run.answers and not run.stopped:  # who cancelled wants no more of it
            if run.order.mode == "synthesis":
                synthesis = await self._moderator.synthesis(run)
            elif run.order.mode == "consensus":
                consensus = await self._moderator.consensus(run)
        outcome = run.outcome(synthesis, consensus)
        cancelled = sum(failure.code == "cancelled" for failure in outcome.failures)
        end = TeamEnd(
            run.order.request_id,
            len(outcome.answers),
            len(outcome.failures) - cancelled,
            cancelled,
            outcome.elapsed,
            synthesis,
            consensus,
        )
        self._events.publish("chat", end, key=run.key)
        run.done.set_result(outcome)

    def _remember(self, run: TeamRun) -> None:
        self._ended[run.order.request_id] = run
        while len(self._ended) > REMEMBERED_RUNS:
            self._ended.popitem(last=False)

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
