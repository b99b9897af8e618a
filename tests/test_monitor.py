"""Numa: figures of real processes, and the platform told from facts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest

from backend.events import EventStream
from backend.monitor import Monitor, Sampler, platform_summary
from backend.schema.events import Metrics
from backend.schema.records import ErrorRecord, HostFigures, ProcessFigures, ServiceStatus, SpecialistStatus
from backend.schema.states import SpecialistState
from backend.specialists.status_table import StatusTable
from backend.specialists.turn_stats import TurnStats

NOW = 1_800_000_000.0
HOST = HostFigures(cpu=12.0, cores=2, memory_total=8 * 1024**3, memory_available=4 * 1024**3, load=0.5)


def row(name: str, state: SpecialistState, **more: Any) -> SpecialistStatus:
    return SpecialistStatus(f"{name}-ai", name, "T", name, state=state, since=NOW - 90, **more)


def test_a_process_of_many_names_is_looked_at_once_and_all_have_its_figures() -> None:
    sampler = Sampler()
    names = {f"m{number}-ai": os.getpid() for number in range(50)}
    sampler.take(names)
    sum(range(2_000_000))
    found = sampler.take(names).processes
    assert len({(figures.cpu, figures.rss, figures.fds) for figures in found.values()}) == 1
    assert found["m49-ai"].cpu > 0


def test_figures_are_of_the_processes_named_and_the_gone_are_left_out() -> None:
    sampler = Sampler()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        metrics = sampler.take({"apollo-ai": child.pid, "gateway": os.getpid()})
        child.communicate(b"\n")
    assert metrics.processes["apollo-ai"].rss > 0 and metrics.processes["apollo-ai"].fds > 0
    assert metrics.host.memory_total > 0 and metrics.host.cores >= 1
    assert set(sampler.take({"apollo-ai": child.pid, "gateway": os.getpid()}).processes) == {"gateway"}


def test_what_is_unhealthy_is_named_with_its_cause_before_everything_else() -> None:
    statuses = [
        row("apollo", "killed", cause="killed by signal 9 (SIGKILL)"),
        row("athena", "busy", phase="stalled", detail="no token for 15 s", pid=7, started_at=NOW - 300),
        row("numa", "ready", pid=8, started_at=NOW - 4000, turns=3),
        row("ergon", "stopped"),
    ]
    figures = Metrics(NOW, HOST, {"numa-ai": ProcessFigures(1.0, 20 * 1024**2, 9)})
    errors = [ErrorRecord(1, "apollo-ai", "killed", "killed by signal 9", NOW - 90, NOW - 90, count=2)]
    text = platform_summary(statuses, figures, errors, now=NOW)
    lines = text.splitlines()
    assert lines[:3] == [
        "apollo is unhealthy: it was killed 90 s ago: killed by signal 9 (SIGKILL).",
        "athena is unhealthy: it is stalled 90 s ago: no token for 15 s.",
        "",
    ]
    assert "4 specialists: 1 killed, 1 busy, 1 ready, 1 stopped" in lines[4]
    assert "numa: ready, up 67 min, 3 answers, CPU 1 %, 20 MiB" in text
    assert "memory 4.0 of 8.0 GiB available" in text
    assert "- apollo-ai: killed, 2 times, 90 s ago: killed by signal 9" in text
    assert text.endswith("Stopped: ergon.")


def test_a_well_platform_is_told_to_be_well() -> None:
    text = platform_summary(
        [row("numa", "ready", pid=1, started_at=NOW)], Metrics(NOW, HOST, {}), [], now=NOW
    )
    assert "No component is unhealthy." in text and "No unacknowledged errors." in text


def test_a_service_that_died_is_unhealthy_too_and_acknowledged_errors_are_left_out() -> None:
    dead = ServiceStatus("embedded", "embedded model server", state="killed", cause="killed by signal 9")
    old = ErrorRecord(1, "x", "exited", "m", NOW, NOW, acknowledged=NOW)
    text = platform_summary([], Metrics(NOW, HOST, {}), [old], services=[dead], now=NOW)
    assert "embedded is unhealthy: it is killed: killed by signal 9." in text
    assert "No unacknowledged errors." in text


class Fleet:
    """What the monitor asks of a supervisor, with this process as its only specialist."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, str, str]] = []
        self.activity = TurnStats(StatusTable(lambda event, topic: None))

    def statuses(self) -> list[SpecialistStatus]:
        return [row("apollo", "ready", pid=os.getpid(), started_at=NOW)]

    def services(self) -> list[ServiceStatus]:
        return []

    def report(self, where: str, code: str, message: str) -> None:
        self.reports.append((where, code, message))


async def test_figures_are_published_only_while_somebody_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.monitor.EVERY_S", 0.01)
    events = EventStream()
    monitor = Monitor(Fleet(), events)  # type: ignore[arg-type]
    monitor.start()
    try:
        reader = events.subscribe(["metrics"])
        [first, *_] = await asyncio.wait_for(reader.next(), 60)
        assert b'"metrics"' in first and b'"apollo-ai"' in first and b'"gateway"' in first
        assert "apollo: ready" in await monitor.summary()
        reader.close()
    finally:
        await monitor.close()


async def test_nobody_subscribed_means_no_figures_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.monitor.EVERY_S", 0.001)
    monitor = Monitor(Fleet(), EventStream())  # type: ignore[arg-type]
    taken: list[object] = []
    monkeypatch.setattr(monitor._sampler, "take", taken.append)
    monitor.start()
    async with asyncio.timeout(60):
        # the host alone is looked at, for who attaches later
        while not monitor.history.record().samples:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await monitor.close()
    assert taken == [] and monitor.latest.timestamp == 0.0


async def test_low_memory_is_reported_once_for_each_time_it_begins() -> None:
    fleet = Fleet()
    monitor = Monitor(fleet, EventStream())  # type: ignore[arg-type]
    low = HostFigures(memory_total=1000 * 1024**2, memory_available=10 * 1024**2)
    for host in (low, low, HOST, low):
        monitor._warn(host)
    assert [(where, code) for where, code, _ in fleet.reports] == [("host", "memory_low")] * 2
