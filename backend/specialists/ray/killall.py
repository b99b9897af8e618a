"""End a home's actors on a cluster when its backend does not run; found by the home's namespace, not by the registry.

Blocking. Ray is imported only when a cluster is known.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from backend import config
from backend.config import Settings
from backend.home import Home, write_private
from backend.registry import Registry
from backend.schema.records import LaunchResult
from backend.specialists.supervisor import worker_token

CLUSTER_NOTE = "cluster"
"""File in the home's `run` folder with the address of the cluster that its specialists are on."""
GRACE_S = 3.0
GONE_S = 10.0
POLL_S = 0.05


def note_cluster(home: Home, address: str) -> None:
    """Keep the address of the cluster that the home's gateway joined."""
    write_private(home.run / CLUSTER_NOTE, address.encode())


def last_cluster(home: Home) -> str:
    """Return the address of the cluster that the home's last gateway joined; empty if none did."""
    try:
        return (home.run / CLUSTER_NOTE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def cluster_of(home: Home, settings: Settings) -> str:
    """Return the address of the cluster that may run this home's specialists; empty if there is none.

    Raises:
        RegistryBusy: The registry could not be read in time.
    """
    if settings.cluster.address:
        return settings.cluster.address
    entries = Registry(home.registry, home.audit).read() if home.registry.exists() else {}
    return last_cluster(home) if any(entry.launcher == "ray" for entry in entries.values()) else ""


def kill_cluster(
    home: Home, environment: Mapping[str, str], *, grace_s: float = GRACE_S
) -> list[LaunchResult]:
    """End every actor of a home; return a result for each, an empty list if no cluster is known or none lives.

    Raises:
        ClusterRefused: The cluster cannot be joined, so it is not known what runs there.
        HeadSilent: Its head does not answer.
    """
    environment = {**config.read_env_file(home), **environment}
    address = cluster_of(home, config.load(home, environment))
    if not address:
        return []
    from backend.specialists.ray.head import Head

    head = Head(address, worker_token(home))
    head.join(environment)
    started = time.monotonic()
    try:
        actors = {name: actor for name in head.running_ids() if (actor := head.find(name)) is not None}
        _ask_to_stop(head, list(actors.values()), grace_s)
        for actor in actors.values():
            head.end(actor)
        left = _until_gone(head, set(actors))
    finally:
        head.leave()
    elapsed_s = round(time.monotonic() - started, 3)
    _clear(home, left)
    return [_result(name, name in left, elapsed_s) for name in sorted(actors)]


def _ask_to_stop(head: Any, actors: list[Any], grace_s: float) -> None:
    """Ask actors to stop, so that open turns end with error frames; wait at most `grace_s` seconds."""
    if actors:
        asked = [actor.stop.remote() for actor in actors]
        head.ask(head.ray.wait, asked, num_returns=len(asked), timeout=grace_s)


def _until_gone(head: Any, names: set[str]) -> set[str]:
    """Wait until the cluster lists none of these names any more; return those it still lists."""
    deadline = time.monotonic() + GONE_S
    while (left := names & set(head.running_ids())) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return left


def _clear(home: Home, left: set[str]) -> None:
    with Registry(home.registry, home.audit).transaction() as transaction:
        for ai_id, entry in list(transaction.entries.items()):
            if entry.launcher == "ray" and ai_id not in left:
                transaction.deregister(ai_id, reason="ended by kill --all without a backend")


def _result(name: str, left: bool, elapsed_s: float) -> LaunchResult:
    if left:
        text = f"the cluster still lists it after {GONE_S:g} s"
        return LaunchResult(name, False, "lost", 0, 0, text, "internal", elapsed_s)
    return LaunchResult(name, True, "stopped", 0, 0, "stopped on the cluster", None, elapsed_s)
