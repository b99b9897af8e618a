"""Numa, the monitor: figures of our processes and the host once a second, and the platform's state as text.

Looks, judges by plain rules, and acts on nothing. While nobody is subscribed to `metrics`, only the host is looked at, for
the history. Knows no turn and no provider.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import psutil

from backend.events import EventStream
from backend.history import History
from backend.schema.events import Metrics
from backend.schema.history import SAMPLE_EVERY_S
from backend.schema.records import (
    ErrorRecord,
    HostFigures,
    ProcessFigures,
    ServiceStatus,
    SpecialistStatus,
    Used,
)
from backend.schema.states import BROKEN
from backend.specialists.supervisor import Supervisor
from backend.tasks import end_tasks

log = logging.getLogger(__name__)

EVERY_S = 1.0
SAMPLE_BEATS = round(SAMPLE_EVERY_S / EVERY_S)
FRESH_S = 2.0
"""How old figures may be for a summary before new ones are taken."""
LOW_MEMORY_SHARE = 0.05
"""Share of the host's memory below which what is available is worth a warning."""
MIB, GIB = 1024**2, 1024**3
SUMMARY_ERRORS = 5
GATEWAY = "gateway"


class Sampler:
    """Takes figures; keeps a handle a process, so that CPU shares are of the time since the last taking."""

    def __init__(self) -> None:
        self._handles: dict[int, psutil.Process] = {}
        # the first call has nothing to compare with and returns 0
        psutil.cpu_percent(None)

    def take(self, pids: Mapping[str, int]) -> Metrics:
        """Return figures of the host and of named processes; one that is gone is left out. Blocking, a few ms.

        A process with several names is looked at once, and each of its names has its figures.
        """
        looked_at = {pid: self._figures(pid) for pid in set(pids.values())}
        figures = {name: found for name, pid in pids.items() if (found := looked_at[pid]) is not None}
        for pid in self._handles.keys() - looked_at.keys():
            del self._handles[pid]
        return Metrics(time.time(), host_figures(), figures)

    def _figures(self, pid: int) -> ProcessFigures | None:
        try:
            handle = self._handles.get(pid)
            if handle is None:
                handle = self._handles[pid] = psutil.Process(pid)
            with handle.oneshot():
                cpu, rss = handle.cpu_percent(None), handle.memory_info().rss
            return ProcessFigures(cpu, rss, handle.num_fds())
        except psutil.Error:
            self._handles.pop(pid, None)
            return None


def host_figures() -> HostFigures:
    """Return the machine's figures; its CPU share is of the time since the last call."""
    memory = psutil.virtual_memory()
    return HostFigures(
        cpu=psutil.cpu_percent(None),
        cores=os.cpu_count() or 1,
        memory_total=memory.total,
        memory_available=memory.available,
        load=psutil.getloadavg()[0],
    )


class Monitor:
    """One task. `latest` are the newest figures, perhaps old while nobody is subscribed."""

    def __init__(self, fleet: Supervisor, events: EventStream, used_today: Callable[[], Used] = Used) -> None:
        self._fleet, self._events = fleet, events
        self.history = History(fleet.activity, used_today)
        self._sampler = Sampler()
        self._task: asyncio.Task[None] | None = None
        self._warned = False
        self.latest = Metrics(0.0, HostFigures(), {})

    def start(self) -> None:
        self._task = asyncio.create_task(self._beat(), name="monitor")

    async def close(self) -> None:
        await end_tasks(self._task)

    async def figures(self) -> Metrics:
        """Return figures at most `FRESH_S` old."""
        # either way: a clock that is set back must not make old figures pass for new ones
        if abs(time.time() - self.latest.timestamp) > FRESH_S:
            self.latest = await asyncio.to_thread(self._sampler.take, self._pids())
        return self.latest

    async def summary(self, errors: Sequence[ErrorRecord] = ()) -> str:
        """Return the platform's state as text computed by code, for Numa's context."""
        figures = await self.figures()
        return platform_summary(self._fleet.statuses(), figures, errors, services=self._fleet.services())

    def _pids(self) -> dict[str, int]:
        rows: Iterable[SpecialistStatus | ServiceStatus] = [*self._fleet.statuses(), *self._fleet.services()]
        pids = {
            getattr(row, "id", None) or getattr(row, "name", ""): row.pid
            for row in rows
            if row.pid
            and getattr(row, "launcher", "local") == "local"  # another host's pid means nothing here
        }
        return {GATEWAY: os.getpid(), **pids}

    async def _beat(self) -> None:
        beats = 0
        while True:
            await asyncio.sleep(EVERY_S)
            beats += 1
            try:
                due = beats % SAMPLE_BEATS == 0
                if self._events.wanted("metrics"):
                    self.latest = await asyncio.to_thread(self._sampler.take, self._pids())
                    if due:
                        self.latest.sample = self.history.take(self.latest.host)
                    self._events.publish("metrics", self.latest)
                    self._warn(self.latest.host)
                elif due:
                    host = host_figures()
                    self.history.take(host)
                    self._warn(host)
            except Exception:  # the monitor may lack a figure, never end
                log.exception("taking figures")

    def _warn(self, host: HostFigures) -> None:
        """Enter low memory into the error log once for each time it begins."""
        low = host.memory_available < host.memory_total * LOW_MEMORY_SHARE
        if low and not self._warned:
            free, total = host.memory_available // MIB, host.memory_total // MIB
            self._fleet.report(
                "host",
                "memory_low",
                f"{free} of {total} MiB are available: kill specialists before others do",
            )
        self._warned = low


def platform_summary(
    statuses: Sequence[SpecialistStatus],
    figures: Metrics,
    errors: Sequence[ErrorRecord],
    *,
    services: Sequence[ServiceStatus] = (),
    now: float | None = None,
) -> str:
    """Describe the platform in words and figures: counts, what is unhealthy and why, what runs, the newest errors.

    Pure. Facts only, in the order of how much they matter; a few hundred words at most. The first paragraph is the
    answer to what is asked most, in plain sentences: a small model gets no more than that.
    """
    now = time.time() if now is None else now
    counts = Counter(row.state for row in statuses)
    # what is wrong comes first: a small model reads the beginning best
    sick = [_sick(row, now) for row in statuses if (row.state in BROKEN or row.phase == "stalled")]
    sick += [f"{s.name} is unhealthy: it is {s.state}: {s.cause}." for s in services if s.state in BROKEN]
    lines = [
        *(sick or ["No component is unhealthy."]),
        "",
        f"Platform at {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))}, measured, not guessed.",
        f"{len(statuses)} specialists: "
        + ", ".join(f"{count} {state}" for state, count in counts.most_common()),
    ]
    lines += [_running(row, figures.processes.get(row.id), now) for row in statuses if row.pid]
    answered = [row for row in statuses if row.pid and row.first_token_ms]
    if answered:
        slowest = max(answered, key=lambda row: row.first_token_ms or 0)
        lines.append(
            f"Slowest to its first token: {slowest.name}, {(slowest.first_token_ms or 0) / 1000:.1f} s."
        )
    else:
        lines.append("No answer yet, so nobody is slow.")
    lines += [
        f"{s.name}: {s.state} {s.detail}{_usage(figures.processes.get(s.name))}" for s in services if s.pid
    ]
    host = figures.host
    lines.append(
        f"Host: CPU {host.cpu:.0f} % of {host.cores} cores, load {host.load:.2f}, "
        f"memory {host.memory_available / GIB:.1f} of {host.memory_total / GIB:.1f} GiB available."
    )
    waiting = [error for error in errors if not error.acknowledged]
    lines.append(
        f"Errors nobody has acknowledged: {len(waiting)}." if waiting else "No unacknowledged errors."
    )
    newest = sorted(waiting, key=lambda error: error.last, reverse=True)[:SUMMARY_ERRORS]
    lines += [
        f"- {e.where}: {e.code}, {e.count} times, {_ago(now - e.last)}: {e.message[:160]}" for e in newest
    ]
    idle = [row.name for row in statuses if row.state == "stopped"]
    if idle:
        lines.append("Stopped: " + ", ".join(idle) + ".")
    return "\n".join(lines)


_HOW = {
    "exited": "stopped by itself", "killed": "was killed", "lost": "does not answer", "foreign-port": "could not start",
}  # fmt: skip


def _sick(row: SpecialistStatus, now: float) -> str:
    what = "is stalled" if row.phase == "stalled" else _HOW[row.state]
    why = row.cause or row.detail or row.last_error
    since = row.phase_since if row.phase == "stalled" and row.phase_since else row.since
    return f"{row.name} is unhealthy: it {what} {_ago(now - since)}" + (f": {why}." if why else ".")


def _running(row: SpecialistStatus, figures: ProcessFigures | None, now: float) -> str:
    phase = f" ({row.phase})" if row.phase else ""
    text = f"{row.name}: {row.state}{phase}, up {_span(now - row.started_at)}, {row.turns} answers"
    if row.failures:
        text += f", {row.failures} failures, last: {row.last_error[:120]}"
    return text + _usage(figures)


def _usage(figures: ProcessFigures | None) -> str:
    return f", CPU {figures.cpu:.0f} %, {figures.rss / MIB:.0f} MiB" if figures else ""


def _ago(seconds: float) -> str:
    return f"{_span(seconds)} ago"


_SPANS: tuple[tuple[float, str, float], ...] = ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600))


def _span(seconds: float) -> str:
    for limit, unit, size in _SPANS:
        if seconds < limit:
            return f"{max(0, seconds) / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
