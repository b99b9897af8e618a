"""Server-sent events, read as clients written from the protocol page alone read them: httpx-sse and curl."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from httpx_sse import aconnect_sse

from tests.gateway.serving import Backend, start_backend

WAIT_S = 60.0


@pytest.fixture(scope="module")
def restless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A backend whose streams are silent for 0.1 s at most."""
    config = "[gateway]\nkeep_alive_s = 0.1\n"
    backend = start_backend(tmp_path_factory.mktemp("gw") / "home", launch=("apollo",), config=config)
    yield backend
    backend.stop()


async def frames_of(backend: Backend, method: str, path: str, **options: Any) -> list[dict[str, Any]]:
    """Read a stream to its end; every frame must be data only."""
    frames: list[dict[str, Any]] = []
    async with backend.http("chat") as http, aconnect_sse(http, method, path, **options) as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        async for event in stream.aiter_sse():
            assert (event.event, event.retry) == ("message", None)
            frames.append(event.json())
    return frames


@pytest.mark.parametrize("path", ["/api/chat/apollo/stream", "/api/v1/chat/apollo-ai/stream"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_chat_streams_chunks_and_a_summary_as_the_protocol_says(
    path: str, method: str, backend: Backend
) -> None:
    values: dict[str, Any] = {"message": "[[repeat 4]]", "temperature": 0.2, "max_tokens": 50}
    options = {"params": values} if method == "GET" else {"json": values}
    frames = await frames_of(backend, method, path, **options)
    chunks, last = frames[:-1], frames[-1]
    assert "".join(frame["content"] for frame in chunks).split() == [f"token{n}" for n in range(4)]
    for index, chunk in enumerate(chunks):
        assert chunk["type"] == "chunk"
        meta = chunk["metadata"]
        assert meta.keys() == {
            "chunk_index",
            "elapsed_time",
            "total_tokens_so_far",
            "specialist_id",
            "ai_name",
            "model",
        }
        assert (meta["chunk_index"], meta["total_tokens_so_far"]) == (index, index + 1)
        assert (meta["specialist_id"], meta["ai_name"]) == ("apollo-ai", "apollo")
    assert (last["type"], last["content"]) == ("complete", "")
    summary = last["summary"]
    assert summary.keys() >= {"total_chunks", "total_tokens", "total_time", "first_token_ms", "specialist_id", "model", "session_id"}  # fmt: skip
    assert (summary["total_chunks"], summary["specialist_id"]) == (4, "apollo-ai")


async def test_metadata_can_be_left_out_and_a_session_continued_under_either_name(backend: Backend) -> None:
    session = backend.ask("POST", "/api/v1/sessions", json={"owner": "athena"})["id"]
    for name in ("session_id", "context_id"):
        values = {"message": "hello", name: session, "include_metadata": False}
        frames = await frames_of(backend, "POST", "/api/chat/athena/stream", json=values)
        assert all(frame.keys() == {"type", "content"} for frame in frames[:-1])
        assert frames[-1]["summary"]["session_id"] == session
    rows = backend.ask("GET", f"/api/v1/sessions/{session}/messages")["messages"]
    assert [row["author"] for row in rows] == ["you", "athena-ai"] * 2


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (
            "/api/v1/bulk/stream",
            {"requests": [{"specialist_id": "apollo", "message": "[[first 0.5]] [[repeat 1]]"}]},
        ),
        ("/api/v1/chat/apollo/stream", {"message": "[[first 0.5]] [[repeat 1]]"}),
        ("/api/v1/chat/team/stream", {"message": "[[first 0.5]] [[repeat 1]]", "target_sockets": ["apollo"]}),
        ("/api/v1/pipelines/stream", {"pipeline": 'echo "[[first 0.5]] [[repeat 1]]" | apollo'}),
    ],
)
async def test_a_silent_stream_sends_comments_that_readers_of_events_do_not_see(
    path: str, values: dict[str, Any], restless: Backend
) -> None:
    frames = await frames_of(restless, "POST", path, json=values)
    async with restless.http("chat") as http:
        text = (await http.post(path, json=values)).text
    blocks = text.removesuffix("\n\n").split("\n\n")
    assert {block for block in blocks if not block.startswith("data: ")} == {": nothing yet"}
    assert [json.loads(block[6:])["type"] for block in blocks if block.startswith("data: ")] == [
        frame["type"] for frame in frames
    ]


async def test_a_failure_is_an_error_frame_with_what_had_come(backend: Backend) -> None:
    values = {"message": "[[repeat 9]] [[cut provider_unavailable]]"}
    frames = await frames_of(backend, "POST", "/api/chat/apollo/stream", json=values)
    last = frames[-1]
    assert [frame["type"] for frame in frames] == ["chunk"] * 3 + ["error"]
    assert last.keys() == {"type", "error", "code", "specialist_id", "partial_response"}
    assert (last["code"], last["specialist_id"]) == ("provider_unavailable", "apollo-ai")
    assert last["partial_response"] == {"chunks_received": 3, "tokens_received": 3}


async def test_a_specialist_that_does_not_run_is_an_error_frame_too(backend: Backend) -> None:
    (frame,) = await frames_of(backend, "POST", "/api/chat/sophia/stream", json={"message": "hello"})
    assert (frame["type"], frame["code"]) == ("error", "not_running")
    assert frame["partial_response"]["chunks_received"] == 0


async def test_a_team_streams_live_and_interleaved_and_names_who_failed(backend: Backend) -> None:
    values = {"message": "[[repeat 12]] [[rate 60]]", "target_sockets": ["apollo", "athena", "sophia"]}
    frames = await frames_of(backend, "POST", "/api/chat/team/stream", json=values)
    order = [frame["specialist_id"] for frame in frames if frame["type"] == "team_chunk"]
    changes = sum(a != b for a, b in pairwise(order))
    assert changes >= 6, "one after the other is not interleaved"
    for name in ("apollo", "athena"):
        own = [f for f in frames if f["type"] == "team_chunk" and f["specialist_name"] == name]
        assert [f["is_final"] for f in own] == [False] * 12 + [True]
        assert all(f.keys() == {"type", "specialist_id", "specialist_name", "content", "is_final", "metadata"} for f in own)  # fmt: skip
    (failed,) = [frame for frame in frames if frame["type"] == "specialist_error"]
    assert (failed["specialist_id"], failed["code"]) == ("sophia-ai", "not_running")
    assert failed["error"]
    summary = frames[-1]["summary"]
    assert frames[-1]["type"] == "team_complete"
    assert (summary["total_ais"], summary["completed_streams"], summary["failed"], summary["cancelled"]) == (
        3,
        2,
        1,
        0,
    )
    assert summary["total_time"] > 0


async def test_bulk_items_come_as_they_finish_and_are_counted_at_the_end(backend: Backend) -> None:
    requests = [
        {"specialist_id": "apollo", "message": "[[first 0.6]] slow"},
        {"specialist_id": "athena", "message": "quick"},
        {"specialist_id": "sophia", "message": "nobody there"},
    ]
    frames = await frames_of(backend, "POST", "/api/v1/bulk/stream", json={"requests": requests})
    assert (frames[0]["type"], frames[0]["count"]) == ("start", 3)
    items = frames[1:-1]
    assert [frame["type"] for frame in items] == ["item"] * 3
    assert items[-1]["index"] == 0, "the slow one is last, though first in the request"
    by_index = {item["index"]: item for item in items}
    assert by_index[1]["outcome"]["content"] == "You said: quick"
    assert (by_index[2]["ok"], by_index[2]["outcome"]["code"]) == (False, "not_running")
    last = frames[-1]
    assert (last["type"], last["ok"], last["failed"]) == ("complete", 2, 1)
    assert 0.6 <= last["wall_time"] <= last["sum_of_times"] + 5


async def test_a_pipeline_tells_its_stages_and_its_output_as_they_come(backend: Backend) -> None:
    values = {"pipeline": "apollo | athena", "input": "hello"}
    frames = await frames_of(backend, "POST", "/api/v1/pipelines/stream", json=values)
    assert frames[0]["type"] == "pipeline_start"
    assert frames[0]["stages"] == ["apollo", "athena"]
    done = [
        (f["stage"], f["state"]) for f in frames if f["type"] == "stage" and f["state"] in ("running", "done")
    ]
    assert sorted(set(done), key=done.index)[-1][1] == "done"
    output = "".join(f["content"] for f in frames if f["type"] == "stage_text")
    last = frames[-1]
    assert (last["type"], last["ok"]) == ("pipeline_end", True)
    assert output == last["output"] == "You said: You said: hello"


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/api/v1/bulk/stream", {"requests": []}, "invalid_request"),
        ("/api/v1/pipelines/stream", {"pipeline": "apollo | | athena"}, "invalid_request"),
        ("/api/v1/pipelines/stream", {"pipeline": "nobody-known"}, "unknown_specialist"),
        ("/api/chat/apollo/stream", {"message": "x", "temperature": "hot"}, "invalid_request"),
        ("/api/chat/apollo/stream", {"message": "x", "include_metadata": "perhaps"}, "invalid_request"),
    ],
)
async def test_what_cannot_be_started_is_an_answer_and_no_stream(
    path: str, body: object, code: str, backend: Backend
) -> None:
    async with backend.http("chat") as http:
        answer = await http.post(path, json=body)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["code"] == code


async def test_a_client_that_goes_away_ends_what_it_asked_for(backend: Backend) -> None:
    slow = "[[repeat 2000]] [[rate 20]]"
    bulk = {"requests": [{"specialist_id": "apollo", "message": slow}]}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("/api/chat/apollo/stream", {"message": slow}),
        ("/api/chat/team/stream", {"message": slow}),
        ("/api/v1/bulk/stream", bulk),
        ("/api/v1/pipelines/stream", {"pipeline": "apollo", "input": slow}),
    ]
    for path, body in calls:
        async with backend.http("chat") as http, http.stream("POST", path, json=body) as answer:
            pieces = answer.aiter_bytes()  # held: a reader that is let go of closes the stream
            await anext(pieces)
            await until_turns(
                backend, some=True
            )  # a bulk's first frame comes before its first turn is under way
        await until_turns(backend, some=False)


async def until_turns(backend: Backend, *, some: bool) -> None:
    """Wait until turns are under way, or none is any more."""
    async with asyncio.timeout(WAIT_S), backend.http("read") as http:
        while bool((await http.get("/api/v1/snapshot")).json().get("turns")) is not some:
            pass


async def test_clients_that_leave_at_once_leave_nothing_behind(backend: Backend) -> None:
    """Cut off between being admitted and being answered, at whatever moment that falls on."""
    for number in range(40):
        for path in ("/api/chat/apollo/stream", "/api/chat/team/stream"):
            name = f"left-{path[10:14].strip('/')}-{number}"
            async with backend.http("chat") as http:
                body = {"message": "[[repeat 500]] [[rate 20]]", "request_id": name}
                async with http.stream("POST", path, json=body):
                    pass
    async with asyncio.timeout(WAIT_S), backend.http("read") as http:
        while (state := (await http.get("/api/v1/snapshot")).json())["turns"] or state.get("teams"):
            pass
    answer = backend.ask("POST", "/api/team-chat", json={"message": "hello", "target_sockets": ["apollo"]})
    assert [row["content"] for row in answer["responses"]] == ["You said: hello"]


async def test_curl_sees_tokens_as_they_are_made(backend: Backend) -> None:
    """`curl -N` prints each frame when it comes: the first of an answer that would go on for a day, and is ended then."""
    config = f'header = "Authorization: Bearer {backend.token}"\n'
    asked = "message=%5B%5Brepeat%20900000%5D%5D%20%5B%5Brate%2010%5D%5D&request_id=curled"
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "-N", "--noproxy", "*", "-K", "-"),
        f"{backend.url}/api/chat/apollo/stream?{asked}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert curl.stdin is not None
    assert curl.stdout is not None
    curl.stdin.write(config.encode())
    curl.stdin.close()
    frames: list[dict[str, Any]] = []
    async with asyncio.timeout(WAIT_S):
        while line := await curl.stdout.readline():
            if not line.strip():
                continue
            assert line.startswith(b"data: ")
            frames.append(json.loads(line[6:]))
            if len(frames) == 3:
                async with backend.http() as http:
                    cancelled = await http.post("/api/v1/turns/curled/cancel", json={})
                    assert cancelled.is_success, cancelled.text
        assert await curl.wait() == 0
    assert {frame["type"] for frame in frames[:-1]} == {"chunk"} and len(frames) > 3
    assert frames[-1]["type"] != "chunk", "the stream has an end"


async def test_streams_are_written_down_as_such(backend: Backend) -> None:
    await frames_of(backend, "POST", "/api/chat/apollo/stream", json={"message": "noted"})
    recent = backend.ask("GET", "/api/v1/gateway")["recent"]
    assert next(row for row in recent if row["action"] == "chat stream")["transport"] == "sse"


async def test_buffered_answers_of_the_older_team_dialect_have_their_shape(backend: Backend) -> None:
    body = {
        "message": "hello",
        "moderation_mode": "pass_through",
        "target_sockets": ["apollo", "sophia"],
        "timeout": 20,
    }
    async with httpx.AsyncClient(
        base_url=backend.url, headers=backend.auth("chat"), trust_env=False, timeout=60
    ) as http:
        answer = (await http.post("/api/team-chat", json=body)).json()
        sockets = (await http.get("/api/team-chat/sockets")).json()
        fresh = await http.post("/api/team-chat/sockets/athena/reset")
    assert answer.keys() >= {"request_id", "responses", "failures", "moderation_mode", "synthesis", "consensus", "timestamp", "elapsed_time"}  # fmt: skip
    (response,) = answer["responses"]
    assert response.keys() == {"socket_id", "content", "timestamp", "metadata"}
    assert (response["socket_id"], response["content"]) == ("apollo-ai", "You said: hello")
    (failure,) = answer["failures"]
    assert (failure["socket_id"], failure["code"]) == ("sophia-ai", "not_running")
    assert {row["socket_id"] for row in sockets["sockets"]} >= {"apollo-ai", "athena-ai"}
    assert fresh.json()["owner"] == "athena-ai"


async def test_a_bulk_of_a_known_id_is_joined_and_another_one_under_it_is_refused_in_words(
    backend: Backend,
) -> None:
    slow = {
        "request_id": "twice",
        "requests": [{"specialist_id": "apollo", "message": "[[repeat 2000]] [[rate 20]]"}],
    }
    async with (
        backend.http("chat") as http,
        http.stream("POST", "/api/v1/bulk/stream", json=slow) as first,
    ):
        pieces = first.aiter_bytes()
        await anext(pieces)
        await until_turns(backend, some=True)
        async with http.stream("POST", "/api/v1/bulk/stream", json=slow) as joined:
            assert joined.status_code == 200
        other = {**slow, "requests": [{"specialist_id": "apollo", "message": "something else"}]}
        second = await http.post("/api/v1/bulk/stream", json=other)
        assert (second.status_code, second.json()["error"]["code"]) == (409, "conflict")
    await until_turns(backend, some=False)
    log = (backend.home.logs / "backend.log").read_text(encoding="utf-8", errors="replace")
    assert "Exception in ASGI application" not in log
