"""Who is dead, provably: pid and start, ticks before the clock, zombies, recycled pids."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from backend.identity import Identity, entry_alive, identify, own_identity
from backend.registry import Registry
from backend.registry.sync import sweep
from backend.schema.records import RegistryEntry


def entry_of(pid: int, **changes: object) -> RegistryEntry:
    identity = identify(pid)
    assert identity is not None
    entry = RegistryEntry(
        port=45000, component="x", pid=pid, process_start=identity.start, metadata=identity.metadata()
    )
    return msgspec.structs.replace(entry, **changes)


def test_a_live_process_is_alive_by_pid_and_start() -> None:
    me = own_identity()
    assert Identity(me.pid, me.start).still_lives()
    assert not Identity(me.pid, me.start - 60).still_lives(), "the same pid, another process"
    assert entry_alive(entry_of(me.pid))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells ticks")
def test_a_clock_that_was_set_hides_no_process() -> None:
    entry = entry_of(os.getpid(), process_start=own_identity().start - 3600)
    assert entry_alive(entry)
    other_boot = {**entry.metadata, "boot_id": "another boot"}
    assert not entry_alive(msgspec.structs.replace(entry, metadata=other_boot))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells ticks")
def test_a_boot_that_one_of_two_could_not_read_hides_no_process() -> None:
    """As where one of them is confined, and may not read it; ticks of an unknown boot prove nothing either."""
    me = own_identity()
    assert Identity(me.pid, me.start, me.ticks, "").still_lives()
    assert not Identity(me.pid, me.start - 3600, me.ticks, "").still_lives()


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()  # its end, not its exit: give the exit its moment below
    child.stdout.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identify(child.pid) is None
    child.wait()


def test_sweep_removes_the_provably_dead_and_records_why(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "r.json", tmp_path / "a.log")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ended = entry_of(child.pid)
    child.kill()
    child.wait()
    assert child.stdin is not None
    child.stdin.close()
    me = os.getpid()
    stranger = {"start_ticks": 1, "boot_id": own_identity().boot}
    registry.register("gone-ai", ended)
    registry.register("recycled-ai", entry_of(me, process_start=1.0, metadata=stranger))
    registry.register("alive-ai", entry_of(me))
    registry.register(
        "endpoint-ai", RegistryEntry(port=443, component="e", host="example.org", transport="api")
    )
    registry.register(
        "cluster-ai", entry_of(me, process_start=1.0, metadata={}, launcher="ray", host="10.0.0.9")
    )
    registry.register("unknown-ai", RegistryEntry(port=1, component="u"))

    removed = {item.ai_id: item.reason for item in sweep(registry)}

    assert set(removed) == {"gone-ai", "recycled-ai"}
    assert f"pid {child.pid} does not exist" in removed["gone-ai"]
    assert "recycled" in removed["recycled-ai"]
    assert set(registry.read()) == {"alive-ai", "endpoint-ai", "cluster-ai", "unknown-ai"}
    audit = (tmp_path / "a.log").read_text()
    assert "does not exist any more" in audit and "was recycled" in audit
    assert sweep(registry) == []
