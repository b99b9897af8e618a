"""Bulk and discovery: ten slow items against one, and how long finding specialists takes.

    python bench/bulk.py [--items 10] [--calls 400] [--alone]

Goals: ten equal slow items within 1.15 of one; discovery p99 5 ms, over HTTP with all nineteen specialists running. The floor
is the same client asking the gateway for a small fixed answer that nothing has to be looked up for.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from options import go_before_others, parser_for

from tests.gateway.serving import Backend, start_backend

SLOW = "[[repeat 20]] [[rate 10]]"
ROUNDS = 3


def wall(backend: Backend, names: list[str]) -> float:
    requests = [{"specialist_id": name, "message": SLOW} for name in names]
    report: dict[str, Any] = backend.ask("POST", "/api/v1/bulk", json={"requests": requests})
    assert report["failed"] == 0, report
    return report["wall_time"]


def times_of(backend: Backend, path: str, calls: int) -> list[float]:
    taken: list[float] = []
    with httpx.Client(base_url=backend.url, headers=backend.auth("read"), trust_env=False) as http:
        for number in range(calls + 20):
            params = {"active_only": "true"} if number % 2 else {"capability": "planning"}
            began = time.perf_counter()
            http.get(path, params=params).raise_for_status()
            taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken[20:])


def main() -> None:
    parser = parser_for(__doc__, alone=True)
    parser.add_argument("--items", type=int, default=10)
    parser.add_argument("--calls", type=int, default=400)
    options = parser.parse_args()
    go_before_others(options)
    with tempfile.TemporaryDirectory() as root:
        backend = start_backend(Path(root) / "home", launch=("all",))
        try:
            rows = backend.ask("GET", "/api/v1/specialists", params={"active_only": True})["specialists"]
            names = [row["name"] for row in rows][: options.items]
            one = statistics.median(wall(backend, names[:1]) for _ in range(ROUNDS))
            same = statistics.median(wall(backend, names[:1] * options.items) for _ in range(ROUNDS))
            many = statistics.median(wall(backend, names) for _ in range(ROUNDS))
            found = times_of(backend, "/api/v1/specialists", options.calls)
            bare = times_of(backend, "/health", options.calls)
        finally:
            backend.stop()
    print(f"one slow item {one:.2f} s")
    print(f"{options.items} items, as many specialists: {many:.2f} s = {many / one:.3f} x one (goal 1.15)")
    print(f"{options.items} items, one specialist:      {same:.2f} s = {same / one:.3f} x one")
    for what, taken in (("discovery over HTTP", found), ("floor, /health", bare)):
        p99 = taken[int(len(taken) * 0.99)]
        print(f"{what}: p50 {statistics.median(taken):.2f} ms, p99 {p99:.2f} ms (goal 5)")


if __name__ == "__main__":
    main()
