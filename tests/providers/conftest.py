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
from tests.providers.dialects import DIALECTS
from tests.providers.product import Product, environment_of
from tests.providers.rigs import Rig, ScriptedRig, ServerRig


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").prepare()


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.kind)
async def served(request: pytest.FixtureRequest, home: Home) -> AsyncIterator[ServerRig]:
    """A provider with a server of its vendor's dialect behind it."""
    rig = ServerRig(request.param.kind, home, dialect=request.param)
    await rig.start()
    yield rig
    await rig.stop()


@pytest.fixture(params=[None, *DIALECTS], ids=lambda dialect: dialect.kind if dialect else "scripted")
async def rig(request: pytest.FixtureRequest, home: Home) -> AsyncIterator[Rig]:
    """Any provider of ours, ready to be asked."""
    dialect = request.param
    one = ServerRig(dialect.kind, home, dialect=dialect) if dialect else ScriptedRig("scripted", home)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Return a function that starts a platform with vendors on loopback; all of it is ended afterwards."""
    started: list[Product] = []

    async def start(config: str = "", **environment: str) -> Product:
        home = Home(tmp_path / "home").prepare()
        one = Product(home, environment_of(home))
        started.append(one)
        await one.serve()
        one.configure(config)
        one.environment |= {name: value.format(**urls(one)) for name, value in environment.items()}
        for name in [name for name in os.environ if name not in one.environment]:
            monkeypatch.delenv(name)
        for name, value in one.environment.items():
            monkeypatch.setenv(name, value)
        one.client = await attach(home)
        return one

    yield start
    for one in started:
        with contextlib.suppress(AttributeError):
            await one.client.close()
        with contextlib.suppress(OSError):
            os.kill(one.backend_pid(), signal.SIGKILL)
        await asyncio.to_thread(kill_all, one.home, grace_s=0.5)
        for rig in one.vendors.values():
            await rig.upstream.stop()


def urls(one: Product) -> dict[str, str]:
    return {kind: rig.upstream.url.removeprefix("http://") for kind, rig in one.vendors.items()}
