"""Rounds of `kill -9` at random victims while chats run; every promise is checked after each.

    python bench/attack.py [--rounds 100] [--kept 20] [--dead 60] [--seed 1]

First rounds on the fleet: workers, the whole backend, holders of the registry's lock and, where its weights are
present, the embedded model server are hit; prints how often, and the slowest time until states were right. Then rounds
on the whole platform, where what a client saw finished must be in memory. Last, a worker and its backend's patience:
whatever crashed is still dead after `--dead` seconds. The same rounds run in the suite, fewer and shorter.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from options import parser_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.client import attach
from backend.home import Home
from backend.providers.base import ModelNotFound
from backend.providers.embedded import EmbeddedSettings
from backend.providers.embedded.weights import find
from backend.specialists.killall import kill_all
from backend.specialists.process_scan import find_workers
from tests.fleet.kept import NAMES, KeptRounds
from tests.fleet.whole import Whole, environment
from tests.specialists.rounds import MODEL, Rounds


def victims(home: Home) -> list[str]:
    hit = ["worker", "worker", "worker", "backend", "lock holder"]
    try:
        find(EmbeddedSettings(), home)
    except ModelNotFound as missing:
        print(f"the model server is left out: {missing}")
        return hit
    return [*hit, MODEL]


def on_the_fleet(count: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Home(Path(name) / "home")
        rounds = Rounds(home.root, seed, victims(home))
        started = time.perf_counter()
        try:
            asyncio.run(rounds.run(count))
        finally:
            left = kill_all(home, grace_s=0.2)
            took_s = time.perf_counter() - started
            print(f"{sum(rounds.counts.values())} rounds in {took_s:.0f} s: {dict(rounds.counts)}")
        slowest = {victim: round(seconds * 1000) for victim, seconds in rounds.slowest_s.items()}
        print(
            f"slowest until states were right, in ms: {slowest} (goal 1000; with a lock holder it is a whole restart); "
            f"{rounds.asked} prompts, as many upstream calls; processes left over at the end: {len(left)}"
        )


def on_a_platform(work: Callable[[Whole], Coroutine[Any, Any, None]]) -> None:
    """Run `work` with a whole platform in a home of its own; nothing of it is left."""

    async def run(home: Home, calls: Path) -> None:
        platform = Whole(home, await attach(home), calls)
        try:
            await work(platform)
        finally:
            await platform.client.close()
            os.kill(platform.backend_pid, signal.SIGKILL)

    with tempfile.TemporaryDirectory() as name:
        home, calls = Home(Path(name) / "home").prepare(), Path(name) / "calls"
        os.environ.update(environment(home, calls))
        try:
            asyncio.run(run(home, calls))
        finally:
            kill_all(home, grace_s=0.2)


async def kept(platform: Whole, count: int, seed: int) -> None:
    rounds, dice = KeptRounds(platform, seed), random.Random(seed)
    started = time.perf_counter()
    await rounds.run([dice.choice(["backend", "backend", "worker", "lock holder"]) for _ in range(count)])
    print(
        f"{count} rounds on a whole platform in {time.perf_counter() - started:.0f} s: {dict(rounds.counts)}; "
        f"{len(rounds.announced)} of {rounds.asked} answers were seen finished before the kill, all of them are kept; "
        f"{platform.calls} upstream calls"
    )


async def dead(platform: Whole, seconds: float) -> None:
    """Crash one worker, kill another, and look for `seconds` whether anything brings them back."""
    await platform.launch(*NAMES)
    await platform.fail(NAMES[0], "[[crash 7]] [[repeat 9]]", "crash")
    await platform.fail(NAMES[1], "[[kill]] [[repeat 9]]", "kill")
    launches = platform.home.audit.read_text().count('"launched"')
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        living = {worker.ai_id for worker in find_workers(platform.home)}
        assert living == {f"{NAMES[2]}-ai"}, living
    assert platform.home.audit.read_text().count('"launched"') == launches
    print(
        f"{seconds:g} s after a crash and a kill nothing was launched; 2 prompts, {platform.calls} upstream calls"
    )


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--kept", type=int, default=20)
    parser.add_argument("--dead", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.rounds:
        on_the_fleet(options.rounds, options.seed)
    if options.kept:
        on_a_platform(lambda platform: kept(platform, options.kept, options.seed))
    if options.dead:
        on_a_platform(lambda platform: dead(platform, options.dead))


if __name__ == "__main__":
    main()
