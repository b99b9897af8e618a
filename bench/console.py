"""Streams tokens into transcript lanes on a real terminal and prints cost, lag and what arrived.

    python bench/console.py [--seconds 5] [--quick]

For each scenario: tokens offered and delivered (texts compared byte by byte), CPU, event-loop lag (overshoot of
a 10 ms sleep), time from the last token sent to its sight on the terminal; and the same text through Textual's
`Markdown.get_stream()` in the same run, as a ratio. What measuring itself costs is measured first and taken off
the CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

COLUMNS, ROWS = 140, 40
FEED_S = 0.02
HARNESS_S = 2.0
FALL_BEHIND_S = 5.0
"""How long a widget that has fallen behind is waited for."""


@dataclass(frozen=True)
class Scenario:
    """One run: how many lanes, how many on screen, tokens a second over all of them, and its bars."""

    name: str
    lanes: int
    visible: int
    rate: int
    seconds: float = 5.0
    widget: str = "transcript"
    max_lag_p95_ms: float | None = None
    max_core: float | None = None
    max_cpu_per_1k: float | None = None


SCENARIOS = (
    Scenario("18 lanes", 18, 18, 5_000, max_lag_p95_ms=20, max_core=0.50),
    Scenario("9 of 10 hidden", 10, 1, 1_000, max_core=0.12),
    Scenario("1 lane", 1, 1, 100, max_cpu_per_1k=0.8),
    Scenario("1 lane", 1, 1, 500, max_cpu_per_1k=0.25),
    Scenario("10 lanes", 10, 10, 500),
)

WORDS = (
    "queue lock writer the a of reads under load breaks first when its peer holds and then returns slowly "
    "because every caller waits for one answer **bold** `code` *soft* migration plan risk store index"
).split()


def tokens(count: int, seed: int) -> list[str]:
    """Return text as a model would send it: a word a token, paragraphs, lists, code."""
    rng = random.Random(seed)
    result: list[str] = []
    while len(result) < count:
        kind = rng.random()
        if kind < 0.15:
            lines = [f"    value_{n} = compute({n}, name='x')  # step" for n in range(rng.randint(2, 8))]
            words = "\n".join(["```python", "def work(self):", *lines, "```", "", ""]).split(" ")
            result += [word + " " for word in words[:-1]] + [words[-1]]
        elif kind < 0.3:
            for number in range(1, rng.randint(3, 6)):
                result += (
                    [f"{number}. "] + [rng.choice(WORDS) + " " for _ in range(rng.randint(4, 12))] + ["\n"]
                )
            result.append("\n")
        else:
            result += [rng.choice(WORDS) + " " for _ in range(rng.randint(20, 70))] + ["\n\n"]
    return result[:count]


def child(scenario: Scenario) -> None:
    """Run the app of one scenario on this terminal and write its figures to `BENCH_FD`."""
    from textual.app import App, ComposeResult
    from textual.containers import Grid, Vertical, VerticalScroll
    from textual.widgets import ContentSwitcher, Markdown

    from tekton_tui.runtime.themes import TEKTON_DARK
    from tekton_tui.transcript import Entry, Look, Transcript, warm

    per_lane = int(scenario.rate * scenario.seconds) // scenario.lanes
    texts = [[*tokens(per_lane - 1, seed), f"\n\nLAST{seed:02d}END"] for seed in range(scenario.lanes)]
    plain = scenario.widget == "transcript"

    class Lanes(App[None]):
        CSS = f"""
        Grid {{ grid-size: {min(6, scenario.visible)}; }}
        .lane {{ border: round $panel; height: 1fr; }}
        .lane Transcript {{ height: 1fr; padding: 0 1; }}
        """

        def compose(self) -> ComposeResult:
            lanes = [self.lane(number) for number in range(scenario.lanes)]
            if scenario.visible < scenario.lanes:
                with ContentSwitcher(initial="lane0"):
                    yield from lanes
            else:
                with Grid():
                    yield from lanes

        def lane(self, number: int) -> Any:
            """Make a lane as the console has it: a frame, and in it the text."""
            name = f"lane{number}"
            if plain:
                return Vertical(Transcript(look=Look(header=False), bar=False), id=name, classes="lane")
            return Vertical(VerticalScroll(Markdown()), id=name, classes="lane")

        def on_mount(self) -> None:
            self.register_theme(TEKTON_DARK)
            self.theme = "tekton-dark"
            self.run_worker(self.measure())

        async def measure(self) -> None:
            if plain:
                warm()
            await asyncio.sleep(1.5)
            lags: list[float] = []
            watch = asyncio.create_task(lag_watch(lags))
            harness = await self.harness_core()
            lags.clear()
            cpu, begin = time.process_time(), time.monotonic()
            await (self.feed_lines() if plain else self.feed_markdown())
            sent = time.monotonic()
            delivered = sum(self.same(number) for number in range(scenario.lanes))
            await asyncio.sleep(0.25)
            used = time.process_time() - cpu
            used -= harness * (time.monotonic() - begin)
            watch.cancel()
            lags.sort()
            figures = {
                "seconds": sent - begin,
                "sent_at": sent,
                "cpu": used,
                "delivered": delivered,
                "lag": [1000 * lags[int(len(lags) * part)] for part in (0.5, 0.95, 0.99)],
                "tokens": self.taken,
            }
            os.write(int(os.environ["BENCH_FD"]), json.dumps(figures).encode())
            if not plain:
                # An app that has fallen far behind would go on drawing before it ends.
                os._exit(0)
            self.exit()

        async def harness_core(self) -> float:
            """Return the share of a core that measuring itself takes: the lag watch and a feeder with no tokens."""
            cpu, begin = time.process_time(), time.monotonic()
            for _ in range(round(HARNESS_S / FEED_S)):
                await asyncio.sleep(FEED_S)
            return (time.process_time() - cpu) / (time.monotonic() - begin)

        async def feed_lines(self) -> None:
            lanes = [
                self.query_one(f"#lane{number} Transcript", Transcript) for number in range(scenario.lanes)
            ]
            for number, lane in enumerate(lanes):
                lane.begin(Entry(str(number), "apollo", "answer", ""))

            async def put(number: int, token: str) -> None:
                lanes[number].append_text(str(number), token)

            await self.feed(put)
            for number, lane in enumerate(lanes):
                lane.finish(str(number))

        async def feed_markdown(self) -> None:
            self.streams = [
                Markdown.get_stream(self.query_one(f"#lane{n} Markdown", Markdown))
                for n in range(scenario.lanes)
            ]
            for number in range(scenario.lanes):
                self.query_one(f"#lane{number} VerticalScroll", VerticalScroll).anchor()
            await self.feed(lambda number, token: self.streams[number].write(token))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    asyncio.gather(*[stream.stop() for stream in self.streams]), FALL_BEHIND_S
                )

        async def feed(self, put: Any) -> None:
            """Offer tokens by the clock; stop when the time is over twice."""
            begin, self.taken = time.monotonic(), 0
            total = per_lane * scenario.lanes
            while self.taken < total:
                passed = time.monotonic() - begin
                due = min(total, int(passed * scenario.rate))
                while self.taken < due:
                    number = self.taken % scenario.lanes
                    await put(number, texts[number][self.taken // scenario.lanes])
                    self.taken += 1
                if passed > 2 * scenario.seconds:
                    return
                await asyncio.sleep(FEED_S)

        def same(self, number: int) -> bool:
            """Whether a lane holds exactly what was sent."""
            sent = "".join(texts[number])
            if plain:
                return self.query_one(f"#lane{number} Transcript", Transcript).text_of(str(number)) == sent
            return self.query_one(f"#lane{number} Markdown", Markdown).source == sent

    Lanes().run()


async def lag_watch(lags: list[float]) -> None:
    """Note by how much each 10 ms sleep overshoots."""
    while True:
        begin = time.perf_counter()
        await asyncio.sleep(0.01)
        lags.append(time.perf_counter() - begin - 0.01)


def limit_s(scenario: Scenario) -> float:
    """Return how long a run may take."""
    return scenario.seconds * 2 + 40


def measure(scenario: Scenario) -> dict[str, Any] | None:
    """Run one scenario in a child; return its figures, `None` if it never came to give any."""
    from pty_child import run

    markers = [f"LAST{seed:02d}END".encode() for seed in range(scenario.visible)]
    command = [sys.executable, __file__, "--child", json.dumps(asdict(scenario))]
    result = run(command, columns=COLUMNS, rows=ROWS, markers=markers, limit_s=limit_s(scenario))
    if not result.results:
        return None
    figures = json.loads(result.results)
    figures["core"] = figures["cpu"] / (figures["seconds"] + 0.25)
    figures["per_1k"] = 1000 * figures["cpu"] / max(1, figures["tokens"])
    late = [result.seen[marker] - figures["sent_at"] for marker in markers if marker in result.seen]
    figures["last_seen_ms"] = 1000 * max(late) if len(late) == len(markers) else None
    figures["kb_s"] = result.written / 1000 / (figures["seconds"] + 1)
    return figures


def verdict(value: float, bar: float | None) -> str:
    """Return how a figure stands to its bar."""
    return "" if bar is None else f" (bar {bar:g}: {'ok' if value <= bar else 'MISSED'})"


def report(scenario: Scenario, figures: dict[str, Any]) -> None:
    """Print one scenario's figures."""
    lag = figures["lag"]
    last = figures["last_seen_ms"]
    print(f"  {scenario.widget:10}", end="")
    print(f" delivered {figures['tokens']}/{int(scenario.rate * scenario.seconds)} tokens,", end="")
    print(f" {figures['delivered']}/{scenario.lanes} lanes identical")
    per_1k = f"{figures['per_1k']:.3f}{verdict(figures['per_1k'], scenario.max_cpu_per_1k)}"
    p95 = f"{lag[1]:.1f}{verdict(lag[1], scenario.max_lag_p95_ms)}"
    print(f"             core {figures['core']:.0%}{verdict(figures['core'], scenario.max_core)}")
    print(f"             CPU s per 1,000 tokens {per_1k}")
    print(f"             loop lag ms p50 {lag[0]:.1f}  p95 {p95}  p99 {lag[2]:.1f}")
    shown = "not seen" if last is None else f"{last:.0f} ms{verdict(last, 100.0)}"
    print(
        f"             last token on the terminal after {shown};  {figures['kb_s']:.0f} kB/s written",
        flush=True,
    )


def main() -> None:
    """Run the scenarios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--no-floor", action="store_true", help="leave out Markdown.get_stream()")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(Scenario(**json.loads(options.child)))
        return
    for scenario in SCENARIOS:
        title = f"{scenario.name}, {scenario.rate} tok/s in all"
        if options.only and options.only not in title:
            continue
        scenario = replace(scenario, seconds=options.seconds)
        print(title, flush=True)
        runs = [figures for _ in range(options.repeat) if (figures := measure(scenario)) is not None]
        if not runs:
            raise SystemExit(f"{scenario.name}: the app ended without figures")
        ours = sorted(runs, key=lambda figures: figures["cpu"])[len(runs) // 2]
        ours["lag"] = [statistics.median(run["lag"][place] for run in runs) for place in range(3)]
        report(scenario, ours)
        if not options.no_floor:
            floor = measure(replace(scenario, widget="markdown"))
            if floor is None:
                print(
                    f"  markdown   gave no figures in {limit_s(scenario):.0f} s: it never caught up",
                    flush=True,
                )
                continue
            report(
                replace(scenario, widget="markdown", max_core=None, max_cpu_per_1k=None, max_lag_p95_ms=None),
                floor,
            )
            cost, lag = ours["per_1k"] / floor["per_1k"], ours["lag"][1] / max(0.1, floor["lag"][1])
            print(f"  ratio      CPU per token {cost:.3f}, lag p95 {lag:.2f}")


if __name__ == "__main__":
    main()
