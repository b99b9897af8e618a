"""Workers are held while live readers catch up, and never by a reader that stands still."""

from __future__ import annotations

import asyncio

import pytest

from backend.events import MAX_BYTES, MAX_EVENTS, EventStream
from backend.orchestration import backpressure as pressure
from backend.orchestration.backpressure import HIGH, Backpressure
from backend.schema.frames import StreamChunk

MANY = int(HIGH * MAX_EVENTS)
"""Events behind at which the workers are held."""


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
    Backpressure(events, held)
    reader = events.subscribe(["chat"])
    publish(events, MANY)
    assert held.told == []
    publish(events, 6_000)
    assert held.told == [True]
    while reader.pending():
        pass
    await asyncio.wait_for(held.free.wait(), 60)
    assert held.told == [True, False]
    assert events.lost_replays == 0


async def test_a_reader_that_stands_still_holds_the_workers_once_and_briefly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pressure, "PATIENCE_S", 0.01)
    events, held = EventStream(), Holding()
    pressing = Backpressure(events, held)
    events.subscribe(["chat"])
    publish(events, MANY + 6_000)
    await asyncio.wait_for(held.free.wait(), 60)
    publish(events, 30_000)
    assert held.told == [True, False], "it had its chance; nobody waits for it again until it moves"
    await pressing.close()


async def test_few_events_with_long_texts_hold_the_workers_too() -> None:
    events, held = EventStream(), Holding()
    Backpressure(events, held)
    reader = events.subscribe(["chat"])
    line = b'{"type":"stream_chunk","content":"%b"}' % (b"x" * 100_000)
    sent = 0
    while not held.told and sent < MAX_BYTES:
        events.publish_lines("chat", [line])
        sent += len(line)
    assert held.told == [True]
    assert sent < MAX_BYTES / 2, "there is room for what the workers have sent already"
    while reader.pending():
        pass
    await asyncio.wait_for(held.free.wait(), 60)
    assert events.lost_replays == 0


async def test_a_reader_that_stood_still_for_a_second_is_waited_for_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(pressure, "monotonic", lambda: now)
    monkeypatch.setattr(pressure, "LOOK_EVERY_S", 0)
    events, held = EventStream(), Holding()
    Backpressure(events, held)
    reader = events.subscribe(["chat"])
    publish(events, MANY + 6_000)
    for _ in range(11):
        now += 0.1
        for _ in range(3):
            await asyncio.sleep(0)  # it looks again
        assert held.told == [True], "still held"
    seen = 0
    while lines := reader.pending():
        seen += len(lines)
    await asyncio.wait_for(held.free.wait(), 60)
    assert seen == events.seq
    assert events.lost_replays == 0
