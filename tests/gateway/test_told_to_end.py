"""A backend told to end by SIGTERM ends all that is under way visibly: in every stream, in history, in the error log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from typing import Any

import httpx
import psutil

from backend.specialists.killall import kill_all
from tests.gateway.serving import END_S, Backend, start_backend

BOUND_S = 60.0
SLOW = "[[repeat 2000]] [[rate 20]]"
ASKS: list[tuple[str, dict[str, Any], str]] = [
    ("/api/v1/chat/apollo/stream", {"message": SLOW, "request_id": "runs"}, "error"),
    ("/api/v1/chat/apollo/stream", {"message": "waits", "request_id": "waits"}, "error"),
    ("/api/v1/chat/team/stream", {"message": SLOW, "request_id": "team"}, "team_complete"),
    ("/api/v1/pipelines/stream", {"pipeline": "athena", "input": SLOW, "request_id": "pipe"}, "pipeline_end"),
]


async def last_frame(
    backend: Backend, path: str, body: dict[str, Any], begun: asyncio.Event
) -> dict[str, Any]:
    last: dict[str, Any] = {}
    async with backend.http() as http, http.stream("POST", path, json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                last = json.loads(line.removeprefix("data: "))
                begun.set()
    return last


async def under_way(backend: Backend, count: int) -> None:
    async with backend.http() as http, asyncio.timeout(BOUND_S):
        while len((await http.get("/api/v1/snapshot")).json()["turns"]) < count:
            pass


async def test_every_stream_has_a_last_frame_and_nobody_is_said_to_have_cancelled(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend(launch=("apollo", "athena"))
    streams: list[asyncio.Task[dict[str, Any]]] = []
    for path, body, _ in ASKS:
        streams.append(asyncio.create_task(last_frame(backend, path, body, asyncio.Event())))
        await under_way(backend, len(streams))
    await under_way(backend, 5)  # two members of the team among them
    backend.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(BOUND_S):
        ends = await asyncio.gather(*streams)
    backend.process.wait(END_S)
    assert [end.get("type") for end in ends] == [kind for _, _, kind in ASKS]
    assert ends[0]["code"] == ends[1]["code"] == "backend_lost"
    assert ends[2]["summary"]["failed"] == 2 and not ends[3]["ok"] and ends[3]["code"] == "backend_lost"

    again = start_backend(backend.home.root)
    backend.url, backend.process = again.url, again.process
    rows = [
        row
        for session in backend.ask("GET", "/api/v1/sessions")["sessions"]
        for row in backend.ask("GET", f"/api/v1/sessions/{session['id']}/messages")["messages"]
    ]
    codes = {row["request_id"]: row.get("error_code") for row in rows if row["role"] == "assistant"}
    assert codes == dict.fromkeys(codes, "backend_lost") and {"runs", "waits"} <= codes.keys()
    assert [row["content"] for row in rows if row["request_id"] == "waits" and row["role"] == "user"] == [
        "waits"
    ]
    errors = backend.ask("GET", "/api/v1/errors")["errors"]
    assert {error["code"] for error in errors} == {"backend_lost"}
    [run] = backend.ask("GET", "/api/v1/pipelines", params={"run_id": "pipe"})["runs"]
    assert run["code"] == "backend_lost"


NEW: list[tuple[str, dict[str, Any], set[str]]] = [
    ("/api/v1/chat/apollo/stream", {"message": SLOW}, {"error"}),
    ("/api/v1/chat/team/stream", {"message": SLOW}, {"error", "team_complete"}),
    ("/api/v1/pipelines/stream", {"pipeline": "athena", "input": SLOW}, {"pipeline_end"}),
    (
        "/api/v1/bulk/stream",
        {"requests": [{"specialist_id": "apollo", "message": SLOW}]},
        {"error", "complete"},
    ),
]
"""Streams, and the frames that may end them when the backend is told to end as they are asked for."""


async def test_who_has_connected_when_it_is_told_to_end_is_answered_all_the_same(
    new_backend: Callable[..., Backend],
) -> None:
    """Held still for a moment, it finds many connections and the word to end at the same time."""
    backend = new_backend(launch=("apollo", "athena"))

    async def ask(path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        async with backend.http() as http, http.stream("POST", path, json=body) as answer:
            if answer.status_code != 200:
                return [json.loads(await answer.aread())]
            return [
                json.loads(line.removeprefix("data: "))
                async for line in answer.aiter_lines()
                if line.startswith("data: ")
            ]

    asked = [(path, body, ends) for path, body, ends in NEW for _ in range(8)]
    backend.process.send_signal(signal.SIGSTOP)
    streams = [asyncio.create_task(ask(path, body)) for path, body, _ in asked]
    port, wanted = int(backend.url.rpartition(":")[2]), len(asked)
    async with asyncio.timeout(BOUND_S):
        while connected(port) < wanted:  # noqa: ASYNC110 - the system tells nobody
            await asyncio.sleep(0.01)
    backend.process.send_signal(signal.SIGTERM)
    backend.process.send_signal(signal.SIGCONT)
    async with asyncio.timeout(BOUND_S):
        answers = await asyncio.gather(*streams)
    backend.process.wait(END_S)
    await asyncio.to_thread(kill_all, backend.home, grace_s=1.0)  # SIGTERM leaves the fleet running
    for (path, _, ends), frames in zip(asked, answers, strict=True):
        last = frames[-1]
        if "type" not in last:
            assert last["error"]["code"] == "backend_lost", (path, last)
            continue
        assert last["type"] in ends, (path, last)
        if last["type"] == "team_complete":
            failed = {frame["specialist_id"] for frame in frames if frame["type"] == "specialist_error"}
            assert failed == {"apollo-ai", "athena-ai"}, frames
        assert "is not open" not in json.dumps(frames)


def connected(port: int) -> int:
    """Return how many clients the system has connected to a port of this machine, read or not."""
    rows = psutil.net_connections("tcp")
    return sum(
        row.status == psutil.CONN_ESTABLISHED and bool(row.laddr) and row.laddr.port == port for row in rows
    )


async def test_calls_of_mcp_that_come_while_it_ends_fail_with_a_reason(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend()  # nobody is launched: SIGTERM leaves the fleet running
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about}
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    said: list[str] = []
    async with backend.http() as http, asyncio.timeout(BOUND_S):
        http.headers["accept"] = "application/json, text/event-stream"
        answer = await http.post("/mcp", json=hello)
        http.headers["mcp-session-id"] = answer.headers["mcp-session-id"]
        assert (await http.post("/mcp", json=call)).status_code == 200
        backend.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(httpx.TransportError):
            while True:
                said.append((await http.post("/mcp", json=call)).text)
    backend.process.wait(END_S)
    assert "Internal Server Error" not in said
    assert "Traceback" not in (backend.home.logs / "backend.log").read_text()
