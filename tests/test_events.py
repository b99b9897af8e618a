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


def test_a_few_large_events_behind_many_small_ones_do_not_pass_the_bound() -> None:
    stream = EventStream(max_bytes=100_000)
    reader = stream.subscribe(["chat"])
    for _ in range(500):
        stream.publish_lines("chat", [b'{"type":"x","pad":"' + b"a" * 50 + b'"}'])
    for _ in range(10):
        stream.publish_lines("chat", [b'{"type":"x","pad":"' + b"a" * 60_000 + b'"}'])
        assert stream.held[1] <= 100_000
    stream.publish_lines("chat", [b'{"type":"x","pad":"' + b"a" * 200_000 + b'"}'])
    assert stream.held[0] == 1  # the newest stays however long it is
    with pytest.raises(ReplayLost):
        reader.pending()


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
    assert numbers(await asyncio.wait_for(waiting, 60)) == [2]


async def test_a_burst_comes_in_one_batch() -> None:
    stream = EventStream()
    reader = stream.subscribe(["chat"])
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(0)
    for index in range(100):
        stream.publish("chat", chunk(index))
    assert len(await asyncio.wait_for(waiting, 60)) == 100


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
    assert len(await asyncio.wait_for(waiting, 60)) == 1
    assert stream.lost_replays == 0


def block(count: int) -> bytes:
    return b"\n".join(b'{"type":"x","n":%d}' % number for number in range(count))


def test_a_block_is_numbered_line_by_line_across_every_change_of_digits() -> None:
    stream = EventStream()
    reader = stream.subscribe(["chat"])
    for count in (1, 997, 5, 2_500, 1, 1_000):
        stream.publish_block("chat", block(count), count)
    lines: list[bytes] = []
    while more := reader.pending():
        lines += more
    assert numbers(lines) == list(range(1, 4_505))
    assert lines[999:1_003] == [
        b'{"seq":%d,"type":"x","n":%d}' % pair for pair in ((1000, 1), (1001, 2), (1002, 3), (1003, 4))
    ]


def test_a_reader_resumes_in_the_middle_of_a_block() -> None:
    stream = EventStream()
    stream.subscribe(["chat"])
    for _ in range(3):
        stream.publish_block("chat", block(10), 10)
    for after in range(31):
        assert numbers(stream.subscribe(["chat"], after=after).pending()) == list(range(after + 1, 31))


def test_a_trim_drops_whole_blocks_and_never_the_newest() -> None:
    stream = EventStream(max_events=100)
    reader = stream.subscribe(["chat"])
    for _ in range(30):
        stream.publish_block("chat", block(7), 7)
        reader.pending()
    events, size = stream.held
    assert events <= 107 and size > 0 and stream.trimmed == stream.seq - events
    stream.publish_block("chat", block(500), 500)
    assert numbers(reader.pending()) == list(range(211, 711))
