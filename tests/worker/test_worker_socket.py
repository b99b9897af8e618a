"""The specialist socket, frame by frame, as clients that already exist speak it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from backend.wire import MAX_LINE_BYTES
from backend.worker.connection import MAX_IN_FLIGHT


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


async def test_bad_json_and_wrong_types_are_named_and_the_connection_stays(serve: Any) -> None:
    client = await (await serve()).connect()
    client.send(type="ping")
    assert (await client.frame())["type"] == "pong"
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


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b'POST /chat HTTP/1.1\r\n\r\n{"content":"x"}\n',
        b"OPTIONS * ",
        b'patch / HTTP/1.1\r\n\r\n{"content":"x"}\n',
        b'VERSION-CONTROL / HTTP/1.1\r\n\r\n{"content":"x"}\n',
        b'\r\nPOST / HTTP/1.1\r\n\r\n{"content":"x"}\n',
        b'\x16\x03\x01\x02\x00\x01\n{"content":"x"}\n',
        b'{"half\n{"content":"x"}\n',
        b"[1]\n",
    ],
)
async def test_a_first_line_that_is_no_json_object_closes_and_drives_nothing(
    serve: Any, request_line: bytes
) -> None:
    served = await serve()
    client = await served.connect()
    client.send_raw(request_line)
    assert (await client.frame())["code"] == "invalid_json"
    assert await client.line() == b""
    assert served.provider.calls == []
    other = await served.connect()
    other.send(type="ping")
    assert (await other.frame())["type"] == "pong"


async def test_a_line_too_long_is_told_and_closed_and_the_worker_stays(serve: Any) -> None:
    served = await serve()
    client = await served.connect()
    client.send(type="ping")
    assert (await client.frame())["type"] == "pong"
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


async def test_a_reply_that_is_no_stream_arrives_in_one_write(serve: Any) -> None:
    served = await serve()
    client = await served.connect()
    client.send(content="flood 3000")
    first = await asyncio.wait_for(client.reader.read(1024 * 1024), 60)
    assert json.loads(first)["type"] == "chat_response"
