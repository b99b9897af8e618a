"""The launchers' contract, kept by actors of a real cluster of two nodes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backend import config
from backend.config import Settings
from backend.home import Home
from tests.cluster import ON_RAY
from tests.launcher_contract import TOKEN, Ground, LauncherContract

pytestmark = ON_RAY
CONFIG = """
[cluster]
address = "{address}"

[specialists.apollo]
resources = {{ far = 0.1 }}

[specialists.metis]
resources = {{ moon = 1 }}
"""


class TestRayLauncher(LauncherContract):
    @pytest.fixture
    async def ground(self, cluster: Any, tmp_path: Path) -> AsyncIterator[Ground]:
        from backend.specialists.ray.launcher import RayLauncher

        home = Home(tmp_path / "home").prepare()
        home.config.write_text(CONFIG.format(address=cluster.address), encoding="utf-8")
        environment = {**os.environ, "TEKTON_HOME": str(home.root)}

        async def make(settings: Settings) -> RayLauncher:
            launcher = RayLauncher(home, settings, environment, TOKEN)
            await launcher.connect()
            return launcher

        ground = Ground(
            home,
            config.load(home, environment),
            make,
            lambda: None,
            hopeless="metis",
            hopeless_words=r"moon 1 \(the most one has is 0\)",
            crash_words="its worker process has died",
        )
        yield ground
        await ground.end()
