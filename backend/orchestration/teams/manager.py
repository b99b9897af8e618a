"""Team chat: one prompt to many specialists at once, their answers side by side, moderated or not.

A member that cannot be asked, fails or is late is reported by name, never dropped. A team turn with all its members and
rounds is one question of its session. Knows turns, not transports.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

import msgspec

from backend.catalog import Catalog
from backend.events import EventStream
from backend.memory import YOU, MessageStore, TurnStore
from backend.orchestration.recent import Recent
from backend.orchestration.request_names import MEMBER_CALL, TEAM_QUESTION, RequestNames, taken
from backend.orchestration.selection import Selector
from backend.orchestration.sessions import Sessions
from backend.orchestration.settings import OrchestrationSettingsStore
from backend.orchestration.teams.members import MemberTurns, member_request_id
from backend.orchestration.teams.moderator import Moderator, round_prompt
from backend.orchestration.teams.team_turn import TeamOutcome, TeamRequest, TeamRun
from backend.orchestration.turns.manager import TurnManager, new_request_id
from backend.orchestration.turns.turn import outcome_of
from backend.schema.errors import TektonError
from backend.schema.events import TeamEnd, TeamQueued, TeamStart, TurnChanged
from backend.schema.frames import PreviousOutput
from backend.schema.orchestration import Mode
from backend.schema.records import StoredMessage, TurnOutcome
from backend.schema.states import LIVE
from backend.specialists.supervisor import Supervisor
from backend.tasks import Background, end_tasks

log = logging.getLogger(__name__)

CLOSE_S = 2.0
REMEMBERED_RUNS = 50

OnMemberText = Callable[[str, str], None]
"""Called with specialist id and text as answers come."""


class TeamManager:
    """Start, follow and discuss team turns. `active` maps request ids to runs that wait or are under way."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        fleet: Supervisor,
        messages: MessageStore,
        turn_store: TurnStore,
        events: EventStream,
        sessions: Sessions,
        turns: TurnManager,
        selector: Selector,
        settings: OrchestrationSettingsStore,
        max_bytes: int,
        names: RequestNames,
    ) -> None:
        self._names = names
        names.register(TEAM_QUESTION, self.is_known)
        names.register(MEMBER_CALL, self._is_call)
        self._catalog, self._fleet, self._messages, self._events = catalog, fleet, messages, events
        self._turn_store = turn_store
        self._sessions, self._turns, self._selector, self._settings = sessions, turns, selector, settings
        self._members, self._moderator = MemberTurns(turns, settings), Moderator(turns, settings)
        self.active: dict[str, TeamRun] = {}
        self.on_ended: list[Callable[[TeamRun, TeamEnd], None]] = []
        """Called with every run that ended."""
        self._ended: Recent[TeamRun] = Recent(REMEMBERED_RUNS, max_bytes)
        self._tasks = Background()

    async def start(self, request: TeamRequest, *, on_text: OnMemberText | None = None) -> TeamRun:
        """Ask the team and return at once; its members are asked as the settings allow.

        A known request id returns its run, whether it waits, is under way or ended.

        Raises:
            TektonError: The prompt is empty, a name is unknown, or nobody of those asked runs; `invalid_request` for a
                session that is not the team's; `conflict` when the request id names another question.
        """
        request.request_id = request.request_id or new_request_id()
        if known := self._known_as(request):
            return known
        if not request.content.strip():
            raise TektonError("the prompt is empty: type something to ask", code="invalid_request")
        self._names.check(request.request_id, TEAM_QUESTION)
        # Behind a restart only the store knows the id; asked again under it, members would answer a second
        # time.
        if ended := await self._recall(request):
            return ended
        request.mode = request.mode or self._settings.current.moderation_mode
        members = self._chosen(request)
        session = await self._sessions.resolve(request.session_id, request.owners)
        if known := self._known_as(request):  # another call with this id passed while the session was read
            return known
        self._names.check(request.request_id, TEAM_QUESTION)
        # A round of a discussion: whoever cancelled its first question wants no further round.
        first = self.find(request.key) if request.key else None
        if first is not None and first.stopped:
            raise TektonError("the discussion was cancelled before this round", code="cancelled")
        run = self._made(request, session.id, {ai_id: member_request_id(request, ai_id) for ai_id in members})
        self.active[run.request_id] = run
        for member in run.opens:  # before they are open in the store: nobody takes them for a dead backend's
            self._turns.reserve(member)
        waits = False
        try:
            if request.messages is None:
                run.place = self._sessions.enter(
                    session.id, run.key, lambda ahead: self._show_place(run, ahead)
                )
            waits = run.place is not None and run.place.waits
            await (self._keep_waiting(run) if waits else self._store_question(run))
        except BaseException:  # the caller went away, or the store failed: nobody was asked, nobody may wait
            self._release(run)
            run.done.set_result(run.outcome())
            if waits:
                self._tasks.start(self._withdraw(run), f"withdraw {run.request_id}")
            raise
        self._events.publish("chat", run.start, key=run.key)
        if waits:
            if run.place is not None and run.place.waits:  # it may have come while the question was kept
                self._show_place(run, self._sessions.ahead(run.place))
        else:
            # All members are asked before anybody can hear of the run: a call that follows finds each of them asked.
            self._ask_members(run, on_text)
        self._tasks.start(self._run(run, on_text, waits), f"team {run.request_id}")
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
        question = run.request.question or run.request.content
        return await self.start(
            TeamRequest(
                content=round_prompt(
                    question, run.request.style or self._settings.current.orchestration_mode
                ),
                target_ids=[answer.ai_id for answer in answers],
                mode=mode or run.request.mode,
                style=run.request.style,
                key=key,
                timeout_s=run.request.timeout_s,
                session_id=run.session_id,
                request_id=new_request,
                round=run.request.round + 1,
                previous=[PreviousOutput(answer.ai_id, answer.handed_on) for answer in answers],
                question=question,
                owners=run.request.owners,
                rules=run.request.rules,
                about=request_id,
            )
        )

    @contextmanager
    def holding_session(self, first: TeamRun) -> Generator[None]:
        """Keep the session for the rounds that follow a team turn: no other question comes in between."""
        # Under the same holder's name: the rounds join this place instead of waiting behind it.
        place = self._sessions.enter(first.session_id, first.key) if first.place is not None else None
        try:
            yield
        finally:
            if place is not None:
                self._sessions.leave(place)

    def ask_again(
        self, team_request_id: str, ai_id: str, *, request_id: str = ""
    ) -> asyncio.Task[TurnOutcome]:
        """Ask one member of a team turn its question once more; see `MemberTurns.ask_again`.

        What it answers stands for it from then on, in a discussion too; a failure leaves an earlier answer standing.

        Raises:
            TektonError: No such team turn is remembered, nobody has this name, or the member cannot be asked now.
        """
        run = self._known(team_request_id)
        if request_id:
            self._names.check(request_id, MEMBER_CALL)
            known = self.turn_of_call(request_id)
            if known and known != self._members.lane(run, self._catalog.get(ai_id).id, request_id):
                raise taken(request_id, MEMBER_CALL)
        return self._tasks.keep(
            self._members.ask_again(run, self._catalog.get(ai_id).id, request_id),
        )

    def find(self, request_id: str) -> TeamRun | None:
        """Return the run of a request id, or the round that its discussion has come to."""
        return self.active.get(request_id) or self._ended.get(request_id)

    def is_known(self, request_id: str) -> bool:
        """Return whether a team turn of this id waits, is under way or ended lately."""
        return self.find(request_id) is not None

    def in_session(self, session_id: str) -> list[TeamRun]:
        """Return the team turns that wait or are under way in a session."""
        return [run for run in self.active.values() if run.session_id == session_id]

    def forget_session(self, session_id: str) -> None:
        """Remember of the team turns of a session that was deleted that they were asked, and nothing that was said."""
        for run in self._ended.values():
            if run.session_id == session_id:
                run.forget_words()
                self._ended.put(run.request_id, run, run.size)

    def turn_of_call(self, request_id: str) -> str:
        """Return the turn that a call of `ask_again` began, under way or ended; empty when there is none."""
        runs = [*self.active.values(), *self._ended.values()]
        return next((run.calls[request_id] for run in runs if request_id in run.calls), "")

    def _is_call(self, request_id: str) -> bool:
        """Return whether an id was given to a call of `ask_again`, and is not just the name of its turn."""
        return self.turn_of_call(request_id) not in ("", request_id)

    async def cancel(self, request_id: str) -> TeamRun:
        """Cancel every member of a team turn, and the rounds of its discussion that are left; wait for its end.

        Whoever judges, merges or votes over its answers is cancelled too, also after its end.

        Raises:
            TektonError: Nobody knows the request id.
        """
        # A discussion is cancelled by the id of its first turn: the round that is under way has another one.
        rounds = [run for run in self.active.values() if run.request.key == request_id]
        run = rounds[-1] if rounds else self._known(request_id)
        self._stop(run)
        # Judges and mergers are turns of the group, not members of the run.
        over = [turn.request_id for turn in self._turns.in_group(run.request_id)]
        named = {*run.open_turns, *over}
        await asyncio.gather(*map(self._turns.cancel, named), return_exceptions=True)
        await asyncio.shield(run.done)
        return run

    def cancel_soon(self, run: TeamRun) -> None:
        """Cancel every member of a team turn without waiting for their word."""
        self._stop(run)
        for request_id in run.open_turns:
            self._turns.cancel_soon(request_id)

    async def edit(self, request_id: str, content: str) -> TeamRun:
        """Change a team question that still waits in its session.

        Raises:
            TektonError: Nobody knows the request id; `conflict` when it does not wait any more, `invalid_request` for an
                empty question.
        """
        run = self._known(request_id)
        if run.place is None or not run.place.waits or run.stopped:
            raise TektonError("this question is being answered already", code="conflict")
        if not content.strip():
            raise TektonError("the prompt is empty: type something to ask", code="invalid_request")
        before = run.request
        # before anything is waited for: its place may come meanwhile, and what is shown is what is asked
        run.ask(msgspec.structs.replace(before, content=content))
        changed = run.request
        try:
            await self._keep_waiting(run)
        except TektonError:
            if run.place.waits and run.request is changed:
                run.ask(before)
            raise
        if run.stopped:
            raise TektonError("this question was withdrawn meanwhile", code="conflict")
        self._events.publish("chat", TurnChanged(request_id, content), key=run.key)
        return run

    async def close(self) -> None:
        """Wait a moment for what ends by itself, as when its turns were ended, and end the rest."""
        if running := list(self._tasks):
            await asyncio.wait(running, timeout=CLOSE_S)
        # Members are asked by tasks of their own, which a run that was ended leaves behind.
        members = [task for run in self.active.values() for task in run.pending]
        await end_tasks(*self._tasks, *members)

    # starting

    def _made(self, request: TeamRequest, session_id: str, lanes: dict[str, str]) -> TeamRun:
        start = TeamStart(
            request.request_id,
            session_id,
            request.content,
            lanes,
            time.time(),
            request.mode or "pass_through",
            round=request.round,
        )
        places = asyncio.Semaphore(self._settings.current.max_concurrent_specialists)
        return TeamRun(request, session_id, start, asyncio.get_running_loop().create_future(), places)

    async def _store_question(self, run: TeamRun) -> None:
        """Store the question and open the turns of all members, so that the next backend ends those this one leaves open."""
        question = StoredMessage(
            0, run.session_id, YOU, "user", run.request.content, time.time(), request_id=run.request_id
        )
        await self._messages.append(question, opens=run.opens)

    async def _keep_waiting(self, run: TeamRun) -> None:
        """Keep a question that waits, in case the backend ends meanwhile."""
        await self._turn_store.wait(run.opens, run.session_id, run.request.content)

    def _show_place(self, run: TeamRun, ahead: int) -> None:
        self._events.publish("chat", TeamQueued(run.request_id, ahead), key=run.key)

    def _stop(self, run: TeamRun) -> None:
        """Ask nobody any more, in this run nor in a further round; a run that waits need not wait any longer."""
        for one in [*self.active.values(), *self._ended.values()]:
            one.stopped = one.stopped or one.key == run.key
        if run.place is not None:
            self._sessions.give_up(run.place)

    def _chosen(self, request: TeamRequest) -> list[str]:
        if request.target_ids:
            return [component.id for component in self._catalog.expand(request.target_ids)]
        live = [status.id for status in self._fleet.statuses() if status.state in LIVE]
        if not live:
            raise TektonError("nobody runs: launch somebody first", code="not_running")
        if request.mode == "directed":
            return self._selector.members(request.content) or live
        return live

    def _known_as(self, request: TeamRequest) -> TeamRun | None:
        """Return the run a request id names. Raises `RequestIdTaken` when it names another question."""
        run = self.find(request.request_id)
        if run is not None and not run.is_asked_by(request):
            raise taken(request.request_id)
        return run

    async def _recall(self, request: TeamRequest) -> TeamRun | None:
        """Return the run a request id had in an earlier life of the backend, from what is stored of it.

        Raises:
            RequestIdTaken: What is stored under the id is another question.
        """
        stored = await self._messages.of_request(request.request_id)
        question = next((message for message in stored if message.role == "user"), None)
        if question is None:
            if stored:
                raise taken(request.request_id)
            return None
        if question.content != request.content or question.lane or len(stored) > 1:
            raise taken(request.request_id)
        if (await self._sessions.get(question.session_id)).owner not in request.owners:
            raise taken(request.request_id)
        lanes: dict[str, StoredMessage] = {}
        for ai_id in self._catalog.components:
            answers = await self._messages.of_request(member_request_id(request, ai_id))
            lanes |= {message.author: message for message in answers if message.role == "assistant"}
        if not lanes:
            return None
        run = self._made(
            request, question.session_id, {ai_id: row.request_id for ai_id, row in lanes.items()}
        )
        for row in lanes.values():
            run.take(outcome_of(row))
        # What merged or judged the answers was a turn too, stored under a name made of the run's.
        joint = await self._turns.recall(f"{request.request_id}/{request.mode}")
        text = joint.content if joint is not None else ""
        run.gathered = True
        run.done.set_result(run.outcome(text, "") if request.mode == "synthesis" else run.outcome("", text))
        self._ended.put(run.request_id, run, run.size)
        return run

    def _known(self, request_id: str) -> TeamRun:
        if (run := self.find(request_id)) is None:
            raise TektonError(
                f"there is no team turn {request_id!r}; the last {REMEMBERED_RUNS} of this backend are remembered",
                code="not_found",
            )
        return run

    # running

    async def _run(self, run: TeamRun, on_text: OnMemberText | None, waits: bool) -> None:
        try:
            if waits and await self._wait_for_place(run):
                self._ask_members(run, on_text)
            while run.pending:  # whoever is asked again meanwhile is waited for too
                await asyncio.wait(run.pending)
            run.gathered = True
            outcome = await self._moderated(run)
        except Exception as error:
            # the boundary of a team turn: it ends visibly, with the traceback in the log
            log.exception("the team turn %s failed", run.request_id)
            if isinstance(error, TektonError):
                run.fail_rest(error.code, error.message)
            else:
                run.fail_rest("internal", f"failed inside the backend: {error}")
            outcome = run.outcome()
            # Nobody was asked: its turns are open in the store, and the next backend would call them lost.
            if not run.asking:
                await self._withdraw(run)
        except asyncio.CancelledError:
            for task in run.pending:
                task.cancel()
            run.fail_rest("backend_lost", "the backend was stopped while the team answered")
            self._release(run)
            self._end(run, run.outcome())
            raise
        self._release(run)
        self._end(run, outcome)

    async def _wait_for_place(self, run: TeamRun) -> bool:
        """Wait until the session is free and store the question; return false when the turn was cancelled first."""
        assert run.place is not None
        await run.place.granted
        if run.stopped:
            run.fail_rest("cancelled", "cancelled while it waited")
            await self._withdraw(run)
            return False
        await self._store_question(run)
        self._show_place(run, 0)
        return True

    async def _withdraw(self, run: TeamRun) -> None:
        """Close the open turns of a run that waited and will not be asked: all or none, whenever the backend ends."""
        if run.opens:
            await self._turns.close_in_store(
                *(
                    TurnOutcome(request_id, ai_id, "", session_id=run.session_id)
                    for request_id, ai_id in run.opens.items()
                )
            )

    def _ask_members(self, run: TeamRun, on_text: OnMemberText | None) -> None:
        for ai_id in run.start.lanes:
            self._members.ask(run, ai_id, partial(on_text, ai_id) if on_text else None)

    async def _moderated(self, run: TeamRun) -> TeamOutcome:
        # Only over what came: with no answer there is nothing to merge, and the failures say why.
        synthesis = consensus = ""
        if run.answers and not run.stopped:  # who cancelled wants no more of it
            if run.request.mode == "synthesis":
                synthesis = await self._moderator.synthesis(run)
            elif run.request.mode == "consensus":
                consensus = await self._moderator.consensus(run)
        return run.outcome(synthesis, consensus)

    def _end(self, run: TeamRun, outcome: TeamOutcome) -> None:
        cancelled = sum(failure.code == "cancelled" for failure in outcome.failures)
        end = TeamEnd(
            run.request_id,
            len(outcome.answers),
            len(outcome.failures) - cancelled,
            cancelled,
            outcome.elapsed,
            outcome.synthesis,
            outcome.consensus,
        )
        run.done.set_result(outcome)
        self._events.publish("chat", end, key=run.key)
        for observe in self.on_ended:
            observe(run, end)

    def _release(self, run: TeamRun) -> None:
        """Let the next question of the session begin, and remember the run."""
        self.active.pop(run.request_id, None)
        for request_id in run.opens:
            self._turns.release(request_id)
        self._ended.put(run.request_id, run, run.size)
        if run.place is not None:
            self._sessions.leave(run.place)
