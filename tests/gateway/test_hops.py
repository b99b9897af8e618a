"""A client that comes from another gateway of the fleet: what it has seen there may not have been read here yet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from backend.cluster import replicated_log
from backend.cluster.replicated_log import ReplicatedLog
from backend.gateway import websocket
from backend.gateway.auth import Principal
from backend.gateway.protocols import FRAMES
from backend.memory.errors import StoreFailed
from backend.memory.shared_log import Entry
from backend.schema.events import Snapshot
from backend.wire import encoder

WAIT_S = 60.0


class FleetLog:
    """A shared log whose entries are read when the test lets them: another gateway appended them."""

    name, incarnation, epoch, first_seq = "two", "i", "life", 0

    def __init__(self) -> None:
        self.entries = asyncio.Queue[Entry]()
        self.failure = ""

    def add(self, seq: int) -> None:
        line = encoder.encode({"type": "stream_chunk", "request_id": "r", "content": "x", "chunk_index": seq})
        data = msgspec.msgpack.encode([("chat", "r", line)])
        self.entries.put_nowait(Entry(f"{seq}-0", seq, 1, "one i", data))

    async def read(self, after: str, *, wait_s: float) -> list[Entry]:
        if self.failure:
            raise StoreFailed(self.failure)
        if wait_s < 1 and self.entries.empty():
            return []
        return [await self.entries.get()]


class Place:
    """Gateway two and one client of it; `came` are the frames it was sent."""

    def __init__(self) -> None:
        self.shared = FleetLog()
        self.log = ReplicatedLog(self.shared)  # type: ignore[arg-type]
        self.came = list[dict[str, Any]]()
        self._frames = asyncio.Condition()
        platform = SimpleNamespace(events=self.log, snapshot=self._snapshot)
        gateway: Any = SimpleNamespace(platform=platform, clients={})
        socket: Any = SimpleNamespace(scope={"extensions": {FRAMES: self._write}}, headers={})
        self.connection: Any = websocket._Connection(gateway, socket, Principal("reader", "read"), "here")  # pyright: ignore[reportPrivateUsage]
        gateway.clients[self.connection._number] = SimpleNamespace(topics=[])

    def _snapshot(self, resync: bool) -> Any:
        return SnapshotOf(self.log.seq, resync)

    async def _write(self, texts: Any) -> None:
        async with self._frames:
            self.came += [json.loads(line) for text in texts for line in text.split(b"\n")]
            self._frames.notify_all()

    async def subscribe(self, seq: int) -> None:
        await self.connection._subscribe("s", websocket.Subscribe(["chat"], seq, "life", True))

    async def until(self, kind: str) -> None:
        async with asyncio.timeout(WAIT_S), self._frames:
            await self._frames.wait_for(lambda: any(frame["type"] == kind for frame in self.came))


class SnapshotOf(msgspec.Struct, tag="snapshot"):
    """As much of a `Snapshot` as is needed here."""

    at_seq: int
    resync: bool


assert SnapshotOf.__struct_config__.tag == Snapshot.__struct_config__.tag


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    one = Place()
    one.shared.add(1)
    await one.log.begin()
    yield one
    senders = [one.connection._sender] if one.connection._sender else []
    for task in [*senders, *one.log._tasks]:  # pyright: ignore[reportPrivateUsage]
        task.cancel()


async def test_a_number_that_is_not_read_here_yet_is_waited_for_and_nothing_comes_twice(place: Place) -> None:
    subscribing = asyncio.create_task(place.subscribe(3))
    for seq in (2, 3, 4):
        await asyncio.sleep(0)
        place.shared.add(seq)
    await asyncio.wait_for(subscribing, WAIT_S)
    await place.until("stream_chunk")
    assert [frame["type"] for frame in place.came] == ["result", "stream_chunk"]
    assert place.came[0]["result"]["resumed"] is True and place.came[1]["seq"] == 4


@pytest.mark.parametrize("why", ["never comes", "the store is away"])
async def test_a_number_that_does_not_come_is_waited_for_a_moment_only(
    place: Place, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(replicated_log, "SETTLE_S", 0.01 if why == "never comes" else 2 * WAIT_S)
    if why != "never comes":
        place.shared.failure = why
        place.shared.add(2)  # ends the read that waits; the next one fails
    await asyncio.wait_for(place.subscribe(9), WAIT_S)
    assert [frame["type"] for frame in place.came] == ["result", "snapshot"]
    assert place.came[1]["resync"] is True
