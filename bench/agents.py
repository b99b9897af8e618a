"""Eighteen external agents at once, each with 300 small updates a second, before one console in which somebody types.

    python bench/agents.py [--seconds 8] [--agents 18] [--rate 300] [--alone]

A real backend and real workers, each a bridge to a program that speaks the Agent Client Protocol and says pieces of text, of
thought, of what a tool does, of its plan and its use by the clock; the console on a pseudo-terminal shows the team that was
asked. Every 100 ms a letter is typed. Printed: key to screen at the median and 95 %, and shares of a core of console,
gateway and bridges, beside a floor of the same run: the same while the same agents say nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from console_load import Reader, type_keys
from console_watched import FIRST_KEY
from options import go_before_others, parser_for
from terminal import Terminal

from backend.client import Client, attach
from backend.home import Home, write_private

COLUMNS, ROWS, SETTLE_S = 160, 48, 2.0
GOAL_MS, GOAL_CORE = 50.0, 0.5


class Figures(NamedTuple):
    """Milliseconds of each key, None for one that was never seen, and shares of a core."""

    keys: list[float | None]
    cores: dict[str, float]


def spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def typed(
    terminal: Terminal, reader: Reader, parts: dict[str, list[psutil.Process]], seconds: float, first: int
) -> Figures:
    """Type for so long, letters from `first` on; return what came of it."""
    before, begin = {name: sum(map(spent, rows)) for name, rows in parts.items()}, time.monotonic()
    typing = asyncio.create_task(type_keys(terminal, 0.0, first))
    await asyncio.sleep(seconds)
    took = time.monotonic() - begin
    cores = {name: (sum(map(spent, rows)) - before[name]) / took for name, rows in parts.items()}
    typing.cancel()
    pressed = await typing
    await asyncio.sleep(1.0)
    seen = [reader.when(chr(first + at).encode()) for at in range(len(pressed))]
    keys = [None if came is None else 1000 * (came - at) for came, at in zip(seen, pressed, strict=True)]
    return Figures(keys, cores)


async def measure(client: Client, home: Home, names: list[str], seconds: float) -> tuple[Figures, Figures]:
    """Return the floor and the figures under load."""
    answer = await client.request("launch", {"ids": names})
    assert all(row["ok"] for row in answer["results"]), answer
    rows = (await client.request("snapshot", {}))["specialists"]
    bridges = [psutil.Process(row["pid"]) for row in rows if row["name"] in names]
    gateway = next(
        process for process in psutil.process_iter(["cmdline", "environ"])
        if "backend.gateway.serve" in (process.info["cmdline"] or ())
        and (process.info["environ"] or {}).get("TEKTON_HOME") == str(home.root)
    )  # fmt: skip
    command = [sys.executable, "-m", "tekton_tui"]
    with Terminal(command, columns=COLUMNS, rows=ROWS, environment=dict(os.environ)) as terminal:
        await asyncio.to_thread(terminal.until, f"{len(names)} ready", 60)
        terminal.send("3")
        await asyncio.to_thread(terminal.until, "Ask the team")
        reader = Reader(terminal)
        reader.start()
        await asyncio.sleep(SETTLE_S)
        parts = {"console": [psutil.Process(terminal.process.pid)], "gateway": [gateway], "bridges": bridges}
        await ask(client, names, 0.0)
        floor = await typed(terminal, reader, parts, seconds, FIRST_KEY)
        await ask(client, names, seconds + 3 * SETTLE_S)
        await asyncio.sleep(SETTLE_S)
        loaded = await typed(
            terminal, reader, parts, seconds, FIRST_KEY + 0x8A
        )  # letters that no text holds, as well
        reader.stop = True
        reader.join()
    return floor, loaded


async def ask(client: Client, names: list[str], seconds: float) -> None:
    question = {"content": f"go {seconds}", "target_ids": names, "wait": seconds == 0.0}
    await client.request("team_chat", question)


def report(floor: Figures, loaded: Figures, count: int, rate: int) -> None:
    print(
        f"{count} agents, each {rate} updates a second, of all kinds; the floor: the same agents say nothing"
    )
    for percent in (50, 95):
        now, least = (at_percent(one.keys, percent) for one in (loaded, floor))
        goal = f"   (goal ≤ {GOAL_MS:g} ms)" if percent == 95 else ""
        print(f"  key to screen, {percent:2} %   {now:6.1f} ms   floor {least:6.1f} ms{goal}")
    lost = sum(key is None for key in (*loaded.keys, *floor.keys))
    print(f"  keys pressed           {len(loaded.keys):6}      never seen {lost}")
    for name, share in loaded.cores.items():
        goal = f"   (goal ≤ {GOAL_CORE:.0%} of a core)" if name == "console" else ""
        print(f"  CPU of {name:15} {share:7.1%}      floor {floor.cores[name]:7.1%}{goal}")


def at_percent(keys: list[float | None], percent: int) -> float:
    known = [key for key in keys if key is not None]
    return statistics.quantiles(known, n=100)[percent - 1] if len(known) > 1 else float("nan")


async def main(count: int, rate: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="tekton-") as folder:
        home = Home(Path(folder) / "home").prepare()
        names = [f"agent{number:02d}" for number in range(count)]
        command = json.dumps(
            [sys.executable, "-S", str(Path(__file__).with_name("talking_agent.py")), str(rate)]
        )
        rows = "".join(f'[specialists.{n}]\ntransport = "acp"\ncommand = {command}\n' for n in names)
        write_private(home.config, rows.encode())
        os.environ |= {
            "TEKTON_HOME": str(home.root),
            "TEKTON_PROVIDER": "scripted",
            "TEKTON_PORT_PROFILE": "free",
            "TEKTON_GATEWAY_PORT": "0",
        }
        client = await attach(home)
        try:
            floor, loaded = await measure(client, home, names, seconds)
        finally:
            await client.request("shutdown", {"stop_fleet": True})
            await client.close()
        report(floor, loaded, count, rate)


if __name__ == "__main__":
    parser = parser_for(__doc__, alone=True)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--agents", type=int, default=18)
    parser.add_argument("--rate", type=int, default=300)
    options = parser.parse_args()
    go_before_others(options)
    asyncio.run(main(options.agents, options.rate, options.seconds))
