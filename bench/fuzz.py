"""Fuzz a gateway: frames on a WebSocket, requests drawn from the OpenAPI document. It must answer each of them.

    python bench/fuzz.py [--frames 3000] [--bodies 1500]

`make fuzz` runs a hundred thousand. Ends with an error at the first frame or body that ends a connection, hangs, or makes the gateway fail.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "gateway"))

from fuzzing import BodyFuzzer, FrameFuzzer
from serving import start_backend


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=3_000)
    parser.add_argument("--bodies", type=int, default=1_500)
    options = parser.parse_args()
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
