"""Restart the backend in the middle of every kind of call, under clients that live on, and count the calls upstream.

    python bench/restarts.py [--rounds 100] [--seed 1]

In each round two clients ask one, the team, a pipeline and a bulk, launch and kill; then the backend is killed, or told to
end, and the next one started. Each question must have been asked once. Two rounds run in the suite.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from options import parser_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import asyncio

from backend.client import attach
from backend.home import Home
from backend.specialists.killall import kill_all
from tests.fleet.restarts import RestartRounds
from tests.fleet.whole import Whole, environment


async def run(home: Home, calls: Path, count: int, seed: int) -> None:
    platform = Whole(home, await attach(home), calls)
    rounds, began = RestartRounds(platform, seed), time.perf_counter()
    try:
        await rounds.run(count)
    finally:
        await platform.client.close()
        os.kill(platform.backend_pid, signal.SIGKILL)
        asked = rounds.asked()
        print(
            f"{sum(rounds.rounds.values())} restarts {dict(rounds.rounds)} in {time.perf_counter() - began:.0f} s, seed {seed}: "
            f"{sum(rounds.expected.values())} prompts, {sum(asked.values())} calls upstream, "
            f"{sum(max(0, n - rounds.expected[mark]) for mark, n in asked.items())} asked twice; "
            f"{rounds.failed} calls were told as failed, {rounds.answered} as done"
        )


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home, calls = Home(Path(name) / "home").prepare(), Path(name) / "calls"
        os.environ.update(environment(home, calls))
        try:
            asyncio.run(run(home, calls, options.rounds, options.seed))
        finally:
            kill_all(home, grace_s=0.2)


if __name__ == "__main__":
    main()
