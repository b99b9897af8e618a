"""A real Ray cluster of two nodes on this machine, and a real Redis server."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.client import Client, attach
from backend.home import Home, write_private
from tests.cluster.pair import Pair
from tests.redis_server import RedisServer

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


@pytest.fixture
def config() -> str:
    """What `config.toml` says; a file of tests has its own, which may also set the environment."""
    return ""


@pytest.fixture
def home(tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose backend uses free ports and the scripted provider."""
    for name, value in {
        "TEKTON_HOME": str(tmp_path / "home"),
        "TEKTON_PORT_PROFILE": "free",
        "TEKTON_GATEWAY_PORT": "0",
        "TEKTON_PROVIDER": "scripted",
    }.items():
        monkeypatch.setenv(name, value)
    home = Home.from_environment().prepare()
    write_private(home.config, config.encode())
    return home


@pytest.fixture
async def client(home: Home) -> AsyncIterator[Client]:
    """A client of a backend that is started, and ended with its fleet."""
    client = await attach(home)
    yield client
    await client.close()
    again = await attach(home)
    await again.request("shutdown", {"stop_fleet": True})
    await again.close()


@pytest.fixture
async def pair(tmp_path: Path, config: str) -> AsyncIterator[Pair]:
    """Two gateways of one home on one Redis server."""
    server = RedisServer(tmp_path / "redis").start()
    made = Pair(tmp_path, server)
    write_private(made.home.config, config.encode())
    try:
        await asyncio.to_thread(made.start, 1)
        await asyncio.to_thread(made.start, 2)
        yield made
    finally:
        if server.process is None:
            server.start()
        await made.close()
        server.kill()
