"""The first work of a new backend: adopt live workers, and remove registry entries of workers that are provably dead.

A worker is adopted when its process is the recorded one (pid and start time) and it answers with its id on its port.
Nothing is started and nothing is killed here.
"""

from __future__ import annotations

import asyncio
import logging

from backend.registry import Transaction
from backend.registry.sync import Removed, sweep
from backend.schema.errors import TektonError
from backend.schema.frames import HealthResponse, InfoResponse, Pong, Reply, Request
from backend.schema.records import RegistryEntry
from backend.specialists.context import SupervisorContext, choice_fields, entry_of, named, row_of_entry
from backend.specialists.logs import evidence
from backend.specialists.process_scan import FoundWorker, find_workers, home_of, listening_port
from backend.specialists.worker_client import ChannelError, ReplyTimeout, WorkerClient

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 3.0
"""How long a live worker may take to answer before it is shown as lost."""


UNREPORTED_VERSION = "0.1"
"""Shown for a worker that does not report its version."""


async def adopt_all(context: SupervisorContext) -> None:
    """Bring rows, channels and registry in line with what lives."""
    searching = None
    if not context.launcher.remote:  # it takes as long as the rest, which waits for others meanwhile
        searching = asyncio.create_task(
            asyncio.to_thread(find_workers, context.home, ports=False), name="find workers"
        )
    for removed in await asyncio.to_thread(sweep, context.registry.registry):
        _show_dead(context, removed)
    entries = await context.registry.read()
    # Endpoints have no process and are joined again elsewhere; entries of another launcher are not ours to judge.
    local = {
        ai_id: entry
        for ai_id, entry in entries.items()
        if entry.launcher == context.launcher.name and entry.pid
    }
    if not context.launcher.remote:
        await _leave_to_their_home(context, local)
    await asyncio.gather(*(adopt_one(context, ai_id, entry) for ai_id, entry in local.items()))
    if searching is None:
        await _adopt_remote(context, local)
    else:
        await _adopt_found(context, await searching)


async def _leave_to_their_home(context: SupervisorContext, entries: dict[str, RegistryEntry]) -> None:
    """Take out workers of another home, of which this one is a copy: they go on there, and are not ours to ask or to end."""
    homes = await asyncio.to_thread(lambda: {ai_id: home_of(entry.pid) for ai_id, entry in entries.items()})
    foreign = {ai_id: home for ai_id, home in homes.items() if not context.home.may_be(home)}
    if not foreign:
        return

    def leave(change: Transaction) -> None:
        for ai_id, home in foreign.items():
            change.deregister(ai_id, reason=f"pid {entries[ai_id].pid} works for another home: {home}")

    await context.registry.apply(leave)
    for ai_id in foreign:
        del entries[ai_id]
    names = ", ".join(sorted(ai_id.removesuffix("-ai") for ai_id in foreign))
    text = (
        f"this home is a copy of {next(iter(foreign.values()))}: {names} goes on there and does not run here; "
        f"launch what this home is to have"
    )
    context.record_error("registry", "conflict", text, phase="adoption")


async def _adopt_remote(context: SupervisorContext, entries: dict[str, RegistryEntry]) -> None:
    """Adopt what a cluster runs without a registry entry; remove entries of what the cluster does not run."""
    for ai_id, entry in entries.items():
        if ai_id not in context.placements:
            reason = f"{context.launcher.name} does not run it any more"
            await context.registry.apply(
                lambda change, ai_id=ai_id, reason=reason: change.deregister(ai_id, reason=reason)
            )
            _show_dead(context, Removed(ai_id, entry, reason))
    # Registered names first, so that an entry's own facts are used; what is left runs without any.
    for ai_id in await context.launcher.running_ids():
        if ai_id not in context.placements:
            name = ai_id.removesuffix("-ai")
            entry = RegistryEntry(port=0, component=name, launcher=context.launcher.name)
            await adopt_one(context, ai_id, entry, detail="found alive, not in the registry")


async def adopt_unregistered(context: SupervisorContext) -> None:
    """Adopt live workers that have no registry entry, as after its file was damaged."""
    await _adopt_found(context, await asyncio.to_thread(find_workers, context.home, ports=False))


async def _adopt_found(context: SupervisorContext, workers: list[FoundWorker]) -> None:
    known = {placement.identity.pid for placement in context.placements.values()}
    for worker in workers:
        if worker.identity.pid in known:
            continue
        # Looked up only now, for those that are not known: it reads every socket of the machine.
        port = await asyncio.to_thread(listening_port, worker.identity.pid)
        if worker.ai_id in context.placements or not port:
            log.warning("%s runs twice or listens nowhere: pid %d", worker.ai_id, worker.identity.pid)
            continue
        entry = _entry(context, worker, port)
        await adopt_one(context, worker.ai_id, entry, detail="found alive, not in the registry")


async def adopt_one(
    context: SupervisorContext, ai_id: str, entry: RegistryEntry, *, detail: str = ""
) -> bool:
    """Adopt a live worker; return whether it answers."""
    if ai_id not in context.table.rows:
        context.table.put(row_of_entry(ai_id, entry))
    placement = await context.launcher.adopt(ai_id, entry)
    if placement is None:
        return False
    # Before it is asked anything: a worker that lives and does not answer can still be killed.
    context.placements[ai_id] = placement
    facts: dict[str, object] = {
        "pid": placement.identity.pid,
        "process_start": placement.identity.start,
        "started_at": placement.identity.start,
        "host": placement.host,
        "port": placement.port,
        "launcher": placement.launcher,
        "adopted": True,
        "exit_code": None,
        "signal": None,
    }
    try:
        found = await _ask(context, ai_id, placement.host, placement.port)
    except ChannelError as error:
        text = f"{ai_id} lives (pid {placement.identity.pid}) and does not answer: {error.message}"
        context.table.update(ai_id, state="lost", cause=text, detail="lives, does not answer", **facts)
        context.record_error(
            ai_id, "lost", text, phase="adoption", evidence=evidence(context.launcher.logs(ai_id))
        )
        return False
    row = context.table.update(ai_id, state="ready", cause="", **facts, **found)
    try:
        await context.registry.apply(
            lambda change: change.register(
                ai_id,
                entry_of(row, placement, "ready"),
                detail or f"adopted: pid {placement.identity.pid} lives",
            )
        )
    except TektonError as error:
        # It serves: a registry that cannot be written is no reason to let it go.
        context.record_error(ai_id, error.code, error.message, phase="adoption")
    return True


async def _ask(context: SupervisorContext, ai_id: str, host: str, port: int) -> dict[str, object]:
    """Connect, and return the fields of the row that the worker itself knows.

    Raises:
        ChannelError: Nobody answers there, or somebody else does.
    """
    # A connection that is used already stays: turns may run on it.
    existing = context.channels.get(ai_id)
    if isinstance(existing, WorkerClient) and not existing.closed.done():
        client, opened = existing, False  # from the time when another gateway led the fleet
    else:
        client, opened = await context.connect(ai_id, host, port, ANSWER_TIMEOUT_S), True
    try:
        # all at once: on a busy machine each way there and back may take long
        pong, info, health = await asyncio.gather(
            client.call(Request(type="ping"), timeout_s=ANSWER_TIMEOUT_S),
            _known(client, Request(type="info", phases=True)),
            _known(client, Request(type="health")),
        )
        # The port is all that was known of it, and another program may listen there by now.
        if not isinstance(pong, Pong) or pong.ai_id != ai_id:
            raise ChannelError(f"what answers on {host}:{port} is not {ai_id}", code="foreign_port")
    except ChannelError:
        if opened:
            client.close("adoption failed")
        raise
    context.channels[ai_id] = client
    facts: dict[str, object] = {}
    if isinstance(info, InfoResponse):
        row = context.table.rows[ai_id]
        reason = row.provider_reason if info.model_provider == row.provider else "as it was running"
        choice = named(info.model_provider, info.model_name, reason)
        context.choices[ai_id] = choice
        facts |= choice_fields(choice)
        facts["version"] = info.version or UNREPORTED_VERSION
    if isinstance(health, HealthResponse) and health.status == "degraded":
        warming = (health.detail or "").startswith("warming")
        facts |= {"detail": health.detail or "", "warming": warming}
    return facts


async def _known(client: WorkerClient, request: Request) -> Reply | None:
    """Return what a worker says that may have to ask its provider first; `None` when that hangs: the worker itself does not."""
    try:
        return await client.call(request, timeout_s=ANSWER_TIMEOUT_S)
    except ReplyTimeout:
        return None


def _show_dead(context: SupervisorContext, removed: Removed) -> None:
    """Show and record that a worker ended while no backend ran."""
    text = f"{removed.ai_id} ended while no backend watched, how is unknown: {removed.reason}"
    if removed.ai_id in context.table.rows:
        context.table.update(removed.ai_id, state="lost", cause=text, pid=0)
    last_lines = evidence(context.launcher.logs(removed.ai_id))
    context.record_error(removed.ai_id, "lost", text, phase="adoption", evidence=last_lines)


def _entry(context: SupervisorContext, worker: FoundWorker, port: int) -> RegistryEntry:
    row = context.table.rows.get(worker.ai_id)
    return RegistryEntry(
        port=port,
        component=row.component if row else worker.ai_id.removesuffix("-ai"),
        pid=worker.identity.pid,
        process_start=worker.identity.start,
        metadata=worker.identity.metadata(),
    )
