"""The client end of the socket: many turns, broken connections, cancels that are confirmed or not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import pytest

from backend.registry.ports import bind
from backend.schema.frames import HealthResponse, Pong, Request, StreamChunk, StreamEnd, StreamError
from backend.specialists.endpoint_client import EndpointClient
from backend.specialists.worker_client import Channel, ChannelClosed, Frames, ReplyTimeout, WorkerClient
from tests.specialists.tiny import TinyProvider, spec_with

T = TypeVar("T")
BOUND_S = 60.0


class Turn:
    def __init__(self) -> None:
        self.batches: list[Frames] = []
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    def take(self, frames: Frames) -> None:
        self.batches.append(frames)
        if any(isinstance(frame, StreamChunk) for frame in frames.frames):
            self.begun.set()
        if isinstance(frames.frames[-1], StreamEnd | StreamError):
            self.ended.set()

    async def end(self) -> Any:
        await asyncio.wait_for(self.ended.wait(), BOUND_S)
        return self.batches[-1].frames[-1]

    @property
    def text(self) -> str:
        return "".join(
            f.content for batch in self.batches for f in batch.frames if isinstance(f, StreamChunk)
        )


async def open_client(served: Any) -> WorkerClient:
    return await WorkerClient.open("127.0.0.1", served.spec.port, ai_id="apollo-ai")


@pytest.fixture(params=["socket", "endpoint"])
async def channel(request: pytest.FixtureRequest, serve: Any) -> Any:
    """Return a channel of either transport with its provider: both keep the same promises."""
    served = await serve()
    if request.param == "socket":
        opened: Channel = await open_client(served)
    else:
        opened = EndpointClient(served.spec, lambda kind: served.provider)
    yield opened, served.provider
    opened.close()


async def test_calls_are_answered_by_either_transport(channel: Any) -> None:
    client, _ = channel
    pong = await client.call(Request(type="ping"), timeout_s=BOUND_S)
    assert isinstance(pong, Pong) and pong.ai_id == "apollo-ai"
    health = await client.call(Request(type="health", request_id="mine"), timeout_s=BOUND_S)
    assert health.status == "healthy" and health.request_id == "mine"


async def test_turns_run_side_by_side_and_lines_are_the_frames_as_json(channel: Any) -> None:
    client, _ = channel
    turns = [Turn() for _ in range(10)]
    for number, turn in enumerate(turns):
        client.start_turn(Request(content="slow", request_id=f"r{number}"), turn.take)
    for number, turn in enumerate(turns):
        end = await turn.end()
        assert isinstance(end, StreamEnd) and end.request_id == f"r{number}" and turn.text == "w0 w1 w2 "
        for batch in turn.batches:
            for frame, line in zip(batch.frames, batch.block.split(b"\n"), strict=True):
                assert b"\n" not in line
                assert msgspec.json.decode(line, type=type(frame)) == frame


async def test_a_cancel_is_confirmed_after_the_upstream_was_closed(channel: Any) -> None:
    client, provider = channel
    turn = Turn()
    client.start_turn(Request(content="hang", request_id="r1"), turn.take)
    await asyncio.wait_for(turn.begun.wait(), BOUND_S)
    assert await client.cancel("r1", timeout_s=BOUND_S)
    assert provider.closed == 1
    end = await turn.end()
    assert end.metadata.finish_reason == "cancelled"
    assert not await client.cancel("r1", timeout_s=BOUND_S), "it ended already"


async def test_a_closed_channel_ends_open_turns_as_errors_and_refuses_calls(channel: Any) -> None:
    client, provider = channel
    turn = Turn()
    client.start_turn(Request(content="hang", request_id="r1"), turn.take)
    await asyncio.wait_for(turn.begun.wait(), BOUND_S)
    client.close("the test is over")
    end = await turn.end()
    assert isinstance(end, StreamError) and end.code == "worker_lost" and "the test is over" in end.message
    with pytest.raises(ChannelClosed):
        await client.call(Request(type="ping"), timeout_s=BOUND_S)
    assert await client.closed == "the test is over"
    late = Turn()
    client.start_turn(Request(content="hello", request_id="r2"), late.take)
    assert (await late.end()).code == "worker_lost"
    assert len(provider.calls) == 1


async def test_a_connection_that_breaks_ends_every_turn_once(serve: Any) -> None:
    served = await serve()
    client = await open_client(served)
    turns = [Turn(), Turn()]
    for number, turn in enumerate(turns):
        client.start_turn(Request(content="hang", request_id=f"r{number}"), turn.take)
        await asyncio.wait_for(turn.begun.wait(), BOUND_S)
    assert client._transport is not None
    client._transport.abort()  # as the kernel does when the worker is killed
    for turn in turns:
        end = await turn.end()
        assert end.code == "worker_lost" and end.ai_id == "apollo-ai"
        assert (
            sum(isinstance(f, StreamEnd | StreamError) for batch in turn.batches for f in batch.frames) == 1
        )


async def test_nobody_at_the_port_is_told_at_once() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ChannelClosed, match="cannot be reached"):
        await WorkerClient.open("127.0.0.1", port, ai_id="apollo-ai")


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 6, 8])
async def test_a_backend_that_stands_still_does_not_take_its_own_silence_for_the_workers(
    serve: Any, steps: int
) -> None:
    """A machine without time for us: what lies there when we come back was in time."""
    served = await serve()
    limit_s, stall_s = 0.2, 0.5

    async def stalled(work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        for _ in range(steps):
            await asyncio.sleep(0)
        time.sleep(stall_s)  # noqa: ASYNC251 - the stall
        return await asyncio.wait_for(task, BOUND_S)

    client = await stalled(
        WorkerClient.open("127.0.0.1", served.spec.port, ai_id="apollo-ai", timeout_s=limit_s)
    )
    assert isinstance(await stalled(client.call(Request(type="ping"), timeout_s=limit_s)), Pong)
    turn = Turn()
    client.start_turn(Request(content="hang", request_id="r1"), turn.take)
    await asyncio.wait_for(turn.begun.wait(), BOUND_S)
    assert await stalled(client.cancel("r1", timeout_s=limit_s))
    client.close()


async def test_a_place_that_takes_no_connection_is_told_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with contextlib.ExitStack() as waiting:
            for _ in range(3):  # who waits for `accept` fills its queue
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            with pytest.raises(ChannelClosed, match=r"no connection within 0\.2 s"):
                await WorkerClient.open(*full.getsockname(), ai_id="apollo-ai", timeout_s=0.2)


async def mute_server(reply: bytes = b"") -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(reply)
        await reader.read()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_a_specialist_that_does_not_answer_is_a_timeout_and_an_unconfirmed_cancel() -> None:
    async with await mute_server() as server:
        client = await WorkerClient.open("127.0.0.1", server.sockets[0].getsockname()[1], ai_id="apollo-ai")
        with pytest.raises(ReplyTimeout, match=r"within 0\.05 s"):
            await client.call(Request(type="ping"), timeout_s=0.05)
        turn = Turn()
        client.start_turn(Request(content="x", request_id="r1"), turn.take)
        assert not await client.cancel("r1", timeout_s=0.05)
        client.close()
        assert (await turn.end()).code == "worker_lost"


async def test_garbage_from_the_other_side_breaks_the_link_not_the_backend() -> None:
    async with await mute_server(b"HTTP/1.1 400 Bad Request\n") as server:
        client = await WorkerClient.open("127.0.0.1", server.sockets[0].getsockname()[1], ai_id="apollo-ai")
        turn = Turn()
        client.start_turn(Request(content="x", request_id="r1"), turn.take)
        assert "no frame" in (await turn.end()).message
        assert "no frame" in await client.closed


async def test_one_consumer_that_fails_does_not_end_the_others(serve: Any) -> None:
    client = await open_client(await serve())

    def fail(frames: Frames) -> None:
        raise RuntimeError("a mistake of the consumer")

    turn = Turn()
    client.start_turn(Request(content="slow", request_id="bad"), fail)
    client.start_turn(Request(content="slow", request_id="good"), turn.take)
    assert isinstance(await turn.end(), StreamEnd)
    client.close()


async def test_an_endpoint_that_is_not_well_says_so_through_health() -> None:

    provider = TinyProvider()
    provider.broken = "401 from the endpoint"
    channel = EndpointClient(spec_with(), lambda kind: provider)
    health = await channel.call(Request(type="health"), timeout_s=BOUND_S)
    assert isinstance(health, HealthResponse)
    assert health.status == "degraded" and health.detail and "401" in health.detail
    channel.close()


async def test_a_process_that_says_nothing_is_not_taken_for_a_host_that_is_gone() -> None:
    gone = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        client = await WorkerClient.open("127.0.0.1", server.sockets[0].getsockname()[1], ai_id="apollo-ai")
        with pytest.raises(ReplyTimeout):
            await client.call(Request(type="ping"), timeout_s=0.2)
        assert not client.unacknowledged
        turn = Turn()
        client.start_turn(Request(content="hello", request_id="r1"), turn.take)
        client.abort("its host is gone")
        assert "its host is gone" in (await turn.end()).message
        await asyncio.wait_for(gone.wait(), BOUND_S)
