"""Actions on specialists: see, find, launch, stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from backend.orchestration.action import InvalidRequest, action
from backend.orchestration.discovery import describe, discover
from backend.schema.errors import TektonError
from backend.schema.frames import HealthResponse, Request

if TYPE_CHECKING:
    from backend.orchestration.platform import Platform

HEALTH_TIMEOUT_S = 5.0
Names = list[str] | str


class ListParams(Struct):
    capability: str = ""
    role: str = ""
    state: str = ""
    active_only: bool = False


class OneParams(Struct):
    id: str


class LogParams(Struct):
    id: str
    tail: Annotated[int, Meta(ge=1, le=10_000)] = 200
    previous: bool = False


class LaunchParams(Struct):
    ids: Names
    dry_run: bool = False


class LaunchOneParams(Struct):
    id: str
    dry_run: bool = False


class KillParams(Struct):
    ids: Names
    force: bool = False


class KillOneParams(Struct):
    id: str
    force: bool = False


class RestartParams(Struct):
    ids: Names


class MatchParams(Struct):
    query: str
    limit: Annotated[int, Meta(ge=1, le=100)] = 5


def resolve(platform: Platform, names: Names) -> list[str]:
    """Return the ids of names, groups, `all` and `starter`, each once.

    Raises:
        TektonError: A name is unknown, or none was given.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    if not wanted:
        raise InvalidRequest("ids: name at least one specialist, a group, `starter` or `all`")
    spread = [
        name
        for given in wanted
        for name in (platform.settings.fleet.starter if given == "starter" else [given])
    ]
    return [component.id for component in platform.catalog.expand(spread)]


@action(
    "list_specialists",
    scope="read",
    routes=(("GET", "/api/v1/specialists"), ("GET", "/api/ai/specialists")),
    mcp="ListAISpecialists",
    cli="tekton discover",
)
async def list_specialists(platform: Platform, params: ListParams) -> Any:
    """List specialists with state and performance, filtered by capability, role and state."""
    rows = discover(platform.fleet.statuses(), **msgspec.structs.asdict(params))
    return {"count": len(rows), "specialists": rows}


@action(
    "get_specialist",
    scope="read",
    routes=(("GET", "/api/v1/specialists/{id}"),),
    mcp="DescribeSpecialist",
    cli="tekton call get_specialist",
    console="describe",
    aliases={"specialist_id": "id"},
)
async def get_specialist(platform: Platform, params: OneParams) -> Any:
    """Describe one specialist: its row, persona, context window and model."""
    component = platform.catalog.get(params.id)
    status = platform.fleet.status(component.id)
    return {
        **describe(status),
        "status_row": status,
        "persona": component.persona,
        "aliases": component.aliases,
    }


@action(
    "specialist_health",
    scope="read",
    routes=(("GET", "/api/v1/specialists/{id}/health"),),
    mcp="CheckSpecialistHealth",
    cli="tekton call specialist_health",
    aliases={"specialist_id": "id"},
)
async def specialist_health(platform: Platform, params: OneParams) -> Any:
    """Ask a running specialist, and through it its provider, how it is."""
    ai_id = platform.catalog.get(params.id).id
    reply = await platform.fleet.link(ai_id).call(Request(type="health"), timeout_s=HEALTH_TIMEOUT_S)
    if not isinstance(reply, HealthResponse):
        raise TektonError(f"{ai_id} answered a health question with {type(reply).__name__}")
    return reply


@action(
    "specialist_logs",
    scope="read",
    routes=(("GET", "/api/v1/specialists/{id}/logs"),),
    mcp="GetSpecialistLogs",
    cli="tekton logs",
    console="logs",
    aliases={"specialist_id": "id", "lines": "tail"},
)
async def specialist_logs(platform: Platform, params: LogParams) -> Any:
    """Return the newest lines a specialist's process wrote, of this run or the one before."""
    source = params.id if params.id in platform.fleet.sources() else platform.catalog.get(params.id).id
    return await platform.fleet.read_log(source, tail=params.tail, previous=params.previous)


@action(
    "launch",
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/fleet/launch"),),
    mcp="ActivateAISpecialist",
    cli="tekton launch",
    console="fleet.launch",
    aliases={"id": "ids", "specialist_id": "ids", "specialists": "ids"},
)
async def launch(platform: Platform, params: LaunchParams) -> Any:
    """Launch specialists, or with `dry_run` only show the plan; a result for each."""
    ids = resolve(platform, params.ids)
    if params.dry_run:
        return {"plan": await platform.fleet.plan(ids)}
    return {"results": await platform.fleet.launch(ids)}


@action(
    "launch_one",
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/specialists/{id}/launch"),),
    cli="tekton launch",
    mcp="ActivateAISpecialist",
)
async def launch_one(platform: Platform, params: LaunchOneParams) -> Any:
    """Launch one specialist."""
    return await launch(platform, LaunchParams([platform.catalog.get(params.id).name], params.dry_run))


@action(
    "kill",
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/fleet/kill"),),
    mcp="KillSpecialist",
    cli="tekton kill",
    console="fleet.kill",
    aliases={"id": "ids", "specialist_id": "ids", "specialists": "ids"},
)
async def kill(platform: Platform, params: KillParams) -> Any:
    """Stop specialists: asked to end, then killed when the grace time is over; `force` kills at once."""
    return {"results": await platform.fleet.kill(resolve(platform, params.ids), force=params.force)}


@action(
    "kill_one",
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/specialists/{id}/kill"),),
    cli="tekton kill",
    mcp="KillSpecialist",
)
async def kill_one(platform: Platform, params: KillOneParams) -> Any:
    """Stop one specialist."""
    return await kill(platform, KillParams([platform.catalog.get(params.id).name], params.force))


@action(
    "restart",
    scope="control",
    where="leader",
    routes=(("POST", "/api/v1/fleet/restart"),),
    mcp="RestartSpecialist",
    cli="tekton restart",
    console="fleet.restart",
    aliases={"id": "ids", "specialist_id": "ids"},
)
async def restart(platform: Platform, params: RestartParams) -> Any:
    """Stop and launch specialists by hand; a result for each."""
    return {"results": await platform.fleet.restart(resolve(platform, params.ids))}


@action(
    "match",
    scope="read",
    routes=(("POST", "/api/v1/match"),),
    mcp="MatchSpecialists",
    cli="tekton match",
    aliases={"message": "query", "text": "query"},
)
async def match(platform: Platform, params: MatchParams) -> Any:
    """Rank specialists for a request in free words, with reasons and fallback order."""
    if not params.query.strip():
        raise InvalidRequest("query: say in a few words what you want done")
    matches = platform.router.match(params.query, params.limit)
    return {"matches": matches, "fallback": [found.id for found in matches[1:]]}
