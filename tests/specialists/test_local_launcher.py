"""The launchers' contract, kept by processes of this machine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backend import config
from backend.config import Settings
from backend.home import Home
from backend.registry.ports import bind
from backend.specialists.local import LocalLauncher
from tests.launcher_contract import Ground, LauncherContract

pytestmark = pytest.mark.e2e


class TestLocalLauncher(LauncherContract):
    @pytest.fixture
    async def ground(self, tmp_path: Path) -> AsyncIterator[Ground]:
        home = Home(tmp_path / "home").prepare()
        environment = {**os.environ, "TEKTON_HOME": str(home.root)}

        async def make(settings: Settings) -> LocalLauncher:
            return LocalLauncher(home, settings, environment)

        ground = Ground(
            home,
            config.load(home, environment),
            make,
            lambda: bind("127.0.0.1", 0),
            hopeless="athena",
            hopeless_words=r"was not ready within 0\.001 s",
            crash_words="exited with code 7",
        )
        yield ground
        await ground.end()
