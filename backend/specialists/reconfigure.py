"""Another catalogue while the fleet runs: rows come, change and go; who runs is left as it is, and its row says so.

Starts and ends nothing.
"""

from __future__ import annotations

import time

import msgspec

from backend.catalog import Catalog, Component
from backend.config import Settings
from backend.schema.states import RUNNING
from backend.specialists.context import SupervisorContext, choice_fields, new_row

CHANGED = "changed: restart to take it"
REMOVED = "no longer configured: it runs until it is stopped"
SETTLED_S = 2.0
"""How long a row has been still before it goes: whoever ended its process may still read it."""
_NOT_OF_THE_WORKER = frozenset({"short", "port", "ai_port", "roles", "groups", "aliases", "slot", "own"})
"""What of a row a worker does not know; with a change of anything else it has to be started anew."""


def reconfigure(context: SupervisorContext, settings: Settings, catalog: Catalog) -> None:
    """Take settings and rows that differ from those in force in their specialists and groups only."""
    before = dict(context.catalog.components)
    context.settings = settings
    context.catalog.take(_with_slots(catalog, before))
    for component in context.catalog:
        row = context.table.rows.get(component.id)
        if row is None:
            context.table.add(new_row(component, context.choice_for(component)))
            continue
        fresh = new_row(component, context.choice_for(component))
        shown = {
            name: getattr(fresh, name)
            for name in ("title", "groups", "description", "short", "capabilities", "roles")
        }
        if row.state not in RUNNING:
            shown |= {"temperature": fresh.temperature, "transport": fresh.transport, "port": fresh.port}
            shown |= choice_fields(context.choice_for(component))
        context.table.update(component.id, **shown)
        old = before.get(component.id)
        if row.state in RUNNING and (old is None or _worker_part(old) != _worker_part(component)):
            context.turns.idle(component.id, CHANGED)
    for ai_id in before.keys() - context.catalog.components.keys():
        if context.table.rows[ai_id].state in RUNNING:
            context.turns.idle(ai_id, REMOVED)


def drop_removed(context: SupervisorContext) -> None:
    """Take out the rows of specialists that are no longer configured and have no process."""
    now = time.time()
    for row in list(context.table.rows.values()):
        known = row.id in context.catalog.components or row.id in context.placements
        busy = row.state in RUNNING or row.state == "lost" or row.id in context.channels
        if not known and not busy and now - row.since > SETTLED_S:
            context.table.remove(row.id)


def _worker_part(component: Component) -> list[object]:
    fields = Component.__struct_fields__
    return [getattr(component, name) for name in fields if name not in _NOT_OF_THE_WORKER]


def _with_slots(catalog: Catalog, before: dict[str, Component]) -> Catalog:
    """Return a catalogue whose rows keep the slots they have; new ones get the lowest that are free."""
    taken = {before[row.id].slot for row in catalog if row.id in before}
    free = (slot for slot in range(len(before) + len(catalog.components) + 1) if slot not in taken)
    rows = [
        msgspec.structs.replace(row, slot=before[row.id].slot if row.id in before else next(free))
        for row in catalog
    ]
    return Catalog(rows, catalog.groups, catalog.faults)
