"""A hundred rounds of `kill -9` at random victims while chats run; every promise is checked after each.

    python bench/attack.py [--rounds 100] [--seed 1]

Victims: workers, the whole backend, holders of the registry's lock and, where its weights are present, the embedded
model server. Prints how often each was hit and the slowest time until states were right. The same rounds run in the
suite, fewer.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "specialists"))

from rounds import MODEL, Rounds

from backend.config import Settings
from backend.home import Home
from backend.providers.base import ModelNotFound
from backend.providers.weights import find
from backend.specialists.killall import kill_all


def victims(home: Home) -> list[str]:
    hit = ["worker", "worker", "worker", "backend", "lock holder"]
    try:
        find(Settings(), home)
    except ModelNotFound as missing:
        print(f"the model server is left out: {missing}")
        return hit
    return [*hit, MODEL]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Home(Path(name) / "home")
        rounds = Rounds(home.root, options.seed, victims(home))
        started = time.perf_counter()
        try:
            asyncio.run(rounds.run(options.rounds))
        finally:
            left = kill_all(home, grace_s=0.2)
            print(
                f"{sum(rounds.counts.values())} rounds in {time.perf_counter() - started:.0f} s: {dict(rounds.counts)}"
            )
        print(
            f"slowest until states were right: {rounds.slowest_s * 1000:.0f} ms (goal 1000); "
            f"{rounds.asked} prompts, as many upstream calls; processes left over at the end: {len(left)}"
        )


if __name__ == "__main__":
    main()
