"""Actions that ask: one specialist, the team, many at once, a pipeline; and cancel."""

from __future__ import annotations

import asyncio
import time

from backend.catalog import Catalog
from backend.memory import TEAM
from backend.orchestration.action import action
from backend.orchestration.approvals.rules import check
from backend.orchestration.bulk import BulkManager, report
from backend.orchestration.models import ModelService
from backend.orchestration.pipelines.manager import PipelineManager
from backend.orchestration.selection import Selector
from backend.orchestration.settings import OrchestrationSettingsStore
from backend.orchestration.teams.manager import TeamManager
from backend.orchestration.teams.rounds import run_rounds
from backend.orchestration.teams.team_turn import TeamOutcome, TeamRequest, TeamRun
from backend.orchestration.turns.manager import TurnManager, new_request_id
from backend.orchestration.turns.request import ChatRequest
from backend.schema.content import text_of, wrong_with
from backend.schema.errors import TektonError
from backend.schema.params import (
    AskMember,
    Cancel,
    Chat,
    Discuss,
    EditTurn,
    InvalidRequest,
    ListTurns,
    RunBulk,
    TeamChat,
)
from backend.schema.records import TurnOutcome
from backend.schema.results import (
    AnswerMetadata,
    BulkReport,
    CancelResult,
    Started,
    TeamAnswer,
    TeamFailure,
    TeamResult,
    TeamRound,
    TurnEdited,
    TurnList,
)

AUTO = "@auto"


def chat_request(params: Chat, *, catalog: Catalog, selector: Selector, turns: TurnManager) -> ChatRequest:
    """Turn params into a request, choosing a specialist for `@auto`."""
    check(params.rules)
    ai_id = params.ai_id
    if ai_id.lstrip("@").lower() == "auto":
        known = turns.find(params.request_id)
        ai_id = known.ai_id if known else selector.pick(params.content)[0]
    ai_id = catalog.get(ai_id).id
    for place, part in enumerate(params.parts or ()):
        if wrong := wrong_with(part):
            raise InvalidRequest(f"parts[{place}]: {wrong}", detail={"param": "parts"})
    if params.parts and not params.content:
        params.content = text_of(params.parts)
    return ChatRequest(
        ai_id=ai_id,
        **{
            name: getattr(params, name)
            for name in ChatRequest.__struct_fields__
            if hasattr(params, name) and name != "ai_id"
        },
        aside=bool(params.group),
        owners=(ai_id, TEAM) if params.group else (ai_id,),
    )


def team_request(params: TeamChat) -> TeamRequest:
    check(params.rules)
    return TeamRequest(
        **{name: getattr(params, name) for name in TeamRequest.__struct_fields__ if hasattr(params, name)}
    )


@action(
    scope="chat",
    routes=(("POST", "/api/v1/chat/{id}"),),
    mcp="SendMessageToSpecialist",
    cli="aish NAME TEXT",
    console="chat",
)
async def chat(
    params: Chat, *, catalog: Catalog, selector: Selector, turns: TurnManager
) -> TurnOutcome | Started:
    """Ask one specialist; waits for the whole answer unless `wait` is false.

    A model's failure is raised with its code; `detail.partial` holds what had come.
    """
    request = chat_request(params, catalog=catalog, selector=selector, turns=turns)
    if not params.wait:
        request.attend = True
        turn = await turns.start(request)
        return Started(turn.request_id, turn.session_id, turn.ai_id)
    return _answer(await turns.ask(request))


@action(
    scope="read",
    routes=(("GET", "/api/v1/turns"),),
    mcp="ListTurns",
    cli="tekton call list_turns",
    console="timeline",
)
async def list_turns(params: ListTurns, *, turns: TurnManager) -> TurnList:
    """List the turns of a range of time, with when each entered which phase."""
    return turns.log.find(
        turns.active.values(),
        since=params.since,
        until=params.until or time.time(),
        limit=params.limit,
    )


@action(
    scope="chat",
    routes=(("POST", "/api/team-chat"), ("POST", "/api/v1/team-chat")),
    mcp="OrchestrateTeamChat",
    cli="tekton team TEXT",
    console="team",
)
async def team_chat(
    params: TeamChat, *, orchestration: OrchestrationSettingsStore, teams: TeamManager
) -> TeamResult | Started:
    """Ask many specialists at once; waits for all unless `wait` is false."""
    request = team_request(params)
    request.mode = request.mode or orchestration.current.moderation_mode
    if params.wait:
        outcomes = await run_rounds(teams, request, params.max_rounds)
        rounds = [team_result(outcome) for outcome in outcomes]
        result = rounds[-1]
        result.request_id = outcomes[0].request_id
        if params.max_rounds > 1:
            result.rounds = [
                TeamRound(number, row.responses, row.failures) for number, row in enumerate(rounds, 1)
            ]
        return result
    if params.max_rounds > 1:
        raise InvalidRequest("team_chat: several rounds are waited for; leave wait out, or use discuss")
    request.attend = True
    return _started(await teams.start(request))


@action(
    scope="chat",
    where="owner",
    routes=(("POST", "/api/v1/team-chat/{team_request_id}/discuss"),),
    mcp="DiscussTeamChat",
    cli="tekton call discuss",
    console="team.discuss",
)
async def discuss(params: Discuss, *, teams: TeamManager) -> TeamResult | Started:
    """Start a discussion round: each member sees the others' last answers."""
    run = await teams.discuss(params.team_request_id, new_request=params.request_id)
    return team_result(await _ended(run)) if params.wait else _started(run)


@action(
    scope="chat",
    routes=(("POST", "/api/v1/team-chat/{team_request_id}/members/{id}/ask"),),
    mcp="AskTeamMember",
    cli="tekton call ask_member",
    console="team.ask-again",
)
async def ask_member(
    params: AskMember, *, catalog: Catalog, teams: TeamManager, turns: TurnManager
) -> TurnOutcome | Started:
    """Ask one member of a team turn its question once more; a discussion then goes on from the new answer.

    The turn's request id is `<team_request_id>/<member>/<request_id>` and its `group` the team turn, so that it comes
    as that member's lane. A failure leaves an earlier answer standing. `conflict` while the member still answers.
    """
    task = teams.ask_again(params.team_request_id, params.ai_id, request_id=params.request_id)
    if not params.wait:
        run = teams.find(params.team_request_id)
        ai_id = catalog.get(params.ai_id).id
        return Started(task.get_name(), run.session_id if run else "", ai_id)
    try:
        # the member may be asked by others as well: the turn is cancelled by name, not by its task
        return _answer(await asyncio.shield(task))
    except asyncio.CancelledError:
        turns.cancel_soon(task.get_name())
        raise


@action(
    scope="chat",
    where="owner",
    routes=(("POST", "/api/v1/turns/{request_id}/cancel"),),
    mcp="CancelTurn",
    cli="ctrl-c in aish",
    console="chat.cancel",
)
async def cancel(
    params: Cancel,
    *,
    bulks: BulkManager,
    models: ModelService,
    pipelines: PipelineManager,
    teams: TeamManager,
    turns: TurnManager,
) -> CancelResult:
    """End a turn, a team turn, a bulk, a pipeline or the fetching of a model, and answer once that is confirmed."""
    began = time.monotonic()
    # those first that are known only while they run: an ended team turn of the same id must not hide one
    if pipelines.find(params.target) is not None:
        chunks = await pipelines.cancel(params.target)
    elif params.target in bulks.active:
        chunks = await bulks.cancel(params.target)
    elif params.target in models.pulls:
        chunks = await models.cancel_pull(params.target)
    elif teams.find(params.target) is not None:
        run = await teams.cancel(params.target)
        chunks = sum(turn.chunks for turn in run.turns.values())
    else:
        turn = await turns.cancel(teams.turn_of_call(params.target) or params.target)
        chunks = turn.chunks if turn else 0
    elapsed_ms = (time.monotonic() - began) * 1000
    return CancelResult(params.target, True, chunks, elapsed_ms)


@action(
    scope="chat",
    where="owner",
    routes=(("PATCH", "/api/v1/turns/{target}"),),
    mcp="EditQueuedTurn",
    cli="tekton call edit_turn",
)
async def edit_turn(
    params: EditTurn, *, pipelines: PipelineManager, teams: TeamManager, turns: TurnManager
) -> TurnEdited:
    """Change a question that waits behind another one in its session; one that is being answered is refused."""
    if teams.is_known(params.target):
        run = await teams.edit(params.target, params.content)
        return TurnEdited(run.request_id, run.request.content)
    if pipelines.find(params.target) is not None:
        raise TektonError("a pipeline cannot be changed: cancel it and run another one", code="conflict")
    turn = await turns.edit(params.target, params.content)
    return TurnEdited(turn.request_id, turn.request.content)


@action(
    scope="chat",
    routes=(("POST", "/api/v1/bulk"),),
    mcp="RunBulk",
    cli="tekton call bulk",
)
async def bulk(
    params: RunBulk, *, bulks: BulkManager, orchestration: OrchestrationSettingsStore
) -> BulkReport:
    """Run many requests side by side; a result for each, in request order."""
    request_id = params.request_id or new_request_id()
    results = bulks.run(
        params.requests,
        max_concurrency=params.max_concurrency or orchestration.current.max_concurrent_specialists,
        timeout_s=params.timeout_s,
        request_id=request_id,
    )
    return await report(results, request_id)


def _answer(outcome: TurnOutcome) -> TurnOutcome:
    """Return an answer; raise a failure with its code and what had come."""
    if outcome.code:
        raise TektonError(
            outcome.error,
            code=outcome.code,
            evidence=outcome.evidence,
            detail={**outcome.detail, "partial": outcome.content, "request_id": outcome.request_id},
        )
    return outcome


def team_result(outcome: TeamOutcome) -> TeamResult:
    """Return a team outcome in the shape clients of the platform know."""
    return TeamResult(
        request_id=outcome.request_id,
        session_id=outcome.session_id,
        responses=[_team_answer(answer) for answer in outcome.answers],
        failures=[
            TeamFailure(failure.ai_id, failure.code or "internal", failure.error, failure.content)
            for failure in outcome.failures
        ],
        moderation_mode=outcome.mode,
        synthesis=outcome.synthesis,
        consensus=outcome.consensus,
        timestamp=time.time(),
        elapsed_time=outcome.elapsed,
    )


def _team_answer(answer: TurnOutcome) -> TeamAnswer:
    metadata = AnswerMetadata(
        answer.model, answer.first_token_ms, answer.total_time, answer.usage, answer.request_id
    )
    return TeamAnswer(answer.ai_id, answer.content, time.time(), metadata)


def _started(run: TeamRun) -> Started:
    return Started(run.request.request_id, run.session_id, lanes=run.start.lanes)


async def _ended(run: TeamRun) -> TeamOutcome:
    return await asyncio.shield(run.done)
