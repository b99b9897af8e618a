"""Plan a launch: ports, limits, memory, providers. Starts nothing.

A launch makes the same checks again: a plan holds only for the moment it was made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import psutil

from backend.catalog import Component
from backend.config import FoundFiles, Settings, find_provider, usable_provider
from backend.registry.ports import PortTaken, bind
from backend.schema.errors import TektonError
from backend.schema.records import FleetPlan, LaunchPlanItem
from backend.schema.states import RUNNING
from backend.schema.tools import OWN_SERVER, OWN_TOOLS, ToolsSpec
from backend.specialists.agents import agent_notes, agent_of, check_agent
from backend.specialists.context import SupervisorContext
from backend.specialists.known_agents import agent_bytes
from backend.worker.spec import WorkerSpec

MIB = 1024 * 1024
WORKER_BYTES = 15 * MIB
MODEL_SERVER_BYTES = 120 * MIB
"""The embedded model server with its weights and buffers, without its slots; measured."""
PROVIDER_CHECK_S = 6.0
LIFECYCLE_OFF = "the AI lifecycle is off (TEKTON_REGISTER_AI=false): nothing is launched"


class LaunchRefused(TektonError):
    """A limit of the configuration does not allow a launch."""

    code = "launch_refused"


def worker_spec(context: SupervisorContext, component: Component, port: int) -> WorkerSpec:
    """Return the specification for a worker of this component."""
    choice, tls = context.choice_for(component), context.settings.tls
    agent = agent_of(context, component) if component.transport == "acp" else None
    return WorkerSpec(
        ai_id=component.id,
        component=component.name,
        title=component.title,
        persona=component.persona,
        provider=choice.provider,
        model=choice.model,
        home=str(context.home.root),
        description=component.description,
        capabilities=component.capabilities,
        temperature=component.temperature,
        temperature_by_role=component.temperature_by_role,
        max_tokens=component.max_tokens,
        stall_after_s=component.stall_after_s,
        effort=component.effort,
        slot=component.slot,
        port=port,
        token=context.token,
        sockets=context.settings.fleet.sockets,
        budgeted=_is_budgeted(context.settings, component),
        **({"tls_cert": tls.cert, "tls_key": tls.key} if context.launcher.remote else {}),
        tools=tools_of(context.settings, component) if agent is None else ToolsSpec(),
        agent=agent,
        settings=msgspec.Raw(msgspec.json.encode(worker_settings(context.settings, component))),
    )


def tools_of(settings: Settings, component: Component) -> ToolsSpec:
    """Return the tool servers a specialist has, and the platform's own tools."""
    wanted: dict[str, list[str]] = {}
    whole: set[str] = set()
    for name in component.tools:
        server, _, tool = name.partition(":")
        wanted.setdefault(server, [])
        if tool:
            wanted[server].append(tool)
        else:
            whole.add(server)
    own = wanted.pop(OWN_SERVER, None)
    taken = [] if own is None else [tool for tool in OWN_TOOLS if OWN_SERVER in whole or tool.name in own]
    return ToolsSpec(
        servers={name: settings.tools[name] for name in wanted if name in settings.tools},
        wanted={name: tools for name, tools in wanted.items() if name not in whole},
        own=taken,
    )


def _is_budgeted(settings: Settings, component: Component) -> bool:
    own = settings.own_specialists.get(component.name)
    limits = [settings.budget, *([own.budget] if own and own.budget else [])]
    return any(limit.tokens_per_day or limit.cost_per_day for limit in limits)


def worker_settings(settings: Settings, component: Component) -> Settings:
    """Return the settings for one specialist: with its own endpoint and key name, without other specialists' tables."""
    replace = msgspec.structs.replace
    changes = {
        name: value
        for name, value in (("base_url", component.base_url), ("api_key_env", component.api_key_env))
        if value is not None
    }
    providers = settings.providers
    if changes:
        info = usable_provider(component.provider or "")
        kind = info.kind if info and "base_url" in info.settings.__struct_fields__ else "openai"
        providers = providers.changed(kind, **changes)
    return replace(settings, providers=providers, specialists={}, groups={}, files=FoundFiles())


def memory_of(context: SupervisorContext, components: Iterable[Component]) -> int:
    """Estimate the memory that launching these takes, in bytes; with the model server, if it does not run."""
    total = 0
    embedded = False
    for component in components:
        if component.transport == "api":
            continue
        if component.transport == "acp":
            total += WORKER_BYTES + agent_bytes(component.command)
            continue
        kind = context.choice_for(component).provider
        embedded = embedded or kind == "embedded"
        info = usable_provider(kind)
        total += WORKER_BYTES + (info.worker_bytes if info else 0)
    service = context.table.services.get("embedded")
    if embedded and (service is None or service.state not in RUNNING):
        total += model_server_bytes(context.settings)
    return total


def model_server_bytes(settings: Settings) -> int:
    """Estimate the embedded model server's memory in bytes: its weights, and the key-value cache of all its slots."""
    from backend.providers.embedded import PROVIDER
    from backend.providers.embedded.server import KV_BYTES_PER_TOKEN, sized_slots

    own = PROVIDER.own(settings)
    return MODEL_SERVER_BYTES + sized_slots(own) * own.context * KV_BYTES_PER_TOKEN


def running(context: SupervisorContext) -> int:
    """Return how many specialists run."""
    return sum(row.state in RUNNING or bool(row.pid) for row in context.table.rows.values())


def check_caps(context: SupervisorContext, component: Component) -> None:
    """Check the limits for one more launch.

    Raises:
        LaunchRefused: The limit of specialists is reached, or the machine's free memory is too small.
    """
    cap = context.settings.fleet.max_specialists
    if running(context) >= cap:
        raise LaunchRefused(
            f"{cap} specialists run, which is the limit: kill some or raise fleet.max_specialists in config.toml"
        )
    if context.launcher.remote:
        return  # the memory of other hosts is checked by Ray, from the resources a specialist names
    needed = memory_of(context, [component])
    free = psutil.virtual_memory().available - context.settings.fleet.memory_reserve_mib * MIB
    if needed > free:
        raise LaunchRefused(
            f"{component.id} needs about {needed // MIB} MiB and {max(0, free) // MIB} MiB are free beside the "
            "reserve: kill specialists, or lower fleet.memory_reserve_mib in config.toml"
        )


async def make_plan(context: SupervisorContext, ids: list[str]) -> FleetPlan:
    """Return what a launch would do with each of these, in order."""
    components = [context.catalog.components[ai_id] for ai_id in ids]
    idle = [c for c in components if context.table.rows[c.id].state not in RUNNING]
    agents = [c for c in components if c.transport == "acp"]
    available = psutil.virtual_memory().available
    checked, items = await asyncio.gather(
        check_providers(context, [c for c in idle if c.transport != "acp"]),
        asyncio.gather(*(asyncio.to_thread(_item, context, component) for component in components)),
    )
    plan = FleetPlan(
        items=list(items),
        memory_estimate=0 if context.launcher.remote else memory_of(context, idle),
        memory_available=available,
        running=running(context),
        cap=context.settings.fleet.max_specialists,
        notes=[*dict.fromkeys(checked.values()), *agent_notes(context, agents)],
    )
    for item in plan.items:
        if item.ok:
            item.model_problem = checked.get(item.id, "")
    plan.missing_weights = _missing_weights(context.settings, plan.items)
    _apply_limits(context, plan)
    return plan


def _missing_weights(settings: Settings, items: list[LaunchPlanItem]) -> str:
    """Return the name of the embedded model if some of these want it and it has to be fetched first."""
    from backend.providers.embedded import PROVIDER
    from backend.providers.embedded.weights import MODEL_NAME

    wanted = any(item.provider == PROVIDER.kind and item.model_problem for item in items)
    return MODEL_NAME if wanted and not PROVIDER.own(settings).gguf else ""


def _item(context: SupervisorContext, component: Component) -> LaunchPlanItem:
    choice = context.choice_for(component)
    row = context.table.rows[component.id]
    item = LaunchPlanItem(
        id=component.id,
        name=component.name,
        ok=True,
        title=component.title,
        short=component.short,
        port=row.port if row.pid else component.ai_port,
        provider=choice.provider,
        model=choice.model,
        reason=choice.reason,
        state=row.state,
    )
    if row.state in RUNNING:
        item.ok, item.problem, item.code = False, "runs already", "already_running"
        return item
    if component.transport == "api":
        item.host = component.base_url or ""
        return item
    if component.transport == "acp":
        try:
            check_agent(context, component)
        except TektonError as error:
            item.ok, item.problem, item.code = False, error.message, error.code
            return item
    if context.launcher.remote:
        item.host, item.problem = context.launcher.preflight(worker_spec(context, component, 0))
        item.port = 0
        if item.problem:
            item.ok, item.code = False, "launch_refused"
        return item
    item.memory_estimate = memory_of(context, [component])
    try:
        item.environment = context.launcher.environment_names(
            worker_spec(context, component, component.ai_port)
        )
    except TektonError as error:
        item.ok, item.problem, item.code = False, error.message, error.code
        return item
    if component.ai_port:
        try:
            bind(item.host, component.ai_port).close()
        except (PortTaken, OSError) as error:
            item.ok, item.problem, item.code = False, str(error), "foreign_port"
    return item


def _apply_limits(context: SupervisorContext, plan: FleetPlan) -> None:
    """Mark in the plan what the limits would refuse."""
    if not context.settings.fleet.lifecycle_on:
        for item in plan.items:
            item.ok, item.problem, item.code = False, LIFECYCLE_OFF, "lifecycle_off"
        return
    places = max(0, plan.cap - plan.running)
    for item in [item for item in plan.items if item.ok][places:]:
        item.ok, item.code = False, "launch_refused"
        item.problem = f"beyond the limit of {plan.cap} specialists (fleet.max_specialists)"
    reserve = context.settings.fleet.memory_reserve_mib * MIB
    if plan.memory_estimate > plan.memory_available - reserve:
        plan.notes.append(
            f"about {plan.memory_estimate // MIB} MiB are needed and {plan.memory_available // MIB} MiB are free, "
            f"of which {reserve // MIB} MiB stay reserved: some launches will be refused"
        )


async def check_providers(context: SupervisorContext, components: list[Component]) -> dict[str, str]:
    """Ask each provider once whether it answers and has the model; return the problems in words, by specialist."""
    wanted: dict[tuple[str, str], list[Component]] = {}
    for component in components:
        choice = context.choice_for(component)
        wanted.setdefault((choice.provider, choice.model), []).append(component)
    found = await asyncio.gather(
        *(_check_provider(context, kind, model, who[-1]) for (kind, model), who in wanted.items())
    )
    return {
        component.id: note
        for note, who in zip(found, wanted.values(), strict=True)
        for component in who
        if note
    }


async def _check_provider(context: SupervisorContext, kind: str, model: str, component: Component) -> str:
    from backend import providers

    settings = worker_settings(context.settings, component)
    try:
        info = find_provider(kind)
        if info.check is not None:
            await asyncio.to_thread(info.check, info.own(settings), context.home)
            return ""
        async with providers.opened(
            kind, settings, context.home, context.environment, within_s=PROVIDER_CHECK_S
        ) as client:
            health = await client.health(model)
    except TimeoutError:
        return f"{kind}: no answer within {PROVIDER_CHECK_S:g} s"
    except TektonError as error:
        return f"{kind}: {error.message}"
    return "" if health.ok else f"{kind}: {health.detail}"
