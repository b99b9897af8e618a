"""Workers are held while live readers catch up, and never by a reader that stands still."""

from __future__ import annotations

import asyncio

import pytest

from backend.events import EventStream
from backend.orchestration import pressure
from backend.orchestration.pressure import HIGH, Pressure
from backend.schema.frames import StreamChunk


class Holding:
    """What the workers were told; `free` is set while they are not held."""

    def __init__(self) -> None:
        self.told: list[bool] = []
        self.free = asyncio.Event()

    def __call__(self, held: bool) -> None:
        self.told.append(held)
        self.free.clear() if held else self.free.set()


def publish(events: EventStream, count: int) -> None:
    line = b'{"type":"stream_chunk","request_id":"r","content":"x","chunk_index":0}'
    assert StreamChunk.__struct_config__.tag == "stream_chunk"
    for _ in range(count // 1_000):
        events.publish_lines("chat", [line] * 1_000)


async def test_workers_are_held_while_a_reader_catches_up_and_go_on_when_it_has() -> None:
    events, held = EventStream(), Holding()
    Pressure(events, held)
    reader = events.subscribe(["chat"])
    publish(events, HIGH)
    assert held.told == []
    publish(events, 6_000)
    assert held.told == [True]
    while reader.pending():
        pass
    await asyncio.wait_for(held.free.wait(), 20)
    assert held.told == [True, False]
    assert events.lost_replays == 0


async def test_a_reader_that_stands_still_holds_the_workers_once_and_briefly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pressure, "PATIENCE_S", 0.01)
    events, held = EventStream(), Holding()
    pressing = Pressure(events, held)
    events.subscribe(["chat"])
    publish(events, HIGH + 6_000)
    await asyncio.wait_for(held.free.wait(), 20)
    publish(events, 30_000)
    assert held.told == [True, False], "it had its chance; nobody waits for it again until it moves"
    await pressing.close()
