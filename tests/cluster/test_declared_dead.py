"""A gateway that another one declares dead at an awkward moment: while it opens, and while somebody asks it to end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backend.gateway import serve
from backend.home import Home
from backend.orchestration.platform import Held
from tests.cluster import ON_REDIS
from tests.orchestration.running import do
from tests.redis_server import RedisServer

pytestmark = ON_REDIS
BOUND_S = 30.0


class Opened:
    """A gateway in this process that is open and does not serve yet."""

    def __init__(self, home: Home, opened: serve._Opened) -> None:  # pyright: ignore[reportPrivateUsage]
        self._home, self._opened = home, opened
        self.platform = opened.platform

    def declare_dead(self) -> None:
        """Tell it as the store does."""
        cluster = self.platform.cluster
        assert cluster is not None and cluster.shared_log.on_fenced is not None
        cluster.shared_log.on_fenced(False)

    async def serve(self) -> Held | None:
        """Serve to its end; return what it holds where it is to begin anew."""
        ended = asyncio.get_running_loop().create_future()
        ready = serve._Ready(None)  # pyright: ignore[reportPrivateUsage]
        serving = serve._serve_one(self._opened, self._home, ready, 1, ended, None)  # pyright: ignore[reportPrivateUsage]
        return await asyncio.wait_for(serving, BOUND_S)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Opened]:
    server = RedisServer(tmp_path / "redis").start()
    home = Home(tmp_path / "home").prepare()
    environment = {
        **os.environ,
        "TEKTON_HOME": str(home.root),
        "TEKTON_STORE": server.address.url,
        "TEKTON_PORT_PROFILE": "free",
        "TEKTON_PROVIDER": "scripted",
    }
    yield Opened(home, await serve._open(home, None, None, environment, 1))  # pyright: ignore[reportPrivateUsage]
    server.kill()


async def test_one_that_is_declared_dead_before_it_serves_begins_anew(gateway: Opened) -> None:
    """It would serve for ever otherwise, and write nothing: it is told only once."""
    gateway.declare_dead()
    assert await gateway.serve() is not None


async def test_one_that_is_asked_to_end_as_it_is_declared_dead_ends(gateway: Opened) -> None:
    serving = asyncio.create_task(gateway.serve())
    async with asyncio.timeout(BOUND_S):
        while gateway.platform.stop_asked is None:  # noqa: ASYNC110 - it is told to nobody
            await asyncio.sleep(0)
    gateway.declare_dead()
    assert (await do(gateway.platform, "shutdown")).stopping
    assert await serving is None
