"""Tokens from workers through the gateway to a WebSocket client: latency added, rate, CPU, with everything switched on.

    python bench/relay.py [--tokens 10000] [--streams 18] [--turns 300] [--alone]

Workers are real processes with the scripted provider; answers are stored, metrics are read once a second. The floor is
a bare relay of lines (StreamReader.readline, writer.write, uvloop) between the same workers and a TCP client, in the
same run. Goals on a quiet machine: first token p50 1 ms and p99 3 ms; rate 0.5 of the floor; gateway CPU for 1,000
tokens 1.5 ms batched, 5 ms with a frame for each token.

The client of the floor and one of ours only count bytes; the other two use `websockets`, as a program would. `--alone`
lets all of it run before other work of the machine: without, the figures tell of that work as much as of the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil
import uvloop
from websockets.asyncio.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from options import go_before_others, parser_for
from relay_client import Counter, LeanSocket, count

from tests.gateway.serving import Backend, start_backend

WARM_UP = 20
PACE = 50
"""Tokens a second and stream in the paced run."""
PACED_S = 4


class Frame(msgspec.Struct):
    type: str
    request_id: str = ""
    content: str = ""


decode = msgspec.json.Decoder(Frame).decode


@contextlib.asynccontextmanager
async def socket_of(
    backend: Backend, topics: Sequence[str], *, batch: bool
) -> AsyncIterator[ClientConnection]:
    """Yield a subscribed connection, its snapshot read."""
    url = f"{backend.url.replace('http', 'ws')}/ws"
    options = {"compression": None, "proxy": None, "max_size": None, "max_queue": 64}
    async with connect(url, additional_headers=backend.auth(), **options) as socket:
        wish = {"type": "subscribe", "request_id": "s", "topics": list(topics), "batch": batch}
        await socket.send(json.dumps(wish))
        while decode((await socket.recv(decode=False)).partition(b"\n")[0]).type != "snapshot":
            pass
        yield socket


def calls_of(
    names: Sequence[str], prompt: str, round_: str, sessions: Mapping[str, str] | None = None
) -> list[dict[str, str | bool]]:
    """Return the same question to each name; `sessions` are fresh ones, so that no history is read and counted."""
    fresh = sessions or {}
    return [
        {"type": "chat", "ai_id": name, "content": prompt, "request_id": f"{round_}-{name}", "wait": False}
        | ({"session_id": fresh[name]} if fresh else {})
        for name in names
    ]


async def ask(
    socket: ClientConnection,
    names: Sequence[str],
    prompt: str,
    round_: str,
    sessions: Mapping[str, str] | None = None,
) -> None:
    for call in calls_of(names, prompt, round_, sessions):
        await socket.send(json.dumps(call))


async def first_tokens(backend: Backend, names: Sequence[str], turns: int) -> list[float]:
    """Return, in ms, the time from a token leaving its worker's provider to its decoding here."""
    taken: list[float] = []
    async with socket_of(backend, ["chat"], batch=True) as socket:
        for turn in range(turns + WARM_UP):
            name = names[turn % len(names)]
            await ask(socket, [name], "[[clock]] [[repeat 1]]", f"t{turn}")
            ended = False
            while not ended:
                for line in (await socket.recv(decode=False)).split(b"\n"):
                    frame = decode(line)
                    if frame.type == "stream_chunk":
                        taken.append((time.monotonic_ns() - int(frame.content)) / 1e6)
                    ended = ended or frame.type == "stream_end"
    return taken[WARM_UP:]


async def direct_tokens(ports: Sequence[int], turns: int) -> list[float]:
    """Return the same for a client on the worker's own socket: what the gateway's path is added to."""
    taken: list[float] = []
    pairs = [await asyncio.open_connection("127.0.0.1", port) for port in ports]
    for turn in range(turns + WARM_UP):
        reader, writer = pairs[turn % len(pairs)]
        line = {"type": "chat", "content": "[[clock]] [[repeat 1]]", "stream": True, "request_id": f"d{turn}"}
        writer.write(json.dumps(line).encode() + b"\n")
        while (frame := decode(await reader.readline())).type != "stream_end":
            if frame.type == "stream_chunk":
                taken.append((time.monotonic_ns() - int(frame.content)) / 1e6)
    for _, writer in pairs:
        writer.close()
    return taken[WARM_UP:]


async def sustained(
    backend: Backend, names: Sequence[str], prompt: str, *, batch: bool, round_: str
) -> tuple[Counter, float, float]:
    """Return what was counted, tokens a second and gateway CPU in ms for 1,000, the client being `websockets`."""
    sessions = fresh_sessions(backend, names)
    counter = Counter()
    async with (
        socket_of(backend, ["metrics"], batch=True),
        socket_of(backend, ["chat"], batch=batch) as socket,
    ):
        before = cpu_s(backend)
        await ask(socket, names, prompt, round_, sessions)
        while counter.ended < len(names) and not counter.resynced:
            counter.feed(await socket.recv(decode=False))
        return counter, counter.rate, (cpu_s(backend) - before) * 1e6 / counter.tokens


async def sustained_lean(backend: Backend, names: Sequence[str], prompt: str) -> tuple[Counter, float, float]:
    """Return the same with a frame each and a client that only counts, as the floor's does."""
    sessions = fresh_sessions(backend, names)
    url = backend.url.replace("http", "ws")
    async with socket_of(backend, ["metrics"], batch=True):
        socket = await LeanSocket.open(url, backend.auth(), ["chat"])
        before = cpu_s(backend)
        for call in calls_of(names, prompt, "lean", sessions):
            socket.send(call)
        counter = await count(socket.reader, len(names))
        rate = counter.rate
        await socket.close()
    return counter, rate, (cpu_s(backend) - before) * 1e6 / counter.tokens


def fresh_sessions(backend: Backend, names: Sequence[str]) -> dict[str, str]:
    return {name: backend.ask("POST", "/api/v1/sessions", json={"owner": name})["id"] for name in names}


def cpu_s(backend: Backend) -> float:
    return sum(psutil.Process(backend.process.pid).cpu_times()[:2])


async def floor(ports: Sequence[int], prompt: str) -> tuple[float, float]:
    """Return tokens a second and CPU for 1,000 tokens of a bare line relay between the same workers and us."""
    counted: asyncio.Future[tuple[Counter, float]] = asyncio.get_running_loop().create_future()

    async def consume(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counter = await count(reader, len(ports))
        counted.set_result((counter, counter.rate))
        writer.close()

    server = await asyncio.start_server(consume, "127.0.0.1", 0, limit=1 << 22)
    own = server.sockets[0].getsockname()[1]
    words = [sys.executable, __file__, "--relay", str(own), prompt, *map(str, ports)]
    relay = psutil.Popen(words, stdin=subprocess.DEVNULL)
    counter, rate = await counted
    cpu_ms = sum(relay.cpu_times()[:2]) * 1000
    relay.terminate()
    relay.wait()
    server.close()
    return rate, cpu_ms / counter.tokens * 1000


async def bare_relay(to_port: int, prompt: str, ports: Sequence[int]) -> None:
    _, out = await asyncio.open_connection("127.0.0.1", to_port)

    async def relay(number: int, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        line = {"type": "chat", "content": prompt, "stream": True, "request_id": f"f{number}"}
        writer.write(json.dumps(line).encode() + b"\n")
        while line := await reader.readline():
            out.write(line)
            await out.drain()

    await asyncio.gather(*(relay(number, port) for number, port in enumerate(ports)))


def quantiles(times: list[float]) -> tuple[float, float]:
    ordered = sorted(times)
    return statistics.median(ordered), ordered[int(len(ordered) * 0.99)]


async def measure(backend: Backend, streams: int, tokens: int, turns: int) -> None:
    rows = backend.ask("GET", "/api/v1/specialists", params={"active_only": True})["specialists"][:streams]
    names = [row["name"] for row in rows]
    ports = [row["connection"]["port"] for row in rows]
    direct, through = await direct_tokens(ports, turns), await first_tokens(backend, names, turns)
    (p50, p99), (d50, d99) = quantiles(through), quantiles(direct)
    print(f"first token, worker to WebSocket client, {turns} turns: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    print(
        f"  on the worker's own socket {d50:.2f} and {d99:.2f}: added {p50 - d50:.2f} (goal 1) and {p99 - d99:.2f} (goal 3)"
    )
    prompt = f"[[repeat {tokens}]]"
    bare, bare_cpu = await floor(ports, prompt)
    print(f"bare line relay, {streams} streams: {bare:,.0f} tokens/s, CPU {bare_cpu:.2f} ms per 1,000")
    runs = {
        "batched": await sustained(backend, names, prompt, batch=True, round_="b"),
        "a frame each": await sustained(backend, names, prompt, batch=False, round_="e"),
        "a frame each, counted only": await sustained_lean(backend, names, prompt),
    }
    for kind, (counter, rate, cpu) in runs.items():
        print(
            f"gateway, {kind}: {rate:,.0f} tokens/s = {rate / bare:.2f} x bare (goal 0.5), "
            f"CPU {cpu:.2f} ms per 1,000 (goal {1.5 if kind == 'batched' else 5}); "
            f"{counter.tokens:,} of {tokens * streams:,} tokens came"
            f"{'; THE CLIENT FELL OFF THE LOG, the figure is of a part' if counter.resynced else ''}"
        )
    print(f"events: {backend.ask('GET', '/api/v1/gateway')['events']}")
    paced = f"[[repeat {PACE * PACED_S}]] [[rate {PACE}]]"
    _, rate, cpu = await sustained(backend, names, paced, batch=True, round_="p")
    print(
        f"paced, each token alone: {rate:,.0f} tokens/s, CPU {cpu:.1f} ms per 1,000 (a wake-up each; no goal)"
    )


def main() -> None:
    if sys.argv[1:2] == ["--relay"]:
        uvloop.run(bare_relay(int(sys.argv[2]), sys.argv[3], [*map(int, sys.argv[4:])]))
        return
    parser = parser_for(__doc__, alone=True)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--streams", type=int, default=18)
    parser.add_argument("--turns", type=int, default=300)
    options = parser.parse_args()
    go_before_others(options)
    with tempfile.TemporaryDirectory() as root:
        backend = start_backend(Path(root) / "home", launch=("all",))
        try:
            uvloop.run(measure(backend, options.streams, options.tokens, options.turns))
        finally:
            backend.stop()


if __name__ == "__main__":
    main()
