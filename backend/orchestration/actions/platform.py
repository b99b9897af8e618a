"""Actions on the platform itself: its state, Rhetor's settings, the gateway, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msgspec import UNSET

from backend.catalog import Catalog
from backend.cluster.membership import Membership
from backend.config import Settings
from backend.memory import MemoryStore
from backend.orchestration.action import action
from backend.orchestration.settings import OrchestrationSettingsStore
from backend.schema.errors import TektonError
from backend.schema.events import Snapshot
from backend.schema.orchestration import OrchestrationSettings
from backend.schema.params import (
    ConfigureOrchestration,
    GetCluster,
    GetGateway,
    GetOrchestration,
    GetPlatform,
    GetPreference,
    GetSnapshot,
    PutPreference,
    Shutdown,
)
from backend.schema.records import PlatformInfo
from backend.schema.results import (
    AppliedSettings,
    ClusterReport,
    GatewayReport,
    Preference,
    PreferenceKey,
    ShutdownResult,
)
from backend.specialists.supervisor import Supervisor

CLIENT_KEY = "client:"
"""What stands before the keys of clients in the store, which keeps settings of the platform as well."""


@action(
    scope="read",
    routes=(("GET", "/api/v1/platform"),),
    mcp="GetPlatform",
    cli="tekton doctor",
)
async def platform_info(params: GetPlatform, *, info: Callable[[], PlatformInfo]) -> PlatformInfo:
    """Say who serves, where, with which provider and why."""
    return info()


@action(
    scope="read",
    routes=(("GET", "/api/v1/cluster"),),
    mcp="GetClusterStatus",
    cli="tekton cluster status",
)
async def cluster_status(
    params: GetCluster,
    *,
    cluster: Membership | None,
    fleet: Supervisor,
    memory: MemoryStore,
    settings: Settings,
) -> ClusterReport:
    """Return the hosts specialists may run on, with their resources and who runs where, and the store."""
    if cluster is not None:
        await cluster.peers.look()
    return ClusterReport(
        address=settings.cluster.address,
        store=memory.place,
        nodes=await fleet.nodes(),
        gateways=cluster.peers.rows() if cluster is not None else [],
    )


@action(
    scope="read",
    routes=(("GET", "/api/v1/snapshot"),),
    mcp="GetSnapshot",
    cli="tekton status --json",
)
async def snapshot(params: GetSnapshot, *, snapshot: Callable[[], Snapshot]) -> Snapshot:
    """Return the whole state: specialists, services, turns under way, unacknowledged errors."""
    return snapshot()


@action(
    scope="read",
    routes=(("GET", "/api/v1/orchestration"),),
    mcp="GetOrchestration",
    cli="tekton call get_orchestration",
    console="settings",
)
async def get_orchestration(
    params: GetOrchestration, *, orchestration: OrchestrationSettingsStore
) -> OrchestrationSettings:
    """Return Rhetor's settings in force."""
    return orchestration.current


@action(
    scope="control",
    routes=(("PATCH", "/api/v1/orchestration"), ("POST", "/api/v1/orchestration")),
    mcp="ConfigureOrchestration",
    cli="tekton call configure_orchestration",
    console="settings",
)
async def configure_orchestration(
    params: ConfigureOrchestration,
    *,
    catalog: Catalog,
    cluster: Membership | None,
    orchestration: OrchestrationSettingsStore,
) -> AppliedSettings:
    """Change Rhetor's settings: checked, stored, in force at once unless `apply_immediately` is false."""
    if params.settings.routing_rules is not UNSET:
        for rule in params.settings.routing_rules:
            catalog.expand(rule.specialists)
    settings = await orchestration.change(params.settings, apply_immediately=params.apply_immediately)
    if cluster is not None and params.apply_immediately:
        cluster.peers.announce_change("orchestration")
    return AppliedSettings(settings, params.apply_immediately)


@action(
    scope="read",
    routes=(("GET", "/api/v1/gateway"),),
    mcp="GetGatewayInfo",
    cli="tekton gateway",
    console="gateway",
)
async def gateway_info(params: GetGateway, *, gateway_report: Callable[[], GatewayReport]) -> GatewayReport:
    """Report listeners, clients, recent calls and refusals with their reasons."""
    return gateway_report()


@action(
    scope="control",
    routes=(("POST", "/api/v1/shutdown"),),
    mcp="ShutDownBackend",
    cli="tekton stop",
    console="quit",
)
async def shutdown(
    params: Shutdown,
    *,
    cluster: Membership | None,
    fleet: Supervisor,
    stop_asked: asyncio.Future[bool] | None,
) -> ShutdownResult:
    """End the backend, leaving the fleet running or stopping it too; each specialist's end is reported."""
    if stop_asked is None:
        raise TektonError(
            "this backend is embedded in another program and cannot be ended from here", code="conflict"
        )
    if params.stop_fleet and cluster is not None and not cluster.peers.leads:
        raise TektonError(
            "another gateway leads this fleet: stop the fleet there, or `tekton kill` its specialists first",
            code="conflict",
        )
    results = (
        await fleet.kill([status.id for status in fleet.statuses() if status.pid])
        if params.stop_fleet
        else []
    )
    if not stop_asked.done():
        stop_asked.set_result(params.stop_fleet)
    return ShutdownResult(True, results, sum(status.pid > 0 for status in fleet.statuses()))


@action(
    scope="read",
    routes=(("GET", "/api/v1/preferences/{key}"),),
    mcp="GetPreference",
    cli="tekton call get_preference",
    console="settings",
)
async def get_preference(params: GetPreference, *, memory: MemoryStore) -> Preference:
    """Return a value a client stored under a key, such as a draft; null when there is none."""
    return Preference(params.key, await memory.settings.get(CLIENT_KEY + params.key))


@action(
    scope="chat",
    routes=(("POST", "/api/v1/preferences/{key}"),),
    mcp="PutPreference",
    cli="tekton call put_preference",
    console="settings",
)
async def put_preference(params: PutPreference, *, memory: MemoryStore) -> PreferenceKey:
    """Store a client's value under a key; null removes it."""
    await memory.settings.put(CLIENT_KEY + params.key, params.value)
    return PreferenceKey(params.key)
