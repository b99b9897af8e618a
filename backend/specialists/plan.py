"""What would happen if specialists were launched: ports, caps, memory, providers. Starts nothing.

The same checks guard the launch itself; a plan is a promise only for the moment it was made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
import psutil

from backend.catalog import Component
from backend.config import Settings
from backend.registry.ports import PortTaken, bind
from backend.schema.errors import TektonError
from backend.schema.records import FleetPlan, LaunchPlanItem
from backend.specialists.fleet import Fleet
from backend.specialists.spec import WorkerSpec
from backend.specialists.state import RUNNING

MIB = 1024 * 1024
WORKER_BYTES = 15 * MIB
PROVIDER_BYTES = {
    "embedded": 8 * MIB,
    "ollama": 45 * MIB,
    "openai": 60 * MIB,
    "anthropic": 95 * MIB,
    "scripted": 1 * MIB,
}
"""What a worker grows by when its provider's library is imported; measured, proportional set size."""
MODEL_SERVER_BYTES = 120 * MIB
"""The embedded model server with its weights and buffers, without its slots; measured."""
PROVIDER_CHECK_S = 6.0
LIFECYCLE_OFF = "the AI lifecycle is off (TEKTON_REGISTER_AI=false): nothing is launched"


class LaunchRefused(TektonError):
    """A cap of the configuration stands against a launch."""

    code = "launch_refused"


def worker_spec(fleet: Fleet, component: Component, port: int) -> WorkerSpec:
    """Return what a worker of this component is told."""
    choice, tls = fleet.choice_for(component), fleet.settings.tls
    return WorkerSpec(
        ai_id=component.id,
        component=component.name,
        title=component.title,
        persona=component.persona,
        provider=choice.provider,
        model=choice.model,
        home=str(fleet.home.root),
        description=component.description,
        capabilities=component.capabilities,
        temperature=component.temperature,
        temperature_by_role=component.temperature_by_role,
        max_tokens=component.max_tokens,
        stall_after_s=component.stall_after_s,
        slot=component.slot,
        port=port,
        token=fleet.token,
        **({"tls_cert": tls.cert, "tls_key": tls.key} if fleet.launcher.remote else {}),
        settings=msgspec.Raw(msgspec.json.encode(worker_settings(fleet.settings, component))),
    )


def worker_settings(settings: Settings, component: Component) -> Settings:
    """Return the settings as one specialist sees them: its own endpoint and key name, nobody else's prompts."""
    replace = msgspec.structs.replace
    changes = {
        name: value
        for name, value in (("base_url", component.base_url), ("api_key_env", component.api_key_env))
        if value is not None
    }
    providers = settings.providers
    if changes:
        kind = component.provider if component.provider in ("openai", "anthropic") else "openai"
        providers = replace(providers, **{kind: replace(getattr(providers, kind), **changes)})
    return replace(settings, providers=providers, specialists={}, groups={})


def memory_of(fleet: Fleet, components: Iterable[Component]) -> int:
    """Estimate what launching these takes, in bytes; the model server once, if it does not run."""
    total = 0
    embedded = False
    for component in components:
        if component.transport == "api":
            continue
        kind = fleet.choice_for(component).provider
        embedded = embedded or kind == "embedded"
        total += WORKER_BYTES + PROVIDER_BYTES.get(kind, 0)
    service = fleet.board.services.get("embedded")
    if embedded and (service is None or service.state not in RUNNING):
        total += model_server_bytes(fleet.settings)
    return total


def model_server_bytes(settings: Settings) -> int:
    """Estimate the embedded model server: its weights and the keys and values of all its slots."""
    from backend.providers.embedded_server import KV_BYTES_PER_TOKEN, sized_slots

    own = settings.providers.embedded
    return MODEL_SERVER_BYTES + sized_slots(own) * own.context * KV_BYTES_PER_TOKEN


def running(fleet: Fleet) -> int:
    return sum(row.state in RUNNING or bool(row.pid) for row in fleet.board.rows.values())


def check_caps(fleet: Fleet, component: Component) -> None:
    """Let one more launch pass.

    Raises:
        LaunchRefused: The platform is full, or the machine's memory would be.
    """
    cap = fleet.settings.fleet.max_specialists
    if running(fleet) >= cap:
        raise LaunchRefused(
            f"{cap} specialists run, which is the limit: kill some or raise fleet.max_specialists in config.toml"
        )
    if fleet.launcher.remote:
        return  # memory is its nodes' affair
    needed = memory_of(fleet, [component])
    free = psutil.virtual_memory().available - fleet.settings.fleet.memory_reserve_mib * MIB
    if needed > free:
        raise LaunchRefused(
            f"{component.id} needs about {needed // MIB} MiB and {max(0, free) // MIB} MiB are free beside the "
            "reserve: kill specialists, or lower fleet.memory_reserve_mib in config.toml"
        )


async def make_plan(fleet: Fleet, ids: list[str]) -> FleetPlan:
    """Return what a launch would do to each of these, in order."""
    components = [fleet.catalog.components[ai_id] for ai_id in ids]
    idle = [c for c in components if fleet.board.rows[c.id].state not in RUNNING]
    available = psutil.virtual_memory().available
    checked, items = await asyncio.gather(
        _check_providers(fleet, idle),
        asyncio.gather(*(asyncio.to_thread(_item, fleet, component) for component in components)),
    )
    plan = FleetPlan(
        items=list(items),
        memory_estimate=0 if fleet.launcher.remote else memory_of(fleet, idle),
        memory_available=available,
        running=running(fleet),
        cap=fleet.settings.fleet.max_specialists,
        notes=checked,
    )
    _apply_limits(fleet, plan)
    return plan


def _item(fleet: Fleet, component: Component) -> LaunchPlanItem:
    choice = fleet.choice_for(component)
    row = fleet.board.rows[component.id]
    item = LaunchPlanItem(
        id=component.id,
        name=component.name,
        ok=True,
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
    if fleet.launcher.remote:
        item.host, item.problem = fleet.launcher.outlook(worker_spec(fleet, component, 0))
        item.port = 0
        if item.problem:
            item.ok, item.code = False, "launch_refused"
        return item
    item.memory_estimate = memory_of(fleet, [component])
    item.environment = fleet.launcher.plan(worker_spec(fleet, component, component.ai_port))
    if component.ai_port:
        try:
            bind(item.host, component.ai_port).close()
        except (PortTaken, OSError) as error:
            item.ok, item.problem, item.code = False, str(error), "foreign_port"
    return item


def _apply_limits(fleet: Fleet, plan: FleetPlan) -> None:
    """Say in the plan what the caps would refuse."""
    if not fleet.settings.fleet.lifecycle_on:
        for item in plan.items:
            item.ok, item.problem, item.code = False, LIFECYCLE_OFF, "lifecycle_off"
        return
    places = max(0, plan.cap - plan.running)
    for item in [item for item in plan.items if item.ok][places:]:
        item.ok, item.code = False, "launch_refused"
        item.problem = f"beyond the limit of {plan.cap} specialists (fleet.max_specialists)"
    reserve = fleet.settings.fleet.memory_reserve_mib * MIB
    if plan.memory_estimate > plan.memory_available - reserve:
        plan.notes.append(
            f"about {plan.memory_estimate // MIB} MiB are needed and {plan.memory_available // MIB} MiB are free, "
            f"of which {reserve // MIB} MiB stay reserved: some launches will be refused"
        )


async def _check_providers(fleet: Fleet, components: list[Component]) -> list[str]:
    """Ask each provider once whether it lives and has the model; return what stands against it, in words."""
    wanted = {
        (choice.provider, choice.model): component
        for component in components
        if (choice := fleet.choice_for(component))
    }
    found = await asyncio.gather(
        *(_check_provider(fleet, kind, model, component) for (kind, model), component in wanted.items())
    )
    return [note for note in found if note]


async def _check_provider(fleet: Fleet, kind: str, model: str, component: Component) -> str:
    from backend import providers
    from backend.providers import weights

    settings = worker_settings(fleet.settings, component)
    try:
        if kind == "embedded":
            await asyncio.to_thread(weights.find, settings, fleet.home)
            return ""
        client = providers.create(kind, settings, fleet.home, fleet.environment)
        try:
            async with asyncio.timeout(PROVIDER_CHECK_S):
                await client.prepare()
                health = await client.health(model)
        finally:
            await client.aclose()
    except TimeoutError:
        return f"{kind}: no answer within {PROVIDER_CHECK_S:g} s"
    except TektonError as error:
        return f"{kind}: {error.message}"
    return "" if health.ok else f"{kind}: {health.detail}"
