"""The loads of `console_load.py` and how their figures are told: medians, ranges, bars, the ratio to the floor.

Knows nothing of how the figures came about.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from console import Scenario, measure, tokens, verdict
from console_watched import digest

NAMES = (
    "ergon hermes engram rhetor numa athena prometheus harmonia telos synthesis tekton_core metis apollo penia "
    "sophia noesis terma dionysus"
).split()


@dataclass(frozen=True)
class Load:
    """One run: how many turns, how many of them on screen, tokens a second over all, and its bars."""

    name: str
    lanes: int
    visible: int
    rate: int
    columns: int = 140
    rows: int = 40
    seconds: float = 8.0
    max_core: float | None = None
    max_cpu_per_1k: float | None = None
    max_lag_ms: float | None = None

    @property
    def team(self) -> bool:
        return self.visible > 1


LOADS = (
    Load("18 lanes of Team Chat", 18, 18, 5_000, columns=200, rows=44, max_core=0.50, max_lag_ms=20),
    Load("10 conversations, 9 hidden", 10, 1, 1_000, max_core=0.12),
    Load("1 conversation", 1, 1, 100, max_cpu_per_1k=0.8),
    Load("1 conversation", 1, 1, 500, max_cpu_per_1k=0.25),
)


def texts_of(load: Load) -> list[list[str]]:
    each = int(load.rate * load.seconds) // load.lanes
    return [
        [f"HEAD{seed:02d}END breaks. ", *tokens(each - 2, seed), f"\n\nLAST{seed:02d}END"]
        for seed in range(load.lanes)
    ]


def request_of(load: Load, lane: int) -> str:
    return f"t1/{NAMES[lane]}-ai" if load.team else f"r{lane}"


class Spread(NamedTuple):
    """The median of some runs, the least and the most."""

    middle: float
    least: float
    most: float

    def told(self, form: str) -> str:
        """Return the median, and the range where there is one."""
        if self.least == self.most:
            return format(self.middle, form)
        return f"{self.middle:{form}} [{self.least:{form}}–{self.most:{form}}]"


def spread(values: Iterable[float]) -> Spread:
    ordered = sorted(values)
    return Spread(statistics.median(ordered), ordered[0], ordered[-1])


def part_of(values: Sequence[float], part: float) -> float:
    """Return the value below which a part of the values lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def over(runs: list[dict[str, Any]], name: str, part: float, scale: float = 1.0) -> Spread:
    """Return how a part of a figure's values stands in each run."""
    return spread(
        scale * part_of([v for v in run[name] if v is not None] or [math.inf], part) for run in runs
    )


def report(load: Load, runs: list[dict[str, Any]]) -> None:
    """Print the figures of all runs of one load with their bars."""
    wanted = [digest("".join(text)) for text in texts_of(load)]
    same = [sum(a == b for a, b in zip(wanted, run["digests"], strict=True)) for run in runs]
    total = len(texts_of(load)[0]) * load.lanes
    for run in runs:
        run["lag"] = [lag for lag, _work in run["lags"]]
        run["work"] = [work for _lag, work in run["lags"]]
    core, cost = spread(run["core"] for run in runs), spread(cpu_per_1k(load, run) for run in runs)
    speed = spread(run["written"] / load.seconds / 1e6 for run in runs)
    print(f"{load.name}, {load.rate} tok/s in all, {load.columns}x{load.rows}, {len(runs)} runs")
    print(f"  {total} tokens sent, {min(same)}/{load.lanes} texts identical on the screen's side", end="")
    print(f"{verdict(load.lanes - min(same), 0)}, {speed.told('.1f')} MB/s written")
    print(f"  core {core.told('.0%')}{verdict(core.middle, load.max_core)}", end="")
    print(f", CPU s per 1,000 tokens {cost.told('.3f')}{verdict(cost.middle, load.max_cpu_per_1k)}")
    lag, work = over(runs, "lag", 0.95, 1000), over(runs, "work", 0.95, 1000)
    print(f"  loop lag ms p50 {over(runs, 'lag', 0.5, 1000).told('.1f')}", end="")
    print(f"  p95 {lag.told('.1f')}{verdict(lag.middle, load.max_lag_ms)}", end="")
    print(f"  p99 {over(runs, 'lag', 0.99, 1000).told('.1f')}; own work in it p95 {work.told('.1f')}")
    for title, name, bar in (
        ("key to screen", "keys", 50.0),
        ("last token on screen" if not load.team else "finished row on screen", "tails", 100.0),
    ):
        missing = sum(value is None for run in runs for value in run[name])
        if missing:
            print(f"  {title}: {missing} NEVER SEEN")
        high = over(runs, name, 0.95)
        print(f"  {title} ms p50 {over(runs, name, 0.5).told('.0f')}", end="")
        print(f"  p95 {high.told('.0f')}{verdict(high.middle, bar)}  worst {over(runs, name, 1).told('.0f')}")
    print(f"  worked between key and frame, ms p50 {over(runs, 'key_work', 0.5, 1000).told('.1f')}", end="")
    print(f"  p95 {over(runs, 'key_work', 0.95, 1000).told('.1f')}")


def cpu_per_1k(load: Load, run: dict[str, Any]) -> float:
    """Return processor seconds for 1,000 tokens: those of the first half of the time."""
    return 1000 * run["cpu"] / (load.rate * load.seconds / 2)


def floor(load: Load, runs: list[dict[str, Any]]) -> None:
    """Print how the same tokens fare in bare lanes of Textual's `Markdown.get_stream()`; bounded in time."""
    bare = measure(Scenario(load.name, load.lanes, load.visible, load.rate, load.seconds, "markdown"))
    if bare is None:
        print("  floor: Markdown.get_stream() never caught up and gave no figures")
        return
    total = len(texts_of(load)[0]) * load.lanes
    mine = statistics.median(cpu_per_1k(load, run) for run in runs)
    lag = over(runs, "lag", 0.95, 1000).middle
    print(
        f"  floor Markdown.get_stream(): {bare['tokens']}/{total} tokens taken, core {bare['core']:.0%},",
        end="",
    )
    print(f" CPU s per 1,000 tokens {bare['per_1k']:.3f}, lag p95 {bare['lag'][1]:.1f} ms")
    print(f"  ratio: CPU per token {mine / bare['per_1k']:.3f}, lag p95 {lag / max(0.1, bare['lag'][1]):.2f}")
