"""What a new backend does first: adopt what lives, clear what is provably dead, and say so of each.

A worker is adopted when its process is the recorded one (pid and start) and it answers to its id on its port.
Nothing is started and nothing is killed here.
"""

from __future__ import annotations

import asyncio
import logging

from backend.registry.sync import Removed, sweep
from backend.schema.errors import TektonError
from backend.schema.frames import HealthResponse, InfoResponse, Pong, Request
from backend.schema.records import RegistryEntry
from backend.specialists.census import Found, living_workers
from backend.specialists.fleet import Fleet, choice_fields, entry_of, named, row_of_entry
from backend.specialists.link import Link, LinkError
from backend.specialists.logs import evidence

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 3.0
"""How long a living worker gets to answer before it counts as lost."""


async def adopt_all(fleet: Fleet) -> None:
    """Bring rows, links and registry in line with what lives."""
    for removed in await asyncio.to_thread(sweep, fleet.registry.registry):
        _show_dead(fleet, removed)
    entries = await fleet.registry.read()
    local = {
        ai_id: entry
        for ai_id, entry in entries.items()
        if entry.launcher == fleet.launcher.name and entry.pid
    }
    await asyncio.gather(*(adopt_one(fleet, ai_id, entry) for ai_id, entry in local.items()))
    if fleet.launcher.remote:
        await _settle_remote(fleet, local)
    else:
        await adopt_unregistered(fleet)


async def _settle_remote(fleet: Fleet, entries: dict[str, RegistryEntry]) -> None:
    """Adopt what a cluster runs and the registry does not name; take out what the cluster does not know any more."""
    for ai_id, entry in entries.items():
        if ai_id not in fleet.placements:
            reason = f"{fleet.launcher.name} does not run it any more"
            await fleet.registry.apply(
                lambda change, ai_id=ai_id, reason=reason: change.deregister(ai_id, reason=reason)
            )
            _show_dead(fleet, Removed(ai_id, entry, reason))
    for ai_id in await fleet.launcher.living():
        if ai_id not in fleet.placements:
            name = ai_id.removesuffix("-ai")
            entry = RegistryEntry(port=0, component=name, launcher=fleet.launcher.name)
            await adopt_one(fleet, ai_id, entry, detail="found alive, not in the registry")


async def adopt_unregistered(fleet: Fleet) -> None:
    """Adopt living workers the registry does not name, as after its file was damaged."""
    known = {placement.identity.pid for placement in fleet.placements.values()}
    for worker in await asyncio.to_thread(living_workers, fleet.home):
        if worker.identity.pid in known:
            continue
        if worker.ai_id in fleet.placements or not worker.port:
            log.warning("%s runs twice or listens nowhere: pid %d", worker.ai_id, worker.identity.pid)
            continue
        await adopt_one(fleet, worker.ai_id, _entry(fleet, worker), detail="found alive, not in the registry")


async def adopt_one(fleet: Fleet, ai_id: str, entry: RegistryEntry, *, detail: str = "") -> bool:
    """Take a living worker over; return whether it answers."""
    if ai_id not in fleet.board.rows:
        fleet.board.put(row_of_entry(ai_id, entry))
    placement = await fleet.launcher.adopt(ai_id, entry)
    if placement is None:
        return False
    fleet.placements[ai_id] = placement
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
        found = await _ask(fleet, ai_id, placement.host, placement.port)
    except LinkError as error:
        text = f"{ai_id} lives (pid {placement.identity.pid}) and does not answer: {error.message}"
        fleet.board.change(ai_id, state="lost", cause=text, detail="lives, does not answer", **facts)
        fleet.record_error(
            ai_id, "lost", text, phase="adoption", evidence=evidence(fleet.launcher.logs(ai_id))
        )
        return False
    row = fleet.board.change(ai_id, state="ready", cause="", **facts, **found)
    try:
        await fleet.registry.apply(
            lambda change: change.register(
                ai_id,
                entry_of(row, placement, "ready"),
                detail or f"adopted: pid {placement.identity.pid} lives",
            )
        )
    except TektonError as error:
        fleet.record_error(ai_id, error.code, error.message, phase="adoption")
    return True


async def _ask(fleet: Fleet, ai_id: str, host: str, port: int) -> dict[str, object]:
    """Open the link and return what the worker says of itself.

    Raises:
        LinkError: Nobody answers there, or somebody else does.
    """
    there = fleet.links.get(ai_id)  # open already where this gateway asked it while another one led
    ours = isinstance(there, Link) and not there.closed.done()
    link = (
        there if isinstance(there, Link) and ours else await fleet.reach(ai_id, host, port, ANSWER_TIMEOUT_S)
    )
    try:
        pong = await link.call(Request(type="ping"), timeout_s=ANSWER_TIMEOUT_S)
        if not isinstance(pong, Pong) or pong.ai_id != ai_id:
            raise LinkError(f"what answers on {host}:{port} is not {ai_id}", code="foreign_port")
        info = await link.call(Request(type="info"), timeout_s=ANSWER_TIMEOUT_S)
        health = await link.call(Request(type="health"), timeout_s=ANSWER_TIMEOUT_S)
    except LinkError:
        if not ours:
            link.close("adoption failed")
        raise
    fleet.links[ai_id] = link
    facts: dict[str, object] = {}
    if isinstance(info, InfoResponse):
        row = fleet.board.rows[ai_id]
        reason = row.provider_reason if info.model_provider == row.provider else "as it was running"
        choice = named(info.model_provider, info.model_name, reason)
        fleet.choices[ai_id] = choice
        facts |= choice_fields(choice)
    if isinstance(health, HealthResponse) and health.status == "degraded":
        warming = (health.detail or "").startswith("warming")
        facts |= {"detail": health.detail or "", "warming": warming}
    return facts


def _show_dead(fleet: Fleet, removed: Removed) -> None:
    """Make visible what ended while no backend watched."""
    text = f"{removed.ai_id} ended while no backend watched, how is unknown: {removed.reason}"
    if removed.ai_id in fleet.board.rows:
        fleet.board.change(removed.ai_id, state="lost", cause=text, pid=0)
    proof = evidence(fleet.launcher.logs(removed.ai_id))
    fleet.record_error(removed.ai_id, "lost", text, phase="adoption", evidence=proof)


def _entry(fleet: Fleet, worker: Found) -> RegistryEntry:
    row = fleet.board.rows.get(worker.ai_id)
    return RegistryEntry(
        port=worker.port,
        component=row.component if row else worker.ai_id.removesuffix("-ai"),
        pid=worker.identity.pid,
        process_start=worker.identity.start,
        metadata=worker.identity.metadata(),
    )
