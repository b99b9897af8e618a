"""Fuzz a gateway: frames on a WebSocket, requests drawn from the OpenAPI document. It must answer each of them.

    python bench/fuzz.py [--frames 3000] [--bodies 1500] [--steps 0] [--asks 0] [--seed N]

With `--steps` the backend is then driven by random steps (asked, cancelled, killed, its disk full, and so on), and after
each what was acknowledged must be there. With `--asks` specialists ask for so many tool calls, which are answered,
cancelled, killed and forgotten: none may run unallowed or twice. `make fuzz` runs the long version of each. Ends with an error at the first
frame or body that ends a connection, hangs, or makes the gateway fail, and at the first step after which something is lost.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import secrets
import sys
import tempfile
import time
from pathlib import Path

from options import parser_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.approvals.asking import run_asks
from tests.gateway.fuzzing import BodyFuzzer, FrameFuzzer
from tests.gateway.serving import start_backend
from tests.orchestration.interleavings import run_steps

ASKS_A_TIME = 1_000
STEPS_A_TIME = 5_000
"""A process holds on to what killed lives left: the counts are printed as often, with the seed of the next."""


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--frames", type=int, default=3_000)
    parser.add_argument("--bodies", type=int, default=1_500)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--asks", type=int, default=0)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args()
    if options.frames or options.bodies:
        attack_gateway(options)
    logging.disable(logging.CRITICAL)
    for number, done in enumerate(range(0, options.asks, ASKS_A_TIME)):
        calls, began = min(ASKS_A_TIME, options.asks - done), time.perf_counter()
        seen = run_asks(calls, options.seed + number)
        print(f"seed {options.seed + number}, {time.perf_counter() - began:.0f} s: {dict(seen)}", flush=True)
    for number, done in enumerate(range(0, options.steps, STEPS_A_TIME)):
        steps = min(STEPS_A_TIME, options.steps - done)
        print(
            dict(run_steps(steps, lives=max(2, steps // 170), first_seed=options.seed + number)), flush=True
        )
    sys.stdout.flush()
    os._exit(0)  # the coroutines of killed lives would only complain that nothing of them may go on


def attack_gateway(options: argparse.Namespace) -> None:
    """Throw frames and requests at one gateway."""
    with tempfile.TemporaryDirectory() as root:
        backend = start_backend(Path(root) / "home", launch=("apollo", "athena"))
        try:
            began = time.perf_counter()
            sockets, bodies = FrameFuzzer(backend), BodyFuzzer(backend)
            sockets.run(options.frames)
            print(f"{options.frames:,} frames, answers by code: {dict(sockets.seen.most_common())}")
            bodies.run(options.bodies)
            print(f"{sum(bodies.seen.values()):,} bodies, by status: {dict(bodies.seen.most_common())}")
            log = (backend.home.logs / "backend.log").read_text(errors="replace")
            print(f"{time.perf_counter() - began:.0f} s; tracebacks in the log: {log.count('Traceback')}")
            for place in [found.start() for found in re.finditer("Traceback", log)][:3]:
                print(log[max(0, place - 300) : place + 2000])
        finally:
            backend.stop()


if __name__ == "__main__":
    main()
