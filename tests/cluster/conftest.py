"""A real Ray cluster of two nodes on this machine, and a real Redis server."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

TOKEN = secrets.token_hex(32)
"""Of all clusters of these tests: Ray keeps the first token a process shows it."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes; the second alone offers `far`. With a token, and nodes that are missed soon."""
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "2",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    os.environ.update(settings)
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    memory = 80 * 1024 * 1024
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": memory},
    )
    made.add_node(num_cpus=1, resources={"far": 1}, object_store_memory=memory)
    yield made
    made.shutdown()
    for name in settings:
        os.environ.pop(name, None)
