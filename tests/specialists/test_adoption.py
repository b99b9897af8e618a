"""The backend may die at any moment: its workers live on, and the next one adopts exactly those."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from backend.home import Home
from backend.identity import identify, own_identity
from backend.registry import Registry
from backend.registry.ports import bind
from backend.schema.errors import TektonError
from backend.schema.frames import StreamEnd
from backend.schema.records import RegistryEntry
from backend.specialists import adoption
from backend.specialists.killall import kill_all
from backend.specialists.process_scan import find_workers
from tests.specialists.fleets import Platform, make_platform
from tests.specialists.tiny import spec_with

pytestmark = pytest.mark.e2e


async def test_a_new_backend_adopts_the_same_processes_and_can_ask_and_end_them(platform: Any) -> None:
    first: Platform = await platform()
    await first.launch("apollo-ai", "athena-ai")
    pids = {ai_id: first.pid(ai_id) for ai_id in ("apollo-ai", "athena-ai")}
    await first.supervisor.set_model("apollo-ai", None, "other")
    await first.supervisor.close(stop_fleet=False)

    second: Platform = await platform()

    assert {ai_id: second.pid(ai_id) for ai_id in pids} == pids
    row = second.supervisor.status("apollo-ai")
    assert row.state == "ready" and row.adopted and row.model == "other"
    assert isinstance(await second.ask("apollo-ai", "hello").end(), StreamEnd)
    [result] = await second.supervisor.kill(["apollo-ai"])
    assert result.ok and identify(pids["apollo-ai"]) is None
    os.kill(pids["athena-ai"], signal.SIGKILL)
    row = await second.until_state("athena-ai", "exited", "killed")
    assert second.errors[0]["where"] == "athena-ai"


ORPHANER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.specialists.fleets import make_platform

async def main():
    platform = make_platform(Path(sys.argv[1]))
    await platform.supervisor.start()
    await platform.launch("apollo-ai", "athena-ai")
    answer = platform.ask("apollo-ai", "[[repeat 100000]] [[rate 100]]")
    await answer.begun.wait()
    print(platform.pid("apollo-ai"), platform.pid("athena-ai"), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def orphaned(home: Path) -> list[int]:
    """Start a backend of its own, let it launch two workers, kill it with signal 9; return the workers' pids."""
    backend = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHANER, str(home), str(Path(__file__).parents[2]), stdout=subprocess.PIPE
    )
    assert backend.stdout is not None
    pids = [int(word) for word in (await asyncio.wait_for(backend.stdout.readline(), 60)).split()]
    backend.kill()
    await backend.wait()
    return pids


async def test_workers_outlive_a_backend_killed_by_signal_9_and_how_they_end_is_unknown(
    platform: Any, tmp_path: Path
) -> None:
    apollo, athena = await orphaned(tmp_path / "home")
    fleet: Platform = await platform()
    assert (fleet.pid("apollo-ai"), fleet.pid("athena-ai")) == (apollo, athena)
    assert isinstance(await fleet.ask("apollo-ai", "hello").end(), StreamEnd)
    os.kill(apollo, signal.SIGKILL)
    row = await fleet.until_state("apollo-ai", "exited")
    assert (row.exit_code, row.signal) == (None, None) and "unknown" in row.cause


async def test_workers_the_registry_forgot_are_found_and_adopted(platform: Any, tmp_path: Path) -> None:
    apollo, athena = await orphaned(tmp_path / "home")
    (tmp_path / "home" / "ai_registry" / "platform_ai_registry.json").write_text('{"apollo-ai": {"po')
    fleet: Platform = await platform()
    assert (fleet.pid("apollo-ai"), fleet.pid("athena-ai")) == (apollo, athena)
    entries = json.loads(fleet.home.registry.read_text())
    assert {ai_id: entry["pid"] for ai_id, entry in entries.items()} == {
        "apollo-ai": apollo,
        "athena-ai": athena,
    }
    await fleet.until(lambda: any(error["code"] == "registry_corrupt" for error in fleet.errors))


@asynccontextmanager
async def worker_of_an_older_version(home: Home) -> AsyncIterator[int]:
    """Run a worker whose command line names the module of version 0.1, unknown to the registry; yield its pid."""
    listener = bind("127.0.0.1", 0)
    reading, writing = os.pipe()
    run = (
        "import sys, backend; sys.argv[1:] = sys.argv[3:]; backend.__version__ = '0.1.7'; "
        "from backend.worker.specialist import Specialist as S; now = S.answer_now; "
        "S.answer_now = lambda self, asked: ("
        "self.error('unknown_type', 'no such request', asked) if asked.type == 'embed' else now(self, asked)); "
        "from backend.worker.__main__ import main; main()"
    )
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", run, "-m", "backend.specialists.worker", "--id", "apollo-ai",
        "--home", str(home.root), "--listen-fd", str(listener.fileno()), "--ready-fd", str(writing),
        stdin=subprocess.PIPE, pass_fds=(listener.fileno(), writing), start_new_session=True,
    )  # fmt: skip
    assert worker.stdin is not None
    spec = spec_with(
        port=listener.getsockname()[1], home=str(home.root), provider="scripted", model="scripted"
    )
    worker.stdin.write(msgspec.json.encode(spec))
    worker.stdin.close()
    os.close(writing)
    listener.close()
    with os.fdopen(reading, "rb") as ready:
        assert b"ready" in await asyncio.to_thread(ready.readline)
    yield worker.pid
    with suppress(ProcessLookupError):
        worker.kill()
    await worker.wait()


async def test_a_worker_that_an_older_version_started_is_adopted_and_can_be_ended(
    platform: Any, tmp_path: Path
) -> None:
    home = make_platform(tmp_path / "home").home
    async with worker_of_an_older_version(home) as pid:
        fleet: Platform = await platform()
        assert (fleet.pid("apollo-ai"), fleet.supervisor.status("apollo-ai").state) == (pid, "ready")
        assert fleet.supervisor.status("apollo-ai").version == "0.1.7"
        assert isinstance(await fleet.ask("apollo-ai", "hello").end(), StreamEnd)
        with pytest.raises(
            TektonError, match=r"apollo runs version 0\.1\.7 and cannot do that.*restart apollo"
        ):
            await fleet.supervisor.embed("apollo-ai", ["x"])
        [result] = await fleet.supervisor.kill(["apollo-ai"])
        assert result.ok and identify(pid) is None


async def test_workers_are_found_by_the_home_they_belong_to_however_it_is_spelled(tmp_path: Path) -> None:
    home = make_platform(tmp_path / "home").home
    (tmp_path / "link").symlink_to(home.root)
    async with worker_of_an_older_version(home) as pid:
        assert find_workers(Home(tmp_path)) == []
        [result] = await asyncio.to_thread(kill_all, Home(tmp_path / "link"))
        assert (result.pid, result.ok) == (pid, True) and identify(pid) is None


async def test_a_worker_whose_provider_hangs_is_adopted_as_what_it_is(platform: Any, tmp_path: Path) -> None:
    """The worker answers, though what it would have to ask its provider for does not come."""
    mute = bind("127.0.0.1", 0)  # connects, and is never read
    port = mute.getsockname()[1]
    Home(tmp_path / "home").prepare().config.write_text(
        f'[specialists.apollo]\nprovider = "ollama"\nmodel = "large"\n'
        f'[providers.ollama]\nhost = "http://127.0.0.1:{port}"\n'
    )
    first: Platform = await platform()
    await first.launch("apollo-ai")
    await first.supervisor.set_model("apollo-ai", None, "larger")
    pid = first.pid("apollo-ai")
    await first.supervisor.close(stop_fleet=False)
    second: Platform = await platform()
    row = second.supervisor.status("apollo-ai")
    assert (row.state, row.pid, row.model, row.adopted) == ("ready", pid, "larger", True), row
    assert row.version and not second.errors
    mute.close()


async def test_a_copy_of_a_home_leaves_the_workers_of_the_first_one_alone(
    platform: Any, tmp_path: Path
) -> None:
    first: Platform = await platform()
    await first.launch("apollo-ai")
    pid = first.pid("apollo-ai")
    copied = Home(tmp_path / "copy")
    shutil.copytree(first.home.root, copied.root)
    assert await asyncio.to_thread(kill_all, copied, grace_s=0.1) == []
    second = make_platform(copied.root)
    try:
        await second.supervisor.start()
        row = second.supervisor.status("apollo-ai")
        assert (row.state, row.pid, second.supervisor.services()) == ("stopped", 0, [])
        [error] = second.errors
        assert error["code"] == "conflict" and f"copy of {first.home.root}: apollo" in error["message"]
        assert json.loads(copied.registry.read_text()) == {}
        assert (await second.supervisor.kill(["apollo-ai"]))[0].code == "not_running"
        await second.launch("apollo-ai")
        assert second.pid("apollo-ai") not in (0, pid)
    finally:
        await second.supervisor.close(stop_fleet=True)
    assert first.supervisor.status("apollo-ai").state == "ready" and first.pid("apollo-ai") == pid
    assert isinstance(await first.ask("apollo-ai", "hello").end(), StreamEnd)


async def test_what_was_ended_is_told_though_the_registry_takes_nothing(tmp_path: Path) -> None:
    home = make_platform(tmp_path / "home").home
    pids = await orphaned(home.root)
    lock = home.registry.with_name(f"{home.registry.name}.lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()  # it cannot be locked, as on a file system that is mounted read-only
    results = await asyncio.to_thread(kill_all, home, grace_s=0.5)
    assert sorted((result.pid, result.ok) for result in results) == sorted((pid, True) for pid in pids)


async def test_the_workers_of_a_home_that_was_moved_are_adopted_and_can_be_ended(tmp_path: Path) -> None:
    old = make_platform(tmp_path / "home").home
    pids = await orphaned(old.root)
    moved = Home(tmp_path / "moved")
    old.root.rename(moved.root)
    second = make_platform(moved.root)
    await second.supervisor.start()
    assert [second.pid(ai_id) for ai_id in ("apollo-ai", "athena-ai")] == pids and not second.errors
    await second.supervisor.close(stop_fleet=False)
    results = await asyncio.to_thread(kill_all, moved, grace_s=0.5)
    assert [result.pid for result in sorted(results, key=lambda one: one.id)] == pids
    assert [identify(pid) for pid in pids] == [None, None]


def test_the_model_server_of_the_first_home_is_not_that_of_its_copy(tmp_path: Path) -> None:
    """Here a process of ours stands for it, which would end with the test."""
    ours, first, copied = own_identity(), Home(tmp_path / "home").prepare(), Home(tmp_path / "copy").prepare()
    facts = {
        "url": "http://127.0.0.1:1",
        "api_key": "",
        "pid": ours.pid,
        "process_start": ours.start,
        "model": "m",
        "slots": 1,
        "context": 1,
        "home": str(first.root),
    }
    copied.embedded_facts.write_bytes(msgspec.json.encode(facts))
    assert kill_all(copied, grace_s=0.1) == []


async def test_everything_can_be_ended_with_no_backend_running(tmp_path: Path) -> None:
    home = make_platform(tmp_path / "home").home
    pids = await orphaned(home.root)
    os.kill(pids[1], signal.SIGSTOP)
    results = await asyncio.to_thread(kill_all, home, grace_s=0.5)
    assert {(result.id, result.pid, result.ok) for result in results} == {
        ("apollo-ai", pids[0], True),
        ("athena-ai", pids[1], True),
    }
    assert [identify(pid) for pid in pids] == [None, None]
    assert json.loads(home.registry.read_text()) == {}
    assert await asyncio.to_thread(kill_all, home) == []


async def test_one_that_died_unwatched_is_lost_removed_and_in_the_ledger(platform: Any) -> None:
    first: Platform = await platform()
    await first.launch("apollo-ai")
    pid = first.pid("apollo-ai")
    await first.supervisor.close(stop_fleet=False)
    os.kill(pid, signal.SIGKILL)
    psutil.Process(pid).wait(20)
    second: Platform = await platform()
    row = second.supervisor.status("apollo-ai")
    assert row.state == "lost" and row.pid == 0 and "while no backend watched" in row.cause
    assert [error["code"] for error in second.errors] == ["lost"]
    assert json.loads(second.home.registry.read_text()) == {}
    [result] = await second.supervisor.launch(["apollo-ai"])
    assert result.ok


async def test_a_recycled_pid_is_not_adopted_and_not_killed(platform: Any, tmp_path: Path) -> None:
    stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=subprocess.PIPE)
    try:
        identity = identify(stranger.pid)
        assert identity is not None
        home = make_platform(tmp_path / "home").home
        entry = RegistryEntry(
            port=45012,
            component="apollo",
            pid=stranger.pid,
            process_start=identity.start - 3600,
            metadata={"start_ticks": identity.ticks - 360_000, "boot_id": identity.boot},
        )
        Registry(home.registry, home.audit).register("apollo-ai", entry)
        assert await asyncio.to_thread(kill_all, home) == []
        Registry(home.registry, home.audit).register("apollo-ai", entry)
        fleet: Platform = await platform()
        assert fleet.supervisor.status("apollo-ai").state == "lost"
        assert "recycled" in fleet.errors[0]["message"]
        assert stranger.returncode is None
    finally:
        await stranger.communicate(b"\n")


async def test_a_process_that_is_recorded_but_answers_as_somebody_else_is_not_adopted_as_ready(
    platform: Any, tmp_path: Path
) -> None:
    first: Platform = await platform()
    await first.launch("athena-ai")
    port = first.supervisor.status("athena-ai").port
    me = own_identity()
    registry = Registry(first.home.registry, first.home.audit)
    entry = RegistryEntry(port=port, component="apollo", pid=me.pid, process_start=me.start)
    registry.register("apollo-ai", msgspec.structs.replace(entry, metadata=me.metadata()))
    await first.supervisor.close(stop_fleet=False)
    second: Platform = await platform()
    row = second.supervisor.status("apollo-ai")
    assert row.state == "lost" and "is not apollo-ai" in row.cause
    assert second.supervisor.status("athena-ai").state == "ready"


async def test_a_worker_that_hangs_while_the_lead_changes_keeps_the_answer_that_is_on_its_way(
    platform: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "ANSWER_TIMEOUT_S", 0.2)
    fleet: Platform = await platform()
    await fleet.launch("apollo-ai")
    answer = fleet.ask("apollo-ai", "[[repeat 12]] [[rate 20]]")
    await answer.begun.wait()
    os.kill(fleet.pid("apollo-ai"), signal.SIGSTOP)
    try:
        await fleet.supervisor.lead()
        row = fleet.supervisor.status("apollo-ai")
        assert row.state == "lost" and "does not answer" in row.cause
        assert not answer.ended.is_set()
    finally:
        os.kill(fleet.pid("apollo-ai"), signal.SIGCONT)
    assert isinstance(await answer.end(), StreamEnd)


async def test_what_another_launcher_runs_and_what_has_no_process_is_not_adopted(
    platform: Any, tmp_path: Path
) -> None:
    stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=subprocess.PIPE)
    try:
        identity = identify(stranger.pid)
        assert identity is not None
        home = make_platform(tmp_path / "home").home
        registry = Registry(home.registry, home.audit)
        theirs = RegistryEntry(
            port=1, component="apollo", pid=stranger.pid, process_start=identity.start,
            metadata=identity.metadata(), launcher="ray",
        )  # fmt: skip
        registry.register("apollo-ai", theirs)
        registry.register("athena-ai", RegistryEntry(port=1, component="athena"))
        before = registry.read()
        fleet: Platform = await platform()
        for ai_id in ("apollo-ai", "athena-ai"):
            row = fleet.supervisor.status(ai_id)
            assert (row.state, row.pid, row.adopted) == ("stopped", 0, False)
        assert fleet.errors == [] and registry.read() == before
        assert stranger.returncode is None
    finally:
        await stranger.communicate(b"\n")


def test_a_worker_nobody_told_what_to_be_ends_by_itself(tmp_path: Path) -> None:
    silent = subprocess.run(
        [sys.executable, "-P", "-m", "backend.worker", "--listen-fd", "0", "--ready-fd", "1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert silent.returncode == 1 and "the process that started this one is gone" in silent.stderr


async def test_a_launch_that_cannot_be_enrolled_leaves_no_process(platform: Any, tmp_path: Path) -> None:
    home = make_platform(tmp_path / "home").home
    impatient = Registry(home.registry, home.audit, lock_timeout_s=0.2)
    fleet: Platform = await platform({"registry": impatient})
    with Registry(home.registry, home.audit).transaction():
        [result] = await fleet.supervisor.launch(["apollo-ai"])
    assert not result.ok and result.code == "registry_busy"
    assert not await asyncio.to_thread(find_workers, fleet.home)
    assert fleet.supervisor.status("apollo-ai").state == "stopped"
    [result] = await fleet.supervisor.launch(["apollo-ai"])
    assert result.ok
