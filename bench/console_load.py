"""Streams through the whole console, from the gateway's socket to the terminal, while somebody types.

    python bench/console_load.py [--seconds 8] [--only 18] [--repeat 3] [--no-floor] [--alone]

A gateway of ours sends every token as an event of its own; the console attaches to it like to any other, shows Team
Chat or a conversation, and in the second half of the time a key is pressed every 100 ms. Printed with their bars, the
median of the runs and their spread: tokens delivered and compared byte by byte, share of a core (first half: typing has
a cost of its own), event-loop lag (overshoot of a 10 ms sleep, and how much of it the loop itself worked: the rest
other processes took), key to screen (from the key's write to the terminal's read of its character, and what the
console's process worked meanwhile), last token sent to last token read on the terminal; then the same tokens through
Textual's `Markdown.get_stream()` in bare lanes, as a ratio. What measuring costs is measured first and taken off.
`--alone` asks the system to let all this run before anything else, so that other work on the machine does not blur it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from console_report import LOADS, NAMES, Load, floor, report, request_of, texts_of
from console_watched import FIRST_KEY, run_watched, until_exists
from options import go_before_others, parser_for
from replay_gateway import ReplayGateway
from terminal import Terminal

from tests.tui.fake_client import answer, answer_of, live, snapshot, team, usual_answers

FEED_S, KEY_S, TAIL_S = 0.02, 0.1, 1.0
SWITCHER = "\x0f"


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

    def when(self, mark: bytes, since: float = 0.0) -> float | None:
        """Return when the last byte of a mark was first read after a moment."""
        begin = max((length for length, moment in self._stamps if moment <= since), default=0)
        at = self.terminal.written.find(mark, begin)
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


async def type_keys(terminal: Terminal, after_s: float, first: int = FIRST_KEY) -> list[float]:
    """Press a key every 100 ms until cancelled, letters from `first` on; return when each was pressed."""
    pressed: list[float] = []
    try:
        await asyncio.sleep(after_s)
        while True:
            await asyncio.sleep(KEY_S)
            pressed.append(time.monotonic())
            terminal.send(chr(first + len(pressed) - 1))
    except asyncio.CancelledError:
        return pressed


async def show(terminal: Terminal, load: Load) -> None:
    """Go to the screen whose turns will stream, every conversation opened once."""
    terminal.send("3" if load.team else "2")
    await asyncio.to_thread(terminal.until, "Ask the team" if load.team else "⏎ send")
    for name in () if load.team else NAMES[: load.lanes]:
        terminal.send(SWITCHER)
        await asyncio.to_thread(terminal.until, "who, or which conversation")
        terminal.send(f"{name}\r")
        await asyncio.to_thread(terminal.until, f"to {name} ")


async def run(load: Load, folder: Path) -> dict[str, Any]:
    """Run one load and return its figures."""
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text("x" * 40)
    out = folder / f"{load.lanes}-{load.rate}.json"
    rows = [live(name) for name in NAMES[: load.lanes]]
    async with ReplayGateway(snapshot(*rows), partial(answer_of, usual_answers())) as gateway:
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
    # a row of Team Chat shows the newest words twice a second, and the first sentence as soon as its turn has ended
    mark = "HEAD" if load.team else "LAST"
    tails = [
        1000 * (seen - ended[n]) if (seen := reader.when(f"{mark}{n:02d}END".encode(), ended[n])) else None
        for n in shown
    ]
    return {"keys": keys, "tails": tails, "written": len(reader.terminal.written)}


def main() -> None:
    parser = parser_for(__doc__, alone=True)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--only", default="", help="run the loads whose title holds this")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--no-floor", action="store_true")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        url, token_file, out, packed = options.child
        load = Load(**json.loads(packed))
        asked = [request_of(load, lane) for lane in range(load.lanes)]
        run_watched(url, token_file, Path(out), load.seconds, asked)
        return
    go_before_others(options)
    for base in LOADS:
        load = replace(base, seconds=options.seconds)
        if options.only not in f"{load.name}, {load.rate}":
            continue
        runs: list[dict[str, Any]] = []
        for _ in range(options.repeat):
            with tempfile.TemporaryDirectory(prefix="tk-") as folder:
                runs.append(asyncio.run(run(load, Path(folder))))
        report(load, runs)
        if not options.no_floor:
            floor(load, runs)
        sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("TEKTON_HOME", "/nonexistent")
    main()
