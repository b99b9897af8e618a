"""The frame clock: who draws when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter, thread_time

from textual.app import App, ComposeResult

from tekton_tui.runtime.frame_scheduler import (
    INPUT_PAUSE_S,
    LONGEST_INPUT_PAUSE_S,
    SLICE_S,
    FrameScheduler,
)
from tekton_tui.transcript import Entry, Look, Transcript


class Client:
    """Draws, and notes that it did; asks again as often as it is told to."""

    def __init__(self, scheduler: FrameScheduler, *, again: int = 0, work_s: float = 0.0) -> None:
        self.scheduler, self.again, self.work_s = scheduler, again, work_s
        self.drawn: list[float] = []
        self.ticks: list[int] = []

    def frame(self) -> None:
        self.drawn.append(perf_counter())
        self.ticks.append(self.scheduler.ticks)
        end = thread_time() + self.work_s
        while thread_time() < end:
            pass
        if self.again > 0:
            self.again -= 1
            self.scheduler.request(self)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until something holds, at most some twenty seconds."""
    for _ in range(10000):
        if holds():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not come to hold")


async def test_everybody_who_asked_is_drawn_once_and_the_clock_stops() -> None:
    scheduler = FrameScheduler()
    clients = [Client(scheduler) for _ in range(18)]
    for client in clients:
        scheduler.request(client)
        scheduler.request(client)
    await until(lambda: not scheduler.running)
    assert [len(client.drawn) for client in clients] == [1] * 18


async def test_lanes_that_stream_without_end_get_frames_in_turn() -> None:
    scheduler = FrameScheduler()
    clients = [Client(scheduler, again=1_000) for _ in range(18)]
    for client in clients:
        scheduler.request(client)
    await until(lambda: min(len(client.drawn) for client in clients) >= 4)
    scheduler.stop()
    counts = [len(client.drawn) for client in clients]
    assert max(counts) - min(counts) <= 1


async def test_one_tick_takes_no_more_lanes_once_its_slice_is_used_up() -> None:
    scheduler = FrameScheduler()
    clients = [Client(scheduler, work_s=2 * SLICE_S) for _ in range(6)]
    for client in clients:
        scheduler.request(client)
    await until(lambda: not scheduler.running)
    ticks = [client.ticks[0] for client in clients]
    assert len(set(ticks)) == 6


async def test_an_answer_that_ended_is_drawn_with_the_next_tick_whoever_else_waits() -> None:
    scheduler = FrameScheduler()
    crowd = [Client(scheduler, again=1_000, work_s=SLICE_S) for _ in range(18)]
    for client in crowd:
        scheduler.request(client)
    ended = [Client(scheduler) for _ in range(3)]
    await until(lambda: scheduler.ticks >= 2)
    ticks = scheduler.ticks
    for client in ended:
        scheduler.request(client, urgent=True)
    await until(lambda: all(client.drawn for client in ended))
    scheduler.stop()
    assert [client.ticks for client in ended] == [[ticks + 1]] * 3


async def test_an_answer_that_ended_does_not_wait_for_the_next_frame_it_had_asked_for() -> None:
    scheduler = FrameScheduler()
    client = Client(scheduler)
    scheduler.request(client)
    await until(lambda: bool(client.drawn))
    scheduler.request(client)
    scheduler.request(client, urgent=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(client.drawn) == 2


async def test_after_a_key_lanes_wait_but_not_for_ever() -> None:
    scheduler = FrameScheduler()
    client = Client(scheduler, again=1_000)
    scheduler.request(client)
    await until(lambda: bool(client.drawn))
    begin = perf_counter()
    scheduler.pause_for_input()
    drawn = len(client.drawn)
    await until(lambda: len(client.drawn) > drawn)
    assert client.drawn[drawn] - begin >= INPUT_PAUSE_S
    drawn, begin = len(client.drawn), perf_counter()
    async with asyncio.timeout(60):
        while len(client.drawn) < drawn + 2:
            scheduler.pause_for_input()
            await asyncio.sleep(0.001)
    scheduler.stop()
    assert client.drawn[-1] - client.drawn[-2] >= LONGEST_INPUT_PAUSE_S - INPUT_PAUSE_S


async def test_who_went_away_is_not_drawn() -> None:
    scheduler = FrameScheduler()
    gone, stays = Client(scheduler), Client(scheduler)
    scheduler.request(gone, urgent=True)
    scheduler.request(stays)
    scheduler.forget(gone)
    await until(lambda: not scheduler.running)
    assert stays.drawn and not gone.drawn


async def test_who_cannot_be_drawn_keeps_no_other_from_its_frame() -> None:
    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reported.append(context.get("exception")))
    scheduler = FrameScheduler()
    broken, crowd = Client(scheduler), [Client(scheduler) for _ in range(18)]
    broken.frame = lambda: reported[2]  # type: ignore[method-assign, assignment]
    for client in (broken, *crowd):
        scheduler.request(client)
    await until(lambda: not scheduler.running)
    assert [len(client.drawn) for client in crowd] == [1] * 18
    assert [type(error) for error in reported] == [IndexError]


class Lane(App[None]):
    """Makes its scheduler as the console does: before it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.frame_scheduler = FrameScheduler()

    def compose(self) -> ComposeResult:
        yield Transcript(look=Look(header=False), bar=False)


async def test_text_for_what_was_taken_off_the_screen_is_not_drawn() -> None:
    app, failed = Lane(), list[object]()
    async with app.run_test() as pilot:
        await pilot.pause()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failed.append(context))
        view = app.query_one(Transcript)
        view.begin(Entry("s", "apollo", "answer", ""))
        await view.remove()
        view.append_text("s", "late")
        await until(lambda: not app.frame_scheduler.running)
    assert failed == []
