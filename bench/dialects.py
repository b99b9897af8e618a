"""First token, rate and CPU of each dialect before a fake upstream, beside a bare relay and LiteLLM; every byte compared.

    python bench/dialects.py [--tokens 5000] [--streams 18] [--turns 100] [--litellm BIN/litellm] [--alone]

The upstream speaks OpenAI's chat completions; specialists are real workers with the provider `openai`. Clients read raw
bytes, and parse them when all is measured: the tokens of every answer must be the upstream's, one for one. Floors in the
same run: the upstream itself, a relay of bytes before it, and the provider's own library. `--litellm` names the command
of an installed LiteLLM proxy (`pip install 'litellm[proxy]'` in an environment of its own).

First tokens are asked for in turns: of each way once, then of each once more, every time of another specialist. The
library lies in as many processes as there are specialists, one asked a turn: so it finds the caches of the machine as
cold as it does in a worker. What it takes in a loop of its own, in one process, is printed beside it.

Goals: first token p50 at most 2 ms over the provider's own library; 20,000 tokens a second over 18 specialists; gateway
CPU for a token in each dialect at most 1.3 × chat completions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import psutil
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from fake_upstream import words
from options import go_before_others, parser_for

from tests.gateway.serving import start_backend

WARM_UP = 5
GOAL = 1.3
LITELLM_ENV = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}


@dataclass
class Way:
    """One way to ask: where, how a question looks, how tokens are found in the answer, and whose CPU it costs."""

    name: str
    port: int
    path: str
    body: Callable[[str], dict[str, Any]]
    read: Callable[[bytes], list[str]]
    key: str = "x"
    models: Sequence[str] = ("m",)
    pids: Sequence[int] = ()
    workers: Sequence[int] = ()


async def ask(way: Way, model: str, count: int, seed: int) -> tuple[float, bytes]:
    """Ask on a connection of its own; return seconds to the first token, and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", way.port, limit=1 << 24)
    text = f"{count} tokens of {seed}"
    body = json.dumps({"model": model, "stream": True, **way.body(text)}).encode()
    began = time.perf_counter()
    writer.write(
        f"POST {way.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {way.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head = await reader.readuntil(b"\r\n\r\n")
    first, mark, parts = 0.0, words(1, seed)[0].strip().encode(), list[bytes]()
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise SystemExit(f"{way.name}: {head!r} {await reader.read(4_000)!r}")
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
        if not first and mark in parts[-1]:
            first = time.perf_counter() - began
    writer.close()
    return first, b"".join(parts)


def events(body: bytes) -> Iterator[Any]:
    for line in body.split(b"\n"):
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            yield json.loads(line[6:])


def of_chat(body: bytes) -> list[str]:
    return [
        text
        for event in events(body)
        for choice in event["choices"]
        if (text := choice["delta"].get("content"))
    ]


def of_responses(body: bytes) -> list[str]:
    return [event["delta"] for event in events(body) if event["type"] == "response.output_text.delta"]


def of_messages(body: bytes) -> list[str]:
    return [event["delta"]["text"] for event in events(body) if event["type"] == "content_block_delta"]


def of_ollama(body: bytes) -> list[str]:
    rows = [json.loads(line) for line in body.splitlines()]
    return [row["message"]["content"] for row in rows if row["message"]["content"]]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


DIALECTS: dict[str, tuple[str, Callable[[str], dict[str, Any]], Callable[[bytes], list[str]]]] = {
    "chat completions": ("/v1/chat/completions", lambda text: {"messages": said(text)}, of_chat),
    "Responses": ("/v1/responses", lambda text: {"input": text, "store": False}, of_responses),
    "Messages": (
        "/v1/messages", lambda text: {"messages": said(text), "max_tokens": 1_000_000}, of_messages,
    ),
    "Ollama": ("/api/chat", lambda text: {"messages": said(text)}, of_ollama),
}  # fmt: skip


def cpu_s(pids: Sequence[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


async def first_tokens(
    ways: Sequence[Way], libraries: Sequence[subprocess.Popen[bytes]], turns: int
) -> tuple[dict[str, float], float]:
    """Return the median time to the first token in ms of each way and of the library, asked in turns, nine tokens each."""
    warm_up = WARM_UP * max(len(libraries), *(len(way.models) for way in ways))  # workers import and connect
    taken: dict[str, list[float]] = {way.name: [] for way in ways}
    by_library: list[float] = []
    for turn in range(turns + warm_up):
        for place, way in enumerate(ways):
            # never the specialist that was asked a moment ago: its process would be warm
            model = way.models[(turn * len(ways) + place) % len(way.models)]
            taken[way.name].append((await ask(way, model, 9, turn))[0])
        by_library.append(await asyncio.to_thread(_told, libraries[turn % len(libraries)], turn))
    found = {name: statistics.median(all_of[warm_up:]) * 1e3 for name, all_of in taken.items()}
    return found, statistics.median(by_library[warm_up:]) * 1e3


def _told(library: subprocess.Popen[bytes], turn: int) -> float:
    assert library.stdin is not None and library.stdout is not None
    library.stdin.write(b"%d\n" % turn)
    library.stdin.flush()
    return float(library.stdout.readline())


async def asked_by_library(client: openai.AsyncOpenAI, turn: int) -> float:
    """Return the seconds to the first bytes of an answer by the library, as a program would use it for what we do."""
    began = time.perf_counter()
    async with client.chat.completions.with_streaming_response.create(
        model="m", stream=True, messages=[{"role": "user", "content": f"9 tokens of {turn}"}]
    ) as response:
        async for _ in response.iter_bytes():
            return time.perf_counter() - began
    raise RuntimeError("no answer")


async def in_a_loop(port: int, turns: int) -> float:
    """Return the median in ms of the library in this process, one question behind the other."""
    async with library_of(port) as client:
        taken = [await asked_by_library(client, turn) for turn in range(turns + WARM_UP)]
    return statistics.median(taken[WARM_UP:]) * 1e3


async def on_demand(port: int) -> None:
    """Ask by the library for each line of standard input, and write how long the first bytes took."""
    async with library_of(port) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(await asked_by_library(client, int(line)), flush=True)


def library_of(port: int) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0)


@dataclass
class Run:
    rate: float
    cpu_us: float
    workers_us: float
    equal: bool
    wrong: str = ""


async def run(way: Way, streams: int, tokens: int) -> Run:
    """Ask on all lanes at once; return tokens a second, CPU a token, and whether every token came as it was sent."""
    lanes = [(way.models[lane % len(way.models)], lane) for lane in range(streams)]
    before, workers = cpu_s(way.pids), cpu_s(way.workers)
    began = time.perf_counter()
    answers = await asyncio.gather(*(ask(way, model, tokens, seed) for model, seed in lanes))
    took = time.perf_counter() - began
    total = tokens * streams
    used, by_workers = cpu_s(way.pids) - before, cpu_s(way.workers) - workers
    wrong = ""
    for (_, seed), (_, body) in zip(lanes, answers, strict=True):
        got, meant = way.read(body), words(tokens, seed)
        if got != meant:
            same = next((n for n, pair in enumerate(zip(got, meant, strict=False)) if pair[0] != pair[1]), -1)
            joined = "".join(got) == "".join(meant)
            wrong = f"lane {seed}: {len(got)} of {len(meant)} tokens, first difference at {same}, text {'equal' if joined else 'NOT EQUAL'}"
    return Run(total / took, used / total * 1e6, by_workers / total * 1e6, not wrong, wrong)


@contextmanager
def started(*command: str, stdin: int = subprocess.DEVNULL) -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


@contextmanager
def own_server(*words_: str) -> Generator[tuple[int, int]]:
    """Yield port and pid of the fake upstream, or of the relay."""
    with started(sys.executable, str(Path(__file__).with_name("fake_upstream.py")), *words_) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid


@contextmanager
def lite(command: str, upstream: int, folder: Path) -> Generator[Way]:
    """Yield LiteLLM's proxy as a way to ask; its log is what it writes to standard output."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    model = {
        "model_name": "m",
        "litellm_params": {
            "model": "openai/m",
            "api_base": f"http://127.0.0.1:{upstream}/v1",
            "api_key": "x",
        },
    }
    config = folder / "litellm.yaml"
    config.write_text(json.dumps({"model_list": [model]}))
    with (
        open(folder / "litellm.log", "wb") as log,
        subprocess.Popen(
            [command, "--config", str(config), "--port", str(port), "--host", "127.0.0.1", "--telemetry", "False"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, "NO_PROXY": "*", **LITELLM_ENV},
        ) as process,
    ):  # fmt: skip
        try:
            for _ in range(1_200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if process.poll() is not None:
                    raise SystemExit(f"litellm ended: {(folder / 'litellm.log').read_text()[-2_000:]}")
                time.sleep(0.1)
            path, body, read = DIALECTS["chat completions"]
            pids = [process.pid, *(one.pid for one in psutil.Process(process.pid).children(recursive=True))]
            yield Way("LiteLLM, chat completions", port, path, body, read, pids=pids)
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()


async def measure(ways: list[Way], upstream: int, streams: int, tokens: int, turns: int) -> int:
    processes = max(len(way.models) for way in ways)
    with ExitStack() as stack:
        command = (sys.executable, __file__, "--library", str(upstream))
        libraries = [stack.enter_context(started(*command, stdin=subprocess.PIPE)) for _ in range(processes)]
        firsts, base = await first_tokens(ways, libraries, turns)
    warm = await in_a_loop(upstream, turns)
    print(f"load: {os.getloadavg()[0]:.1f}")
    print(
        f"first token by the provider's own library, {processes} processes in turns with the others: {base:.2f} ms"
    )
    print(f"the same in a loop of its own in one process: {warm:.2f} ms\n")
    print(
        f"{'':<28}{'first token':>12}{'over library':>14}{'tokens/s':>11}{'CPU a token':>13}{'workers':>10}"
    )
    chat, worst, wrong = 0.0, 0.0, 0
    for way in ways:
        first = firsts[way.name]
        await run(way, streams, max(10, tokens // 10))
        runs = [await run(way, streams, tokens) for _ in range(3)]
        found = sorted(runs, key=lambda one: one.rate)[1]
        wrong += sum(not one.equal for one in runs)
        if way.workers:
            chat = chat or found.cpu_us
            worst = max(worst, found.cpu_us / chat)
        print(
            f"{way.name:<28}{first:>9.2f} ms{first - base:>11.2f} ms{found.rate:>11,.0f}{found.cpu_us:>10.1f} µs"
            f"{f'{found.workers_us:.1f} µs' if way.workers else '':>10}"
            + "".join(f"\n  TOKENS DIFFER: {one.wrong}" for one in runs if one.wrong)
        )
    print(f"\ndialects: {worst:.2f} × chat completions (goal {GOAL}); runs with another token: {wrong}")
    return 1 if wrong else 0


def main() -> int:
    parser = parser_for(__doc__, alone=True)
    parser.add_argument("--tokens", type=int, default=5_000)
    parser.add_argument("--streams", type=int, default=18)
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--litellm", default="")
    parser.add_argument("--library", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.library:
        uvloop.run(on_demand(options.library))
        return 0
    go_before_others(options)
    path, body, read = DIALECTS["chat completions"]
    with (
        tempfile.TemporaryDirectory() as root,
        own_server() as (upstream, upstream_pid),
        own_server("--relay", str(upstream)) as (relay, relay_pid),
    ):
        ways = [
            Way("the upstream itself", upstream, path, body, read, pids=[upstream_pid]),
            Way("bare relay", relay, path, body, read, pids=[relay_pid]),
        ]
        config = f'[providers.openai]\nbase_url = "http://127.0.0.1:{upstream}/v1"\nmodel = "m"\n'
        backend = start_backend(Path(root) / "home", config=config, launch=("all",), TEKTON_PROVIDER="openai")
        try:
            rows = backend.ask("GET", "/api/v1/specialists", params={"active_only": True})["specialists"]
            names = [row["name"] for row in rows]
            pids = [one.pid for one in psutil.Process(backend.process.pid).children()]
            port = int(backend.url.rpartition(":")[2])
            ways += [
                Way(name, port, *dialect, backend.token, names, [backend.process.pid], pids)
                for name, dialect in DIALECTS.items()
            ]
            arguments = (upstream, options.streams, options.tokens, options.turns)
            if not options.litellm:
                return uvloop.run(measure(ways, *arguments))
            with lite(options.litellm, upstream, Path(root)) as other:
                return uvloop.run(measure([*ways, other], *arguments))
        finally:
            backend.stop()


if __name__ == "__main__":
    raise SystemExit(main())
