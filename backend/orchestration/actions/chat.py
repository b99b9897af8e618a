"""Actions that ask: one specialist, the team, many at once, a pipeline; and cancel."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from backend.orchestration.action import InvalidRequest, RequestId, action
from backend.orchestration.bulk import BulkItem, report
from backend.orchestration.orders import ChatOrder
from backend.orchestration.rounds import MAX_ROUNDS, hold_rounds
from backend.orchestration.settings import Mode, Style
from backend.orchestration.team_turn import TeamOrder, TeamOutcome, TeamRun
from backend.orchestration.turns import new_request_id
from backend.schema.errors import TektonError
from backend.schema.frames import TurnContext
from backend.schema.records import TurnOutcome

if TYPE_CHECKING:
    from backend.orchestration.platform import Platform

AUTO = "@auto"
CHAT_NAMES = {
    "message": "content",
    "id": "ai_id",
    "specialist_id": "ai_id",
    "context_id": "session_id",
    "conversation_id": "session_id",
    "timeout": "timeout_s",
}
TEAM_NAMES = {
    "message": "content",
    "moderation_mode": "mode",
    "target_sockets": "target_ids",
    "specialists": "target_ids",
    "timeout": "timeout_s",
    "context_id": "session_id",
    "orchestration_style": "style",
}
Temperature = Annotated[float, Meta(ge=0, le=2)]
Tokens = Annotated[int, Meta(ge=1)]
Wait = Annotated[float, Meta(gt=0)]


class ChatParams(Struct):
    """`ai_id` may be `@auto`: rules and matching choose. `group` ties the turn to a team turn's events."""

    ai_id: str
    content: str
    session_id: str = ""
    request_id: RequestId = ""
    group: RequestId = ""
    temperature: Temperature | None = None
    max_tokens: Tokens | None = None
    context: TurnContext | None = None
    instruction: str | None = None
    provider: str | None = None
    model: str | None = None
    timeout_s: Wait | None = None
    wait: bool = True


class TeamChatParams(Struct):
    """No targets: all that run. `timeout_s` is each member's deadline in seconds.

    With `max_rounds` above 1 the members then discuss: each sees the others' answers and answers again. `style` is
    Rhetor's for this turn.
    """

    content: str
    target_ids: list[str] | None = None
    mode: Mode | None = None
    timeout_s: Wait | None = None
    session_id: str = ""
    request_id: RequestId = ""
    temperature: Temperature | None = None
    max_tokens: Tokens | None = None
    max_rounds: Annotated[int, Meta(ge=1, le=MAX_ROUNDS)] = 1
    style: Style | None = None
    wait: bool = True


class DiscussParams(Struct):
    """`team_request_id` names the team turn to discuss; `request_id` the new round."""

    team_request_id: RequestId
    request_id: RequestId = ""
    wait: bool = False


class AskMemberParams(Struct):
    """`team_request_id` names the team turn, `ai_id` the member; `request_id` this call."""

    team_request_id: RequestId
    ai_id: str
    request_id: RequestId = ""
    wait: bool = False


class CancelParams(Struct):
    request_id: RequestId


class BulkParams(Struct):
    requests: list[BulkItem]
    max_concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None
    timeout_s: Wait | None = None
    request_id: RequestId = ""


async def chat_order(platform: Platform, params: ChatParams) -> ChatOrder:
    """Turn params into an order, choosing a specialist for `@auto`."""
    ai_id = params.ai_id
    if ai_id.lstrip("@").lower() == "auto":
        ai_id, _ = platform.router.pick(params.content)
    return ChatOrder(
        ai_id=platform.catalog.get(ai_id).id,
        **{
            name: getattr(params, name)
            for name in ChatOrder.__struct_fields__
            if hasattr(params, name) and name != "ai_id"
        },
    )


def team_order(platform: Platform, params: TeamChatParams) -> TeamOrder:
    return TeamOrder(
        **{name: getattr(params, name) for name in TeamOrder.__struct_fields__ if hasattr(params, name)}
    )


@action(
    "chat",
    scope="chat",
    routes=(("POST", "/api/v1/chat/{id}"),),
    mcp="SendMessageToSpecialist",
    cli="aish NAME TEXT",
    console="chat",
    aliases=CHAT_NAMES,
)
async def chat(platform: Platform, params: ChatParams) -> Any:
    """Ask one specialist; waits for the whole answer unless `wait` is false.

    A model's failure is raised with its code; `detail.partial` holds what had come.
    """
    order = await chat_order(platform, params)
    if not params.wait:
        turn = await platform.turns.start(order)
        return {"request_id": turn.request_id, "session_id": turn.session_id, "ai_id": turn.ai_id}
    return _answer(await platform.turns.ask(order))


@action(
    "team_chat",
    scope="chat",
    routes=(("POST", "/api/team-chat"), ("POST", "/api/v1/team-chat")),
    mcp="OrchestrateTeamChat",
    cli="tekton team TEXT",
    console="team",
    aliases=TEAM_NAMES,
)
async def team_chat(platform: Platform, params: TeamChatParams) -> Any:
    """Ask many specialists at once; waits for all unless `wait` is false."""
    order = team_order(platform, params)
    order.mode = order.mode or platform.book.current.moderation_mode
    if params.wait:
        outcomes = await hold_rounds(platform.teams, order, params.max_rounds)
        replies = [team_reply(outcome) for outcome in outcomes]
        reply = {**replies[-1], "request_id": outcomes[0].request_id}
        if params.max_rounds > 1:
            reply["rounds"] = [
                {"round": number, "responses": row["responses"], "failures": row["failures"]}
                for number, row in enumerate(replies, 1)
            ]
        return reply
    if params.max_rounds > 1:
        raise InvalidRequest("team_chat: several rounds are waited for; leave wait out, or use discuss")
    return _started(await platform.teams.start(order))


@action(
    "discuss",
    scope="chat",
    where="owner",
    routes=(("POST", "/api/v1/team-chat/{team_request_id}/discuss"),),
    mcp="DiscussTeamChat",
    cli="tekton call discuss",
    console="team.discuss",
)
async def discuss(platform: Platform, params: DiscussParams) -> Any:
    """Start a discussion round: each member sees the others' last answers."""
    run = await platform.teams.discuss(params.team_request_id, new_request=params.request_id)
    return team_reply(await _ended(run)) if params.wait else _started(run)


@action(
    "ask_member",
    scope="chat",
    routes=(("POST", "/api/v1/team-chat/{team_request_id}/members/{id}/ask"),),
    mcp="AskTeamMember",
    cli="tekton call ask_member",
    console="team.ask-again",
    aliases={"id": "ai_id", "specialist_id": "ai_id", "socket_id": "ai_id"},
)
async def ask_member(platform: Platform, params: AskMemberParams) -> Any:
    """Ask one member of a team turn its question once more; a discussion then goes on from the new answer.

    The turn's request id is `<team_request_id>/<member>/<request_id>` and its `group` the team turn, so that it comes
    as that member's lane. A failure leaves an earlier answer standing. `conflict` while the member still answers.
    """
    task = platform.teams.ask_again(params.team_request_id, params.ai_id, request_id=params.request_id)
    if not params.wait:
        run = platform.teams.find(params.team_request_id)
        ai_id = platform.catalog.get(params.ai_id).id
        return {"request_id": task.get_name(), "session_id": run.session_id if run else "", "ai_id": ai_id}
    try:
        return _answer(await asyncio.shield(task))
    except asyncio.CancelledError:
        platform.turns.cancel_soon(task.get_name())
        raise


@action(
    "cancel",
    scope="chat",
    where="owner",
    routes=(("POST", "/api/v1/turns/{request_id}/cancel"),),
    mcp="CancelTurn",
    cli="ctrl-c in aish",
    console="chat.cancel",
)
async def cancel(platform: Platform, params: CancelParams) -> Any:
    """End a turn, a team turn, a bulk, a pipeline or the fetching of a model, and answer once that is confirmed."""
    began = time.monotonic()
    if platform.teams.find(params.request_id) is not None:
        run = await platform.teams.cancel(params.request_id)
        chunks = sum(len(turn.parts) for turn in run.turns.values())
    elif platform.pipelines.find(params.request_id) is not None:
        chunks = await platform.pipelines.cancel(params.request_id)
    elif params.request_id in platform.bulks.active:
        chunks = await platform.bulks.cancel(params.request_id)
    elif params.request_id in platform.models.pulls:
        chunks = await platform.models.cancel_pull(params.request_id)
    else:
        turn = platform.teams.turn_of_call(params.request_id) or params.request_id
        chunks = len((await platform.turns.cancel(turn)).parts)
    elapsed_ms = (time.monotonic() - began) * 1000
    return {"request_id": params.request_id, "confirmed": True, "chunks": chunks, "elapsed_ms": elapsed_ms}


@action(
    "bulk",
    scope="chat",
    routes=(("POST", "/api/v1/bulk"),),
    mcp="RunBulk",
    cli="tekton call bulk",
    aliases={"timeout": "timeout_s"},
)
async def bulk(platform: Platform, params: BulkParams) -> Any:
    """Run many requests side by side; a result for each, in request order."""
    request_id = params.request_id or new_request_id()
    results = platform.bulks.run(
        params.requests,
        max_concurrency=params.max_concurrency or platform.book.current.max_concurrent_specialists,
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


def team_reply(outcome: TeamOutcome) -> dict[str, Any]:
    """Return a team outcome in the shape clients of the platform know."""
    return {
        "request_id": outcome.request_id,
        "session_id": outcome.session_id,
        "responses": [
            {
                "socket_id": answer.ai_id,
                "content": answer.content,
                "timestamp": time.time(),
                "metadata": {
                    "model": answer.model,
                    "first_token_ms": answer.first_token_ms,
                    "total_time": answer.total_time,
                    "usage": answer.usage,
                    "request_id": answer.request_id,
                },
            }
            for answer in outcome.answers
        ],
        "failures": [
            {
                "socket_id": failure.ai_id,
                "code": failure.code,
                "error": failure.error,
                "partial": failure.content,
            }
            for failure in outcome.failures
        ],
        "moderation_mode": outcome.mode,
        "synthesis": outcome.synthesis,
        "consensus": outcome.consensus,
        "timestamp": time.time(),
        "elapsed_time": outcome.elapsed,
    }


def _started(run: TeamRun) -> dict[str, Any]:
    return {"request_id": run.order.request_id, "session_id": run.session_id, "lanes": run.start.lanes}


async def _ended(run: TeamRun) -> TeamOutcome:
    return await asyncio.shield(run.done)
