"""Ports: the bind is the allocation, and a stranger on a port is named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.registry import Registry, ports
from backend.registry.ports import OWN_PORT_FIRST, OWN_PORT_LAST, PortTaken, allocate, bind, find_holder
from backend.schema.records import RegistryEntry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "r.json", tmp_path / "a.log")


def test_a_bound_port_accepts_connections_at_once() -> None:
    with bind("127.0.0.1", 0) as listener:
        socket.create_connection(listener.getsockname(), timeout=2).close()


def test_a_taken_port_names_pid_and_program_of_its_holder() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            bind("127.0.0.1", port)
        assert caught.value.code == "foreign_port"
        assert caught.value.holder.pid == os.getpid()
        assert (
            str(os.getpid()) in caught.value.message and caught.value.holder.program in caught.value.message
        )
    assert find_holder(port).pid == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-m", "backend.worker", "--id", "apollo-ai", "--home", "{home}"], "apollo"),
        (["-P", "-m", "backend.gateway.serve", "--ready-fd", "3"], "the gateway"),
        (["{tekton}", "serve", "--port", "1"], "the gateway"),
    ],
)
def test_a_port_of_another_home_names_that_home_and_the_mend(
    words: list[str], part: str, tmp_path: Path
) -> None:
    """Whatever process of it listens: the programs stand in for ours, their command lines are the same."""
    home, program = tmp_path / "other", tmp_path / "tekton"
    source = (
        "import socket, sys\nlistener = socket.create_server(('127.0.0.1', 0))\n"
        "print(listener.getsockname()[1], flush=True)\nsys.stdin.read()\n"
    )
    for path in (program, tmp_path / "backend" / "worker.py", tmp_path / "backend" / "gateway" / "serve.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    argv = [word.format(home=home, tekton=program) for word in words]
    process = subprocess.Popen(
        [sys.executable, *argv],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "TEKTON_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with pytest.raises(PortTaken) as caught:
            bind("127.0.0.1", port)
        told = caught.value.message
        assert f"{part} of the home {home} (pid {process.pid})" in told and "TEKTON_PORT_PROFILE=free" in told
    finally:
        process.communicate()


def test_own_specialists_get_ports_of_the_range_never_reserved_or_registered_ones(registry: Registry) -> None:
    with allocate(registry, "127.0.0.1", reserved=(), seed="poet-ai") as first:
        port = first.getsockname()[1]
    assert OWN_PORT_FIRST <= port <= OWN_PORT_LAST
    with allocate(registry, "127.0.0.1", reserved=(), seed="poet-ai") as again:
        assert again.getsockname()[1] == port, "a specialist tends to get the port it had"
    with allocate(registry, "127.0.0.1", reserved={port}, seed="poet-ai") as other:
        assert other.getsockname()[1] != port
    registry.register("x-ai", RegistryEntry(port=port, component="x"))
    with allocate(registry, "127.0.0.1", reserved=(), seed="poet-ai") as other:
        assert other.getsockname()[1] != port


def test_ports_allocated_at_once_are_all_distinct(registry: Registry) -> None:
    with ThreadPoolExecutor(16) as pool:
        listeners = list(
            pool.map(lambda _: allocate(registry, "127.0.0.1", reserved=(), seed="same"), range(32))
        )
    found = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    assert len(set(found)) == 32


def test_a_range_without_a_free_port_is_refused_and_frees_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bind("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        monkeypatch.setattr(ports, "OWN_PORT_FIRST", port)
        monkeypatch.setattr(ports, "OWN_PORT_LAST", port)
        with pytest.raises(ports.NoFreePort, match=f"between {port} and {port} is free: kill specialists"):
            ports.allocate(registry, "127.0.0.1", reserved=(), seed="mine")
    with ports.allocate(registry, "127.0.0.1", reserved=(), seed="mine") as given:
        assert given.getsockname()[1] == port
    with pytest.raises(ports.NoFreePort):
        ports.allocate(registry, "127.0.0.1", reserved=(port,), seed="mine")
