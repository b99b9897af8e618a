"""The events of a turn as its streams read them: in the order in which they came, from the log while it has them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from backend.events import EventStream
from backend.gateway.sse import turn_events
from backend.schema.events import Event
from backend.schema.frames import StreamChunk, StreamEnd, StreamMetadata, StreamReasoning, Usage
from backend.schema.records import TurnOutcome

THOUGHT = StreamReasoning("r1", "hm")
CHUNKS = [StreamChunk("r1", f"t{index} ", index) for index in range(4)]
END = StreamEnd("r1", StreamMetadata(4, 4, 1.0, "apollo-ai", "small", "stop", Usage()))


def turn(came: int, *, ended: bool = False) -> Any:
    """Return what a stream reads of a turn of which so many chunks have come."""
    done: asyncio.Future[TurnOutcome] = asyncio.get_running_loop().create_future()
    if ended:
        done.set_result(TurnOutcome("r1", "apollo-ai", "s1", "".join(c.content for c in CHUNKS[:came])))

    def pieces(first: int) -> list[str]:
        return [chunk.content for chunk in CHUNKS[first:came]]

    return SimpleNamespace(request_id="r1", chunks=came, pieces=pieces, done=done)


async def told(events: Any) -> list[Event]:
    return [event async for batch in events for event in batch]


@pytest.mark.parametrize("came", range(5))
async def test_what_came_before_it_was_read_keeps_its_place_among_the_others(came: int) -> None:
    """The subscription began before the turn: what was thought stands before what was said, whenever the stream begins."""
    stream = EventStream()
    subscription = stream.subscribe(["chat"])
    for event in (THOUGHT, *CHUNKS, END):
        stream.publish("chat", event)
    seen = await told(turn_events(turn(came, ended=came == 4), subscription, whole=True))
    assert [type(event) for event in seen] == [StreamReasoning, *[StreamChunk] * 4, StreamEnd]
    assert [event.content for event in seen if isinstance(event, StreamChunk)] == [c.content for c in CHUNKS]


async def test_a_turn_that_ends_while_what_came_of_it_is_sent_is_read_to_its_end() -> None:
    """A client that reads slowly holds up what had come; the stream ended behind it, without the rest and without its end."""
    stream, under_way = EventStream(), turn(2)
    subscription = stream.subscribe(["chat"])
    for event in CHUNKS[:2]:
        stream.publish("chat", event)
    seen = list[Event]()
    async for events in turn_events(under_way, subscription):
        seen += events
        if not under_way.done.done():
            under_way.done.set_result(TurnOutcome("r1", "apollo-ai", "s1", "t0 t1 t2 t3 "))
            for event in (*CHUNKS[2:], END):
                stream.publish("chat", event)
    assert [event.chunk_index for event in seen if isinstance(event, StreamChunk)] == list(range(4))
    assert isinstance(seen[-1], StreamEnd)


@pytest.mark.parametrize("first", range(4))
async def test_who_comes_later_gets_each_chunk_once(first: int) -> None:
    stream = EventStream()
    subscription = stream.subscribe(["chat"])
    for event in (*CHUNKS, END):
        stream.publish("chat", event)
    seen = await told(turn_events(turn(3), subscription, first))
    assert [event.chunk_index for event in seen if isinstance(event, StreamChunk)] == list(range(first, 4))
    assert isinstance(seen[-1], StreamEnd)
