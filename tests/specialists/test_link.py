"""The client end of the socket: many turns, broken connections, cancels that are confirmed or not."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from tiny import TinyProvider, spec_with

from backend.registry.ports import bind
from backend.schema.frames import Pong, Request, StreamChunk, StreamEnd, StreamError
from backend.specialists.apichannel import ApiChannel
from backend.specialists.link import Channel, Frames, Link, LinkBroken, NoAnswer

BOUND_S = 20.0


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


async def open_link(served: Any) -> Link:
    return await Link.open("127.0.0.1", served.spec.port, ai_id="apollo-ai")


@pytest.fixture(params=["socket", "endpoint"])
async def channel(request: pytest.FixtureRequest, serve: Any) -> Any:
    """Return a channel of either transport with its provider: both keep the same promises."""
    served = await serve()
    if request.param == "socket":
        opened: Channel = await open_link(served)
    else:
        opened = ApiChannel(served.spec, lambda kind: served.provider)
    yield opened, served.provider
    opened.close()


async def test_calls_are_answered_by_either_transport(channel: Any) -> None:
    link, _ = channel
    pong = await link.call(Request(type="ping"), timeout_s=BOUND_S)
    assert isinstance(pong, Pong) and pong.ai_id == "apollo-ai"
    health = await link.call(Request(type="health", request_id="mine"), timeout_s=BOUND_S)
    assert health.status == "healthy" and health.request_id == "mine"


async def test_turns_run_side_by_side_and_lines_are_the_frames_as_json(channel: Any) -> None:
    link, _ = channel
    turns = [Turn() for _ in range(10)]
    for number, turn in enumerate(turns):
        link.start_turn(Request(content="slow", request_id=f"r{number}"), turn.take)
    for number, turn in enumerate(turns):
        end = await turn.end()
        assert isinstance(end, StreamEnd) and end.request_id == f"r{number}" and turn.text == "w0 w1 w2 "
        for batch in turn.batches:
            for frame, line in zip(batch.frames, batch.block.split(b"\n"), strict=True):
                assert b"\n" not in line
                assert msgspec.json.decode(line, type=type(frame)) == frame


async def test_a_cancel_is_confirmed_after_the_upstream_was_closed(channel: Any) -> None:
    link, provider = channel
    turn = Turn()
    link.start_turn(Request(content="hang", request_id="r1"), turn.take)
    await asyncio.wait_for(turn.begun.wait(), BOUND_S)
    assert await link.cancel("r1", timeout_s=BOUND_S)
    assert provider.closed == 1
    end = await turn.end()
    assert end.metadata.finish_reason == "cancelled"
    assert not await link.cancel("r1", timeout_s=BOUND_S), "it ended already"


async def test_a_closed_channel_ends_open_turns_as_errors_and_refuses_calls(channel: Any) -> None:
    link, provider = channel
    turn = Turn()
    link.start_turn(Request(content="hang", request_id="r1"), turn.take)
    await asyncio.wait_for(turn.begun.wait(), BOUND_S)
    link.close("the test is over")
    end = await turn.end()
    assert isinstance(end, StreamError) and end.code == "worker_lost" and "the test is over" in end.message
    with pytest.raises(LinkBroken):
        await link.call(Request(type="ping"), timeout_s=BOUND_S)
    assert await link.closed == "the test is over"
    late = Turn()
    link.start_turn(Request(content="hello", request_id="r2"), late.take)
    assert (await late.end()).code == "worker_lost"
    assert len(provider.calls) == 1


async def test_a_connection_that_breaks_ends_every_turn_once(serve: Any) -> None:
    served = await serve()
    link = await open_link(served)
    turns = [Turn(), Turn()]
    for number, turn in enumerate(turns):
        link.start_turn(Request(content="hang", request_id=f"r{number}"), turn.take)
        await asyncio.wait_for(turn.begun.wait(), BOUND_S)
    link._transport.abort()  # as the kernel does when the worker is killed
    for turn in turns:
        end = await turn.end()
        assert end.code == "worker_lost" and end.ai_id == "apollo-ai"
        assert (
            sum(isinstance(f, StreamEnd | StreamError) for batch in turn.batches for f in batch.frames) == 1
        )


async def test_nobody_at_the_port_is_told_at_once() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LinkBroken, match="cannot be reached"):
        await Link.open("127.0.0.1", port, ai_id="apollo-ai")


async def mute_server(reply: bytes = b"") -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(reply)
        await reader.read()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_a_specialist_that_does_not_answer_is_a_timeout_and_an_unconfirmed_cancel() -> None:
    async with await mute_server() as server:
        link = await Link.open("127.0.0.1", server.sockets[0].getsockname()[1], ai_id="apollo-ai")
        with pytest.raises(NoAnswer, match=r"within 0\.05 s"):
            await link.call(Request(type="ping"), timeout_s=0.05)
        turn = Turn()
        link.start_turn(Request(content="x", request_id="r1"), turn.take)
        assert not await link.cancel("r1", timeout_s=0.05)
        link.close()
        assert (await turn.end()).code == "worker_lost"


async def test_garbage_from_the_other_side_breaks_the_link_not_the_backend() -> None:
    async with await mute_server(b"HTTP/1.1 400 Bad Request\n") as server:
        link = await Link.open("127.0.0.1", server.sockets[0].getsockname()[1], ai_id="apollo-ai")
        turn = Turn()
        link.start_turn(Request(content="x", request_id="r1"), turn.take)
        assert "no frame" in (await turn.end()).message
        assert "no frame" in await link.closed


async def test_one_consumer_that_fails_does_not_end_the_others(serve: Any) -> None:
    link = await open_link(await serve())

    def fail(frames: Frames) -> None:
        raise RuntimeError("a mistake of the consumer")

    turn = Turn()
    link.start_turn(Request(content="slow", request_id="bad"), fail)
    link.start_turn(Request(content="slow", request_id="good"), turn.take)
    assert isinstance(await turn.end(), StreamEnd)
    link.close()


async def test_an_endpoint_that_is_not_well_says_so_through_health() -> None:

    provider = TinyProvider()
    provider.broken = "401 from the endpoint"
    channel = ApiChannel(spec_with(), lambda kind: provider)
    health = await channel.call(Request(type="health"), timeout_s=BOUND_S)
    assert health.status == "degraded" and "401" in health.detail
    channel.close()


async def test_a_process_that_says_nothing_is_not_taken_for_a_host_that_is_gone() -> None:
    gone = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        link = await Link.open("127.0.0.1", server.sockets[0].getsockname()[1], ai_id="apollo-ai")
        with pytest.raises(NoAnswer):
            await link.call(Request(type="ping"), timeout_s=0.2)
        assert not link.cut_off
        turn = Turn()
        link.start_turn(Request(content="hello", request_id="r1"), turn.take)
        link.abandon("its host is gone")
        assert "its host is gone" in (await turn.end()).message
        await asyncio.wait_for(gone.wait(), BOUND_S)
