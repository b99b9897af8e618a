from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dialects import DIALECTS
from rigs import Rig, ScriptedRig, ServerRig

from backend.home import Home


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
