"""Turns of a worker: their order, their end by a cancel, a clock or a fault, and what goes up for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from backend.config import Timeouts
from backend.providers.base import Completed, CompletionRequest, Signature, StreamItem, ToolPiece
from backend.schema.content import Abilities
from backend.schema.frames import Usage
from tests.specialists.tiny import TinyProvider


@pytest.mark.parametrize(
    ("spec", "asked", "sent"),
    [
        ({"temperature": 0.5, "temperature_by_role": True}, {}, (0.5, None)),
        ({"temperature": 0.5}, {}, (0.5, 0.5)),
        ({"temperature": 0.5, "temperature_by_role": True}, {"temperature": 0.7}, (0.7, 0.7)),
        ({"temperature_by_role": True}, {}, (None, None)),
    ],
)
async def test_a_temperature_somebody_asked_for_is_told_from_the_roles_own(
    serve: Any, spec: dict[str, Any], asked: dict[str, Any], sent: tuple[float | None, float | None]
) -> None:
    served = await serve(**spec)
    client = await served.connect()
    client.send(content="Hello", **asked)
    await client.frame()
    [call] = served.provider.calls
    assert (call.temperature, call.wished_temperature) == sent


async def test_a_failure_of_the_model_is_an_error_frame_never_text(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(content="fail", stream=True, request_id="r1")
    last = (await client.until("stream_error"))[-1]
    assert last["code"] == "internal" and last["error"] == last["message"] == "the stream was cut"
    assert last["evidence"] == "upstream said no"
    client.send(content="fail")
    reply = await client.frame()
    assert reply["type"] == "error" and reply["message"] == "the stream was cut"


@pytest.mark.parametrize("content", ["", "   \n"])
async def test_empty_content_is_an_invalid_request_and_no_upstream_call(serve: Any, content: str) -> None:
    served = await serve()
    client = await served.connect()
    client.send(type="chat", content=content)
    assert (await client.frame())["code"] == "invalid_request"
    client.send(type="chat", content=content, stream=True, request_id="r1")
    assert (await client.until("stream_error"))[-1]["code"] == "invalid_request"
    assert served.provider.calls == []


async def test_cancel_closes_the_upstream_and_then_confirms(serve: Any) -> None:
    served = await serve()
    client = await served.connect()
    client.send(content="hang", stream=True, request_id="r1")
    await client.until("stream_chunk")
    assert served.provider.closed == 0
    client.send(type="cancel", request_id="r1")
    end = (await client.until("stream_end"))[-1]
    assert served.provider.closed == 1
    assert end["metadata"]["finish_reason"] == "cancelled" and end["metadata"]["usage"]["estimated"]


async def test_a_cancel_on_the_very_next_line_is_not_missed(serve: Any) -> None:
    served = await serve()
    client = await served.connect()
    client.send_raw(
        b'{"content":"hang","stream":true,"request_id":"r1"}\n{"type":"cancel","request_id":"r1"}\n'
    )
    end = (await client.until("stream_end"))[-1]
    assert end["metadata"]["finish_reason"] == "cancelled"
    assert served.provider.calls == []


async def test_a_cancelled_plain_chat_is_answered_with_what_there_is(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(content="hang", request_id="r1")
    client.send(type="ping", request_id="p")
    await client.frame()
    client.send(type="cancel", request_id="r1")
    reply = await client.frame()
    assert reply["type"] == "chat_response" and reply["finish_reason"] == "cancelled"


async def test_cancel_of_an_unknown_turn_is_an_error(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(type="cancel", request_id="never")
    refused = await client.frame()
    assert refused["code"] == "invalid_request" and "never" in refused["message"]


async def test_one_client_cannot_cancel_anothers_turn(serve: Any) -> None:
    served = await serve()
    first, second = await served.connect(), await served.connect()
    first.send(content="hang", stream=True, request_id="r1")
    await first.until("stream_chunk")
    second.send(type="cancel", request_id="r1")
    assert (await second.frame())["type"] == "error"
    assert served.provider.closed == 0


async def test_a_client_that_vanishes_takes_its_turns_with_it(serve: Any) -> None:
    served = await serve()
    client = await served.connect()
    client.send(content="hang", stream=True, request_id="r1")
    await client.until("stream_chunk")
    client.writer.transport.abort()
    other = await served.connect()
    async with asyncio.timeout(60):
        while served.provider.closed == 0:
            other.send(type="ping")
            await other.frame()


async def test_a_client_that_only_stops_sending_still_gets_its_answer(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(content="slow")
    client.writer.write_eof()
    assert (await client.frame())["type"] == "chat_response"
    assert await client.line() == b""


async def test_turns_beyond_the_cap_wait_in_line_and_see_their_place(serve: Any) -> None:
    served = await serve(places=1)
    client = await served.connect()
    client.send(content="hang", stream=True, request_id="first")
    await client.until("stream_chunk")
    for name in ("second", "third"):
        client.send(content="quick", stream=True, request_id=name, phases=True)
    places: list[tuple[str, int]] = []
    while len(places) < 2:
        frame = await client.frame()
        if frame["type"] == "stream_phase":
            places.append((frame["request_id"], frame["position"]))
    assert places == [("second", 1), ("third", 2)]
    client.send(type="cancel", request_id="second")
    while (frame := await client.frame())["type"] != "stream_phase":
        pass
    assert (frame["request_id"], frame["position"]) == ("third", 1)
    client.send(type="cancel", request_id="first")
    ends: dict[str, str] = {}
    while len(ends) < 3:
        frame = await client.frame()
        if frame["type"] == "stream_end":
            ends[frame["request_id"]] = frame["metadata"]["finish_reason"]
    assert ends == {"first": "cancelled", "second": "cancelled", "third": "stop"}


async def test_chats_that_come_while_the_provider_warms_wait_and_say_so(serve: Any) -> None:
    provider = TinyProvider()
    provider.prepared.clear()
    served = await serve(provider)
    client = await served.connect()
    client.send(type="health", request_id="h")
    assert "warming" in (await client.frame())["detail"]
    client.send(content="hi", stream=True, request_id="r1", phases=True)
    start, waiting = await client.frame(), await client.frame()
    assert start["type"] == "stream_start"
    assert (waiting["phase"], waiting["detail"]) == ("queued", "warming")
    provider.prepared.set()
    assert (await client.until("stream_end"))[-1]["metadata"]["finish_reason"] == "stop"
    assert len(served.reported) == 2, "ready, then warm"


async def test_a_provider_that_cannot_be_prepared_fails_each_prompt_until_it_can(serve: Any) -> None:
    provider = TinyProvider()
    provider.broken = "no weights: run tekton models fetch"
    served = await serve(provider)
    client = await served.connect()
    client.send(content="hi")
    refused = await client.frame()
    assert (refused["code"], refused["message"]) == ("provider_unavailable", provider.broken)
    assert served.reported[-1].problem == provider.broken
    provider.broken = ""
    client.send(content="hi")
    assert (await client.frame())["type"] == "chat_response"
    assert len(provider.calls) == 1


async def test_no_first_token_in_time_ends_the_turn_as_an_error(serve: Any) -> None:
    served = await serve(timeouts=Timeouts(first_token=0.05))
    client = await served.connect()
    client.send(content="mute", stream=True, request_id="r1")
    last = (await client.until("stream_error"))[-1]
    assert last["code"] == "provider_unavailable" and "0.05 s" in last["message"]
    assert served.provider.closed == 1


async def test_a_stream_that_pauses_is_stalled_and_goes_on_unless_it_is_to_be_cut(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(content="hang", stream=True, request_id="r1", phases=True, stall_after_s=0.05)
    frames = await client.until("stream_phase")
    while frames[-1].get("phase") != "stalled":
        frames.append(await client.frame())
    assert frames[-1]["detail"] == "no token for 0.05 s"
    cutting = await (await serve(timeouts=Timeouts(between_tokens=0.05, cut_stalled=True))).connect()
    cutting.send(content="hang", stream=True, request_id="r2")
    assert (await cutting.until("stream_error"))[-1]["code"] == "stalled"


async def test_one_prompt_is_one_upstream_call_under_every_fault(serve: Any) -> None:
    served = await serve(timeouts=Timeouts(first_token=0.05, between_tokens=0.05, cut_stalled=True))
    client = await served.connect()
    for number, prompt in enumerate(("fail", "mute", "hang", "quick")):
        client.send(content=prompt, request_id=f"r{number}")
        await client.frame()
        assert len(served.provider.calls) == number + 1
    assert served.provider.closed == 4


async def test_tokens_are_counted_by_the_provider(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(type="count_tokens", texts=["a b", "c"])
    assert (await client.frame())["counts"] == [2, 1]


async def test_a_stopping_worker_ends_its_turns_with_an_error_frame_first(serve: Any) -> None:
    served = await serve()
    client = await served.connect()
    client.send(content="hang", stream=True, request_id="r1")
    await client.until("stream_chunk")
    await served.stop()
    assert (await client.until("stream_error"))[-1]["code"] == "worker_lost"
    assert served.provider.closed == 1 and served.provider.was_closed


HALVES = {"id": "c\ud83d", "name": "f\ude00", "arguments": '{"x":"\ud800"}'}


@pytest.mark.parametrize("stream", [True, False], ids=["in pieces", "in one piece"])
async def test_halves_of_characters_in_a_call_for_a_tool_cost_no_turn(serve: Any, stream: bool) -> None:
    class Halving(TinyProvider):
        async def abilities(self, model: str) -> Abilities:
            return Abilities(tools=True)

        async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
            yield ToolPiece(0, **HALVES)
            yield Signature("S\ud83d", "n\ude00")
            yield Completed("tool_calls", Usage(1, 1))

    client = await (await serve(Halving())).connect()
    client.send(content="x", stream=stream, request_id="r1", phases=True, options={"tools": [{"name": "f"}]})
    frames = await client.until("stream_end") if stream else [await client.frame()]
    text = json.dumps(frames, ensure_ascii=False)
    for whole in ("c\ufffd", "f\ufffd", '{\\"x\\":\\"\ufffd\\"}', "S\ufffd", "n\ufffd"):
        assert whole in text
