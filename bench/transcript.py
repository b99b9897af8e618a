"""Opens, scrolls, extends, re-wraps and searches a long conversation and prints times, memory and their bars.

    python bench/transcript.py [--messages 100000]

Times are of the widget's own work until its rows are ready to be sent, at 120×40, without a terminal; the floor
is Textual's `Log` widget with the same text in the same process, which neither wraps nor formats.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from textual import events
from textual.app import App, ComposeResult
from textual.widgets import Log

from tekton_tui.transcript import Entry, Transcript
from tekton_tui.transcript.overlay import line_of

ANSWER = """The **queue** module breaks first: its lock is held across a *network call*.

1. Copy what is to be sent under the lock
2. Send it after the lock is free

```python
def drain(self):
    items, self.items = self.items, []
    return [send(item) for item in items]
```
"""
QUESTION = "Which of these two modules breaks first under load, and why?"
RUNS = 60


def conversation(count: int) -> list[Entry]:
    """Return questions and answers in turn, each text a string of its own."""
    return [
        Entry(str(n), "apollo", "answer", f"{n}. {ANSWER}", n + 1.0)
        if n % 2
        else Entry(str(n), "you", "user", f"{n}. {QUESTION}", n + 1.0, "you")
        for n in range(count)
    ]


class TimedTranscript(Transcript):
    """Notes how long it takes to wrap anew."""

    resizing = 0.0

    def on_resize(self, event: events.Resize) -> None:
        begin = time.perf_counter()
        super().on_resize(event)
        self.resizing += 1000 * (time.perf_counter() - begin)


class Bench(App[None]):
    """One widget over the whole screen."""

    def __init__(self, kind: type[Transcript] | type[Log]) -> None:
        super().__init__()
        self._kind = kind

    def compose(self) -> ComposeResult:
        yield self._kind(id="long")


def number_at_top(view: Transcript) -> int:
    """Return the number of the message whose row is the first in the window."""
    style = list(view.render_line(0))[-1].style
    return line_of(style.meta["offset"][1])[0] if style is not None else 0


async def timed(work: Callable[[], object], settle: Callable[[], Awaitable[object]]) -> float:
    """Return milliseconds of some work until the screen has settled."""
    begin = time.perf_counter()
    work()
    await settle()
    return 1000 * (time.perf_counter() - begin)


def p95(values: list[float]) -> float:
    """Return the 95th percentile."""
    return sorted(values)[int(len(values) * 0.95)]


def line(name: str, value: float, bar: float, unit: str = "ms") -> None:
    """Print a figure and how it stands to its bar."""
    print(f"  {name:34} {value:8.1f} {unit}  (bar {bar:g}: {'ok' if value <= bar else 'MISSED'})", flush=True)


async def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    count = parser.parse_args().messages
    process = psutil.Process()
    app = Bench(TimedTranscript)
    async with app.run_test(size=(120, 40)) as pilot:
        view = app.query_one(TimedTranscript)
        warm_up = conversation(4)
        view.load(warm_up)
        view.frame()
        gc.collect()
        empty = process.memory_info().rss
        entries = conversation(count)
        loaded = process.memory_info().rss

        async def drawn() -> None:
            view.frame()

        print(f"{count:,} messages")
        line("open at the tail", await timed(lambda: view.load(entries), drawn), 300)
        appended = [
            await timed(lambda n=n: view.append_entry(Entry(f"a{n}", "apollo", "answer", ANSWER)), drawn)
            for n in range(RUNS)
        ]
        line("append one, p95", p95(appended), 15)
        pages = [await timed(lambda: view.action_page_up(), drawn) for _ in range(RUNS)]
        line("page up, p95", p95(pages), 30)
        jumps = [
            await timed(
                lambda n=n: view.scroll_to(y=view.virtual_size.height * n // RUNS, animate=False), drawn
            )
            for n in range(1, RUNS)
        ]
        line("jump anywhere, p95", p95(jumps), 30)
        view.scroll_to(y=view.virtual_size.height // 2, animate=False)
        top = number_at_top(view)
        resizes: list[float] = []
        tops: list[int] = []
        for columns in (100, 140, 80, 120) * 3:
            view.resizing = 0.0
            await pilot.resize_terminal(columns, 40)
            await pilot.pause()
            resizes.append(view.resizing)
            tops.append(number_at_top(view))
        line("re-wrap on resize, worst", max(resizes), 100)
        print(f"  message at the top kept: {all(number == top for number in tops)}")
        found = await timed(lambda: view.search("99998."), drawn)
        line("search, first slice", found, 30)
        used = process.memory_info().rss
        line("memory of the process", used / 2**20, 120, "MiB")
        print(f"    empty {empty / 2**20:.0f} MiB, with the texts {loaded / 2**20:.0f} MiB")
    await floor(entries, count)


async def floor(entries: list[Entry], count: int) -> None:
    """Measure the same text in a `Log`."""
    app = Bench(Log)
    async with app.run_test(size=(120, 40)) as pilot:
        log = app.query_one(Log)
        text = "\n".join(entry.text for entry in entries[: count + 60])
        begin = time.perf_counter()
        log.write_lines(text.split("\n"))
        await pilot.pause()
        spent = 1000 * (time.perf_counter() - begin)
        print(f"floor: Log opens the same text in {spent:.0f} ms, unwrapped and unformatted")


if __name__ == "__main__":
    asyncio.run(main())
