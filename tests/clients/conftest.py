from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.running import Programs
from tests.gateway.serving import start_backend


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """Programs of others beside a backend whose specialists do what the prompt says."""
    backend = start_backend(tmp_path_factory.mktemp("clients") / "home", launch=("apollo", "athena"))
    yield Programs.beside(backend, tmp_path_factory)
    backend.stop()
