"""Many specialists: 10, 100, 1,000 of them in registry, discovery, matching, events, snapshot and the console's grid.

    python bench/many.py [--numbers 10 100 1000] [--no-console]

The specialists are scripted and live together in one process (a hive); a real backend adopts them and a real console is
attached to it. Prints what each costs, and the ratio of the largest fleet's cost a specialist to the smallest's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

MIB = 1024 * 1024
IDLE_S = 10.0
ADOPTED_S = 120.0
TEAM = 300
"""Members of the largest team."""
FIRST_ROWS_S, MOVE_MS = 0.5, 50.0
FIELDS = ["law", "music", "ships", "bread", "stars", "trains", "bees", "glass", "rivers", "chess"]


# the hive


def names_of(number: int) -> list[str]:
    return [f"m{n:04d}" for n in range(number)]


def reporter(ready: asyncio.Future[None]) -> Callable[[object], None]:
    """Return what a worker is given to report with: its first line makes `ready` done."""

    def report(line: object) -> None:
        if not ready.done():
            ready.set_result(None)

    return report


async def hive(number: int, home_path: Path) -> None:
    """Serve `number` specialists from this process, enter them in the registry and say so on stdout."""
    from backend import catalog, config
    from backend.home import Home
    from backend.identity import identify
    from backend.registry import Registry
    from backend.schema.records import RegistryEntry
    from backend.specialists.supervisor import worker_token
    from backend.worker.__main__ import serve_specialist
    from backend.worker.spec import WorkerSpec

    home = Home(home_path).prepare()
    table = catalog.load(config.load(home))
    own = identify(os.getpid())
    assert own is not None
    registry, serving, waited = Registry(home.registry, home.audit), set[asyncio.Task[None]](), list[Any]()
    entries: dict[str, RegistryEntry] = {}
    for name in names_of(number):
        component = table.get(name)
        listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        listener.setblocking(False)
        port = int(listener.getsockname()[1])
        spec = WorkerSpec(
            component.id, component.name, component.title, component.persona, "scripted", "scripted",
            str(home.root), component.description, component.capabilities, port=port, token=worker_token(home),
        )  # fmt: skip
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waited.append(ready)
        serving.add(asyncio.create_task(serve_specialist(spec, listener, reporter(ready))))
        entries[component.id] = RegistryEntry(
            port, component.name, pid=own.pid, process_start=own.start, model="scripted", provider="scripted",
            state="ready", capabilities=component.capabilities,
        )  # fmt: skip
    await asyncio.gather(*waited)
    with registry.transaction() as change:
        for ai_id, entry in entries.items():
            change.register(ai_id, entry)
    print("ready", flush=True)
    await asyncio.gather(*serving)


def write_config(home: Path, number: int) -> None:
    """Name the specialists, each with a title and capabilities of its own."""
    home.mkdir(parents=True, mode=0o700)
    rows = [
        f'[specialists.{name}]\ntitle = "Keeper of {FIELDS[n % 10]} {n}"\ndescription = "Knows {FIELDS[n % 10]} and '
        f'{FIELDS[n // 10 % 10]}."\npersona = "You know {FIELDS[n % 10]}."\n'
        f'capabilities = ["{FIELDS[n % 10]}", "{FIELDS[n // 10 % 10]}"]\n'
        for n, name in enumerate(names_of(number))
    ]
    (home / "config.toml").write_text(
        f"[fleet]\nmax_specialists = {number + 40}\n" + "\n".join(rows), encoding="utf-8"
    )


# the backend


@dataclass
class Figures:
    """What one fleet cost. Times in milliseconds unless the name says otherwise."""

    number: int
    values: dict[str, float] = field(default_factory=dict[str, float])


async def timed(call: Callable[[], Awaitable[Any]], times: int = 9) -> float:
    """Return the median of a call, in milliseconds."""
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


async def measure_backend(figures: Figures, home: Path) -> None:
    """Attach and ask; then watch the backend idle and under a turn to each specialist."""
    from backend.client import attach
    from backend.home import Home

    values, where = figures.values, Home(home)
    began = time.perf_counter()
    client = await attach(where)
    values["start s"] = time.perf_counter() - began
    process = psutil.Process(json.loads(where.backend_facts.read_text())["pid"])
    live = 0
    while live < figures.number:  # a backend serves while it adopts
        state = await client.request("snapshot", {})
        live = sum(row.get("state") == "ready" for row in state["specialists"])
        assert time.perf_counter() - began < ADOPTED_S, f"{live} of {figures.number} were adopted"
    values["adopted s"] = time.perf_counter() - began
    values["registry KiB"] = where.registry.stat().st_size / 1024
    values["snapshot ms"] = await timed(lambda: client.request("snapshot", {}))
    values["discovery ms"] = await timed(lambda: client.request("list_specialists", {"capability": "bees"}))
    values["match ms"] = await timed(lambda: client.request("match", {"query": "who knows bees and rivers?"}))
    await client.subscribe(["fleet", "metrics", "chat", "errors"])
    seen = asyncio.create_task(swallow(client))
    await asyncio.sleep(2)
    values["memory MiB"] = process.memory_info().rss / MIB
    before = cpu(process)
    await asyncio.sleep(IDLE_S)
    values["idle core %"] = 100 * (cpu(process) - before) / IDLE_S
    before, began = cpu(process), time.perf_counter()
    gate = asyncio.Semaphore(32)

    async def turn(name: str) -> None:
        async with gate:
            answer = await client.request("chat", {"id": name, "message": "hello"})
            assert answer["content"]

    await asyncio.gather(*(turn(name) for name in names_of(figures.number)))
    values["turns/s"] = figures.number / (time.perf_counter() - began)
    values["turn CPU ms"] = 1e3 * (cpu(process) - before) / figures.number
    values["memory after MiB"] = process.memory_info().rss / MIB
    team = names_of(min(figures.number, TEAM))
    before, began = cpu(process), time.perf_counter()
    answer = await client.request("team_chat", {"content": "hello", "target_ids": team})
    assert len(answer["responses"]) == len(team), answer["failures"]
    values["team of"] = len(team)
    values["team ms a member"] = 1e3 * (time.perf_counter() - began) / len(team)
    values["team CPU ms a member"] = 1e3 * (cpu(process) - before) / len(team)
    seen.cancel()
    await client.close()


async def swallow(client: Any) -> None:
    async for _ in client.events():
        pass


def cpu(process: psutil.Process) -> float:
    used = process.cpu_times()
    return used.user + used.system


# the console


class GridWatch:
    """Notes when the grid draws itself, and in what state."""

    def __init__(self) -> None:
        from tekton_tui.widgets.fleet.grid import FleetGrid

        self.rows, self.drawn_at = 0, 0.0
        self.state: tuple[object, ...] = ()
        self.drawn = asyncio.Event()
        self._class, self._render = FleetGrid, FleetGrid.render_line

    def __enter__(self) -> GridWatch:
        def watched(grid: Any, y: int) -> Any:
            strip = self._render(grid, y)
            row = grid.cursor_row
            self.rows, self.state = grid.virtual_size.height - 1, (row.id if row else "", grid.filter_text)
            self.drawn_at = time.perf_counter()
            self.drawn.set()
            return strip

        self._class.render_line = watched  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self._class.render_line = self._render  # type: ignore[method-assign]

    async def until(self, wanted: Callable[[], bool]) -> float:
        """Wait until the grid was drawn as wanted, and to the end; return when its last line was."""
        while not wanted():
            self.drawn.clear()
            await self.drawn.wait()
        return self.drawn_at


async def measure_console(figures: Figures) -> None:
    """Open a console on the backend; time its first rows, moves of the cursor and letters of the filter."""
    from textual import events
    from textual.widgets import Input

    from tekton_tui.app import TektonApp
    from tekton_tui.runtime.connect import connector

    app, values = TektonApp(connector(None, None, None)), figures.values
    with GridWatch() as watch:
        began, used = time.perf_counter(), time.thread_time()
        async with app.run_test(size=(140, 40)) as pilot:
            values["first rows s"] = await watch.until(lambda: watch.rows >= figures.number) - began
            values["first rows CPU s"] = time.thread_time() - used
            await pilot.pause(1.0)
            app.navigator.pane("fleet").focus_content()
            await pilot.pause(0.5)
            everyone = watch.rows

            async def press(key: str, character: str | None = None) -> tuple[float, float]:
                """Return the milliseconds from a key to the grid's last new line, and those the processor worked."""
                before, began, used = watch.state, time.perf_counter(), time.thread_time()
                app.post_message(events.Key(key, character))
                async with asyncio.timeout(10):
                    drawn = await watch.until(lambda: watch.state != before)
                return (drawn - began) * 1e3, (time.thread_time() - used) * 1e3

            moves = [
                await press(key)
                for key in [*["down"] * 5, *["pagedown", "pageup"] * 10, *["end", "home"] * 5]
            ]
            app.navigator.pane("fleet").action_filter()
            await pilot.pause(0.5)
            assert isinstance(app.focused, Input)
            letters = [await press(letter, letter) for letter in "bees"[: 4 if figures.number > 10 else 1]]
            assert 0 < watch.rows < everyone
            for name, taken in (("scroll", moves), ("filter", letters)):
                values[f"{name} ms"] = statistics.median(wall for wall, _ in taken)
                values[f"{name} CPU ms"] = statistics.median(worked for _, worked in taken)
            app.navigator.pane("fleet").action_clear()
            await pilot.pause(1.0)
            used = time.process_time()
            await asyncio.sleep(IDLE_S)
            values["console idle core %"] = 100 * (time.process_time() - used) / IDLE_S


def run(number: int, *, console: bool) -> Figures:
    """Measure one fleet; everything started is ended."""
    figures = Figures(number)
    with tempfile.TemporaryDirectory(prefix="many") as folder:
        home = Path(folder) / "h"
        os.environ.update(
            TEKTON_HOME=str(home),
            TEKTON_PORT_PROFILE="free",
            TEKTON_GATEWAY_PORT="0",
            TEKTON_PROVIDER="scripted",
        )
        write_config(home, number)
        nest = subprocess.Popen(
            [sys.executable, __file__, "--hive", str(number), "--home", str(home)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert nest.stdout is not None and nest.stdout.readline() == "ready\n", "the hive did not start"
            asyncio.run(measure_backend(figures, home))
            if console:
                asyncio.run(measure_console(figures))
        finally:
            stop_backend(home)
            nest.kill()
            nest.wait()
    return figures


def stop_backend(home: Path) -> None:
    facts = home / "run" / "backend.json"
    if facts.exists():
        process = psutil.Process(json.loads(facts.read_text())["pid"])
        process.terminate()
        process.wait(15)


def report(all_figures: list[Figures]) -> None:
    """Print figures side by side, and what grew faster than the fleet."""
    width = max(map(len, all_figures[-1].values))
    print(f"{'':{width}}  " + "".join(f"{figures.number:>10}" for figures in all_figures))
    for name in all_figures[-1].values:
        print(f"{name:{width}}  " + "".join(f"{f.values.get(name, 0):>10.2f}" for f in all_figures))
    first, last = all_figures[0], all_figures[-1]
    for name in ("memory MiB", "idle core %"):
        grown = (last.values[name] - first.values[name]) / max(1, last.number - first.number)
        print(f"{name} a further specialist: {grown:.4f}")
    for name, bar in (("first rows s", FIRST_ROWS_S), ("scroll ms", MOVE_MS), ("filter ms", MOVE_MS)):
        if name in last.values:
            verdict = "ok" if last.values[name] <= bar else "MISSED"
            print(f"{name} at {last.number}: {last.values[name]:.2f} (bar {bar:g}: {verdict})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--no-console", action="store_true")
    parser.add_argument("--hive", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hive:
        asyncio.run(hive(options.hive, options.home))
        return
    report([run(number, console=not options.no_console) for number in options.numbers])


if __name__ == "__main__":
    main()
