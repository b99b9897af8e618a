"""Actions on specialists: see, find, launch, stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec

from backend.catalog import Catalog, UnknownSpecialist, plain
from backend.config import Settings
from backend.orchestration.action import action
from backend.orchestration.discovery import describe, discover
from backend.orchestration.models import ModelService
from backend.orchestration.selection import Selector
from backend.orchestration.specialist_watch import SpecialistWatch
from backend.schema.errors import TektonError
from backend.schema.frames import HealthResponse, Request
from backend.schema.params import (
    CheckHealth,
    GetLogs,
    GetSpecialist,
    InvalidRequest,
    Kill,
    KillOne,
    Launch,
    LaunchOne,
    ListSpecialists,
    Match,
    Names,
    Restart,
    SetAgentOption,
)
from backend.schema.results import (
    AgentOptionSet,
    KillResult,
    LaunchReport,
    LogText,
    MatchList,
    RestartResult,
    SpecialistDetail,
    SpecialistList,
)
from backend.specialists.supervisor import Supervisor
from backend.suggest import nearest

HEALTH_TIMEOUT_S = 5.0
T = TypeVar("T")


def resolve(names: Names, *, catalog: Catalog, settings: Settings) -> list[str]:
    """Return the ids of names, groups, `all` and `starter`, each once.

    Raises:
        TektonError: A name is unknown, or none was given.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted:
        raise InvalidRequest("ids: name at least one specialist, a group, `starter` or `all`")
    spread = [
        name for given in wanted for name in (settings.fleet.starter if given == "starter" else [given])
    ]
    try:
        return [component.id for component in catalog.expand(spread)]
    except UnknownSpecialist as unknown:
        # here these words stand for groups, which the catalogue knows nothing of
        if near := nearest(unknown.name, ("starter", "all"), likeness=0.75):
            words = f"There is no specialist or group {unknown.name[:80]!r}. Did you mean {near[0]}?"
            raise UnknownSpecialist(words, unknown.name) from None
        raise


@action(
    scope="read",
    routes=(("GET", "/api/v1/specialists"), ("GET", "/api/ai/specialists")),
    mcp="ListAISpecialists",
    cli="tekton discover",
)
async def list_specialists(params: ListSpecialists, *, fleet: Supervisor) -> SpecialistList:
    """List specialists with state and performance, filtered by capability, role and state."""
    rows = discover(
        fleet.statuses(),
        capability=params.capability,
        role=params.role,
        state=params.state,
        active_only=params.active_only,
    )
    return SpecialistList(len(rows), rows)


@action(
    scope="read",
    routes=(("GET", "/api/v1/specialists/{id}"),),
    mcp="DescribeSpecialist",
    cli="tekton call get_specialist",
    console="describe",
)
async def get_specialist(params: GetSpecialist, *, catalog: Catalog, fleet: Supervisor) -> SpecialistDetail:
    """Describe one specialist: its row, persona, context window and model."""
    component = catalog.get(params.id)
    status = fleet.status(component.id)
    seen = msgspec.structs.asdict(describe(status))
    return SpecialistDetail(**seen, status_row=status, persona=component.persona, aliases=component.aliases)


@action(
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/specialists/{id}/option"),),
    mcp="SetAgentOption",
    cli="tekton options",
    console="options",
)
async def set_agent_option(params: SetAgentOption, *, catalog: Catalog, fleet: Supervisor) -> AgentOptionSet:
    """Set an option of an external agent (its mode, model or what it names) until it ends."""
    component = catalog.get(params.id)
    await fleet.set_agent_option(component.id, params.option, params.value)
    return AgentOptionSet(component.id, params.option, params.value)


@action(
    scope="read",
    routes=(("GET", "/api/v1/specialists/{id}/health"),),
    mcp="CheckSpecialistHealth",
    cli="tekton call specialist_health",
)
async def specialist_health(params: CheckHealth, *, catalog: Catalog, fleet: Supervisor) -> HealthResponse:
    """Ask a running specialist, and through it its provider, how it is."""
    ai_id = catalog.get(params.id).id
    reply = await fleet.channel(ai_id).call(Request(type="health"), timeout_s=HEALTH_TIMEOUT_S)
    if not isinstance(reply, HealthResponse):
        raise TektonError(f"{ai_id} answered a health question with {type(reply).__name__}")
    return reply


@action(
    scope="read",
    routes=(("GET", "/api/v1/specialists/{id}/logs"),),
    mcp="GetSpecialistLogs",
    cli="tekton logs",
    console="logs",
)
async def specialist_logs(params: GetLogs, *, catalog: Catalog, fleet: Supervisor) -> LogText:
    """Return the newest lines a specialist's process wrote, of this run or the one before."""
    source = params.id if params.id in fleet.sources() else catalog.get(params.id).id
    return await fleet.read_log(source, tail=params.tail, previous=params.previous)


@action(
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/fleet/launch"),),
    mcp="ActivateAISpecialist",
    cli="tekton launch",
    console="fleet.launch",
)
async def launch(
    params: Launch,
    *,
    catalog: Catalog,
    fleet: Supervisor,
    models: ModelService,
    settings: Settings,
    watch: SpecialistWatch | None,
) -> LaunchReport:
    """Launch specialists, or with `dry_run` only show the plan, with the models that could answer; a result for each."""
    ids = await _found(lambda: resolve(params.ids, catalog=catalog, settings=settings), watch)
    if params.dry_run:
        plan, found = await asyncio.gather(fleet.plan(ids), models.look())
        plan.provider, plan.candidates, plan.jobs = models.choice, found.candidates, catalog.jobs
        return LaunchReport(plan=plan)
    return LaunchReport(results=await fleet.launch(ids))


@action(
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/specialists/{id}/launch"),),
    cli="tekton launch",
    mcp="ActivateAISpecialist",
)
async def launch_one(
    params: LaunchOne,
    *,
    catalog: Catalog,
    fleet: Supervisor,
    models: ModelService,
    settings: Settings,
    watch: SpecialistWatch | None,
) -> LaunchReport:
    """Launch one specialist."""
    name = await _found(lambda: catalog.get(params.id).name, watch)
    wish = Launch([name], params.dry_run)
    return await launch(wish, catalog=catalog, fleet=fleet, models=models, settings=settings, watch=watch)


@action(
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/fleet/kill"),),
    mcp="KillSpecialist",
    cli="tekton kill",
    console="fleet.kill",
)
async def kill(params: Kill, *, catalog: Catalog, fleet: Supervisor, settings: Settings) -> KillResult:
    """Stop specialists: asked to end, then killed when the grace time is over; `force` kills at once."""
    wanted = [params.ids] if isinstance(params.ids, str) else list(params.ids)
    left = _left_running(fleet, catalog)
    named = [name for name in wanted if plain(name) not in left]
    ids = resolve(named, catalog=catalog, settings=settings) if named or not wanted else []
    ids += [ai_id for name, ai_id in left.items() if name in map(plain, wanted) or "all" in wanted]
    return KillResult(await fleet.kill(list(dict.fromkeys(ids)), force=params.force))


async def _found(find: Callable[[], T], watch: SpecialistWatch | None) -> T:
    """Return what is found; a specialist nobody knows is looked for once more, in files that were written a moment ago."""
    try:
        return find()
    except UnknownSpecialist:
        if watch is None:
            raise
        await watch.look()
        return find()


def _left_running(fleet: Supervisor, catalog: Catalog) -> dict[str, str]:
    """Return the ids, by name, of those that run though nothing declares them any more."""
    gone = [row for row in fleet.statuses() if row.pid and row.id not in catalog.components]
    return {plain(row.name): row.id for row in gone}


@action(
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/specialists/{id}/kill"),),
    cli="tekton kill",
    mcp="KillSpecialist",
)
async def kill_one(params: KillOne, *, catalog: Catalog, fleet: Supervisor, settings: Settings) -> KillResult:
    """Stop one specialist."""
    name = plain(params.id)
    if name not in _left_running(fleet, catalog):
        name = catalog.get(params.id).name
    return await kill(Kill([name], params.force), catalog=catalog, fleet=fleet, settings=settings)


@action(
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/fleet/restart"),),
    mcp="RestartSpecialist",
    cli="tekton restart",
    console="fleet.restart",
)
async def restart(
    params: Restart, *, catalog: Catalog, fleet: Supervisor, settings: Settings
) -> RestartResult:
    """Stop and launch specialists by hand; a result for each."""
    return RestartResult(await fleet.restart(resolve(params.ids, catalog=catalog, settings=settings)))


@action(
    scope="read",
    routes=(("POST", "/api/v1/match"),),
    mcp="MatchSpecialists",
    cli="tekton match",
)
async def match(params: Match, *, selector: Selector) -> MatchList:
    """Rank specialists for a request in free words, with reasons and fallback order."""
    if not params.query.strip():
        raise InvalidRequest("query: say in a few words what you want done")
    matches = selector.match(params.query, params.limit)
    return MatchList(matches, [found.id for found in matches[1:]])
