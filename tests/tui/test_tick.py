"""The frame clock: who draws when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter, thread_time

from tekton_tui.tick import GIVE_WAY_S, PATIENCE_S, SLICE_S, FrameTick


class Client:
    """Draws, and notes that it did; asks again as often as it is told to."""

    def __init__(self, tick: FrameTick, *, again: int = 0, work_s: float = 0.0) -> None:
        self.tick, self.again, self.work_s = tick, again, work_s
        self.drawn: list[float] = []
        self.beats: list[int] = []

    def frame(self) -> None:
        self.drawn.append(perf_counter())
        self.beats.append(self.tick.beats)
        end = thread_time() + self.work_s
        while thread_time() < end:
            pass
        if self.again > 0:
            self.again -= 1
            self.tick.request(self)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until something holds, at most some twenty seconds."""
    for _ in range(10000):
        if holds():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not come to hold")


async def test_everybody_who_asked_is_drawn_once_and_the_clock_stops() -> None:
    tick = FrameTick()
    clients = [Client(tick) for _ in range(18)]
    for client in clients:
        tick.request(client)
        tick.request(client)
    await until(lambda: not tick.running)
    assert [len(client.drawn) for client in clients] == [1] * 18


async def test_lanes_that_stream_without_end_get_frames_in_turn() -> None:
    tick = FrameTick()
    clients = [Client(tick, again=1_000) for _ in range(18)]
    for client in clients:
        tick.request(client)
    await until(lambda: min(len(client.drawn) for client in clients) >= 4)
    tick.stop()
    counts = [len(client.drawn) for client in clients]
    assert max(counts) - min(counts) <= 1


async def test_one_beat_takes_no_more_lanes_once_its_slice_is_used_up() -> None:
    tick = FrameTick()
    clients = [Client(tick, work_s=2 * SLICE_S) for _ in range(6)]
    for client in clients:
        tick.request(client)
    await until(lambda: not tick.running)
    beats = [client.beats[0] for client in clients]
    assert len(set(beats)) == 6


async def test_an_answer_that_ended_is_drawn_with_the_next_beat_whoever_else_waits() -> None:
    tick = FrameTick()
    crowd = [Client(tick, again=1_000, work_s=SLICE_S) for _ in range(18)]
    for client in crowd:
        tick.request(client)
    ended = [Client(tick) for _ in range(3)]
    await until(lambda: tick.beats >= 2)
    beats = tick.beats
    for client in ended:
        tick.request(client, urgent=True)
    await until(lambda: all(client.drawn for client in ended))
    tick.stop()
    assert [client.beats for client in ended] == [[beats + 1]] * 3


async def test_an_answer_that_ended_does_not_wait_for_the_next_frame_it_had_asked_for() -> None:
    tick = FrameTick()
    client = Client(tick)
    tick.request(client)
    await until(lambda: bool(client.drawn))
    tick.request(client)
    tick.request(client, urgent=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(client.drawn) == 2


async def test_after_a_key_lanes_wait_but_not_for_ever() -> None:
    tick = FrameTick()
    client = Client(tick, again=1_000)
    tick.request(client)
    await until(lambda: bool(client.drawn))
    begin = perf_counter()
    tick.give_way()
    drawn = len(client.drawn)
    await until(lambda: len(client.drawn) > drawn)
    assert client.drawn[drawn] - begin >= GIVE_WAY_S
    drawn, begin = len(client.drawn), perf_counter()
    async with asyncio.timeout(20):
        while len(client.drawn) < drawn + 2:
            tick.give_way()
            await asyncio.sleep(0.001)
    tick.stop()
    assert client.drawn[-1] - client.drawn[-2] >= PATIENCE_S - GIVE_WAY_S


async def test_who_went_away_is_not_drawn() -> None:
    tick = FrameTick()
    gone, stays = Client(tick), Client(tick)
    tick.request(gone, urgent=True)
    tick.request(stays)
    tick.forget(gone)
    await until(lambda: not tick.running)
    assert stays.drawn and not gone.drawn
