"""The embedded model through our provider against the bare model server: speed of 18 streams, the first token, the line.

    python bench/embedded.py [--streams 18] [--tokens 48] [--rounds 3]

The floor is a client of a few lines on a plain socket that sends the very same bodies and throws the text away. Both
take turns in one run, so that what else the machine does falls on both.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from answers import serving
from options import parser_for

from backend import catalog
from backend.config import Providers, Settings
from backend.home import Home
from backend.providers.base import Completed, CompletionRequest, Queued, Text
from backend.providers.embedded import PROVIDER
from backend.providers.embedded.connection import FactsFile, ServerFacts
from backend.providers.embedded.provider import CHAT, EmbeddedProvider
from backend.schema.frames import ChatMessage


class Timed(NamedTuple):
    """One answer: seconds to the first token, and tokens."""

    first_s: float
    tokens: int


class Endless(EmbeddedProvider):
    """Our provider, with answers that do not end before their cap: both sides then do the same work."""

    def _body(self, request: CompletionRequest, facts: ServerFacts) -> dict[str, Any]:
        return {**super()._body(request, facts), "ignore_eos": True}

    def body(self, request: CompletionRequest, facts: ServerFacts) -> bytes:
        """Return what is sent for a request."""
        return msgspec.json.encode(self._body(request, facts))


async def ours(provider: Endless, request: CompletionRequest) -> Timed:
    began, first, tokens = time.perf_counter(), 0.0, 0
    async for item in provider.stream(request):
        if isinstance(item, Text) and not first:
            first = time.perf_counter() - began
        if isinstance(item, Completed):
            tokens = item.usage.output_tokens
    return Timed(first, tokens)


async def bare(provider: Endless, request: CompletionRequest, facts: ServerFacts) -> Timed:
    """Ask on a socket: write the request, look for the first text and for the last count."""
    host, _, port = facts.url.rpartition("/")[2].partition(":")
    body = provider.body(request, facts)
    began, first, seen = time.perf_counter(), 0.0, b""
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {facts.api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    while b"data: [DONE]" not in seen[-64:]:
        part = await reader.read(1 << 16)
        if not part:
            raise RuntimeError(f"the server broke off: {seen[:300]!r}")
        if not first and b'"delta":{"content":"' in part:
            first = time.perf_counter() - began
        seen += part
    writer.close()
    counts = seen[seen.rindex(b'"completion_tokens":') + 20 :]
    return Timed(first, int(counts[: counts.index(b",")]))


async def together(asks: list[Any]) -> tuple[float, float]:
    """Run answers side by side; return tokens a second of all, and the median first token in seconds."""
    began = time.perf_counter()
    timed = await asyncio.gather(*asks)
    took = time.perf_counter() - began
    return sum(t.tokens for t in timed) / took, statistics.median(t.first_s for t in timed)


async def speed(home: Home, settings: Settings, streams: int, tokens: int, rounds: int) -> None:
    provider = Endless(PROVIDER.own(settings), home)
    await provider.prepare()
    facts = FactsFile(home.embedded_facts, home.embedded_ending).read()
    assert facts is not None
    components = list(catalog.load(Settings()))

    def request(number: int, text: str, cap: int = tokens) -> CompletionRequest:
        persona = components[number % len(components)].persona
        return CompletionRequest(persona, [ChatMessage("user", text)], "", None, cap, slot=number)

    for number in range(streams):
        await provider.prewarm(components[number % len(components)].persona, number)
    figures: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
    for turn in range(rounds):
        asked = [request(number, f"Tell me about number {turn}.") for number in range(streams)]
        figures["bare"].append(await together([bare(provider, one, facts) for one in asked]))
        asked = [request(number, f"Tell me about letter {turn}.") for number in range(streams)]
        figures["ours"].append(await together([ours(provider, one) for one in asked]))
    rate = {name: statistics.median(f[0] for f in some) for name, some in figures.items()}
    print(f"{streams} streams of {tokens} tokens, median of {rounds} rounds, tokens a second of all together")
    print(
        f"  bare server {rate['bare']:7.1f}   our provider {rate['ours']:7.1f}   ratio {rate['ours'] / rate['bare']:.2f} (goal 0.90)"
    )
    firsts: dict[str, list[float]] = {"bare": [], "ours": []}
    for turn in range(rounds * 5):
        firsts["bare"].append((await bare(provider, request(0, f"And {turn}?", 4), facts)).first_s)
        firsts["ours"].append((await ours(provider, request(0, f"But {turn}?", 4))).first_s)
    one = {name: 1000 * statistics.median(some) for name, some in firsts.items()}
    print(f"first token of a warm specialist alone, median of {rounds * 5}")
    print(
        f"  bare server {one['bare']:5.0f} ms   our provider {one['ours']:5.0f} ms   ratio {one['ours'] / one['bare']:.2f} (goal 1.20)"
    )
    await provider.aclose()


async def line(home: Home, settings: Settings) -> None:
    """Show what those are told who find every slot taken."""
    provider = Endless(PROVIDER.own(settings), home)
    await provider.prepare()
    told: list[list[int]] = [[] for _ in range(5)]

    async def one(number: int) -> None:
        text = [ChatMessage("user", "Tell me a story.")]
        async for item in provider.stream(
            CompletionRequest("You are Apollo.", text, "", None, 40, slot=number)
        ):
            if isinstance(item, Queued):
                told[number].append(item.position)

    await asyncio.gather(*(one(number) for number in range(5)))
    await provider.aclose()
    print(
        "five questions on two slots, places in line as told to each: "
        + " · ".join(str(places) for places in told)
    )


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--streams", type=int, default=18)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for slots in (options.streams, 2):
        settings = Settings(providers=Providers(tables={"embedded": {"slots": slots}}))
        with tempfile.TemporaryDirectory() as folder:
            home = Home(Path(folder)).prepare()
            with serving(home, settings):
                if slots == 2:
                    asyncio.run(line(home, settings))
                else:
                    asyncio.run(speed(home, settings, options.streams, options.tokens, options.rounds))


if __name__ == "__main__":
    main()
