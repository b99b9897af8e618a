"""What TLS adds between gateway and specialist and between gateway and console: connecting, first token, rate.

    python bench/tls.py [--rounds 3] [--turns 300] [--tokens 20000] [--streams 18]

One real worker and one real gateway each way, scripted provider, everything over loopback; the floor is the same
without TLS, measured in the same run, in turns. Of the rounds, the best of each figure counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from options import parser_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.client import Client, connect_to
from backend.home import Home
from backend.schema.events import Snapshot
from backend.schema.frames import Request, StreamChunk, StreamEnd
from backend.specialists.killall import kill_all
from backend.specialists.worker_client import Frames, WorkerClient
from backend.tls import Trust, trusting
from backend.wire import encoder
from backend.worker.spec import WorkerSpec
from tests.certificates import Authority
from tests.gateway.serving import start_backend

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "t" * 40
BEYOND = "0.0.0.0"
"""A worker told that it serves here takes its clients for strangers from other hosts."""


def start_worker(folder: Path, cert: str, key: str) -> tuple[subprocess.Popen[bytes], int]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    read_end, write_end = os.pipe()
    words = ["-P", "-m", "backend.worker", "--listen-fd", str(listener.fileno())]
    process = subprocess.Popen(
        [sys.executable, *words, "--ready-fd", str(write_end)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(listener.fileno(), write_end),
        cwd=ROOT,
    )
    os.close(write_end)
    listener.close()
    spec = WorkerSpec(
        "apollo-ai", "apollo", "Apollo", "brief", "scripted", "scripted", str(folder), host=BEYOND, port=port,
        token=TOKEN, tls_cert=cert, tls_key=key,
    )  # fmt: skip
    assert process.stdin
    process.stdin.write(encoder.encode(spec))
    process.stdin.close()
    with os.fdopen(read_end, "rb") as pipe:
        assert pipe.readline()
    return process, port


async def turn(client: WorkerClient, name: str, prompt: str) -> tuple[float, int]:
    """Return seconds to the first token, and how many came."""
    began, first, count = time.perf_counter(), 0.0, 0
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_frames(batch: Frames) -> None:
        nonlocal first, count
        for frame in batch.frames:
            if isinstance(frame, StreamChunk):
                first = first or time.perf_counter() - began
                count += 1
        if isinstance(batch.frames[-1], StreamEnd):
            ended.set_result(None)

    client.start_turn(Request(content=prompt, request_id=name), on_frames)
    await ended
    return first, count


async def of_link(port: int, trust: Trust | None, options: argparse.Namespace) -> list[float]:
    """Return ms to connect and be answered, ms to a first token (p50, p99), tokens a second."""
    connects: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        client = await WorkerClient.open("127.0.0.1", port, token=TOKEN, ai_id="apollo-ai", trust=trust)
        await client.call(Request(type="ping"), timeout_s=10)
        connects.append((time.perf_counter() - began) * 1000)
        client.close()
    client = await WorkerClient.open("127.0.0.1", port, token=TOKEN, ai_id="apollo-ai", trust=trust)
    firsts = sorted([(await turn(client, f"f{n}", "hello"))[0] * 1000 for n in range(options.turns)])
    each = options.tokens // options.streams
    began = time.perf_counter()
    turns = [turn(client, f"s{n}", f"[[repeat {each}]] word") for n in range(options.streams)]
    counts = [count for _, count in await asyncio.gather(*turns)]
    rate = sum(counts) / (time.perf_counter() - began)
    client.close()
    return [statistics.median(connects), firsts[len(firsts) // 2], firsts[int(len(firsts) * 0.99)], rate]


async def of_console(
    open_client: Callable[[], Awaitable[Client]], options: argparse.Namespace
) -> list[float]:
    """Return ms to connect, ms of a small call (p50, p99), tokens a second to a console that reads them."""
    connects: list[float] = []
    for _ in range(10):
        began = time.perf_counter()
        client = await open_client()
        connects.append((time.perf_counter() - began) * 1000)
        await client.close()
    client = await open_client()
    calls: list[float] = []
    for _ in range(options.turns):
        began = time.perf_counter()
        await client.request("platform", {})
        calls.append((time.perf_counter() - began) * 1000)
    await client.subscribe(["chat"])
    began, count, ends = time.perf_counter(), 0, 0
    each = options.tokens // options.streams
    asked = [
        asyncio.create_task(client.request("chat", {"id": "apollo", "message": f"[[repeat {each}]] word"}))
        for _ in range(options.streams)
    ]
    async for batch in client.events():
        for _, event in batch:
            count += isinstance(event, StreamChunk)
            ends += isinstance(event, StreamEnd)
            if isinstance(event, Snapshot):
                began = time.perf_counter()
        if ends >= options.streams:
            break
    rate = count / (time.perf_counter() - began)
    await asyncio.gather(*asked)
    await client.close()
    calls.sort()
    return [statistics.median(connects), calls[len(calls) // 2], calls[int(len(calls) * 0.99)], rate]


def better(before: list[float] | None, now: list[float]) -> list[float]:
    """Return the best of two rounds: the smaller times, the larger rate."""
    if before is None:
        return now
    return [*map(min, before[:-1], now[:-1]), max(before[-1], now[-1])]


def show(what: str, plain: list[float], secure: list[float], words: tuple[str, ...]) -> None:
    print(what)
    for name, without, having in zip(words, plain, secure, strict=True):
        print(f"  {name:<28} plain {without:10,.2f}   TLS {having:10,.2f}   ratio {having / without:.2f}")


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--streams", type=int, default=18)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority(folder / "ca")
        files, trust = authority.issue("127.0.0.1"), trusting(authority.ca)
        links: dict[bool, list[float]] = {}
        for secure in (False, True) * options.rounds:
            process, port = start_worker(folder, files.cert if secure else "", files.key if secure else "")
            try:
                work = of_link(port, trust if secure else None, options)
                links[secure] = better(links.get(secure), uvloop.run(work))
            finally:
                process.terminate()
                process.wait()
        words = ("connect, hello, ping: ms", "first token p50: ms", "first token p99: ms", "tokens/s")
        show("gateway to specialist", links[False], links[True], words)
        consoles: dict[bool, list[float]] = {}
        for number, secure in enumerate((False, True) * options.rounds):
            pair = (
                f'[tls]\ncert = "{files.cert}"\nkey = "{files.key}"\n' if secure else "without_tls = true\n"
            )
            backend = start_backend(folder / f"home{number}", config=f'[gateway]\nhost = "0.0.0.0"\n{pair}')
            try:
                ca = authority.ca if secure else None
                taken = asyncio.run(_console(backend.url, str(backend.home.token), ca, options))
                consoles[secure] = better(consoles.get(secure), taken)
            finally:
                backend.process.terminate()
                backend.process.wait()
                kill_all(Home(folder / f"home{number}"), grace_s=0.5)
        words = ("connect: ms", "a small call p50: ms", "a small call p99: ms", "tokens/s")
        show("gateway to console", consoles[False], consoles[True], words)


async def _console(url: str, token: str, ca: str | None, options: argparse.Namespace) -> list[float]:
    client = await connect_to(url, token, ca)
    assert (await client.request("launch", {"ids": ["apollo"]}))["results"][0]["ok"]
    await client.close()
    return await of_console(lambda: connect_to(url, token, ca), options)


if __name__ == "__main__":
    main()
