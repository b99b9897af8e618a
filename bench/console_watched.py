"""The console as a child of `console_load.py`: it measures itself and writes its figures to a file.

Knows the load only as turns that begin and end; nothing of the gateway or of the terminal's other side.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FIRST_KEY = 0x0400
"""Letters that no text holds are typed, each once."""
HARNESS_S = 2.0


async def until_exists(path: Path, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not os.path.exists(path):  # noqa: ASYNC240 - another process makes it
        if time.monotonic() > end:
            raise TimeoutError(f"{path.name} was not written within {limit_s:g} s")
        await asyncio.sleep(0.05)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def watch_loop(lags: list[tuple[float, float]]) -> None:
    """Note by how much each 10 ms sleep overshoots, and how much of that the loop's thread worked.

    What is left of the overshoot the machine gave to other processes.
    """
    while True:
        begin, worked = time.perf_counter(), time.thread_time()
        await asyncio.sleep(0.01)
        lag = time.perf_counter() - begin - 0.01
        lags.append((lag, min(lag, time.thread_time() - worked)))


async def harness_core() -> float:
    """Return the share of a core that watching costs: the middle one of ten looks, for the console does things too."""
    shares: list[float] = []
    for _ in range(10):
        cpu, begin = time.process_time(), time.monotonic()
        await asyncio.sleep(HARNESS_S / 10)
        shares.append((time.process_time() - cpu) / (time.monotonic() - begin))
    return statistics.median(shares)


class KeyWork:
    """What the whole process worked between reading a key and writing the frame that shows it, in seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._waiting: dict[str, float] = {}

    def read(self, character: str | None) -> None:
        if character and ord(character) >= FIRST_KEY:
            self._waiting[character] = time.process_time()

    def written(self, data: str) -> None:
        for character in [key for key in self._waiting if key in data]:
            self.seconds.append(time.process_time() - self._waiting.pop(character))


def driver_that_counts(work: KeyWork) -> Any:
    """Return Textual's driver with an eye on keys and frames."""
    from textual.drivers.linux_driver import LinuxDriver
    from textual.events import Key
    from textual.message import Message

    class Counting(LinuxDriver):
        def process_message(self, message: Message) -> None:
            if isinstance(message, Key):
                work.read(message.character)
            super().process_message(message)

        def write(self, data: str) -> None:
            work.written(data)
            super().write(data)

    return Counting


def run_watched(url: str, token_file: str, out: Path, seconds: float, asked: Sequence[str]) -> None:
    """Run the console; write what it measured of itself to a file when the last turn has ended.

    Args:
        url: The gateway.
        token_file: Its token.
        out: Where the figures go; beside it `.go` begins and `.ready` says that measuring has begun.
        seconds: How long the load lasts; the share of a core is that of the first half.
        asked: Request ids of the turns whose texts are compared.
    """
    import tekton_tui.app
    from tekton_tui.runtime.connect import connector
    from tekton_tui.transcript import Transcript

    work = KeyWork()

    class Watched(tekton_tui.app.TektonApp):
        """The console, and beside it a task that watches the loop and the clock."""

        CSS_PATH = Path(tekton_tui.app.__file__).with_name("app.tcss")

        def get_driver_class(self) -> Any:
            return driver_that_counts(work)

        def on_mount(self) -> None:
            self.run_worker(self.watch_load(), group="bench", exit_on_error=True)

        async def watch_load(self) -> None:
            lags: list[tuple[float, float]] = []
            began, ended = asyncio.Event(), asyncio.Event()
            turns = self.stores.turns
            turns.started.subscribe(lambda turn: began.set())
            turns.ended.subscribe(lambda turn: ended.set() if not turns.turns else None)
            watch = asyncio.create_task(watch_loop(lags))
            await until_exists(out.with_suffix(".go"), 60)
            harness = await harness_core()
            out.with_suffix(".ready").touch()
            await began.wait()
            lags.clear()
            cpu, begin = time.process_time(), time.monotonic()
            await asyncio.sleep(seconds / 2)
            spent = time.monotonic() - begin
            used = time.process_time() - cpu - harness * spent
            await ended.wait()
            await asyncio.sleep(0.25)
            watch.cancel()
            shown = {entry.key: entry.text for view in self.query(Transcript) for entry in view.entries}
            figures = {
                "cpu": used,
                "core": used / spent,
                "lags": lags,
                "key_work": work.seconds,
                "digests": [digest(shown.get(key, "")) for key in asked],
            }
            part = out.with_suffix(".part")
            part.write_text(json.dumps(figures))
            part.rename(out)

    Watched(connector(None, url, token_file)).run()
