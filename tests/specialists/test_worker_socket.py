"""The specialist socket, frame by frame, as clients that already exist speak it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tiny import TinyProvider

from backend.config import Timeouts
from backend.specialists.connection import MAX_IN_FLIGHT
from backend.wire import MAX_LINE_BYTES


async def test_a_ping_is_answered_with_id_and_time(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(type="ping")
    pong = await client.frame()
    assert pong.keys() == {"type", "ai_id", "timestamp"} and pong["type"] == "pong"
    assert pong["ai_id"] == "apollo-ai" and pong["timestamp"] > 1_700_000_000


async def test_info_tells_what_the_specialist_is(serve: Any) -> None:
    served = await serve(persona="p" * 500)
    client = await served.connect()
    client.send(type="info", request_id="i1")
    info = await client.frame()
    assert info["type"] == "info_response" and info["request_id"] == "i1"
    assert info["system_prompt"] == "p" * 200 and info["port"] == served.spec.port
    assert info["model"] == "scripted:tiny-1" and info["model_name"] == "tiny-1"
    assert info["capabilities"] == ["planning"] and info["context_window"] == 4096


async def test_health_asks_the_provider_not_only_the_port(serve: Any) -> None:
    served = await serve()
    client = await served.connect()
    client.send(type="health")
    healthy = await client.frame()
    assert (healthy["status"], healthy["clients"], healthy["detail"]) == ("healthy", 1, None)
    served.provider.broken = "the model is gone"
    client.send(type="health")
    assert await client.frame() == {**healthy, "status": "degraded", "detail": "the model is gone"}


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "chat", "content": "Hello"},
        {"content": "Hello"},
        {"type": "message", "content": "Hello"},
        {"message": "Hello"},
        {"type": "chat", "content": "Hello", "unheard_of": {"x": [1]}},
    ],
)
async def test_every_form_of_a_chat_gets_one_reply_in_one_line(serve: Any, frame: dict[str, Any]) -> None:
    client = await (await serve()).connect()
    client.send(**frame)
    reply = await client.frame()
    assert reply["type"] == "chat_response" and reply["content"] == "w0 w1 w2 "
    assert reply["model"] == "scripted:tiny-1" and reply["usage"] == {"input_tokens": 7, "output_tokens": 3}


async def test_a_streamed_chat_is_start_chunks_end(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(type="chat", content="slow", stream=True, request_id="r1")
    frames = await client.until("stream_end")
    assert [frame["type"] for frame in frames] == ["stream_start", *["stream_chunk"] * 3, "stream_end"]
    assert all(frame["request_id"] == "r1" for frame in frames)
    assert [frame["chunk_index"] for frame in frames[1:4]] == [0, 1, 2]
    facts = frames[-1]["metadata"]
    assert facts["total_chunks"] == 3 and facts["total_tokens"] == 3 and facts["finish_reason"] == "stop"
    assert 0 < facts["first_token_ms"] / 1000 <= facts["total_time"]
    assert facts["usage"] == {"input_tokens": 7, "output_tokens": 3}


async def test_phases_and_reasoning_come_only_to_who_asked_for_them(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(content="think", stream=True, request_id="plain")
    kinds = {frame["type"] for frame in await client.until("stream_end")}
    assert kinds == {"stream_start", "stream_chunk", "stream_end"}
    client.send(content="think", stream=True, request_id="rich", phases=True)
    frames = await client.until("stream_end")
    assert [f["phase"] for f in frames if f["type"] == "stream_phase"] == ["prefill", "streaming"]
    assert [f["content"] for f in frames if f["type"] == "stream_reasoning"] == ["hm "]


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


async def test_bad_json_and_wrong_types_are_named_and_the_connection_stays(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send_raw(b"{not json\n")
    assert (await client.frame())["code"] == "invalid_json"
    client.send_raw(b"[1]\n")
    assert (await client.frame())["code"] == "invalid_request"
    client.send(type="chat", content=7, request_id="r9")
    refused = await client.frame()
    assert refused["code"] == "invalid_request" and refused["request_id"] == "r9"
    client.send(type="dance")
    assert (await client.frame())["code"] == "unknown_type"
    client.send_raw(b"\xff\xfe\n")
    assert (await client.frame())["code"] == "invalid_json"
    client.send_raw(b"[" * 100_000 + b"\n")
    assert (await client.frame())["code"] in ("invalid_json", "invalid_request")
    client.send(type="ping")
    assert (await client.frame())["type"] == "pong"


async def test_frames_without_an_id_are_answered_in_the_order_they_came(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(content="slow")
    client.send_raw(b"{bad\n")
    client.send(type="ping")
    client.send(type="health")
    client.send(content="quick")
    kinds = [(await client.frame())["type"] for _ in range(5)]
    assert kinds == ["chat_response", "error", "pong", "health_response", "chat_response"]


async def test_frames_with_an_id_overtake_each_other(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(content="hang", stream=True, request_id="long")
    client.send(content="quick", request_id="short")
    client.send(type="ping", request_id="p")
    frames = [await client.frame() for _ in range(5)]
    assert {"chat_response", "pong"} <= {frame["type"] for frame in frames}


async def test_many_turns_run_at_once_on_one_connection(serve: Any) -> None:
    client = await (await serve()).connect()
    for number in range(40):
        client.send(content="slow", stream=True, request_id=f"r{number}")
    ended: dict[str, str] = {}
    text: dict[str, str] = {}
    while len(ended) < 40:
        frame = await client.frame()
        if frame["type"] == "stream_chunk":
            text[frame["request_id"]] = text.get(frame["request_id"], "") + frame["content"]
        elif frame["type"] == "stream_end":
            ended[frame["request_id"]] = frame["metadata"]["finish_reason"]
    assert set(ended.values()) == {"stop"} and set(text.values()) == {"w0 w1 w2 "}


async def test_too_many_requests_on_one_connection_are_refused_not_queued(serve: Any) -> None:
    served = await serve(places=MAX_IN_FLIGHT + 1)
    client = await served.connect()
    for number in range(MAX_IN_FLIGHT + 1):
        client.send(content="mute", request_id=f"r{number}")
    refused = await client.frame()
    assert refused["code"] == "too_many" and refused["request_id"] == f"r{MAX_IN_FLIGHT}"


async def test_an_id_in_use_is_refused_and_the_first_turn_goes_on(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(content="slow", stream=True, request_id="r1")
    client.send(content="slow", stream=True, request_id="r1")
    frames = await client.until("stream_end")
    assert [frame["code"] for frame in frames if frame["type"] == "error"] == ["conflict"]


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
    async with asyncio.timeout(5):
        while served.provider.closed == 0:
            other.send(type="ping")
            await other.frame()


async def test_a_client_that_only_stops_sending_still_gets_its_answer(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(content="slow")
    client.writer.write_eof()
    assert (await client.frame())["type"] == "chat_response"
    assert await client.line() == b""


@pytest.mark.parametrize(
    "request_line",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b'POST /chat HTTP/1.1\r\n\r\n{"content":"x"}\n', b"OPTIONS * "],
)
async def test_an_http_request_is_shut_out_at_once_and_drives_nothing(
    serve: Any, request_line: bytes
) -> None:
    served = await serve()
    client = await served.connect()
    client.send_raw(request_line)
    assert await client.line() == b""
    assert served.provider.calls == []
    other = await served.connect()
    other.send(type="ping")
    assert (await other.frame())["type"] == "pong"


async def test_a_line_too_long_is_told_and_closed_and_the_worker_stays(serve: Any) -> None:
    served = await serve()
    client = await served.connect()
    client.send_raw(b'{"content":"' + b"x" * MAX_LINE_BYTES)
    told = await client.frame()
    assert told["code"] == "line_too_long"
    assert await client.line() == b""
    other = await served.connect()
    other.send(content="y" * (MAX_LINE_BYTES - 100))
    assert (await other.frame())["type"] == "chat_response"


async def test_a_flood_of_tokens_leaves_in_few_writes_and_whole(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(content="flood 5000", stream=True, request_id="r1")
    frames = await client.until("stream_end")
    assert len(frames) == 5002 and frames[-2]["chunk_index"] == 4999


async def test_a_client_that_reads_nothing_holds_the_upstream_back(serve: Any) -> None:
    served = await serve()
    slow, quick = await served.connect(), await served.connect()
    slow.send(content="flood 2000000", stream=True, request_id="r1")
    for _ in range(3):
        quick.send(content="quick")
        assert (await quick.frame())["type"] == "chat_response"
    assert served.provider.closed == 3, "the unread turn waits, the others go on"


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
    assert len(served.said) == 2, "ready, then warm"


async def test_a_provider_that_cannot_be_prepared_fails_each_prompt_until_it_can(serve: Any) -> None:
    provider = TinyProvider()
    provider.broken = "no weights: run tekton models fetch"
    served = await serve(provider)
    client = await served.connect()
    client.send(content="hi")
    refused = await client.frame()
    assert (refused["code"], refused["message"]) == ("provider_unavailable", provider.broken)
    assert served.said[-1].problem == provider.broken
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


async def test_only_the_platform_may_change_a_specialists_model(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(type="configure", model="other")
    assert (await client.frame())["code"] == "unauthorized"
    client.send(type="configure", model="other", token="worker-secret")
    assert (await client.frame())["model"] == "scripted:other"
    client.send(content="hi")
    assert (await client.frame())["model"] == "scripted:other"


async def test_beyond_loopback_the_first_line_must_be_a_hello_with_the_token(serve: Any) -> None:
    served = await serve(host="10.0.0.5")
    for first in (
        {"type": "ping"},
        {"type": "hello", "token": "wrong"},
        {"type": "hello"},
        {"content": "hi"},
    ):
        client = await served.connect()
        client.send(**first)
        client.send(type="ping")
        assert (await client.frame())["code"] == "unauthorized"
        assert await client.line() == b""
    client = await served.connect()
    client.send(type="hello", token="worker-secret")
    client.send(type="ping")
    assert (await client.frame())["type"] == "pong"
    assert served.provider.calls == []


async def test_a_stopping_worker_ends_its_turns_with_an_error_frame_first(serve: Any) -> None:
    served = await serve()
    client = await served.connect()
    client.send(content="hang", stream=True, request_id="r1")
    await client.until("stream_chunk")
    await served.stop()
    assert (await client.until("stream_error"))[-1]["code"] == "worker_lost"
    assert served.provider.closed == 1 and served.provider.was_closed


async def test_a_reply_that_is_no_stream_arrives_in_one_write(serve: Any) -> None:
    served = await serve()
    client = await served.connect()
    client.send(content="flood 3000")
    first = await asyncio.wait_for(client.reader.read(1024 * 1024), 5)
    assert json.loads(first)["type"] == "chat_response"
