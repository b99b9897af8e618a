"""Team chat: one prompt to many specialists at once, their answers side by side, moderated or not.

A member that cannot be asked, fails or is late is reported by name, never dropped. Knows turns, not transports.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import Struct

from backend.catalog import Catalog
from backend.events import EventStream
from backend.memory import MemoryStore
from backend.orchestration.moderation import consensus_prompt, round_prompt, synthesis_prompt
from backend.orchestration.orders import ChatOrder
from backend.orchestration.routing import Router
from backend.orchestration.settings import Mode, SettingsBook, Style
from backend.orchestration.turns import Turn, TurnManager, new_request_id
from backend.schema.errors import TektonError
from backend.schema.events import TeamEnd, TeamStart
from backend.schema.frames import ChatMessage, PreviousOutput, TurnContext
from backend.schema.records import TurnOutcome
from backend.specialists.supervisor import Supervisor

TEAM = "team"
MODERATOR = "rhetor-ai"
REMEMBERED_RUNS = 50


class TeamOrder(Struct, omit_defaults=True):
    """What is asked of a team. No targets: all that run, or in mode `directed` those that suit the request.

    `previous` are answers each member sees, its own left out (a discussion round). `messages` stand for the session's
    where the caller keeps the conversation himself. `style` is Rhetor's for this turn. `key` names the conversation
    whose events these are: a further round's is the first one's request id.
    """

    content: str
    target_ids: list[str] | None = None
    mode: Mode | None = None
    timeout_s: float | None = None
    session_id: str = ""
    request_id: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    context: TurnContext | None = None
    round: int = 1
    previous: list[PreviousOutput] = []
    question: str = ""
    messages: list[ChatMessage] | None = None
    style: Style | None = None
    key: str = ""


class TeamOutcome(Struct):
    """All that came of a team turn; answers in the order of arrival."""

    request_id: str
    session_id: str
    mode: Mode
    answers: list[TurnOutcome]
    failures: list[TurnOutcome]
    synthesis: str
    consensus: str
    elapsed: float


@dataclass
class TeamRun:
    """A team turn under way or ended; `done` resolves to its outcome and never raises."""

    order: TeamOrder
    session_id: str
    start: TeamStart
    done: asyncio.Future[TeamOutcome]
    ended: bool = False
    stopped: bool = False
    """Cancelled: members not asked yet are not asked any more."""
    turns: dict[str, Turn] = field(default_factory=dict[str, Turn])


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
        self.active: dict[str, TeamRun] = {}
        self._ended: OrderedDict[str, TeamRun] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, order: TeamOrder, *, on_text: Callable[[str, str], None] | None = None) -> TeamRun:
        """Ask the team and return as soon as every member that can be asked is under way.

        `on_text` is called with specialist id and text as answers come. A known request id returns its run.

        Raises:
            TektonError: The prompt is empty, a name is unknown, or nobody of those asked runs.
        """
        order.request_id = order.request_id or new_request_id()
        if known := self.find(order.request_id):
            return known
        if not order.content.strip():
            raise TektonError("the prompt is empty: type something to ask", code="invalid_request")
        order.mode = order.mode or self._settings.current.moderation_mode
        members = self._members(order)
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
        run = TeamRun(order, session.id, start, asyncio.get_running_loop().create_future())
        self.active[order.request_id] = run
        try:
            await self._memory.append(
                session.id, author="you", role="user", content=order.content, request_id=order.request_id
            )
        except BaseException:  # the caller went away, or the store failed: nobody was asked, nobody may wait
            del self.active[order.request_id]
            run.done.set_result(self._outcome(run, [], "", "", time.monotonic()))
            raise
        self._events.publish("chat", start, key=order.key or order.request_id)
        task = asyncio.create_task(self._run(run, on_text), name=f"team {order.request_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run

    async def discuss(
        self, request_id: str, *, new_request: str = "", mode: Mode | None = None, key: str = ""
    ) -> TeamRun:
        """Start a discussion round over an ended team turn: each member sees the others' last answers.

        `mode` moderates this round in another way than the turn before; `key` is its conversation.

        Raises:
            TektonError: No such team turn is remembered, it still runs, or fewer than two answers came.
        """
        run = self.find(request_id)
        if run is None:
            raise TektonError(f"there is no team turn {request_id!r} to discuss", code="not_found")
        if not run.done.done():
            raise TektonError("the team is still answering: wait for its end, or cancel it", code="conflict")
        outcome = run.done.result()
        if len(outcome.answers) < 2:
            raise TektonError("a discussion needs at least two answers", code="conflict")
        question = run.order.question or run.order.content
        return await self.start(
            TeamOrder(
                content=round_prompt(question, run.order.style or self._settings.current.orchestration_mode),
                target_ids=[answer.ai_id for answer in outcome.answers],
                mode=mode or run.order.mode,
                style=run.order.style,
                key=key,
                timeout_s=run.order.timeout_s,
                session_id=run.session_id,
                request_id=new_request,
                round=run.order.round + 1,
                previous=[PreviousOutput(answer.ai_id, answer.content) for answer in outcome.answers],
                question=question,
            )
        )

    def find(self, request_id: str) -> TeamRun | None:
        return self.active.get(request_id) or self._ended.get(request_id)

    async def cancel(self, request_id: str) -> TeamRun:
        """Cancel every member of a team turn, or of the round its discussion has come to, and wait for its end.

        Raises:
            TektonError: Nobody knows the request id.
        """
        rounds = [run for run in self.active.values() if run.order.key == request_id]
        run = rounds[-1] if rounds else self.find(request_id)
        if run is None:
            raise TektonError(f"there is no team turn {request_id!r}", code="not_found")
        run.stopped = True
        lanes = [turn.request_id for turn in run.turns.values() if not turn.done.done()]
        await asyncio.gather(*(self._turns.cancel(lane) for lane in lanes), return_exceptions=True)
        await asyncio.shield(run.done)
        return run

    def cancel_soon(self, run: TeamRun) -> None:
        """Cancel every member of a team turn without waiting for their word."""
        run.stopped = True
        for turn in run.turns.values():
            if not turn.done.done():
                self._turns.cancel_soon(turn.request_id)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _members(self, order: TeamOrder) -> list[str]:
        if order.target_ids:
            return [component.id for component in self._catalog.expand(order.target_ids)]
        live = [status.id for status in self._fleet.statuses() if status.state in ("ready", "busy")]
        if not live:
            raise TektonError("nobody runs: launch somebody first", code="not_running")
        if order.mode == "directed":
            return self._router.members(order.content) or live
        return live

    async def _run(self, run: TeamRun, on_text: Callable[[str, str], None] | None) -> None:
        began = time.monotonic()
        outcomes: list[TurnOutcome] = []
        places = asyncio.Semaphore(self._settings.current.max_concurrent_specialists)

        async def member(ai_id: str) -> None:
            async with places:
                outcomes.append(await self._ask(run, ai_id, on_text))

        try:
            await asyncio.gather(*(member(ai_id) for ai_id in run.start.lanes))
            await self._conclude(run, outcomes, began)
        finally:
            del self.active[run.order.request_id]
            self._remember(run)
            if not run.done.done():
                run.done.set_result(self._outcome(run, outcomes, "", "", began))

    async def _ask(self, run: TeamRun, ai_id: str, on_text: Callable[[str, str], None] | None) -> TurnOutcome:
        order = run.order
        timeout_s = order.timeout_s or self._settings.current.timeout_for(ai_id)
        chat = ChatOrder(
            ai_id=ai_id,
            content=order.content,
            session_id=run.session_id,
            request_id=run.start.lanes[ai_id],
            group=order.request_id,
            temperature=order.temperature,
            max_tokens=order.max_tokens,
            context=self._context(order, ai_id),
            record_prompt=False,
            timeout_s=timeout_s,
            messages=order.messages,
            key=order.key,
        )

        def hear(text: str) -> None:
            if on_text is not None:
                on_text(ai_id, text)

        try:
            if run.stopped:
                raise TektonError("cancelled before it was asked", code="cancelled")
            run.turns[ai_id] = await self._turns.start(chat, on_text=hear)
            if run.stopped:
                self._turns.cancel_soon(chat.request_id)
            return await self._turns.ask(chat)
        except TektonError as error:
            return await self._refused(run, ai_id, error)

    async def _refused(self, run: TeamRun, ai_id: str, error: TektonError) -> TurnOutcome:
        """Make a member that could not even be asked visible: as a stream error and in the session."""
        lane = run.start.lanes[ai_id]
        outcome = TurnOutcome(
            lane,
            ai_id,
            "",
            session_id=run.session_id,
            code=error.code,
            error=error.message,
            detail=error.detail,
        )
        await self._turns.refuse(outcome, group=run.order.request_id, key=run.order.key)
        return outcome

    def _context(self, order: TeamOrder, ai_id: str) -> TurnContext | None:
        others = [answer for answer in order.previous if answer.specialist_id != ai_id]
        if not others:
            return order.context
        context = order.context or TurnContext()
        context = TurnContext(**{name: getattr(context, name) for name in context.__struct_fields__})
        context.previous = [*context.previous, *others]
        return context

    async def _conclude(self, run: TeamRun, outcomes: list[TurnOutcome], began: float) -> None:
        answers = [outcome for outcome in outcomes if outcome.code is None]
        synthesis = consensus = ""
        if run.stopped:
            pass  # who cancelled wants no more of it
        elif answers and run.order.mode == "synthesis":
            synthesis = await self._moderate(run, outcomes, synthesis_prompt, "synthesis")
        elif answers and run.order.mode == "consensus":
            consensus = await self._moderate(run, outcomes, consensus_prompt, "consensus")
        outcome = self._outcome(run, outcomes, synthesis, consensus, began)
        cancelled = sum(failure.code == "cancelled" for failure in outcome.failures)
        self._events.publish(
            "chat",
            TeamEnd(
                run.order.request_id,
                len(outcome.answers),
                len(outcome.failures) - cancelled,
                cancelled,
                outcome.elapsed,
                synthesis,
                consensus,
            ),
            key=run.order.key or run.order.request_id,
        )
        run.done.set_result(outcome)

    async def _moderate(
        self,
        run: TeamRun,
        outcomes: list[TurnOutcome],
        prompt: Callable[..., str],
        suffix: str,
    ) -> str:
        """Let Rhetor write over the answers; its own failure joins the failures."""
        answers = [outcome for outcome in outcomes if outcome.code is None]
        missing = [outcome.ai_id.removesuffix("-ai") for outcome in outcomes if outcome.code]
        style = run.order.style or self._settings.current.orchestration_mode
        order = ChatOrder(
            ai_id=MODERATOR,
            content=prompt(run.order.question or run.order.content, missing, style),
            session_id=run.session_id,
            request_id=f"{run.order.request_id}/{suffix}",
            group=run.order.request_id,
            context=TurnContext(previous=[PreviousOutput(a.ai_id, a.content) for a in answers]),
            history=False,
            record_prompt=False,
            key=run.order.key,
            timeout_s=run.order.timeout_s or self._settings.current.timeout_for(MODERATOR),
        )
        try:
            outcome = await self._turns.ask(order)
        except TektonError as error:
            outcome = TurnOutcome(
                order.request_id,
                MODERATOR,
                "",
                session_id=run.session_id,
                code=error.code,
                error=f"no {suffix}: {error.message}",
            )
            await self._turns.refuse(outcome, group=run.order.request_id, key=run.order.key)
        if outcome.code:
            outcomes.append(outcome)
            return ""
        return outcome.content

    def _outcome(
        self, run: TeamRun, outcomes: list[TurnOutcome], synthesis: str, consensus: str, began: float
    ) -> TeamOutcome:
        return TeamOutcome(
            run.order.request_id,
            run.session_id,
            run.order.mode or "pass_through",
            [outcome for outcome in outcomes if outcome.code is None],
            [outcome for outcome in outcomes if outcome.code],
            synthesis,
            consensus,
            time.monotonic() - began,
        )

    def _remember(self, run: TeamRun) -> None:
        self._ended[run.order.request_id] = run
        while len(self._ended) > REMEMBERED_RUNS:
            self._ended.popitem(last=False)
