"""Starts the console on a real terminal and prints first paint, memory and what idling costs, with their bars.

    python bench/console_start.py [--runs 9] [--idle 10] [--alone]

The floor of the first paint is a Textual app of one line in the same run, taken in turns with ours. Memory and
idling are measured against a real backend: empty, and with 19 specialists that answer a metrics beat each second and
200 stored messages each, every conversation opened and read back to its first message.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Literal

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from backends import own_backend
from options import go_before_others, parser_for
from terminal import Terminal

from backend.client import Client
from backend.home import Home
from backend.memory import SqliteStore
from backend.schema.records import StoredMessage

COLUMNS, ROWS = 120, 40
BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static(" tekton ")
Bare().run()
"""
MESSAGES = 200
ANSWER = (
    "The **queue** module breaks first under load: its lock is held across a *network call*.\n\n"
    "1. Copy what is to be sent under the lock\n2. Send it after the lock is free\n\n"
    "```python\ndef drain(self):\n    items, self.items = self.items, []\n    return [send(i) for i in items]\n```\n"
)
FRAME = b" tekton "
ESCAPE, SWITCHER = "\x1b", "\x0f"
SETTLED_S = 60.0
"""After this the clocks of the rows count minutes."""


def console(home: Home) -> list[str]:
    return [sys.executable, "-P", "-m", "tekton_tui", "--home", str(home.root)]


def first_paint_ms(command: list[str], then: str = "") -> tuple[float, float]:
    """Return milliseconds from starting a program until its first frame was written, and until a text stood there."""
    with Terminal(command, columns=COLUMNS, rows=ROWS) as terminal:
        first = terminal.until_bytes(FRAME)
        whole = terminal.until(then) if then else first
        return 1000 * (first - terminal.started), 1000 * (whole - terminal.started)


def verdict(value: float, bar: float | None) -> str:
    return "" if bar is None else f" (bar {bar:g}: {'ok' if value <= bar else 'MISSED'})"


def paint(home: Home, runs: int) -> None:
    """Print our first paint and the floor's, taken in turns; a first pair is not counted."""
    ours: list[float] = []
    whole: list[float] = []
    bare: list[float] = []
    for _ in range(runs + 1):
        bare.append(first_paint_ms([sys.executable, "-c", BARE])[0])
        first, attached = first_paint_ms(console(home), "Who should answer?")
        ours.append(first)
        whole.append(attached)
    mine, floor = statistics.median(ours[1:]), statistics.median(bare[1:])
    ratio = statistics.median(a / b for a, b in zip(ours[1:], bare[1:], strict=True))
    print(f"first paint: ours {mine:.0f} ms, bare Textual app {floor:.0f} ms, median of {runs} pairs")
    print(f"  ratio of pairs, median {ratio:.2f}{verdict(ratio, 1.4)}")
    print(
        f"  attached to a running backend, its state shown: {statistics.median(whole[1:]):.0f} ms", flush=True
    )


def memory(name: str, terminal: Terminal, bar_mib: float) -> None:
    process = psutil.Process(terminal.process.pid)
    used = process.memory_full_info()
    print(f"{name}: resident {used.rss / 2**20:.1f} MiB{verdict(used.rss / 2**20, bar_mib)}", end="")
    print(f", of its own {used.uss / 2**20:.1f} MiB", flush=True)


def idle(name: str, terminal: Terminal, seconds: float, bar: float | None = 1.0) -> None:
    """Print what a console costs that nobody touches: share of a core and bytes to the terminal."""
    process = psutil.Process(terminal.process.pid)
    terminal.pump_for(1.0)
    before, begin = process.cpu_times(), time.monotonic()
    written = terminal.pump_for(seconds)
    after = process.cpu_times()
    share = (after.user + after.system - before.user - before.system) / (time.monotonic() - begin)
    print(
        f"{name}: {share:.2%} of a core{verdict(100 * share, bar)}, {written / seconds:.1f} bytes/s",
        flush=True,
    )


async def seed(home: Home, client: Client) -> list[str]:
    """Launch all 19 and give each a conversation; return their names."""
    answer = await client.request("launch", {"ids": ["all"]}, timeout_s=120)
    failed = [row for row in answer["results"] if not row["ok"]]
    if failed:
        raise SystemExit(f"not all specialists came up: {failed}")
    names = [row["id"].removesuffix("-ai") for row in answer["results"]]
    store = SqliteStore(home.database)
    await store.open()
    for name in names:
        history = await client.request("conversation_history", {"specialist_id": f"{name}-ai", "limit": 1})
        for number in range(MESSAGES):
            asked = number % 2 == 0
            author = "you" if asked else f"{name}-ai"
            content = f"MARK{number}{name}. {'Which breaks first?' if asked else ANSWER}"
            role: Literal["user", "assistant"] = "user" if asked else "assistant"
            message = StoredMessage(0, history["conversation_id"], author, role, content, time.time())
            await store.messages.append(message)
    await store.close()
    return names


def to_transcript(terminal: Terminal) -> None:
    """Leave the composer: letters are keys then. The footer says when."""
    terminal.until("⏎ send")
    terminal.send(ESCAPE)
    terminal.until("R ask again")


def read_all(terminal: Terminal, names: list[str]) -> None:
    """Open each conversation and read it back to its first message."""
    for name in names:
        terminal.send(SWITCHER)
        terminal.until("who, or which conversation")
        terminal.send(f"{name}\r")
        terminal.until(f"to {name} ")
        terminal.until(f"MARK{MESSAGES - 1}{name}")
        to_transcript(terminal)
        for _ in range(MESSAGES // 20):
            if f"MARK0{name}" not in terminal.screen():
                terminal.send("g")
                terminal.pump_for(0.3)
        terminal.until(f"MARK0{name}", 1.0)


async def main() -> None:
    parser = parser_for(__doc__, alone=True)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--idle", type=float, default=10.0)
    options = parser.parse_args()
    go_before_others(options)
    # who installs the console has its bytecode; without it each start compiles our modules, and Textual's not
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    async with own_backend(os.environ) as (home, client):  # pyright: ignore[reportArgumentType]
        await asyncio.to_thread(paint, home, options.runs)
        with Terminal(console(home), columns=COLUMNS, rows=ROWS) as terminal:
            await asyncio.to_thread(terminal.until, "Who should answer?")
            await asyncio.to_thread(terminal.pump_for, 2.0)
            memory("empty", terminal, 60)
            await asyncio.to_thread(idle, "idle, nothing runs", terminal, options.idle)
        names = await seed(home, client)
        with Terminal(console(home), columns=COLUMNS, rows=ROWS) as terminal:
            await asyncio.to_thread(terminal.until, "19 ready")
            await asyncio.to_thread(terminal.pump_for, 3.0)
            memory("19 specialists run", terminal, 110)
            await asyncio.to_thread(read_all, terminal, names)
            memory(f"19 conversations of {MESSAGES} messages read", terminal, 110)
            await asyncio.to_thread(terminal.pump_for, SETTLED_S - (time.monotonic() - terminal.started))
            await asyncio.to_thread(idle, "idle, 19 at 1 Hz, a chat shown", terminal, options.idle)
            terminal.send("1")
            await asyncio.to_thread(terminal.until, "d detail")
            await asyncio.to_thread(idle, "idle, 19 at 1 Hz, fleet shown", terminal, options.idle)
            asked = {"ai_id": names[0], "content": f"[[repeat {10**6}]] [[rate 20]]", "wait": False}
            await client.request("chat", asked)
            await asyncio.to_thread(terminal.pump_for, 2.0)
            await asyncio.to_thread(
                idle, "one of 19 answers, 20 tok/s, fleet shown", terminal, options.idle, None
            )


if __name__ == "__main__":
    asyncio.run(main())
