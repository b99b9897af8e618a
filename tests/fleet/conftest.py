from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from faulty_upstream import Upstream

from backend.client import Client, attach
from backend.home import Home
from backend.schema.errors import TektonError
from backend.specialists.killall import kill_all

BOUND_S = 20.0


@dataclass
class Whole:
    """A whole platform in a home of its own: the real backend process, its workers, and a client of it."""

    home: Home
    client: Client
    calls_file: Path
    clients: list[Client] = field(default_factory=list[Client])

    @property
    def calls(self) -> int:
        """Upstream calls of the scripted provider so far."""
        return self.calls_file.read_text().count("call") if self.calls_file.exists() else 0

    @property
    def backend_pid(self) -> int:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(self.home.backend_facts.read_bytes())["pid"]
        return 0

    async def row(self, name: str) -> dict[str, Any]:
        rows = (await self.client.call("snapshot"))["specialists"]
        return next(row for row in rows if row["name"] == name)

    async def until_row(self, name: str, fits: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait for a row to become so; looks as often as the backend answers."""
        async with asyncio.timeout(BOUND_S):
            while not fits(row := await self.row(name)):
                pass
        return row

    async def ask(self, name: str, content: str, **more: Any) -> dict[str, Any]:
        return await self.client.call("chat", ai_id=name, content=content, timeout_s=BOUND_S, **more)

    async def fail(self, name: str, content: str, request_id: str) -> TektonError:
        """Ask what must fail and return the failure as the client sees it."""
        with pytest.raises(TektonError) as failure:
            await self.ask(name, content, request_id=request_id)
        return failure.value

    async def errors(self, where: str) -> list[dict[str, Any]]:
        found = (await self.client.call("list_errors"))["errors"]
        return [error for error in found if error["where"] == where]

    async def launch(self, *names: str) -> None:
        for result in (await self.client.call("launch", ids=list(names)))["results"]:
            assert result["ok"], result


@pytest.fixture
async def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Return a function that attaches to this test's platform, started when none runs; all is ended afterwards."""
    home = Home(tmp_path / "home").prepare()
    calls = tmp_path / "calls"
    for name, value in {
        "TEKTON_HOME": str(home.root),
        "TEKTON_PORT_PROFILE": "free",
        "TEKTON_GATEWAY_PORT": "0",
        "TEKTON_PROVIDER": "scripted",
        "TEKTON_SCRIPTED_COUNT": str(calls),
    }.items():
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
