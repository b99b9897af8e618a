"""Pipelines against the same calls made one after another, and how soon a token that arrived is on the terminal.

    python bench/pipelines.py [--rounds 5]

Specialists are real worker processes on the scripted provider, each answer taking the same given time, so that what is
measured is ours: what runs side by side, and what a stage costs beside its model. The floor of a run is its number of
stages times one answer over the bare socket, measured in the same run. For the terminal, one program reads the events
of the gateway and the shell's pty on one clock: the difference is what the shell adds to receiving.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pty
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from backends import own_backend

from backend.client import Client, ai_send
from backend.schema.frames import StreamChunk

NAMES = ["apollo", "athena", "numa", "rhetor", "metis", "telos", "sophia", "noesis", "terma", "penia"]
FIRST_S, RATE, PIECES = 0.15, 100, 15
PROMPT = f"[[first {FIRST_S}]] [[rate {RATE}]] [[repeat {PIECES}]]"
SHAPES: list[tuple[str, list[list[str]]]] = [
    ("2 stages, each on the one before", [["apollo"], ["athena"]]),
    ("3 stages, each on the one before", [["apollo"], ["athena"], ["numa"]]),
    ("2 stages: 5 side by side, then 1", [NAMES[:5], ["terma"]]),
    ("3 stages: 4 and 3 side by side, then 1", [NAMES[:4], NAMES[4:7], ["terma"]]),
    ("10 side by side", [NAMES]),
]
TOKENS = 60
TERMINAL_RATE = 30


def written(stages: list[list[str]]) -> str:
    """Return a pipeline whose every specialist gets the same scripted prompt."""
    heads = [stage[0] if len(stage) == 1 else f"{{{','.join(stage)}}}" for stage in stages]
    return " | ".join(f'{head} "{PROMPT}"' for head in heads)


async def timed(work: Callable[[], Awaitable[object]], rounds: int) -> float:
    """Return the median seconds of some rounds."""
    took: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        await work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


async def one_after_another(client: Client, stages: list[list[str]]) -> None:
    for name in [name for stage in stages for name in stage]:
        await client.request("chat", {"ai_id": name, "content": PROMPT})


async def shapes(client: Client, rounds: int) -> None:
    single = await timed(lambda: ai_send("apollo", PROMPT), rounds)
    print(f"one answer over the bare socket: {single:.3f} s; load of the machine {os.getloadavg()[0]:.1f}\n")
    print(
        f"{'pipeline':<40} {'calls':>5} {'one by one':>11} {'pipeline':>9} {'floor':>7} {'x floor':>8} {'saved':>6}"
    )
    for title, stages in SHAPES:
        text = written(stages)
        calls = sum(map(len, stages))
        apart = await timed(lambda stages=stages: one_after_another(client, stages), max(1, rounds // 2))
        piped = await timed(
            lambda text=text: client.request("pipeline", {"pipeline": text, "input": "x"}), rounds
        )
        floor = len(stages) * single
        print(
            f"{title:<40} {calls:>5} {apart:>9.2f} s {piped:>7.2f} s {floor:>5.2f} s {piped / floor:>8.2f} "
            f"{1 - piped / apart:>6.0%}"
        )


async def terminal(client: Client, environment: dict[str, str]) -> None:
    """Print what the shell adds between the gateway's frame and the terminal, token by token."""
    await client.subscribe(["chat"])
    received: dict[int, float] = {}
    shown: dict[int, float] = {}
    done = asyncio.Event()
    master, slave = pty.openpty()
    text = ""

    def on_terminal() -> None:
        nonlocal text
        try:
            text += os.read(master, 65_536).decode(errors="replace")
        except OSError:
            asyncio.get_running_loop().remove_reader(master)
            done.set()
            return
        now = time.perf_counter()
        for number in range(len(shown), TOKENS):
            if f"token{number} " not in text:
                break
            shown[number] = now
        if len(shown) == TOKENS:
            done.set()

    async def listen() -> None:
        async for batch in client.events():
            now = time.perf_counter()
            for _, event in batch:
                if isinstance(event, StreamChunk):
                    received[event.chunk_index] = now

    asyncio.get_running_loop().add_reader(master, on_terminal)
    listening = asyncio.create_task(listen())
    words = f"[[rate {TERMINAL_RATE}]] [[repeat {TOKENS}]]"
    began = time.perf_counter()
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-P", "-m", "backend.cli.aish", "apollo", words],
        stdin=slave, stdout=slave, stderr=slave, env=environment,
    )  # fmt: skip
    os.close(slave)
    await asyncio.wait_for(done.wait(), 60)
    await asyncio.to_thread(process.wait)
    listening.cancel()
    later = sorted((shown[number] - received[number]) * 1000 for number in shown if number in received)
    print(
        f"\nfirst token: received {1000 * (received[0] - began):.0f} ms after the shell was called, on the terminal "
        f"{(shown[0] - received[0]) * 1000:+.2f} ms from that"
    )
    print(
        f"all {len(later)} tokens, terminal against receiving: median {statistics.median(later):+.2f} ms, "
        f"95th of a hundred {later[int(len(later) * 0.95)]:+.2f} ms"
    )


async def main(rounds: int) -> None:
    async with own_backend(os.environ) as (_, client):
        await client.request("launch", {"ids": NAMES})
        await shapes(client, rounds)
        await terminal(client, dict(os.environ))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(parser.parse_args().rounds))
