"""Remove from the registry what is provably dead.

Provably dead is a local process whose pid is gone, or whose pid now belongs to a process that started at another
time. Everything else stays: entries of other hosts, of other launchers, of endpoints without a process.
"""

from __future__ import annotations

import time

from msgspec import Struct

from backend.identity import entry_alive, identify
from backend.registry.store import Registry
from backend.schema.records import RegistryEntry


class Removed(Struct, frozen=True):
    """An entry that was removed, and why."""

    ai_id: str
    entry: RegistryEntry
    reason: str


def sweep(registry: Registry) -> list[Removed]:
    """Remove the entries of dead processes and return them. Writes nothing if there are none.

    Raises:
        RegistryBusy: The lock stayed held until the time-out; nothing was removed.
    """
    if not any(death_of(entry) for entry in registry.read().values()):
        return []
    removed: list[Removed] = []
    with registry.transaction() as transaction:
        for ai_id, entry in list(transaction.entries.items()):
            if reason := death_of(entry):
                transaction.deregister(ai_id, reason=reason)
                removed.append(Removed(ai_id, entry, reason))
    return removed


def death_of(entry: RegistryEntry) -> str:
    """Return in words how it is known that an entry's process is dead; empty if it is not known to be."""
    if entry.transport != "socket" or entry.launcher != "local" or entry.pid <= 0 or entry_alive(entry):
        return ""
    found = identify(entry.pid)
    if found is None:
        return f"pid {entry.pid} does not exist any more"
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.start))
    return f"pid {entry.pid} was recycled: the process of that pid started at {started}"
