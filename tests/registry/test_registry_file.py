"""The registry file: changed under a lock, read without one, mended when damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from backend.registry import Registry, RegistryBusy, RegistryError
from backend.registry.audit import AuditLog, audit_line
from backend.registry.store import Corruption
from backend.schema.records import RegistryEntry

APOLLO = RegistryEntry(port=45012, component="apollo", pid=101, process_start=5.0, state="ready")
ATHENA = RegistryEntry(port=45005, component="athena", pid=102, process_start=6.0)


def registry_in(folder: Path, **options: object) -> Registry:
    return Registry(folder / "registry.json", folder / "audit.log", **options)  # type: ignore[arg-type]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_in(tmp_path)


def audit_of(registry: Registry) -> list[dict[str, object]]:
    text = registry.path.with_name("audit.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_what_is_registered_is_read_back_by_another(registry: Registry, tmp_path: Path) -> None:
    registry.register("apollo-ai", APOLLO)
    entry = registry_in(tmp_path).read()["apollo-ai"]
    assert (entry.port, entry.pid, entry.process_start, entry.state) == (45012, 101, 5.0, "ready")
    assert entry.registered_at > 0


def test_a_registry_that_does_not_exist_is_empty(registry: Registry) -> None:
    assert registry.read() == {}


def test_a_reader_sees_each_change_of_another_process(registry: Registry, tmp_path: Path) -> None:
    reader = registry_in(tmp_path)
    for port in range(1, 200):
        registry.register("apollo-ai", RegistryEntry(port=port, component="apollo"))
        assert reader.read()["apollo-ai"].port == port


def test_an_update_of_another_process_than_expected_changes_nothing(registry: Registry) -> None:
    registry.register("apollo-ai", APOLLO)
    assert not registry.update("apollo-ai", expect=(101, 7.0), state="stopped")
    assert not registry.deregister("apollo-ai", expect=(999, 5.0), reason="gone")
    assert registry.read()["apollo-ai"].state == "ready"
    assert registry.update("apollo-ai", expect=(101, 5.0), state="busy")
    assert registry.deregister("apollo-ai", expect=(101, 5.0), reason="gone")
    assert registry.read() == {}


def test_an_exception_inside_a_transaction_writes_nothing(registry: Registry) -> None:
    registry.register("apollo-ai", APOLLO)
    with pytest.raises(ZeroDivisionError), registry.transaction() as transaction:
        transaction.deregister("apollo-ai", reason="mistake")
        raise ZeroDivisionError
    assert "apollo-ai" in registry.read()


def test_every_change_leaves_an_audit_line_with_the_state_before(registry: Registry) -> None:
    registry.register("apollo-ai", APOLLO)
    registry.update("apollo-ai", state="busy")
    registry.deregister("apollo-ai", reason="killed by signal 9")
    lines = audit_of(registry)
    assert [(line["event"], line["previous_state"]) for line in lines] == [
        ("registered", None),
        ("updated", "ready"),
        ("removed", "busy"),
    ]
    assert lines[2]["detail"] == "killed by signal 9"
    assert set(lines[0]) == {"timestamp", "ai_id", "event", "previous_state", "detail"}


def test_a_held_lock_is_registry_busy_and_nothing_is_written(registry: Registry, tmp_path: Path) -> None:
    registry.register("apollo-ai", APOLLO)
    before = registry.path.read_bytes()
    impatient = registry_in(tmp_path, lock_timeout_s=0.1)
    with registry.transaction(), pytest.raises(RegistryBusy, match="nothing was written"):
        impatient.register("athena-ai", ATHENA)
    assert registry.path.read_bytes() == before
    impatient.register("athena-ai", ATHENA)


def test_threads_of_one_process_lose_no_update(registry: Registry) -> None:
    registry.register("n-ai", RegistryEntry(port=0, component="n"))

    def add() -> None:
        for _ in range(25):
            with registry.transaction() as transaction:
                transaction.update("n-ai", port=transaction.entries["n-ai"].port + 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.read()["n-ai"].port == 100


HOLDER = """
import sys
from pathlib import Path
from backend.registry import Registry
with Registry(Path(sys.argv[1]), Path(sys.argv[2])).transaction() as transaction:
    transaction.deregister("apollo-ai", reason="never written")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_holder_killed_by_signal_9_blocks_nobody_and_wrote_nothing(registry: Registry) -> None:
    registry.register("apollo-ai", APOLLO)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(registry.path), str(registry.path.with_name("audit.log"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    lock_file = registry.path.with_name("registry.json.lock")
    inode = lock_file.stat().st_ino
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    holder.stdin.close()
    registry.register("athena-ai", ATHENA)
    assert set(registry.read()) == {"apollo-ai", "athena-ai"}
    assert lock_file.stat().st_ino == inode, "the lock file is never deleted"


DAMAGES = {
    "truncated": lambda data: data[: len(data) * 2 // 3],
    "empty": lambda data: b"",
    "binary": lambda data: b"\x00\xff\xfe" + data[10:],
    "two documents": lambda data: data + data,
    "a comma too many": lambda data: data.replace(b"}\n}", b"},\n}"),
    "a wrong type": lambda data: data.replace(b"45005", b'"many"'),
    "a list": lambda data: b"[1, 2]",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside_whole_and_what_is_readable_stays(damage: str, tmp_path: Path) -> None:
    told: list[Corruption] = []
    registry = registry_in(tmp_path, on_corrupt=told.append)
    registry.register("apollo-ai", APOLLO)
    registry.register("athena-ai", ATHENA)
    damaged = DAMAGES[damage](registry.path.read_bytes())
    registry.path.write_bytes(damaged)

    entries = registry.read()

    [aside] = tmp_path.glob("registry.json.corrupt-*")
    assert aside.read_bytes() == damaged
    assert len(told) == 1 and told[0].path == aside and told[0].kept == sorted(entries)
    if damage in ("truncated", "a comma too many", "two documents", "a wrong type"):
        assert entries["apollo-ai"].pid == 101
    if damage in ("a comma too many", "two documents"):
        assert entries["athena-ai"].pid == 102
    registry.register("athena-ai", ATHENA)
    assert "athena-ai" in registry_in(tmp_path).read()
    assert any(line["event"] == "corrupt" for line in audit_of(registry))


def test_damage_twice_in_one_second_keeps_both_files(registry: Registry, tmp_path: Path) -> None:
    for _ in range(2):
        registry.path.write_bytes(b"{")
        assert registry.read() == {}
    assert len(list(tmp_path.glob("registry.json.corrupt-*"))) == 2


def test_a_full_disk_leaves_the_old_registry_standing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register("apollo-ai", APOLLO)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RegistryError, match="No space left"):
        registry.register("athena-ai", ATHENA)
    monkeypatch.undo()
    assert set(registry.read()) == {"apollo-ai"}
    assert not list(registry.path.parent.glob(".registry*"))


def test_the_files_are_readable_by_the_user_alone(registry: Registry) -> None:
    registry.register("apollo-ai", APOLLO)
    for name in ("registry.json", "audit.log", "registry.json.lock"):
        assert registry.path.with_name(name).stat().st_mode & 0o077 == 0


def test_the_audit_log_is_rotated_by_size_and_keeps_its_newest_parts(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log", max_bytes=1000, keep=2)
    for number in range(100):
        log.append([audit_line(f"a{number}-ai", "updated", "ready", "x")])
    parts = sorted(path.name for path in tmp_path.iterdir())
    assert parts == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all((tmp_path / part).stat().st_size <= 1000 for part in parts)
    newest = (tmp_path / "audit.log").read_text().splitlines()[-1]
    assert json.loads(newest)["ai_id"] == "a99-ai"


def test_what_another_registered_is_read_though_the_clock_was_set_back(
    registry: Registry, tmp_path: Path
) -> None:
    other = registry_in(tmp_path)
    registry.register("apollo-ai", APOLLO)
    assert list(other.read()) == ["apollo-ai"]
    registry.register("athena-ai", ATHENA)
    os.utime(registry.path, (1.0, 1.0))
    assert list(other.read()) == ["apollo-ai", "athena-ai"]
