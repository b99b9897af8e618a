"""A death on another host shows at once; its ledger entry waits for the last log lines, which must be fetched first."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import Future
from pathlib import Path
from socket import socket
from types import SimpleNamespace
from typing import Any

import pytest

from backend.config import Settings
from backend.registry import Registry
from backend.registry.ports import bind
from backend.specialists.launcher import OnStarted, Placement
from backend.specialists.local import LocalLauncher
from backend.specialists.logs import log_path, tail
from backend.specialists.nodes import Node
from backend.specialists.ray.logs import RayLogs, read_piece
from backend.worker.spec import WorkerSpec
from tests.specialists.fleets import BOUND_S, Platform, make_platform


class FarLauncher(LocalLauncher):
    """Real processes of this machine, with what is different on others: ports bound there, logs that take a while."""

    remote = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.log_fetched = asyncio.Event()

    async def launch(self, spec: WorkerSpec, listener: socket | None, on_started: OnStarted) -> Placement:
        listener = bind("127.0.0.1", 0)
        spec.port = listener.getsockname()[1]
        return await super().launch(spec, listener, on_started)

    async def last_lines(self, ai_id: str) -> str:
        await self.log_fetched.wait()
        return await super().last_lines(ai_id)

    def close(self) -> None:
        self.log_fetched.set()
        super().close()


@pytest.fixture
async def far(platform: Any, tmp_path: Path) -> tuple[Platform, FarLauncher]:
    home = make_platform(tmp_path / "home").home
    launcher = FarLauncher(home, Settings(), dict(os.environ))
    fleet: Platform = await platform({"launcher": launcher})
    await fleet.launch("apollo-ai")
    return fleet, launcher


async def kill(fleet: Platform) -> None:
    os.kill(fleet.pid("apollo-ai"), signal.SIGKILL)
    await fleet.until_state("apollo-ai", "killed")


async def test_a_death_shows_at_once_and_is_recorded_with_the_last_lines_however_long_they_take(
    far: tuple[Platform, FarLauncher],
) -> None:
    fleet, launcher = far
    registry = Registry(fleet.home.registry, fleet.home.audit)
    await kill(fleet)
    assert fleet.errors == []
    assert "apollo-ai" in registry.read(), "a backend killed now leaves it for the next one to record"
    launcher.log_fetched.set()
    await fleet.until(lambda: fleet.errors)
    assert fleet.errors[0]["code"] == "killed" and "apollo-ai serves on" in fleet.errors[0]["evidence"]
    await fleet.supervisor.close(stop_fleet=False)
    assert registry.read() == {}


async def test_a_backend_that_ends_meanwhile_records_the_death_first(
    far: tuple[Platform, FarLauncher],
) -> None:
    fleet, _ = far
    await kill(fleet)
    await fleet.supervisor.close(stop_fleet=False)
    assert [error["code"] for error in fleet.errors] == ["killed"]
    assert Registry(fleet.home.registry, fleet.home.audit).read() == {}


async def test_another_one_can_be_launched_meanwhile_and_stays(far: tuple[Platform, FarLauncher]) -> None:
    fleet, launcher = far
    await kill(fleet)
    await asyncio.wait_for(fleet.launch("apollo-ai"), BOUND_S)
    launcher.log_fetched.set()
    await fleet.until(lambda: fleet.errors)
    await fleet.supervisor.close(stop_fleet=False)
    entry = Registry(fleet.home.registry, fleet.home.audit).read()["apollo-ai"]
    assert entry.pid == fleet.pid("apollo-ai")


class Cluster:
    """A head whose one node reads files when it is let: what `RayLogs` uses of Ray, and nothing more."""

    def __init__(self) -> None:
        self.reads: list[tuple[str, int, Future[bytes]]] = []
        self.asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.alive = True
        self.ray = SimpleNamespace(
            exceptions=SimpleNamespace(RayError=RuntimeError),
            util=SimpleNamespace(
                scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
            ),
            remote=lambda work: SimpleNamespace(options=lambda **options: SimpleNamespace(remote=self._read)),
        )

    def nodes(self) -> list[Node]:
        return [Node("n1", "far", "192.0.2.1", alive=self.alive)]

    def ask(self, work: Any, *arguments: Any) -> Any:
        return work(*arguments)

    def _read(self, path: str, after: int) -> Any:
        answer: Future[bytes] = Future()
        self.reads.append((path, after, answer))
        self._loop.call_soon_threadsafe(self.asked.set)
        return SimpleNamespace(future=lambda: answer)

    def let_read(self) -> None:
        path, after, answer = self.reads.pop()
        answer.set_result(read_piece(path, after))


async def test_last_lines_that_come_after_a_new_launch_go_to_the_file_of_the_run_before(
    tmp_path: Path,
) -> None:
    cluster, output = Cluster(), tmp_path / "far" / "worker.err"
    output.parent.mkdir()
    output.write_text("serves on far\nits last words\n")
    logs: Any = RayLogs(cluster, tmp_path)  # type: ignore[arg-type]
    await logs.begin("apollo-ai", "far", "n1", str(output), new_run=True)
    fetching = asyncio.create_task(logs.fetch_last("apollo-ai"))
    await asyncio.wait_for(cluster.asked.wait(), BOUND_S)
    await logs.begin("apollo-ai", "near", "n1", str(output), new_run=True)
    cluster.let_read()
    path = await fetching
    assert path == log_path(tmp_path, "apollo-ai", previous=True)
    assert tail(path, 1) == ["its last words"]
    assert "its last words" not in log_path(tmp_path, "apollo-ai").read_text()


async def test_of_a_node_that_is_gone_nothing_is_awaited(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.alive = False
    logs: Any = RayLogs(cluster, tmp_path)  # type: ignore[arg-type]
    await logs.begin("apollo-ai", "far", "n1", "/var/log/worker.err", new_run=True)
    assert await logs.fetch_last("apollo-ai") == log_path(tmp_path, "apollo-ai")
    assert not cluster.reads
