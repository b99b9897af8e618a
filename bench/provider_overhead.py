"""What our provider layer adds to the vendors' own libraries: time to the first token, processor time a token.

    python bench/provider_overhead.py [--asks 200] [--answers 20]

The floor is the bare library in the same process, asking the same loopback server (a process of its own) the same
thing; both take turns. The server speaks each vendor's wire and answers at once, so that only clients are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from options import parser_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.home import Home
from backend.providers import create
from backend.providers.base import Text
from tests.providers.dialects import DIALECTS, Answer
from tests.providers.rigs import ENVIRONMENT, KEY, MODELS, ServerRig, asking, point_embedded, settings_for

Ask = Callable[[], AsyncIterator[bool]]
"""Asks once; yields whether an item is text."""
LONG = "long"
TOKENS = 1000


async def serve(kind: str) -> None:
    """Serve a vendor's dialect until stdin closes: a long answer to a prompt that says so, else a short one."""
    dialect = next(dialect for dialect in DIALECTS if dialect.kind == kind)
    with tempfile.TemporaryDirectory() as folder:
        rig = ServerRig(kind, Home(Path(folder)).prepare(), dialect=dialect)
        short, long = Answer(), Answer(pieces=[f"token{number} " for number in range(TOKENS)], tokens=TOKENS)
        bodies = {False: b"".join(dialect.wire(short).parts), True: dialect.wire(long).parts}

        async def say(call: Any) -> None:
            body = bodies[LONG.encode() in call.body]
            await call.begin(dialect.media)
            await call.send(*(body if isinstance(body, list) else [body]))
            await call.end()

        rig.handler = say
        print(await rig.serve(), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await rig.upstream.stop()


async def bare_openai(url: str, text: str) -> AsyncIterator[bool]:
    messages = _messages(text)
    async with await CLIENTS["openai"].chat.completions.create(
        model="test-model", messages=messages, stream=True, stream_options={"include_usage": True}
    ) as stream:
        async for chunk in stream:
            yield bool(chunk.choices and chunk.choices[0].delta.content)


async def bare_anthropic(url: str, text: str) -> AsyncIterator[bool]:
    async with await CLIENTS["anthropic"].messages.create(
        model=MODELS["anthropic"],
        system="You are Apollo.",
        messages=_messages(text)[1:],
        max_tokens=4096,
        stream=True,
    ) as stream:
        async for event in stream:
            yield event.type == "content_block_delta"


async def bare_ollama(url: str, text: str) -> AsyncIterator[bool]:
    async for part in await CLIENTS["ollama"].chat(model="test-model", messages=_messages(text), stream=True):
        yield bool(part.message.content)


CLIENTS: dict[str, Any] = {}
BARE = {"openai": bare_openai, "anthropic": bare_anthropic, "ollama": bare_ollama}


def _messages(text: str) -> list[Any]:
    request = asking(text)
    return [{"role": "system", "content": request.system}] + [
        {"role": m.role, "content": m.content} for m in request.messages
    ]


def open_clients(url: str, kind: str) -> None:
    """Make the bare library's client as its documentation says, retries off."""
    if kind == "openai":
        import openai

        CLIENTS[kind] = openai.AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0)
    elif kind == "anthropic":
        import anthropic

        CLIENTS[kind] = anthropic.AsyncAnthropic(api_key=KEY, base_url=url, max_retries=0)
    elif kind == "ollama":
        import ollama

        CLIENTS[kind] = ollama.AsyncClient(host=url)


async def first_ms(stream: AsyncIterator[bool]) -> float:
    began, first = time.perf_counter(), 0.0
    async for is_text in stream:
        if is_text and not first:
            first = time.perf_counter() - began
    return first * 1000


async def cpu_ms(streams: list[AsyncIterator[bool]]) -> float:
    """Return the processor time of answers one after another, in milliseconds for 1,000 tokens."""
    began = time.process_time()
    for stream in streams:
        async for _ in stream:
            pass
    return (time.process_time() - began) * 1000 / len(streams)


async def measure(kind: str, url: str, asks: int, answers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder)).prepare()
        if kind == "embedded":
            point_embedded(home, url)
        provider = create(kind, settings_for(kind, url), home, ENVIRONMENT)
        await provider.prepare()
        open_clients(url, kind)

        async def ours(text: str) -> AsyncIterator[bool]:
            async for item in provider.stream(asking(text, model=MODELS.get(kind, "test-model"))):
                yield isinstance(item, Text)

        ways = {"bare": lambda text: BARE[kind](url, text), "ours": ours} if kind in BARE else {"ours": ours}
        firsts: dict[str, list[float]] = {name: [] for name in ways}
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(asks + 5):
            for name, way in ways.items():
                took = await first_ms(way("short"))
                firsts[name] += [took] if turn >= 5 else []
        for _ in range(5):
            for name, way in ways.items():
                cpu[name].append(await cpu_ms([way(LONG) for _ in range(max(1, answers // 5))]))
        for name in ways:
            cuts = statistics.quantiles(firsts[name], n=100)
            print(f"{kind:10} {name:5} first token p50 {cuts[49]:6.2f} ms  p99 {cuts[98]:6.2f} ms   "
                  f"processor {statistics.median(cpu[name]):6.1f} ms a 1,000 tokens")  # fmt: skip
        if "bare" in ways:
            p50 = [statistics.median(firsts[name]) for name in ("ours", "bare")]
            times = [statistics.median(cpu[name]) for name in ("ours", "bare")]
            print(
                f"{kind:10} adds  {p50[0] - p50[1]:+.2f} ms to the first token; processor ratio {times[0] / times[1]:.2f}"
            )
        await provider.aclose()


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--asks", type=int, default=200, help="short answers, for the first token")
    parser.add_argument(
        "--answers", type=int, default=20, help="answers of 1,000 tokens, for the processor time"
    )
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    for dialect in DIALECTS:
        command = [sys.executable, __file__, "--serve", dialect.kind]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                asyncio.run(
                    measure(dialect.kind, server.stdout.readline().strip(), options.asks, options.answers)
                )
            finally:
                server.communicate()


if __name__ == "__main__":
    main()
