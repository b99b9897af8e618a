"""Many processes at one registry: nothing corrupt, nothing lost, no port twice. Full size in `bench/registry.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backend.registry import Registry
from backend.schema.records import RegistryEntry

PROCESSES, OPERATIONS = 8, 40
SCRIPT = Path(__file__).with_name("attack.py")


@pytest.mark.e2e
def test_contending_processes_corrupt_nothing_and_lose_nothing(tmp_path: Path) -> None:
    path, audit = tmp_path / "r.json", tmp_path / "a.log"
    registry = Registry(path, audit)
    registry.register("shared-ai", RegistryEntry(port=0, component="shared", metadata={"count": 0}))
    contenders = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(path), str(audit), str(number), str(OPERATIONS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        for contender in contenders:
            assert contender.stdin is not None
            contender.stdin.write("go\n")
            contender.stdin.flush()
        reports = []
        for contender in contenders:
            assert contender.stdout is not None
            reports.append(json.loads(contender.stdout.readline()))
        entries = registry.read()
        assert entries["shared-ai"].metadata["count"] == sum(report["increments"] for report in reports)
        ports = [report["port"] for report in reports if report["port"]]
        assert len(set(ports)) == len(ports), "a port was promised twice"
        assert {entry.port for ai_id, entry in entries.items() if ai_id != "shared-ai"} >= set(ports)
        assert not list(tmp_path.glob("*.corrupt-*"))
        for line in audit.read_text().splitlines():
            json.loads(line)
    finally:
        for contender in contenders:
            contender.kill()
            contender.communicate()
