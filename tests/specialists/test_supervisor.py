"""A fleet of real worker processes: launched, watched, ended, and told about truly."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from backend import config
from backend.home import Home
from backend.identity import identify
from backend.registry import Registry, Transaction
from backend.registry.store import RegistryBusy
from backend.schema.events import LogLines
from backend.schema.frames import HealthResponse, Request, StreamEnd, StreamError
from backend.specialists.launcher import Placement
from backend.specialists.local import LocalLauncher
from backend.specialists.process import live_groups
from backend.specialists.process_scan import find_workers
from backend.specialists.supervisor import NotRunning
from tests.specialists.fleets import Platform

pytestmark = pytest.mark.e2e

AUDIT = "ai_registry/ai_registry_audit.log"


def registry_of(platform: Platform) -> dict[str, Any]:
    return json.loads(platform.home.registry.read_text())


async def test_a_launched_specialist_is_ready_registered_and_answers(platform: Any) -> None:
    fleet = await platform()
    [result] = await fleet.supervisor.launch(["apollo-ai"])
    assert result.ok and result.state == "ready" and result.pid and result.port
    row = fleet.supervisor.status("apollo-ai")
    assert (row.pid, row.port, row.provider, row.model_display) == (
        result.pid,
        result.port,
        "scripted",
        "scripted",
    )
    await fleet.until(lambda: not fleet.supervisor.status("apollo-ai").warming)
    entry = registry_of(fleet)["apollo-ai"]
    assert (entry["pid"], entry["port"], entry["state"]) == (result.pid, result.port, "ready")
    assert fleet.states_of("apollo-ai") == ["starting", "ready"]
    end = await fleet.ask("apollo-ai", "hello").end()
    assert isinstance(end, StreamEnd) and end.metadata.model == "scripted:scripted"
    health = await fleet.supervisor.channel("apollo-ai").call(Request(type="health"), timeout_s=20)
    assert isinstance(health, HealthResponse) and health.status == "healthy"


async def test_one_that_does_not_run_says_so(platform: Any) -> None:
    fleet = await platform()
    with pytest.raises(NotRunning, match="launch it first"):
        fleet.supervisor.channel("apollo-ai")


async def test_concurrent_launches_give_one_worker_each(platform: Any) -> None:
    fleet = await platform()
    ids = ["apollo-ai", "athena-ai", "numa-ai"]
    answers = await asyncio.gather(*(fleet.supervisor.launch(ids) for _ in range(4)))
    assert all(result.ok for results in answers for result in results)
    workers = await asyncio.to_thread(find_workers, fleet.home)
    assert sorted(worker.ai_id for worker in workers) == ids
    assert len({fleet.supervisor.status(ai_id).port for ai_id in ids}) == 3
    [again] = await fleet.supervisor.launch(["numa-ai"])
    assert again.ok and again.code == "already_running" and again.pid == fleet.pid("numa-ai")


async def test_a_worker_killed_from_outside_is_killed_with_its_signal_and_stays_dead(platform: Any) -> None:
    fleet = await platform()
    await fleet.launch("apollo-ai")
    answer = fleet.ask("apollo-ai", "[[repeat 1000]] [[rate 50]]")
    await asyncio.wait_for(answer.begun.wait(), 60)
    pid = fleet.pid("apollo-ai")
    os.kill(pid, signal.SIGKILL)
    row = await fleet.until_state("apollo-ai", "killed")
    assert (row.signal, row.exit_code, row.pid) == (9, None, 0) and "signal 9 (SIGKILL)" in row.cause
    end = await answer.end()
    assert isinstance(end, StreamError) and end.code == "worker_lost"
    [error] = fleet.errors
    assert error["code"] == "killed" and error["where"] == "apollo-ai"
    assert "apollo-ai serves on" in error["evidence"], "the last lines it wrote"
    await fleet.supervisor.close(stop_fleet=False)
    assert registry_of(fleet) == {}
    assert "killed by signal 9" in (fleet.home.root / AUDIT).read_text()
    assert identify(pid) is None and not await asyncio.to_thread(find_workers, fleet.home)


async def test_a_worker_that_exits_tells_its_code(platform: Any) -> None:
    fleet = await platform()
    await fleet.launch("apollo-ai")
    answer = fleet.ask("apollo-ai", "[[repeat 9]] [[crash 7]]")
    row = await fleet.until_state("apollo-ai", "exited")
    assert (row.exit_code, row.signal, row.cause) == (7, None, "exited with code 7")
    assert isinstance(await answer.end(), StreamError)


async def test_kill_ends_the_process_and_says_how(platform: Any) -> None:
    fleet = await platform()
    await fleet.launch("apollo-ai", "athena-ai")
    pids = [fleet.pid("apollo-ai"), fleet.pid("athena-ai")]
    gentle, hard = await asyncio.gather(
        fleet.supervisor.kill(["apollo-ai"]), fleet.supervisor.kill(["athena-ai"], force=True)
    )
    assert (gentle[0].ok, gentle[0].message) == (True, "stopped by SIGTERM")
    assert (hard[0].ok, hard[0].message) == (True, "stopped by SIGKILL")
    assert [identify(pid) for pid in pids] == [None, None]
    assert fleet.states_of("apollo-ai") == ["starting", "ready", "stopping", "stopped"]
    assert registry_of(fleet) == {} and fleet.errors == []
    [again] = await fleet.supervisor.kill(["apollo-ai"])
    assert again.ok and again.code == "not_running"


async def test_a_worker_deaf_to_sigterm_is_killed_after_the_grace_time(platform: Any, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("[fleet]\nstop_grace_s = 0.3\n")
    fleet = await platform()
    await fleet.launch("apollo-ai")
    os.kill(fleet.pid("apollo-ai"), signal.SIGSTOP)
    [result] = await fleet.supervisor.kill(["apollo-ai"])
    assert result.ok and "did not end in the grace time" in result.message


async def test_a_stranger_on_the_port_is_named_and_left_alone(platform: Any, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        (tmp_path / "home" / "config.toml").write_text(f"[specialists.apollo]\nport = {port}\n")
        fleet = await platform()
        assert fleet.supervisor.status("apollo-ai").port == port
        plan = await fleet.supervisor.plan(["apollo-ai"])
        assert not plan.items[0].ok and plan.items[0].code == "foreign_port"
        [result] = await fleet.supervisor.launch(["apollo-ai"])
        assert not result.ok and result.code == "foreign_port"
        assert f"pid {os.getpid()}" in result.message
        row = fleet.supervisor.status("apollo-ai")
        assert row.state == "foreign-port" and psutil.Process().name() in row.detail
        assert fleet.errors[0]["code"] == "foreign_port"
    [result] = await fleet.supervisor.launch(["apollo-ai"])
    assert result.ok, "once the stranger left, the operator's next launch succeeds"


async def test_a_worker_that_dies_before_it_is_ready_is_a_failed_launch_with_evidence(
    platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.specialists.local.WORKER_MODULE", "backend.no_such_module")
    fleet = await platform()
    [result] = await fleet.supervisor.launch(["apollo-ai"])
    assert not result.ok and result.code == "launch_failed" and "exited with code 1" in result.message
    row = fleet.supervisor.status("apollo-ai")
    assert (row.state, row.exit_code) == ("exited", 1)
    assert "no_such_module" in fleet.errors[0]["evidence"]
    assert registry_of(fleet) == {}


async def test_a_worker_never_ready_is_stopped_at_the_deadline(
    platform: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("[fleet]\nready_timeout_s = 0.5\n")
    (tmp_path / "idle.py").write_text("import sys\nsys.stdin.read()\nimport time\ntime.sleep(600)\n")
    monkeypatch.setattr("backend.specialists.local.WORKER_MODULE", "idle")
    fleet = await platform(PYTHONPATH=str(tmp_path))
    [result] = await fleet.supervisor.launch(["apollo-ai"])
    assert not result.ok and "not ready within 0.5 s" in result.message
    assert fleet.supervisor.status("apollo-ai").state == "stopped"
    assert registry_of(fleet) == {}


class Misplacing(LocalLauncher):
    """Says of the first worker that it listens where nobody does, or fails in a way of its own after it was started."""

    misplaced = False
    fault: Exception | None = None

    async def launch(self, spec: Any, listener: Any, on_started: Any) -> Placement:
        placement = await super().launch(spec, listener, on_started)
        if self.misplaced:
            return placement
        self.misplaced = True
        if self.fault is not None:
            raise self.fault
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            return msgspec.structs.replace(placement, port=nobody.getsockname()[1])


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (None, "worker_lost", "cannot be reached"),
        (OSError(5, "Input/output error"), "launch_failed", "Input/output error"),
        (ValueError("the launcher has a fault"), "launch_failed", "the launcher has a fault"),
    ],
)
async def test_a_launch_that_fails_after_its_start_says_so_and_leaves_nothing_behind(
    fault: Exception | None, code: str, words: str, platform: Any, tmp_path: Path
) -> None:
    launcher = Misplacing(
        Home(tmp_path / "home"), config.load(Home(tmp_path / "home").prepare(), {}), os.environ
    )
    launcher.fault = fault
    fleet = await platform({"launcher": launcher})
    [result] = await fleet.supervisor.launch(["apollo-ai"])
    row = fleet.supervisor.status("apollo-ai")
    assert not result.ok and result.code == code and words in result.message
    assert (row.state, row.pid, row.cause) == ("stopped", 0, result.message)
    assert not find_workers(fleet.home) and "apollo-ai" not in registry_of(fleet)
    assert [error["message"] for error in fleet.errors] == [result.message]
    with pytest.raises(NotRunning):
        fleet.supervisor.channel("apollo-ai")
    await fleet.launch("apollo-ai")
    end = await fleet.ask("apollo-ai", "hello").end()
    assert isinstance(end, StreamEnd)
    assert fleet.states_of("apollo-ai")[:4] == ["starting", "stopped", "starting", "ready"]


class BusyOnce(Registry):
    """Its lock is held by somebody when a worker that serves is to be entered as ready."""

    @contextmanager
    def transaction(self) -> Generator[Transaction]:
        with super().transaction() as change:
            yield change
            if any("state=ready" in line for line in map(str, change.audit)):
                raise RegistryBusy("the lock of the registry stayed held")


async def test_a_launch_whose_registry_takes_no_more_serves_and_says_what_was_not_written(
    platform: Any, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home").prepare()
    fleet = await platform({"registry": BusyOnce(home.registry, home.audit)})
    [result] = await fleet.supervisor.launch(["apollo-ai"])
    assert (result.ok, result.state) == (True, "ready")
    assert [error["code"] for error in fleet.errors] == ["registry_busy"]
    assert registry_of(fleet)["apollo-ai"]["pid"] == result.pid
    assert isinstance(await fleet.ask("apollo-ai", "hello").end(), StreamEnd)


async def test_what_a_worker_started_goes_with_it(
    platform: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parent.py").write_text(
        "import subprocess, sys\n"
        "from backend.worker.__main__ import main\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "main()\n"
    )
    monkeypatch.setattr("backend.specialists.local.WORKER_MODULE", "parent")
    fleet = await platform(PYTHONPATH=str(tmp_path))
    await fleet.launch("apollo-ai")
    pid = fleet.pid("apollo-ai")
    assert len(live_groups()[pid]) == 2
    os.kill(pid, signal.SIGKILL)
    await fleet.until_state("apollo-ai", "killed")
    assert await asyncio.to_thread(_gone, pid), "no orphan is left"


def _gone(group: int) -> bool:
    members = [psutil.Process(pid) for pid in live_groups().get(group, [])]
    return not psutil.wait_procs(members, timeout=60)[1]


async def test_a_stopped_process_is_unresponsive_and_answers_again_later(
    platform: Any, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("[fleet]\nunresponsive_after_s = 0.4\n")
    fleet = await platform()
    await fleet.launch("apollo-ai")
    pid = fleet.pid("apollo-ai")
    os.kill(pid, signal.SIGSTOP)
    row = await fleet.until_state("apollo-ai", "lost")
    assert row.pid == pid and "no answer for 0.4 s" in row.cause
    assert [error["code"] for error in fleet.errors] == ["unresponsive"]
    os.kill(pid, signal.SIGCONT)
    await fleet.until_state("apollo-ai", "ready")
    assert fleet.pid("apollo-ai") == pid


async def test_a_lifecycle_that_is_off_launches_nothing_and_says_so(platform: Any) -> None:
    fleet = await platform(TEKTON_REGISTER_AI="false")
    [result] = await fleet.supervisor.launch(["apollo-ai"])
    assert not result.ok and result.code == "lifecycle_off" and "TEKTON_REGISTER_AI" in result.message
    plan = await fleet.supervisor.plan(["apollo-ai"])
    assert plan.items[0].code == "lifecycle_off"
    assert registry_of(fleet) == {} if fleet.home.registry.exists() else True


async def test_a_full_platform_refuses_the_next_by_name_of_the_setting(platform: Any, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("[fleet]\nmax_specialists = 2\n")
    fleet = await platform()
    plan = await fleet.supervisor.plan(["apollo-ai", "athena-ai", "numa-ai"])
    assert [item.ok for item in plan.items] == [True, True, False]
    results = await fleet.supervisor.launch(["apollo-ai", "athena-ai", "numa-ai"])
    assert [result.ok for result in results] == [True, True, False]
    assert results[2].code == "launch_refused" and "fleet.max_specialists" in results[2].message


async def test_too_little_memory_refuses_before_anything_starts(platform: Any, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("[fleet]\nmemory_reserve_mib = 100000000\n")
    fleet = await platform()
    [result] = await fleet.supervisor.launch(["apollo-ai"])
    assert not result.ok and result.code == "launch_refused" and "MiB" in result.message
    assert "stay reserved" in (await fleet.supervisor.plan(["apollo-ai"])).notes[-1]


async def test_own_specialists_of_the_configuration_get_a_port_of_the_range(
    platform: Any, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text(
        '[specialists.poet]\npersona = "You rhyme."\ncapabilities = ["verse"]\nprovider = "scripted"\n'
    )
    fleet = await platform(TEKTON_PORT_PROFILE="default")
    await fleet.launch("poet-ai")
    row = fleet.supervisor.status("poet-ai")
    table = {status.port for status in fleet.supervisor.statuses() if status.id != "poet-ai"}
    assert 45000 <= row.port <= 50000 and row.port not in table
    answer = fleet.ask("poet-ai", "[[system]]")
    await answer.end()
    assert "".join(f.content for f in answer.frames if hasattr(f, "content")) == "You rhyme."


async def test_workers_see_only_the_environment_they_need(platform: Any) -> None:
    fleet = await platform(ANTHROPIC_API_KEY="sk-secret", SOME_SECRET="x", LC_ALL="C.UTF-8")
    [item] = (await fleet.supervisor.plan(["apollo-ai"])).items
    assert "ANTHROPIC_API_KEY" not in item.environment and "SOME_SECRET" not in item.environment
    await fleet.launch("apollo-ai")
    seen = psutil.Process(fleet.pid("apollo-ai")).environ()
    assert set(item.environment) == set(seen) - {"LINES", "COLUMNS"}
    assert "sk-secret" not in " ".join(psutil.Process(fleet.pid("apollo-ai")).cmdline())


async def test_logs_keep_the_previous_run_and_follow_the_present_one(platform: Any) -> None:
    fleet = await platform()
    await fleet.launch("apollo-ai")
    await fleet.supervisor.restart(["apollo-ai"])
    now = await fleet.supervisor.read_log("apollo-ai", tail=50)
    before = await fleet.supervisor.read_log("apollo-ai", previous=True)
    assert now.path.endswith("apollo-ai.log") and "serves on" in now.lines[0]
    assert any("SIGTERM" in line for line in before.lines)
    await fleet.ask("apollo-ai", "hello").end()
    await fleet.until(
        lambda: any(
            isinstance(e, LogLines) and e.source == "apollo-ai" and any("turn r1" in line for line in e.lines)
            for e in fleet.events
        )
    )


async def test_logs_nobody_reads_are_not_read_and_a_late_reader_begins_with_a_whole_line(
    platform: Any,
) -> None:
    wanted: set[str] = set()
    fleet = await platform({"has_subscribers": lambda topic: topic in wanted})
    path = fleet.home.logs / "apollo-ai.log"
    follow = fleet.supervisor._reconciler._follow_logs
    path.write_text("one\nhalf")
    follow()
    wanted.add("logs")
    with path.open("a") as file:
        file.write(" a line\nthree\nfour")
    follow()
    assert [e.lines for e in fleet.events if isinstance(e, LogLines)] == [["three"]]
    with path.open("a") as file:
        file.write("th\n")
    follow()
    assert [e.lines for e in fleet.events if isinstance(e, LogLines)] == [["three"], ["fourth"]]


async def test_a_flooding_log_is_kept_in_size(platform: Any, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("[logs]\nmax_bytes = 20000\nkeep = 2\n")
    fleet = await platform()
    await fleet.launch("apollo-ai")
    path = fleet.home.logs / "apollo-ai.log"
    with path.open("a") as log:
        log.write("".join(f"line {number}\n" for number in range(50_000)))
    part = path.with_name("apollo-ai.log.1")
    await fleet.until(lambda: part.exists() and path.stat().st_size <= 20_000)
    assert part.stat().st_size <= 20_000 and part.read_text().endswith("line 49999\n")
    await fleet.ask("apollo-ai", "hello").end()
    assert "turn r1" in path.read_text() and "\0" not in path.read_text()


async def test_a_model_is_changed_without_a_restart_and_kept_for_the_next_launch(platform: Any) -> None:
    fleet = await platform()
    await fleet.launch("apollo-ai")
    pid = fleet.pid("apollo-ai")
    await fleet.supervisor.set_model("apollo-ai", None, "other")
    assert fleet.pid("apollo-ai") == pid and fleet.supervisor.status("apollo-ai").model == "other"
    end = await fleet.ask("apollo-ai", "hello").end()
    assert isinstance(end, StreamEnd) and end.metadata.model == "scripted:other"
    assert registry_of(fleet)["apollo-ai"]["model"] == "other"
    await fleet.supervisor.restart(["apollo-ai"])
    assert fleet.supervisor.status("apollo-ai").model == "other"


async def test_a_registry_somebody_damaged_is_rebuilt_from_living_workers(platform: Any) -> None:
    fleet = await platform()
    await fleet.launch("apollo-ai", "athena-ai")
    entries = registry_of(fleet)
    fleet.home.registry.write_text("garbage")
    await fleet.launch("numa-ai")
    await fleet.until(lambda: any(error["code"] == "registry_corrupt" for error in fleet.errors))
    for _ in range(300):
        if registry_of(fleet).keys() == {"apollo-ai", "athena-ai", "numa-ai"}:
            break
        await asyncio.sleep(0.1)
    now = registry_of(fleet)
    assert now.keys() == {"apollo-ai", "athena-ai", "numa-ai"}
    assert now["apollo-ai"]["pid"] == entries["apollo-ai"]["pid"]


async def test_a_registry_somebody_deleted_is_written_anew_and_the_ledger_says_so(platform: Any) -> None:
    fleet = await platform()
    await fleet.launch("apollo-ai", "athena-ai")
    before = registry_of(fleet)
    fleet.home.registry.unlink()
    await fleet.supervisor._reconciler.sync()
    assert {ai_id: entry["pid"] for ai_id, entry in registry_of(fleet).items()} == {
        ai_id: entry["pid"] for ai_id, entry in before.items()
    }
    [error] = fleet.errors
    assert error["code"] == "registry_incomplete" and "apollo-ai, athena-ai" in error["message"]
    await fleet.supervisor._reconciler.sync()
    assert len(fleet.errors) == 1


async def test_all_launched_by_four_commands_at_once_are_one_worker_each_on_distinct_ports(
    platform: Any,
) -> None:
    fleet = await platform()
    ids = [status.id for status in fleet.supervisor.statuses()]
    answers = await asyncio.gather(*(fleet.supervisor.launch(ids) for _ in range(4)))
    assert len(ids) == 19 and all(result.ok for results in answers for result in results)
    rows = fleet.supervisor.statuses()
    assert {row.state for row in rows} == {"ready"}
    assert len({row.port for row in rows}) == len({row.pid for row in rows}) == 19
    assert registry_of(fleet).keys() == set(ids)
    workers = await asyncio.to_thread(find_workers, fleet.home)
    assert sorted(worker.ai_id for worker in workers) == sorted(ids)
    assert all(result.ok for result in await fleet.supervisor.kill(ids))
    assert not await asyncio.to_thread(find_workers, fleet.home)
