"""Actions on the platform itself: its state, Rhetor's settings, the gateway, its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from backend.orchestration.action import InvalidRequest, NoParams, action
from backend.schema.errors import TektonError

if TYPE_CHECKING:
    from backend.orchestration.platform import Platform


class ConfigureParams(Struct):
    settings: dict[str, Any]
    apply_immediately: bool = True


class ShutdownParams(Struct):
    """`stop_fleet` also stops every specialist; otherwise they run on and the next backend adopts them."""

    stop_fleet: bool = False


class KeyParams(Struct):
    key: str


class PutParams(Struct):
    key: str
    value: Any = None


@action(
    "platform",
    scope="read",
    routes=(("GET", "/api/v1/platform"),),
    mcp="GetPlatform",
    cli="tekton doctor",
)
async def platform_info(platform: Platform, params: NoParams) -> Any:
    """Say who serves, where, with which provider and why."""
    return platform.info()


@action(
    "cluster_status",
    scope="read",
    routes=(("GET", "/api/v1/cluster"),),
    mcp="GetClusterStatus",
    cli="tekton cluster status",
)
async def cluster_status(platform: Platform, params: NoParams) -> Any:
    """Return the hosts specialists may run on, with their resources and who runs where, and the store."""
    if platform.sharing is not None:
        await platform.sharing.twins.look()
    return {
        "address": platform.settings.cluster.address,
        "store": platform.memory.place,
        "nodes": await platform.fleet.nodes(),
        "gateways": platform.sharing.twins.rows() if platform.sharing is not None else [],
    }


@action(
    "snapshot",
    scope="read",
    routes=(("GET", "/api/v1/snapshot"),),
    mcp="GetSnapshot",
    cli="tekton status --json",
)
async def snapshot(platform: Platform, params: NoParams) -> Any:
    """Return the whole state: specialists, services, turns under way, unacknowledged errors."""
    return platform.snapshot()


@action(
    "get_orchestration",
    scope="read",
    routes=(("GET", "/api/v1/orchestration"),),
    mcp="GetOrchestration",
    cli="tekton call get_orchestration",
    console="settings",
)
async def get_orchestration(platform: Platform, params: NoParams) -> Any:
    """Return Rhetor's settings in force."""
    return platform.book.current


@action(
    "configure_orchestration",
    scope="control",
    routes=(("PATCH", "/api/v1/orchestration"), ("POST", "/api/v1/orchestration")),
    mcp="ConfigureOrchestration",
    cli="tekton call configure_orchestration",
    console="settings",
)
async def configure_orchestration(platform: Platform, params: ConfigureParams) -> Any:
    """Change Rhetor's settings: checked, stored, in force at once unless `apply_immediately` is false."""
    for rule in params.settings.get("routing_rules") or []:
        if isinstance(rule, dict) and isinstance(rule.get("specialists"), list):  # pyright: ignore[reportUnknownMemberType]
            platform.catalog.expand([str(name) for name in rule["specialists"]])  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    settings = await platform.book.change(params.settings, apply_immediately=params.apply_immediately)
    if platform.sharing is not None and params.apply_immediately:
        platform.sharing.twins.tell_changed("orchestration")
    return {"settings": settings, "applied": params.apply_immediately}


@action(
    "gateway_info",
    scope="read",
    routes=(("GET", "/api/v1/gateway"),),
    mcp="GetGatewayInfo",
    cli="tekton gateway",
    console="gateway",
)
async def gateway_info(platform: Platform, params: NoParams) -> Any:
    """Report listeners, clients, recent calls and refusals with their reasons."""
    return platform.gateway_report()


@action(
    "shutdown",
    scope="control",
    routes=(("POST", "/api/v1/shutdown"),),
    mcp="ShutDownBackend",
    cli="tekton stop",
    console="quit",
)
async def shutdown(platform: Platform, params: ShutdownParams) -> Any:
    """End the backend, leaving the fleet running or stopping it too; each specialist's end is reported."""
    if platform.stop_asked is None:
        raise TektonError(
            "this backend is embedded in another program and cannot be ended from here", code="conflict"
        )
    if params.stop_fleet and platform.sharing is not None and not platform.sharing.twins.leads:
        raise TektonError(
            "another gateway leads this fleet: stop the fleet there, or `tekton kill` its specialists first",
            code="conflict",
        )
    results = (
        await platform.fleet.kill([status.id for status in platform.fleet.statuses() if status.pid])
        if params.stop_fleet
        else []
    )
    if not platform.stop_asked.done():
        platform.stop_asked.set_result(params.stop_fleet)
    return {"stopping": True, "results": results}


@action(
    "get_preference",
    scope="read",
    routes=(("GET", "/api/v1/preferences/{key}"),),
    mcp="GetPreference",
    cli="tekton call get_preference",
    console="settings",
)
async def get_preference(platform: Platform, params: KeyParams) -> Any:
    """Return a value a client stored under a key, such as a draft; null when there is none."""
    return {"key": params.key, "value": await platform.memory.get_setting(_client_key(params.key))}


@action(
    "put_preference",
    scope="chat",
    routes=(("POST", "/api/v1/preferences/{key}"),),
    mcp="PutPreference",
    cli="tekton call put_preference",
    console="settings",
)
async def put_preference(platform: Platform, params: PutParams) -> Any:
    """Store a client's value under a key; null removes it."""
    await platform.memory.put_setting(_client_key(params.key), params.value)
    return {"key": params.key}


def _client_key(key: str) -> str:
    if not key or len(key) > 200:
        raise InvalidRequest("key: expected 1 to 200 characters")
    return f"client:{key}"
