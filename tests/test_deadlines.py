"""Time limits: what came in time counts, also when the loop could not look; silence ends in time."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from backend.deadlines import loop_timeout

BOUND_S = 60.0


@pytest.mark.parametrize("steps", range(6))
async def test_what_came_while_the_loop_stood_still_counts(steps: int) -> None:
    """Whatever the loop is doing when it stalls: before anybody listens, or long after."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)

        async def read() -> bytes:
            async with loop_timeout(0.04):
                return await asyncio.get_running_loop().sock_recv(ours, 100)

        reading = asyncio.create_task(read())
        for _ in range(steps):
            await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251 - the stall
        theirs.send(b"here")
        assert await asyncio.wait_for(reading, BOUND_S) == b"here"


async def test_silence_is_noticed_although_the_loop_stalls_again_and_again() -> None:
    loop = asyncio.get_running_loop()

    def stall() -> None:
        nonlocal busy
        time.sleep(0.01)
        busy = loop.call_soon(stall)

    busy = loop.call_soon(stall)
    try:
        with pytest.raises(TimeoutError):
            async with loop_timeout(0.01):
                await loop.create_future()
    finally:
        busy.cancel()


async def test_nothing_is_left_after_a_block_that_ended_in_time_and_none_has_no_limit() -> None:
    for seconds in (0.01, None):
        async with loop_timeout(seconds):
            await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # past the limit, which is not for us any more


async def test_a_caller_that_is_cancelled_is_cancelled_and_not_late() -> None:
    async def wait() -> None:
        async with loop_timeout(BOUND_S):
            await asyncio.get_running_loop().create_future()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
