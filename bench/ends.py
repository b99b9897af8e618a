"""Ending many processes in waves: how long it takes, how often `/proc` is looked through, how long the loop stands still.

    python bench/ends.py [--numbers 125 250 500 1000]

The processes are real, each with a session of its own as a worker has, and cheap (`sleep`); a tenth of them has a child that
does not end by itself and must be found and killed. They are started and ended by what starts and ends workers, as many at
the same time as a fleet ends. Prints by which power of their number each figure grows: 1 is linear.
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import time
from pathlib import Path

from options import parser_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.specialists import process
from backend.specialists.process import ExitStatus, Process
from backend.specialists.termination import ENDED_AT_ONCE

PLAIN = ["sleep", "1000"]
WITH_CHILD = ["sh", "-c", "sh -c \"trap '' TERM; sleep 1000\" & exec sleep 1000"]
STARTED_AT_ONCE = 16
GRACE_S = 10.0


async def measure(number: int) -> dict[str, float]:
    looks, scan = 0, process.live_groups

    def counted() -> dict[int, list[int]]:
        nonlocal looks
        looks += 1
        return scan()

    process.live_groups = counted
    log_fd = os.open(os.devnull, os.O_WRONLY)
    starts, ends = asyncio.Semaphore(STARTED_AT_ONCE), asyncio.Semaphore(ENDED_AT_ONCE)

    async def start(n: int) -> Process:
        async with starts:
            argv = WITH_CHILD if n % 10 == 0 else PLAIN
            return await process.start(
                argv, environment=dict(os.environ), log_fd=log_fd, pass_fds=[], cwd=Path("/")
            )

    async def end(one: Process) -> ExitStatus:
        async with ends:
            return await one.stop(GRACE_S)

    try:
        began = time.perf_counter()
        running = await asyncio.gather(*map(start, range(number)))
        started_s = time.perf_counter() - began
        longest = asyncio.create_task(longest_standstill())
        began, used = time.perf_counter(), time.process_time()
        statuses = await asyncio.gather(*map(end, running))
        took_s, used_s = time.perf_counter() - began, time.process_time() - used
        longest.cancel()
        stood_s = await longest
    finally:
        process.live_groups = scan
        os.close(log_fd)
    left = sum(status.leftover for status in statuses)
    killed = sum("SIGKILL" in status.by_us for status in statuses)
    print(
        f"{number:6,} processes: started in {started_s:.1f} s, ended in {took_s:.2f} s ({1e3 * took_s / number:.2f} ms each, "
        f"CPU {1e3 * used_s / number:.2f} ms), {looks} looks at /proc, loop stood still for {1e3 * stood_s:.0f} ms at most, "
        f"{left} left children that were killed, {killed} were not in the grace time",
        flush=True,
    )
    assert left == -(-number // 10), "every child that was left is found"
    assert not killed
    return {"time": took_s, "CPU": used_s, "looks": looks, "standstill": stood_s}


async def longest_standstill() -> float:
    """Return for how long at most the loop ran something else, once this is cancelled."""
    longest, before = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, before = max(longest, now - before), now
    except asyncio.CancelledError:
        return longest


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--numbers", type=int, nargs="+", default=[125, 250, 500, 1000])
    options = parser.parse_args()
    figures = [asyncio.run(measure(number)) for number in options.numbers]
    times = options.numbers[-1] / options.numbers[0]
    if times > 1:
        grown = {
            name: math.log(value / figures[0][name], times)
            for name, value in figures[-1].items()
            if figures[0][name]
        }
        print("grows by the power of: " + ", ".join(f"{name} {power:.2f}" for name, power in grown.items()))
    left = subprocess.run(["pgrep", "-cf", "^sleep 1000$"], capture_output=True, text=True, check=False)
    print(f"{left.stdout.strip()} of them are left")


if __name__ == "__main__":
    main()
