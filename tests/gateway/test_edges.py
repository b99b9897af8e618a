"""What strangers' clients make of our answers: nothing is asked twice, slow ones cost nobody else, refusals are plain."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import httpx2
import openai
import pytest

from tests.gateway.serving import Backend

BOUND_S = 60.0


def turns_of(backend: Backend) -> int:
    """Return how many turns were asked of anybody."""
    rows = backend.ask("GET", "/api/v1/specialists")["specialists"]
    return sum(row["performance"]["total_requests"] for row in rows)


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return `(id, value)` of each frame of a stream."""
    found: list[tuple[str, dict[str, Any]]] = []
    for block in filter(None, text.split("\n\n")):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("id", ""), json.loads(fields["data"])))
    return found


async def test_a_reader_of_events_that_comes_back_asks_nobody_again(backend: Backend) -> None:
    path, query = "/api/chat/apollo/stream", {"message": "[[repeat 6]]"}
    before = turns_of(backend)
    async with backend.http() as http:
        http.headers["Accept"] = "text/event-stream"
        first = events_of((await http.get(path, params=query)).text)
        assert all(name for name, _ in first) and first[-1][0].endswith("/end")
        again = await http.get(path, params=query, headers={"Last-Event-ID": first[-1][0]})
        assert (again.status_code, again.content) == (204, b"")
        for cut in range(len(first) - 1):
            rest = await http.get(path, params=query, headers={"Last-Event-ID": first[cut][0]})
            later = events_of(rest.text)
            assert [name for name, _ in later] == [name for name, _ in first[cut + 1 :]]
            assert [value.get("content") for _, value in later] == [
                v.get("content") for _, v in first[cut + 1 :]
            ]
        for strange in ("", "nonsense", "r-unknown/3", first[0][0] + "9" * 30, "a/-1"):
            assert (await http.get(path, params=query, headers={"Last-Event-ID": strange})).status_code == 204
        team = await http.get(
            "/api/chat/team/stream", params={"message": "hi"}, headers={"Last-Event-ID": "t/4"}
        )
        assert team.status_code == 204
    assert turns_of(backend) == before + 1


@pytest.mark.parametrize("who", ["apollo", "nobody", "sophia"])
async def test_a_stream_that_fails_is_not_begun_again_either(backend: Backend, who: str) -> None:
    path = f"/api/chat/{who}/stream"
    async with backend.http() as http:
        http.headers["Accept"] = "text/event-stream"
        failed = events_of((await http.get(path, params={"message": "[[fail provider_auth]]"})).text)
        assert failed[-1][1]["type"] == "error" and failed[-1][0].endswith("/end")
        again = await http.get(path, params={"message": "x"}, headers={"Last-Event-ID": failed[-1][0]})
        assert again.status_code == 204


FAULTS = [
    "provider_unavailable", "provider_auth", "provider_rate_limited", "model_not_found", "context_overflow", "stalled",
    "timeout", "internal", "budget_exceeded",
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_sdk_of_openai_at_its_defaults_asks_once_whatever_fails(
    backend: Backend, fault: str
) -> None:
    before = turns_of(backend)
    http = httpx2.AsyncClient(trust_env=False)
    async with openai.AsyncOpenAI(
        base_url=f"{backend.url}/v1", api_key=backend.token, http_client=http
    ) as client:
        message: Any = {"role": "user", "content": f"[[fail {fault}]]"}
        with pytest.raises(openai.APIStatusError) as failed:
            await client.chat.completions.create(model="apollo", messages=[message])
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert failed.value.status_code in (400, 404, 424), "a status that no SDK repeats by itself"
    assert turns_of(backend) == before + 1


async def test_nothing_that_lasts_is_told_as_passing(backend: Backend) -> None:
    async with backend.http() as http:
        stopped = await http.post("/api/v1/chat/sophia", json={"message": "hi"})
        assert (stopped.status_code, stopped.json()["error"]["code"]) == (400, "not_running")
        limited = await http.post("/api/v1/chat/apollo", json={"message": "[[fail provider_rate_limited]]"})
        assert limited.status_code == 424 and limited.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(limited.headers.get("retry-after", "1")) <= 3600


async def test_a_stream_of_v1_says_something_before_the_first_token(backend: Backend) -> None:
    body = {"model": "apollo", "stream": True, "messages": [{"role": "user", "content": "[[first 3]] late"}]}
    async with backend.http() as http, http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        seen = [piece async for piece in answer.aiter_text()]
    assert ": nothing yet" in "".join(seen[:2]) and "late" not in "".join(seen[:2])
    assert "late" in "".join(seen) and "[DONE]" in seen[-1]


async def test_parameters_of_v1_are_used_refused_or_named(backend: Backend) -> None:
    base = {"model": "apollo", "messages": [{"role": "user", "content": "hi"}]}
    async with backend.http() as http:
        for name, value, meant in [
            ("temprature", 0.1, "temperature"), ("max_token", 5, "max_tokens"), ("tool_choice", "required", "tool_choice"),
            ("modalities", ["audio"], "modalities"), ("web_search_options", {"x": 1}, "web_search_options"),
        ]:  # fmt: skip
            refused = await http.post("/v1/chat/completions", json={**base, name: value})
            assert refused.status_code == 400 and meant in refused.json()["error"]["message"], refused.text
            assert refused.json()["error"]["param"] == name
        hinted = await http.post(
            "/v1/chat/completions", json={**base, "top_k": 1, "logit_bias": {"5": 1}, "user": "me"}
        )
        assert hinted.headers["x-tekton-unused"] == "logit_bias, top_k"
        assert hinted.json()["warnings"] == [
            "logit_bias is not passed on to specialists", "top_k is not passed on to specialists"
        ]  # fmt: skip
        plain = await http.post("/v1/chat/completions", json=base)
        assert "x-tekton-unused" not in plain.headers and "warnings" not in plain.json()


async def test_a_wrong_method_and_an_encoded_body_are_told_as_such(backend: Backend) -> None:
    async with backend.http() as http:
        wrong = await http.delete("/api/v1/fleet/launch")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
        assert (await http.put("/api/v1/orchestration")).headers["allow"] == "GET, HEAD, PATCH, POST"
        assert (await http.get("/nowhere")).status_code == 404
        packed = await http.post("/api/v1/match", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
        assert packed.status_code == 415 and "gzip" in packed.json()["error"]["message"]


async def test_a_page_of_an_allowed_origin_may_call_and_no_other(new_backend: Callable[..., Backend]) -> None:
    page, other = "https://desk.example", "https://evil.example"
    backend = new_backend(config=f'[gateway]\nallowed_origins = ["{page}"]\n')
    ask = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with backend.http() as http, httpx.AsyncClient(base_url=backend.url, trust_env=False) as plain:
        asked = await plain.options("/api/v1/match", headers={"Origin": page, **ask})
        assert asked.status_code == 200 and asked.headers["access-control-allow-origin"] == page
        assert "authorization" in asked.headers["access-control-allow-headers"].lower()
        answer = await http.post("/api/v1/match", json={"query": "plan"}, headers={"Origin": page})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == page
        refused = await plain.options("/api/v1/match", headers={"Origin": other, **ask})
        assert "access-control-allow-origin" not in refused.headers
        assert (
            await http.post("/api/v1/match", json={"query": "plan"}, headers={"Origin": other})
        ).status_code == 403


@contextlib.asynccontextmanager
async def strangers(backend: Backend, count: int) -> AsyncIterator[None]:
    """Hold connections that send a body of megabytes a byte at a time, without a token."""
    port = int(backend.url.rpartition(":")[2])
    head = b"POST /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 8000000\r\n\r\n"

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(head)
                    while not writer.is_closing():
                        writer.write(b"x")
                        await writer.drain()
                        await asyncio.sleep(0.2)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    try:
        await asyncio.sleep(0.5)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # until what was aborted is closed


async def left(writer: asyncio.StreamWriter) -> None:
    """End a connection whatever is still to be sent, and wait until it is closed."""
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_slow_strangers_do_not_shut_the_operator_out(new_backend: Callable[..., Backend]) -> None:
    backend = new_backend(config="[gateway]\nmax_open = 20\nhead_timeout_s = 5\n")
    answers: list[object] = []
    async with strangers(backend, 40):
        for _ in range(30):
            try:
                async with backend.http() as http:  # a connection of its own each time
                    answers.append((await http.get("/api/v1/platform")).status_code)
            except httpx.HTTPError as error:
                answers.append(error)
    assert answers == [200] * 30


async def test_a_body_that_comes_too_slowly_is_not_waited_for(new_backend: Callable[..., Backend]) -> None:
    backend = new_backend(config="[gateway]\nhead_timeout_s = 0.3\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(backend.url.rpartition(":")[2]))
    auth = backend.auth()["Authorization"]
    writer.write(f"POST /api/v1/match HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {auth}\r\n".encode())
    writer.write(b"Content-Length: 90000\r\n\r\n")

    async def drip() -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(BOUND_S):
        answer = await reader.read()
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"bytes a second" in answer
    await left(writer)


async def test_who_sends_much_that_is_refused_reads_why(backend: Backend) -> None:
    """A client that sends its whole body before it reads, as many do, must not meet a reset instead of the answer."""
    limit = 9_000_000
    reader, writer = await asyncio.open_connection("127.0.0.1", int(backend.url.rpartition(":")[2]))
    auth = backend.auth()["Authorization"]
    head = f"POST /api/v1/chat/apollo HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {auth}\r\nContent-Length: {limit}\r\n\r\n"
    writer.write(head.encode() + b"x" * limit)
    async with asyncio.timeout(BOUND_S):
        await writer.drain()
        answer = await reader.read()
    assert (
        answer.startswith(b"HTTP/1.1 413 ")
        and b"too_large" in answer
        and b"connection: close" in answer.lower()
    )
    assert answer.count(b"HTTP/1.1") == 1, "and nothing behind it"
    await left(writer)


async def test_a_client_that_reads_nothing_before_all_is_sent_reads_why_it_was_refused(
    backend: Backend,
) -> None:
    body = b"x" * 100_000_000
    async with backend.http() as http:
        refused = await http.post("/api/v1/chat/apollo", content=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
        stranger = await http.post(
            "/api/v1/chat/apollo", content=body, headers={"Authorization": "Bearer no"}
        )
        assert stranger.status_code == 401


async def test_who_goes_on_sending_what_is_refused_is_let_go(backend: Backend) -> None:
    _reader, writer = await asyncio.open_connection("127.0.0.1", int(backend.url.rpartition(":")[2]))
    head = "POST /api/v1/chat/apollo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000000\r\n\r\n"
    writer.write(head.encode())
    block = b"x" * 1_000_000
    async with asyncio.timeout(BOUND_S):
        with pytest.raises(ConnectionError):
            for _ in range(200):
                writer.write(block)
                await writer.drain()
    await left(writer)


async def test_two_requests_sent_together_are_both_answered(backend: Backend) -> None:
    """The second is being read while the first is answered: that is no body left over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(backend.url.rpartition(":")[2]))
    one = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    writer.write(one + one[:30])
    first = await asyncio.wait_for(reader.readuntil(b"}"), BOUND_S)
    writer.write(one[30:])
    second = await asyncio.wait_for(reader.readuntil(b"}"), BOUND_S)
    assert first.startswith(b"HTTP/1.1 200") and second.startswith(b"HTTP/1.1 200")
    await left(writer)


async def test_a_control_call_that_cannot_be_audited_is_done_and_told_so(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend(launch=("apollo",))
    audit = backend.home.logs / "control-audit.log"
    audit.unlink(missing_ok=True)
    audit.mkdir()
    async with backend.http() as http:
        killed = await http.post("/api/v1/fleet/kill", json={"ids": ["apollo"]})
        assert killed.status_code == 200 and killed.json()["results"][0]["ok"]
        errors = (await http.get("/api/v1/errors")).json()["errors"]
    assert any("kill was done, but not written down" in row["message"] for row in errors)


async def test_one_piece_of_nine_megabytes_costs_nobody_anything(backend: Backend) -> None:
    """An upstream that sends its whole answer in one piece: it is cut before the wire, whose lines are bounded."""
    async with backend.http() as http:
        own, other = [
            (await http.post("/api/v1/sessions", json={"owner": "apollo"})).json()["id"] for _ in "12"
        ]
        slow = {"message": "[[repeat 40]] [[rate 40]]", "session_id": own}
        beside = asyncio.create_task(http.post("/api/v1/chat/apollo", json=slow))
        huge = {"message": "[[repeat 1000000]] [[pieces 9000000]]", "session_id": other}
        large = await http.post("/api/v1/chat/apollo", json=huge)
        assert large.status_code == 200 and large.json()["content"].endswith("token999999")
        said = await beside
        assert said.status_code == 200, f"the turns beside it lived on the same link: {said.text}"
