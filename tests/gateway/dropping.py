"""A client that is cut off again and again while answers stream, and counts what it lost or got twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from backend.client import Client, ConnectionChanged
from backend.schema.events import Snapshot
from backend.schema.frames import StreamChunk, StreamEnd, StreamError
from tests.gateway.serving import Backend

RATE = 40
"""Tokens a second and stream, so that streams live as long as drops are wanted."""
TOKENS = 40_000
FRESH_EVENTS = 10
"""Events that must come between two drops, so that each drop falls into live streams."""
WAIT_S = 60.0


class Dropping:
    """Run it once, then read the counts. `times` are seconds from each cut to the first new event."""

    def __init__(self, backend: Backend, names: Sequence[str]) -> None:
        self._backend, self._names = backend, names
        self._next: dict[str, int] = {f"drop-{name}": 0 for name in names}
        self._ended = set[str]()
        self._fresh = asyncio.Event()
        self._back = asyncio.Event()
        self._left = 0
        self._last_seq = 0
        self.drops = self.events = self.lost = self.doubled = self.resyncs = 0
        self.times: list[float] = []

    async def run(self, drops: int) -> None:
        """Cut the connection so many times during the streams, then end them and see that all that came was whole."""
        client = await Client.connect(lambda: (self._backend.url, self._backend.token))
        await client.subscribe(["chat"])
        reading = asyncio.create_task(self._read(client))
        try:
            for name in self._names:
                prompt = f"[[repeat {TOKENS}]] [[rate {RATE}]]"
                await client.request(
                    "chat", {"ai_id": name, "content": prompt, "request_id": f"drop-{name}", "wait": False}
                )
            for _ in range(drops):
                await self._events(FRESH_EVENTS)
                self.times.append(await self._cut(client))
                self.drops += 1
            for request_id in self._next:
                if request_id not in self._ended:
                    await client.request("cancel", {"target": request_id})
            async with asyncio.timeout(WAIT_S):
                while len(self._ended) < len(self._names):
                    await self._events(1)
        finally:
            reading.cancel()
            await client.close()

    def quantile(self, share: float) -> float:
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    async def _cut(self, client: Client) -> float:
        """Cut the connection; return the seconds until the first event that came over another one."""
        self._back.clear()
        cut = time.perf_counter()
        await client.drop()
        await asyncio.wait_for(self._back.wait(), WAIT_S)
        await self._events(1)
        return time.perf_counter() - cut

    async def _events(self, count: int) -> None:
        self._left = count
        self._fresh.clear()
        await asyncio.wait_for(self._fresh.wait(), WAIT_S)

    async def _read(self, client: Client) -> None:
        async for batch in client.events():
            for seq, event in batch:
                match event:
                    case ConnectionChanged(state="attached"):
                        self._back.set()
                    case Snapshot(resync=True):
                        self.resyncs += 1
                    case StreamChunk(request_id=name) if name in self._next:
                        self._count(name, event.chunk_index)
                    case StreamEnd() | StreamError():
                        self._ended.add(event.request_id)
                    case _:
                        pass
                if seq:
                    self.doubled += seq <= self._last_seq and not isinstance(event, Snapshot)
                    self._last_seq = seq
                    self.events += 1
                    self._left -= 1
                    if self._left <= 0:
                        self._fresh.set()

    def _count(self, name: str, index: int) -> None:
        expected = self._next[name]
        self.lost += max(0, index - expected)
        self.doubled += index < expected
        self._next[name] = max(expected, index + 1)
