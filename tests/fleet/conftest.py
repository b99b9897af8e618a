from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backend.client import attach
from backend.home import Home
from backend.specialists.killall import kill_all
from tests.fleet.faulty_upstream import Upstream
from tests.fleet.whole import Whole, environment


@pytest.fixture
async def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Return a function that attaches to this test's platform, started when none runs; all is ended afterwards."""
    home = Home(tmp_path / "home").prepare()
    calls = tmp_path / "calls"
    for name, value in environment(home, calls).items():
        monkeypatch.setenv(name, value)
    attached: list[Whole] = []

    async def start(config: str = "") -> Whole:
        if config:
            home.config.write_text(config)
        attached.append(Whole(home, await attach(home), calls))
        return attached[-1]

    yield start
    for one in attached:
        await one.client.close()
    if attached and (pid := attached[-1].backend_pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(kill_all, home, grace_s=0.5)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    await server.start()
    yield server
    await server.stop()
