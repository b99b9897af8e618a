"""Launching a whole fleet: wall time to ready, memory a worker, how soon a death is seen, what idling costs.

    python bench/launch.py [--rounds 3] [--idle 5]

The floor is the same number of bare interpreters that import only asyncio and msgspec and end, two at a time for
each core, as the system would run them. Workers use the scripted provider, so no model's library counts. As in an
installed package, modules are compiled beforehand: a first round, not shown, sees to that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from options import parser_for

from backend import catalog, config
from backend.home import Home
from backend.schema.events import SpecialistEvent
from backend.schema.records import ProviderChoice
from backend.specialists.killall import kill_all
from backend.specialists.supervisor import Supervisor

MIB = 1024**2


def make_fleet(root: Path, hear: Any) -> tuple[Supervisor, list[str]]:
    home = Home(root).prepare()
    environment = {**os.environ, "TEKTON_HOME": str(root), "TEKTON_PORT_PROFILE": "free"}
    settings = config.load(home, environment)
    table = catalog.load(settings)
    fleet = Supervisor(
        home,
        settings,
        table,
        environment=environment,
        choice=ProviderChoice("scripted", "scripted"),
        publish=hear,
        record_error=lambda *_, **__: None,
    )
    return fleet, [component.id for component in table]


def floor(count: int) -> float:
    started = time.perf_counter()
    children = [subprocess.Popen([sys.executable, "-c", "import asyncio, msgspec"]) for _ in range(count)]
    for child in children:
        child.wait()
    return time.perf_counter() - started


def cpu_seconds(pids: list[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


async def deaths(fleet: Supervisor, ids: list[str], seen: dict[str, asyncio.Event]) -> list[float]:
    delays: list[float] = []
    for ai_id in ids:
        seen[ai_id] = asyncio.Event()
        killed = time.perf_counter()
        os.kill(fleet.status(ai_id).pid, signal.SIGKILL)
        await asyncio.wait_for(seen[ai_id].wait(), 5)
        delays.append((time.perf_counter() - killed) * 1000)
    return delays


async def one_round(root: Path, idle_s: float) -> tuple[float, float, list[float], list[float], float]:
    seen: dict[str, asyncio.Event] = {}

    def hear(event: Any, topic: str) -> None:
        if isinstance(event, SpecialistEvent) and event.status.state == "killed" and event.status.id in seen:
            seen[event.status.id].set()

    fleet, ids = make_fleet(root, hear)
    await fleet.start()
    base = floor(len(ids))
    started = time.perf_counter()
    results = await fleet.launch(ids)
    wall = time.perf_counter() - started
    assert all(result.ok for result in results), [result for result in results if not result.ok]
    pids = [result.pid for result in results]
    assert len(set(pids)) == len({result.port for result in results}) == len(ids)
    memory = [psutil.Process(pid).memory_full_info().pss / MIB for pid in pids]
    everybody = [*pids, os.getpid()]
    before = cpu_seconds(everybody)
    await asyncio.sleep(idle_s)
    idle = (cpu_seconds(everybody) - before) / idle_s * 100
    delays = await deaths(fleet, ids, seen)
    await fleet.close(stop_fleet=True)
    return base, wall, memory, delays, idle


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=float, default=5.0)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    compiled = tempfile.TemporaryDirectory()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = compiled.name
    for number in range(options.rounds + 1):
        with tempfile.TemporaryDirectory() as name:
            try:
                idle_s = options.idle if number else 0.1
                base, wall, memory, delays, idle = asyncio.run(one_round(Path(name), idle_s))
            finally:
                kill_all(Home(Path(name)), grace_s=0.2)
        if not number:
            continue
        print(
            f"round {number}: {len(memory)} workers ready in {wall:.2f} s ({wall / base:.2f} x the floor of "
            f"{base:.2f} s); PSS {statistics.mean(memory):.1f} MiB each, {sum(memory):.0f} in all; death seen after "
            f"p50 {statistics.median(delays):.1f}, max {max(delays):.1f} ms; idle {idle:.2f} % of one core in all"
        )


if __name__ == "__main__":
    main()
