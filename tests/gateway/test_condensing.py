"""What a client that is behind gets: joined chunks and texts behind the snapshot, with nothing lost, doubled or out of order."""

from __future__ import annotations

import random

import msgspec

from backend.events import EventStream
from backend.gateway.condensing import PIECE_CHARS, TAIL_CHARS, WHOLE_CHARS, join_chunks, split
from backend.schema.content import TextPart
from backend.schema.events import Event, Snapshot, event_decoder
from backend.schema.frames import StreamChunk, StreamPhase
from backend.schema.records import ActiveTurn, PlatformInfo, ProviderChoice


def numbered(count: int, seed: int) -> list[bytes]:
    """Return an event log of some turns side by side, as blocks: chunks, phases of the same turns, and others' events."""
    dice, stream = random.Random(seed), EventStream()
    reader = stream.subscribe(["chat", "fleet"])
    indexes: dict[str, int] = {}
    for _ in range(count):
        name = f"r{dice.randrange(5)}"
        if dice.random() < 0.05:
            detail = f'says "type":"stream_chunk" {dice.random()}'
            stream.publish("chat", StreamPhase(name, "apollo-ai", "streaming", detail=detail))
        else:
            index = indexes.get(name, 0)
            indexes[name] = index + 1
            content = "".join(dice.choices('ab"\\\né漢😀 ', k=dice.randrange(1, 9)))
            stream.publish("chat", StreamChunk(name, content, index))
    return reader.pending_blocks()


def read(frames: list[bytes]) -> list[tuple[int, Event]]:
    lines = [line for frame in frames for line in frame.split(b"\n")]
    return [(msgspec.json.decode(line)["seq"], event_decoder.decode(line)) for line in lines]


def told(events: list[tuple[int, Event]]) -> dict[str, list[str]]:
    """Return what is told of each turn: its text between the other things that happen in it."""
    said: dict[str, list[str]] = {}
    for _, event in events:
        match event:
            case StreamChunk():
                turn = said.setdefault(event.request_id, [""])
                turn[-1] += event.content
            case StreamPhase():
                said.setdefault(event.request_id, [""]).extend((event.detail, ""))
            case _:
                raise AssertionError(event)
    return said


def test_joined_chunks_say_the_same_in_the_same_order_in_fewer_lines() -> None:
    for seed in range(20):
        blocks = numbered(800, seed)
        plain, frames = read(blocks), join_chunks(blocks, 4_096)
        joined = read(frames)
        assert told(joined) == told(plain)
        assert len(joined) < len(plain) / 3
        numbers = [seq for seq, _ in joined]
        assert numbers == sorted(set(numbers)) and numbers[-1] == plain[-1][0]


def test_each_frame_holds_all_up_to_its_last_number() -> None:
    """Whoever resumes behind any frame misses nothing and gets nothing twice."""
    blocks = numbered(800, 3)
    plain, got = read(blocks), list[tuple[int, Event]]()
    for frame in join_chunks(blocks, 2_048):
        got += read([frame])
        last = got[-1][0]
        assert told(got) == told([(seq, event) for seq, event in plain if seq <= last])
    pieces: dict[str, list[int]] = {}
    for _, event in got:
        if isinstance(event, StreamChunk):
            places = range(event.chunk_index, event.chunk_index + event.pieces)
            pieces.setdefault(event.request_id, []).extend(places)
    assert all(places == list(range(len(places))) for places in pieces.values())


def snapshot(*turns: ActiveTurn) -> Snapshot:
    platform = PlatformInfo("1", "/home", "here", 1, 0.0, ProviderChoice("scripted", "m", "M", "because"))
    return Snapshot("e", 1, platform, [], [], list(turns), 0)


def turn(name: str, content: str, reasoning: str = "", **more: object) -> ActiveTurn:
    return ActiveTurn(name, "apollo-ai", "s", "why", 0.0, content=content, reasoning=reasoning, **more)  # pyright: ignore[reportArgumentType]


def test_what_a_snapshot_leaves_out_and_what_comes_behind_it_are_the_whole() -> None:
    long = "".join(map(str, range(30_000)))
    whole = snapshot(
        turn("a", long, "think " * 900), turn("b", "short", long), turn("c", "tiny"), turn("d", "")
    )
    cut, pieces = split(whole)
    rest = {name: ["", ""] for name in "abcd"}
    left = {one.request_id: one.left_out for one in cut.turns}
    for piece in pieces:
        rest[piece.request_id][0] += piece.content
        rest[piece.request_id][1] += piece.reasoning
        left[piece.request_id] -= len(piece.content) + len(piece.reasoning)
        assert left[piece.request_id] == piece.left and len(piece.content + piece.reasoning) <= PIECE_CHARS
    assert not any(left.values())
    for before, after in zip(whole.turns, cut.turns, strict=True):
        assert len(after.content) <= TAIL_CHARS and len(after.reasoning) <= TAIL_CHARS
        content, reasoning = rest[before.request_id]
        assert (content + after.content, reasoning + after.reasoning) == (before.content, before.reasoning)


def test_a_snapshot_stays_whole_where_it_is_short_or_calls_stand_in_its_text() -> None:
    short = snapshot(turn("a", "x" * WHOLE_CHARS))
    assert split(short)[0] is short and not list(split(short)[1])
    calling = turn("a", "x" * 2 * WHOLE_CHARS, parts=[TextPart("x" * 2 * WHOLE_CHARS)])
    cut, pieces = split(snapshot(calling, turn("b", "y" * WHOLE_CHARS)))
    assert cut.turns[0] == calling and cut.turns[1].left_out == WHOLE_CHARS - TAIL_CHARS
    assert {piece.request_id for piece in pieces} == {"b"}
