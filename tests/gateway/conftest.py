from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.serving import Backend, start_backend


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """One backend with apollo and athena, scripted, for all tests that leave its settings as they were.

    Tests name sessions and request ids of their own, so that none depends on another.
    """
    backend = start_backend(tmp_path_factory.mktemp("gw") / "home", launch=("apollo", "athena"))
    yield backend
    backend.stop()


@pytest.fixture
def new_backend(tmp_path: Path) -> Iterator[Callable[..., Backend]]:
    """Return a function that starts a backend of the test's own: `config=` its TOML, `launch=` whom."""
    started: list[Backend] = []

    def start(**options: Any) -> Backend:
        started.append(start_backend(tmp_path / f"home{len(started)}", **options))
        return started[-1]

    yield start
    for backend in started:
        backend.stop()
