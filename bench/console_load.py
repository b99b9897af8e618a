"""Streams through the whole console, from the gateway's socket to the terminal, while somebody types.

    python bench/console_load.py [--seconds 8] [--only 18] [--no-floor]

A gateway of ours sends every token as an event of its own; the console attaches to it like to any other, shows Team
Chat or a conversation, and in the second half of the time a key is pressed every 100 ms. Printed with their bars:
tokens delivered and compared byte by byte, share of a core (first half: typing has a cost of its own), event-loop lag
(overshoot of a 10 ms sleep, and how much of it the loop itself worked: the rest other processes took), key to screen
(from the key's write to the terminal's read of its character), last token sent to last token read on the terminal; then
the same tokens through Textual's `Markdown.get_stream()` in bare lanes, as a ratio. What measuring costs is measured
first and taken off.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from console import Scenario, measure, tokens, verdict
from replay_gateway import ReplayGateway
from terminal import Terminal

from tests.tui.fake_client import answer, live, snapshot, team

NAMES = (
    "ergon hermes engram rhetor numa athena prometheus harmonia telos synthesis tekton_core metis apollo penia "
    "sophia noesis terma dionysus"
).split()
FEED_S, KEY_S, HARNESS_S, TAIL_S = 0.02, 0.1, 2.0, 1.0
FIRST_KEY = 0x0400
"""Letters that no text holds are typed, each once."""
NEXT_TAB = "\x1b[6;5~"


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
    return [[*tokens(each - 1, seed), f"\n\nLAST{seed:02d}END"] for seed in range(load.lanes)]


def request_of(load: Load, lane: int) -> str:
    return f"t1/{NAMES[lane]}-ai" if load.team else f"r{lane}"


def child(url: str, token_file: str, out: str, load: Load) -> None:
    """Run the console; write what it measured of itself to a file when the last turn has ended."""
    import tekton_tui.app
    from tekton_tui.connecting import connector
    from tekton_tui.transcript import Transcript

    class Watched(tekton_tui.app.TektonApp):
        """The console, and beside it a task that watches the loop and the clock."""

        CSS_PATH = Path(tekton_tui.app.__file__).with_name("app.tcss")

        def on_mount(self) -> None:
            self.run_worker(self.watch_load(), group="bench", exit_on_error=True)

        async def watch_load(self) -> None:
            lags: list[tuple[float, float]] = []
            began, ended = asyncio.Event(), asyncio.Event()
            turns = self.stores.turns
            turns.started.subscribe(lambda turn: began.set())
            turns.ended.subscribe(lambda turn: ended.set() if not turns.turns else None)
            watch = asyncio.create_task(watch_loop(lags))
            await until_exists(Path(out).with_suffix(".go"), 60)
            harness = await harness_core()
            Path(out).with_suffix(".ready").touch()
            await began.wait()
            lags.clear()
            cpu, begin = time.process_time(), time.monotonic()
            await asyncio.sleep(load.seconds / 2)
            spent = time.monotonic() - begin
            used = time.process_time() - cpu - harness * spent
            await ended.wait()
            await asyncio.sleep(0.25)
            watch.cancel()
            overshoots, work = (sorted(values) for values in zip(*lags, strict=True))
            shown = {entry.key: entry.text for view in self.query(Transcript) for entry in view.entries}
            digests = [digest(shown.get(request_of(load, lane), "")) for lane in range(load.lanes)]
            figures = {
                "cpu": used,
                "core": used / spent,
                "lag": [1000 * overshoots[int(len(lags) * part)] for part in (0.5, 0.95, 0.99)],
                "work": 1000 * work[int(len(lags) * 0.95)],
                "digests": digests,
            }
            part = Path(out).with_suffix(".part")
            part.write_text(json.dumps(figures))
            part.rename(out)

    Watched(connector(None, url, token_file)).run()


async def harness_core() -> float:
    """Return the share of a core that watching costs: the middle one of ten looks, for the console does things too."""
    shares: list[float] = []
    for _ in range(10):
        cpu, begin = time.process_time(), time.monotonic()
        await asyncio.sleep(HARNESS_S / 10)
        shares.append((time.process_time() - cpu) / (time.monotonic() - begin))
    return statistics.median(shares)


async def watch_loop(lags: list[tuple[float, float]]) -> None:
    """Note by how much each 10 ms sleep overshoots, and how much of that the loop's thread worked.

    What is left of the overshoot the machine gave to other processes.
    """
    while True:
        begin, worked = time.perf_counter(), time.thread_time()
        await asyncio.sleep(0.01)
        lag = time.perf_counter() - begin - 0.01
        lags.append((lag, min(lag, time.thread_time() - worked)))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Reader(threading.Thread):
    """Reads the terminal without pause and keeps when how much had come."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(daemon=True)
        self.terminal = terminal
        self._stamps: list[tuple[int, float]] = []
        self.stop = False

    def run(self) -> None:
        while not self.stop and self.terminal.open:
            if self.terminal.pump(0.05):
                self._stamps.append((len(self.terminal.written), time.monotonic()))

    def when(self, mark: bytes) -> float | None:
        """Return when the last byte of a mark was first read."""
        at = self.terminal.written.find(mark)
        if at < 0:
            return None
        return next(moment for length, moment in self._stamps if length >= at + len(mark))


async def feed(gateway: ReplayGateway, load: Load, terminal: Terminal) -> tuple[list[float], list[float]]:
    """Send all turns by the clock and type beside it; return when each turn's last token and each key was sent."""
    texts = texts_of(load)
    asked = [
        answer(
            request_of(load, n), f"{NAMES[n]}-ai", f"s-{NAMES[n]}-ai", "q", *texts[n], group="t1" * load.team
        )
        for n in range(load.lanes)
    ]
    chunks = [events[2:-1] for events in asked]
    if load.team:
        await gateway.send(team("t1", "q", *NAMES[: load.lanes]))
    await gateway.send(*(event for events in asked for event in events[:2]))
    typing = asyncio.create_task(type_keys(terminal, load.seconds / 2))
    ended = [0.0] * load.lanes
    sent, total, begin = 0, len(texts[0]) * load.lanes, time.monotonic()
    while sent < total:
        due = min(total, int((time.monotonic() - begin) * load.rate))
        batch: list[Any] = []
        while sent < due:
            lane, place = sent % load.lanes, sent // load.lanes
            batch.append(chunks[lane][place])
            if place == len(texts[lane]) - 1:
                batch.append(asked[lane][-1])
                ended[lane] = time.monotonic()
            sent += 1
        if batch:
            await gateway.send(*batch)
        await asyncio.sleep(FEED_S)
    typing.cancel()
    return ended, await typing


async def type_keys(terminal: Terminal, after_s: float) -> list[float]:
    """Press a key every 100 ms until cancelled; return when each was pressed."""
    pressed: list[float] = []
    try:
        await asyncio.sleep(after_s)
        while True:
            await asyncio.sleep(KEY_S)
            pressed.append(time.monotonic())
            terminal.send(chr(FIRST_KEY + len(pressed) - 1))
    except asyncio.CancelledError:
        return pressed


async def show(terminal: Terminal, load: Load) -> None:
    """Go to the screen whose turns will stream, every conversation opened once."""
    terminal.send("3" if load.team else "2")
    await asyncio.to_thread(terminal.until, "message the team" if load.team else f"message {NAMES[0]}")
    for name in NAMES[1 : load.lanes] if not load.team else ():
        terminal.send(NEXT_TAB)
        await asyncio.to_thread(terminal.until, f"message {name}")


async def until_exists(path: Path, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not os.path.exists(path):  # noqa: ASYNC240 - another process makes it
        if time.monotonic() > end:
            raise TimeoutError(f"{path.name} was not written within {limit_s:g} s")
        await asyncio.sleep(0.05)


async def run(load: Load, folder: Path) -> dict[str, Any]:
    """Run one load and return its figures."""
    (folder / "token").write_text("x" * 40)
    out = folder / f"{load.lanes}-{load.rate}.json"
    rows = [live(name) for name in NAMES[: load.lanes]]
    answers: dict[str, Any] = {
        "conversation_history": lambda p: {"conversation_id": f"s-{p['specialist_id']}", "messages": []},
        "session_messages": {"messages": []},
        "get_session": {"id": "s", "is_default": True, "title": ""},
        "specialist_logs": {"source": "", "lines": [], "path": ""},
        "get_preference": {"value": None},
    }
    async with ReplayGateway(snapshot(*rows), answers) as gateway:
        command = [sys.executable, __file__, "--child", gateway.url, str(folder / "token"), str(out)]
        command.append(json.dumps(asdict(load)))
        with Terminal(command, columns=load.columns, rows=load.rows) as terminal:
            await asyncio.to_thread(terminal.until, f"{load.lanes} ready")
            await show(terminal, load)
            reader = Reader(terminal)
            reader.start()
            await asyncio.sleep(TAIL_S)
            out.with_suffix(".go").touch()
            await until_exists(out.with_suffix(".ready"), 20)
            ended, pressed = await feed(gateway, load, terminal)
            await until_exists(out, load.seconds + 30)
            await asyncio.sleep(TAIL_S)
            reader.stop = True
            reader.join()
            figures = json.loads(out.read_text())
            return figures | sights(reader, load, ended, pressed)


def sights(reader: Reader, load: Load, ended: list[float], pressed: list[float]) -> dict[str, Any]:
    """Return what the terminal's reader saw: key to screen, and the last tokens, in milliseconds."""
    keys = [
        1000 * (seen - moment) if (seen := reader.when(chr(FIRST_KEY + n).encode())) else None
        for n, moment in enumerate(pressed)
    ]
    shown = [n for n in range(load.lanes) if load.team or n == load.lanes - 1]
    tails = [
        1000 * (seen - ended[n]) if (seen := reader.when(f"LAST{n:02d}END".encode())) else None for n in shown
    ]
    return {"keys": keys, "tails": tails, "written": len(reader.terminal.written)}


def report(load: Load, figures: dict[str, Any]) -> None:
    wanted = [digest("".join(text)) for text in texts_of(load)]
    same = sum(a == b for a, b in zip(wanted, figures["digests"], strict=True))
    total = len(texts_of(load)[0]) * load.lanes
    per_1k = 1000 * figures["cpu"] / (total / 2)
    lag = figures["lag"]
    speed = figures["written"] / load.seconds / 1e6
    print(f"{load.name}, {load.rate} tok/s in all, {load.columns}x{load.rows}")
    print(
        f"  {total} tokens sent, {same}/{load.lanes} texts identical on the screen's side, {speed:.1f} MB/s written"
    )
    print(f"  core {figures['core']:.0%}{verdict(figures['core'], load.max_core)}", end="")
    print(f", CPU s per 1,000 tokens {per_1k:.3f}{verdict(per_1k, load.max_cpu_per_1k)}")
    print(
        f"  loop lag ms p50 {lag[0]:.1f}  p95 {lag[1]:.1f}{verdict(lag[1], load.max_lag_ms)}  p99 {lag[2]:.1f}",
        end="",
    )
    print(f"; own work in it p95 {figures['work']:.1f}")
    for name, values, bar in (
        ("key to screen", figures["keys"], 50.0),
        ("last token on screen", figures["tails"], 100.0),
    ):
        seen = sorted(value for value in values if value is not None)
        if len(seen) < len(values):
            print(f"  {name}: {len(values) - len(seen)} of {len(values)} NEVER SEEN")
        if seen:
            middle, high = seen[len(seen) // 2], seen[int(len(seen) * 0.95)]
            print(f"  {name} ms p50 {middle:.0f}  p95 {high:.0f}{verdict(high, bar)}  worst {seen[-1]:.0f}")


def floor(load: Load, figures: dict[str, Any]) -> None:
    """Print how the same tokens fare in bare lanes of Textual's `Markdown.get_stream()`."""
    bare = measure(Scenario(load.name, load.lanes, load.visible, load.rate, load.seconds, "markdown"))
    if bare is None:
        print("  floor: Markdown.get_stream() never caught up and gave no figures")
        return
    total = len(texts_of(load)[0]) * load.lanes
    cost = (figures["cpu"] / (total / 2)) / (bare["cpu"] / max(1, bare["tokens"]))
    print(
        f"  floor Markdown.get_stream(): {bare['tokens']}/{total} tokens taken, core {bare['core']:.0%},",
        end="",
    )
    print(f" lag p95 {bare['lag'][1]:.1f} ms")
    print(f"  ratio: CPU per token {cost:.3f}, lag p95 {figures['lag'][1] / max(0.1, bare['lag'][1]):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--no-floor", action="store_true")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        url, token_file, out, load = options.child
        child(url, token_file, out, Load(**json.loads(load)))
        return
    for base in LOADS:
        load = Load(**{**asdict(base), "seconds": options.seconds})
        if options.only and options.only not in f"{load.name}, {load.rate}":
            continue
        with tempfile.TemporaryDirectory(prefix="tk-") as folder:
            figures = asyncio.run(run(load, Path(folder)))
        report(load, figures)
        if not options.no_floor:
            floor(load, figures)
        sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("TEKTON_HOME", "/nonexistent")
    main()
