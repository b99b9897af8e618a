"""What specialists ask of nodes and what nodes have, in words. Pure but for `own_node`.

Ray leaves a placement that no node can take pending for ever; these functions say beforehand, or after, why.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
from msgspec import Struct


class Node(Struct, omit_defaults=True):
    """One node of the cluster. `resources` in total, `labels` as its starter gave them."""

    id: str
    host: str
    address: str
    alive: bool = True
    resources: dict[str, float] = {}
    labels: dict[str, str] = {}
    specialists: list[str] = []


def own_node(specialists: list[str]) -> Node:
    """Return this machine as the one node there is."""
    cores, memory = float(os.cpu_count() or 1), float(psutil.virtual_memory().total)
    host = socket.gethostname()
    return Node(host, host, "127.0.0.1", resources={"CPU": cores, "memory": memory}, specialists=specialists)


def node_of(row: Mapping[str, Any]) -> Node:
    """Return a row of `ray.nodes()` without Ray's own bookkeeping."""
    own = ("node:", "object_store_memory")
    return Node(
        id=row["NodeID"],
        host=row.get("NodeManagerHostname") or row["NodeManagerAddress"],
        address=row["NodeManagerAddress"],
        alive=bool(row["Alive"]),
        resources={k: v for k, v in row.get("Resources", {}).items() if not k.startswith(own)},
        labels={k: v for k, v in (row.get("Labels") or {}).items() if not k.startswith("ray.io/")},
    )


def fitting(nodes: Sequence[Node], resources: Mapping[str, float], labels: Mapping[str, str]) -> list[Node]:
    """Return the live nodes that have all of this."""
    return [
        node
        for node in nodes
        if node.alive
        and all(node.resources.get(name, 0) >= amount for name, amount in resources.items())
        and all(node.labels.get(name) == value for name, value in labels.items())
    ]


def unmet(nodes: Sequence[Node], resources: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """Return in words what no live node offers; empty when one has it all."""
    if fitting(nodes, resources, labels):
        return ""
    live = [node for node in nodes if node.alive]
    if not live:
        return "the cluster has no live node"
    missing = [
        f"{name} {amount:g} (the most one has is {max(node.resources.get(name, 0) for node in live):g})"
        for name, amount in resources.items()
        if all(node.resources.get(name, 0) < amount for node in live)
    ]
    missing += [
        f"label {name}={value}"
        for name, value in labels.items()
        if all(node.labels.get(name) != value for node in live)
    ]
    wanted = " and ".join(missing) or "all that is asked for at once"
    return f"none of {len(live)} nodes offers {wanted}"


def options(resources: Mapping[str, float], labels: Mapping[str, str]) -> dict[str, Any]:
    """Return what is asked of a node as options of an actor; nothing asked takes nothing."""
    custom = dict(resources)
    given: dict[str, Any] = {"num_cpus": custom.pop("CPU", 0)}
    if gpus := custom.pop("GPU", 0):
        given["num_gpus"] = gpus
    if memory := custom.pop("memory", 0):
        given["memory"] = memory
    if custom:
        given["resources"] = custom
    if labels:
        given["label_selector"] = dict(labels)
    return given
