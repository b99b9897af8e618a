"""What the gateway refuses to swallow: bodies, heads, frames, crowds and clients that do not go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from backend.wire import MAX_LINE_BYTES
from tests.gateway.serving import Backend

MIB = 1024 * 1024
SMALL = """
[gateway]
max_body_bytes = 20000
max_connections = 2
max_streams = 2
max_open = 12
head_timeout_s = 0.3
"""
WAIT_S = 60.0


@pytest.fixture
def small(new_backend: Callable[..., Backend]) -> Backend:
    """A backend with small limits and nobody launched but apollo."""
    return new_backend(config=SMALL, launch=("apollo",))


def address(backend: Backend) -> str:
    return f"{backend.url.replace('http', 'ws')}/ws"


async def raw(backend: Backend, data: bytes) -> bytes:
    """Send bytes on a connection of its own and return all that comes until the gateway closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(backend.url.rpartition(":")[2]))
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
    try:
        async with asyncio.timeout(WAIT_S):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_limits_of_the_settings_hold_for_bodies_streams_sockets_and_slow_heads(small: Backend) -> None:
    await bodies_are_bounded(small)
    await heads_are_bounded(small)
    await slow_clients_are_let_go(small)
    await streams_are_counted(small)
    await sockets_are_counted(small)
    await connections_are_counted(small)


async def bodies_are_bounded(backend: Backend) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 1000

    async with backend.http() as http:
        fits = {"message": "x" * 15_000}
        assert (await http.post("/api/v1/chat/apollo", json=fits)).status_code == 200
        large = await http.post("/api/v1/chat/apollo", json={"message": "x" * 30_000})
        assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
        endless = await http.post("/api/v1/chat/apollo", content=pieces())
        assert (endless.status_code, endless.json()["error"]["code"]) == (413, "too_large")


async def heads_are_bounded(backend: Backend) -> None:
    start = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    for head in (b"X-Long: " + b"x" * 70_000, b"\r\n".join(b"X-%d: y" % n for n in range(200))):
        answer = await raw(backend, start + head + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'"code":"too_large"' in answer
    answer = await raw(backend, b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    answer = await raw(backend, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_request"


async def slow_clients_are_let_go(backend: Backend) -> None:
    half_head = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
    half_body = (
        b"POST /api/v1/match HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "
        + backend.token.encode()
        + b'\r\nContent-Length: 500\r\n\r\n{"query":'
    )
    for data in (b"", half_head, half_body):
        answer = await raw(backend, data)
        assert answer.startswith(b"HTTP/1.1 408 ")


async def streams_are_counted(backend: Backend) -> None:
    slow = {"message": "[[repeat 50]] [[rate 2]]"}
    async with backend.http() as http, contextlib.AsyncExitStack() as stack:
        pieces: list[AsyncIterator[bytes]] = []
        for _ in range(2):
            answer = await stack.enter_async_context(
                http.stream("POST", "/api/chat/apollo/stream", json=slow)
            )
            pieces.append(answer.aiter_bytes())
            await anext(pieces[-1])
        third = await http.post("/api/chat/apollo/stream", json=slow)
        assert (third.status_code, third.json()["error"]["code"]) == (429, "too_many")
        assert "max_streams" in third.json()["error"]["message"]
        said = {"messages": [{"role": "user", "content": "hi"}]}
        dialects = {
            "/v1/chat/completions": said,
            "/v1/responses": {"input": "hi"},
            "/v1/messages": {**said, "max_tokens": 9},
            "/api/chat": said,
        }
        for path, body in dialects.items():
            refused = await http.post(path, json={"model": "apollo", "stream": True, **body})
            assert (refused.status_code, "max_streams" in refused.text) == (429, True), path


async def sockets_are_counted(backend: Backend) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            socket = connect(address(backend), additional_headers=backend.auth(), proxy=None)
            await stack.enter_async_context(socket)
        with pytest.raises(InvalidStatus) as refused:
            async with connect(address(backend), additional_headers=backend.auth(), proxy=None):
                pass
        assert refused.value.response.status_code == 429
        assert b"max_connections" in (refused.value.response.body or b"")


async def connections_are_counted(backend: Backend) -> None:
    """Of thirty half requests that come at once twice a dozen are waited for; whoever has a token is served."""
    head = b"GET /api/v1/platform HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    async with backend.http() as http:
        assert (await http.get("/api/v1/platform")).status_code == 200
        strangers = asyncio.gather(*(raw(backend, head) for _ in range(30)))
        for _ in range(5):
            assert (await http.get("/api/v1/platform")).status_code == 200
        answers = await strangers
    assert 0 < sum(answer.startswith(b"HTTP/1.1 408 ") for answer in answers) <= 24


async def test_a_frame_beyond_the_limit_closes_its_connection_and_no_other(backend: Backend) -> None:
    async with (
        connect(address(backend), additional_headers=backend.auth(), proxy=None) as good,
        connect(address(backend), additional_headers=backend.auth(), proxy=None) as bad,
    ):
        await good.recv()
        await bad.recv()
        with contextlib.suppress(ConnectionClosed):
            await bad.send("x" * (MAX_LINE_BYTES + 1))
            await bad.recv()
        assert bad.close_code in (1009, 1006)
        await good.send('{"type":"ping","request_id":"still here"}')
        assert json.loads(await good.recv())["request_id"] == "still here"


async def test_more_calls_than_one_connection_may_have_are_refused_by_name(backend: Backend) -> None:
    session = backend.ask("POST", "/api/v1/sessions", json={"owner": "apollo"})["id"]
    async with connect(address(backend), additional_headers=backend.auth(), proxy=None) as socket:
        await socket.recv()
        for number in range(257):
            call = {
                "type": "chat",
                "ai_id": "apollo",
                "session_id": session,
                "content": "[[first 60]]",
                "request_id": f"crowd-{number}",
            }
            await socket.send(json.dumps(call))
        refused = await next_of(socket, "error")
        assert (refused["code"], refused["request_id"]) == ("too_many", "crowd-256")
        for number in range(256):
            await socket.send(
                json.dumps({"type": "cancel", "target": f"crowd-{number}", "request_id": f"end-{number}"})
            )
        ended = set[str]()
        while len(ended) < 256:
            answer = json.loads(await asyncio.wait_for(socket.recv(), WAIT_S))
            if answer["type"] in ("error", "result") and str(answer["request_id"]).startswith("crowd-"):
                ended.add(answer["request_id"])


async def next_of(socket: ClientConnection, kind: str) -> dict[str, object]:
    while True:
        answer = json.loads(await asyncio.wait_for(socket.recv(), WAIT_S))
        if answer["type"] == kind:
            return answer


async def test_a_client_that_does_not_read_holds_nobody_up_and_gets_everything_later(
    backend: Backend,
) -> None:
    options = {
        "additional_headers": backend.auth(),
        "proxy": None,
        "max_size": None,
        "max_queue": 4,
        "close_timeout": 0.1,
    }
    async with (
        connect(address(backend), **options) as slow,  # type: ignore[arg-type]
        connect(address(backend), **options) as quick,  # type: ignore[arg-type]
    ):
        for socket in (slow, quick):
            await socket.recv()
            await socket.send('{"type":"subscribe","request_id":"s","topics":["chat"],"batch":true}')
            await next_of(socket, "snapshot")
        await quick.send(json.dumps({"type": "chat", "ai_id": "athena", "content": "[[repeat 20000]]", "request_id": "flood-1"}))  # fmt: skip
        assert await tokens(quick, "flood-1") == list(range(20_000))
        assert await tokens(slow, "flood-1") == list(range(20_000))


async def tokens(socket: ClientConnection, request_id: str) -> list[int]:
    """Return the indices of a turn's chunks, read to its end."""
    seen: list[int] = []
    while True:
        frame = await asyncio.wait_for(socket.recv(), 30)
        for line in str(frame).split("\n"):
            event = json.loads(line)
            if event.get("request_id") == request_id and event["type"] == "stream_chunk":
                seen.append(event["chunk_index"])
            if event["type"] == "stream_end" and event["request_id"] == request_id:
                return seen
