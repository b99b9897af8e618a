"""Match what specialists require with what the nodes of a cluster offer. Pure, except for `own_node`.

Ray leaves an actor that fits no node pending for ever; these functions say why, before it is placed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from backend.schema.records import Node


def own_node(specialists: list[str]) -> Node:
    """Return this machine as the only node."""
    cores, memory = float(os.cpu_count() or 1), float(psutil.virtual_memory().total)
    host = socket.gethostname()
    return Node(host, host, "127.0.0.1", resources={"CPU": cores, "memory": memory}, specialists=specialists)


def node_of(row: Mapping[str, Any]) -> Node:
    """Return the node of a row of `ray.nodes()`, without the resources and labels that Ray adds for itself."""
    own = ("node:", "object_store_memory")
    labels: dict[str, str] = row.get("Labels") or {}
    return Node(
        id=row["NodeID"],
        host=row.get("NodeManagerHostname") or row["NodeManagerAddress"],
        address=row["NodeManagerAddress"],
        alive=bool(row["Alive"]),
        resources={k: v for k, v in row.get("Resources", {}).items() if not k.startswith(own)},
        labels={k: v for k, v in labels.items() if not k.startswith("ray.io/")},
    )


def fitting(nodes: Sequence[Node], resources: Mapping[str, float], labels: Mapping[str, str]) -> list[Node]:
    """Return the live nodes that have all these resources and labels."""
    return [
        node
        for node in nodes
        if node.alive
        and all(node.resources.get(name, 0) >= amount for name, amount in resources.items())
        and all(node.labels.get(name) == value for name, value in labels.items())
    ]


def unmet(nodes: Sequence[Node], resources: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """Return in words what no live node offers; empty when a node offers everything."""
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
    """Return resources and labels as options of a Ray actor; without any the actor reserves nothing."""
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
