from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from backend.orchestration.platform import Platform
from tests.orchestration.running import Watcher, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Return a backend with Apollo and Athena launched, one for all tests of a file."""
    async with running(tmp_path_factory.mktemp("platform") / "home", "apollo", "athena") as platform:
        yield platform


@pytest_asyncio.fixture(loop_scope="module")
async def watcher(platform: Platform) -> AsyncIterator[Watcher]:
    """Return the events of conversations, from now on."""
    watcher = Watcher(platform, "chat")
    yield watcher
    watcher.close()
