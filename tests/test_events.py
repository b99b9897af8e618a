"""The event log: numbers, cursors, replay, and what nobody reads."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from backend.events import EventStream, ReplayLost
from backend.schema.frames import StreamChunk


def chunk(index: int) -> StreamChunk:
    return StreamChunk("r1", f"t{index}", index)


def numbers(lines: list[bytes]) -> list[int]:
    return [msgspec.json.decode(line)["seq"] for line in lines]


def test_events_carry_consecutive_numbers_as_their_first_key() -> None:
    stream = EventStream()
    reader = stream.subscribe(["chat"])
    for index in range(3):
        stream.publish("chat", chunk(index))
    lines = reader.pending()
    assert lines[0].startswith(b'{"seq":1,"type":"stream_chunk"')
    assert numbers(lines) == [1, 2, 3]


def test_encoded_lines_pass_unchanged_but_for_their_number() -> None:
    stream = EventStream()
    reader = stream.subscribe(["chat"])
    stream.publish_lines("chat", [b'{"type":"stream_chunk","content":"\xc3\xa9"}'])
    assert reader.pending() == [b'{"seq":1,"type":"stream_chunk","content":"\xc3\xa9"}']


def test_a_reader_gets_only_its_topics_and_its_own_conversations() -> None:
    stream = EventStream()
    everything = stream.subscribe(["chat", "errors"])
    own = stream.subscribe()
    own.follow("r1")
    stream.publish("chat", chunk(0), key="r1")
    stream.publish("chat", chunk(1), key="r2")
    stream.publish("errors", chunk(2))
    assert numbers(everything.pending()) == [1, 2, 3]
    assert numbers(own.pending()) == [1]


def test_resuming_after_a_number_gives_what_was_missed_once() -> None:
    stream = EventStream()
    first = stream.subscribe(["chat"])
    stream.publish("chat", chunk(0))
    seen = numbers(first.pending())[-1]
    first.close()
    for index in range(1, 4):
        stream.publish("chat", chunk(index))
    again = stream.subscribe(["chat"], after=seen)
    assert numbers(again.pending()) == [2, 3, 4]
    assert again.pending() == []


def test_a_number_older_than_the_log_is_replay_lost() -> None:
    stream = EventStream(max_events=8)
    stream.subscribe(["chat"])
    for index in range(40):
        stream.publish("chat", chunk(index))
    with pytest.raises(ReplayLost):
        stream.subscribe(["chat"], after=2)


def test_a_number_of_the_future_is_replay_lost() -> None:
    with pytest.raises(ReplayLost):
        EventStream().subscribe(["chat"], after=5)


def test_a_reader_that_falls_off_the_log_is_told() -> None:
    stream = EventStream(max_events=8)
    slow = stream.subscribe(["chat"])
    for index in range(40):
        stream.publish("chat", chunk(index))
    with pytest.raises(ReplayLost):
        slow.pending()


def test_the_log_is_bounded_by_bytes_too() -> None:
    stream = EventStream(max_bytes=2_000)
    slow = stream.subscribe(["chat"])
    for _ in range(100):
        stream.publish_lines("chat", [b'{"type":"x","pad":"' + b"a" * 100 + b'"}'])
    with pytest.raises(ReplayLost):
        slow.pending()


def test_what_nobody_reads_is_not_recorded_and_cannot_be_resumed() -> None:
    stream = EventStream()
    assert stream.publish("metrics", chunk(0)) == 0
    assert stream.seq == 0 and stream.skipped == 1
    stream.publish("fleet", chunk(1))
    assert stream.seq == 1, "states are always recorded"


def test_resuming_a_topic_across_a_gap_is_replay_lost() -> None:
    stream = EventStream()
    stream.publish("fleet", chunk(0))
    stream.publish("fleet", chunk(1))
    stream.publish("metrics", chunk(2))
    with pytest.raises(ReplayLost):
        stream.subscribe(["metrics"], after=1)
    assert numbers(stream.subscribe(["fleet"], after=1).pending()) == [2]


async def test_a_waiting_reader_wakes_for_its_topic_only() -> None:
    stream = EventStream()
    reader = stream.subscribe(["errors"])
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    stream.subscribe(["chat"])
    stream.publish("chat", chunk(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    stream.publish("errors", chunk(1))
    assert numbers(await asyncio.wait_for(waiting, 20)) == [2]


async def test_a_burst_comes_in_one_batch() -> None:
    stream = EventStream()
    reader = stream.subscribe(["chat"])
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    for index in range(100):
        stream.publish("chat", chunk(index))
    assert len(await asyncio.wait_for(waiting, 20)) == 100


async def test_a_reader_that_wants_nothing_of_a_flood_is_not_lost_by_it() -> None:
    stream = EventStream(max_events=40)
    quiet = stream.subscribe(["errors"])
    waiting = asyncio.create_task(quiet.next())
    await asyncio.sleep(0)
    loud = stream.subscribe(["chat"])
    for number in range(500):
        stream.publish("chat", chunk(number))
    assert stream.trimmed > 0
    assert (quiet.lag, loud.lag) == (0, 500)
    stream.publish("errors", chunk(500))
    assert len(await asyncio.wait_for(waiting, 20)) == 1
    assert stream.lost_replays == 0
