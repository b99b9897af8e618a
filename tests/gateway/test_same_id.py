"""One request id over every way in: a stream replays and ends, another question is refused, also after a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.serving import END_S, Backend, start_backend

BOUND_S = 60.0
CHAT = "/api/v1/chat/apollo/stream"
STREAMS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (CHAT, {"message": "alpha"}, {"message": "beta"}),
    ("/api/v1/chat/team/stream", {"message": "alpha"}, {"message": "beta"}),
    (
        "/api/v1/pipelines/stream",
        {"pipeline": "apollo | athena", "input": "alpha"},
        {"pipeline": "apollo | athena", "input": "beta"},
    ),
    (
        "/api/v1/bulk/stream",
        {"requests": [{"specialist_id": "apollo", "message": "alpha"}]},
        {"requests": [{"specialist_id": "apollo", "message": "beta"}]},
    ),
]


async def frames(backend: Backend, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all frames of a stream, which must end."""
    found: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(BOUND_S),
        backend.http() as http,
        http.stream("POST", path, json=body) as answer,
    ):
        if answer.status_code != 200:
            return [{"type": "error", **json.loads(await answer.aread())["error"]}]
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
    return found


def text_of(found: list[dict[str, Any]]) -> str:
    """Return what was said in a stream: by one, by the members in the order of their names, or in the end."""
    said: dict[str, str] = {}
    for frame in found:
        if frame["type"] in ("chunk", "team_chunk"):
            who = frame.get("specialist_id", "")
            said[who] = said.get(who, "") + frame["content"]
        elif frame["type"] == "item":
            said[str(frame["index"])] = frame["outcome"]["content"]
        elif frame["type"] == "pipeline_end":
            said["end"] = frame["output"]
    return " / ".join(said[who] for who in sorted(said))


def restart(backend: Backend, **environment: str) -> None:
    """Kill the backend and start another one on its home; the specialists live on."""
    backend.process.kill()
    backend.process.wait(END_S)
    fresh = start_backend(backend.home.root, **environment)
    backend.url, backend.process = fresh.url, fresh.process


@pytest.mark.parametrize(("path", "body", "other"), STREAMS, ids=[path for path, _, _ in STREAMS])
async def test_a_stream_of_a_known_id_replays_and_ends_and_another_question_is_refused(
    new_backend: Callable[..., Backend],
    tmp_path: Path,
    path: str,
    body: dict[str, Any],
    other: dict[str, Any],
) -> None:
    count = tmp_path / "calls"
    backend = new_backend(launch=("apollo", "athena"), TEKTON_SCRIPTED_COUNT=str(count))
    body, other = {**body, "request_id": "same"}, {**other, "request_id": "same"}
    first = await frames(backend, path, body)
    calls = count.read_text()
    assert "alpha" in text_of(first)
    second = await frames(backend, path, body)
    assert text_of(second) == text_of(first) and second[-1]["type"] == first[-1]["type"]
    refused = await frames(backend, path, other)
    assert "conflict" in json.dumps(refused)
    restart(backend, TEKTON_SCRIPTED_COUNT=str(count))
    third = await frames(backend, path, body)
    assert text_of(third) == text_of(first) and third[-1]["type"] == first[-1]["type"]
    assert "conflict" in json.dumps(await frames(backend, path, other))
    assert count.read_text() == calls


async def test_who_joins_a_stream_gets_all_of_it_and_going_away_ends_nothing(
    new_backend: Callable[..., Backend],
) -> None:
    backend = new_backend(launch=("apollo",))
    body = {"message": "[[repeat 60]] [[rate 40]]", "request_id": "joined"}
    async with backend.http() as http, http.stream("POST", CHAT, json=body) as began:
        lines = began.aiter_lines()
        seen = 0
        while seen < 10:
            seen += (await anext(lines)).startswith("data: ")
        async with http.stream("POST", CHAT, json=body) as leaver:
            await anext(leaver.aiter_lines())
        whole = await frames(backend, CHAT, body)
        rest = [line async for line in lines if line.startswith("data: ")]
    assert [frame["type"] for frame in whole] == ["chunk"] * 60 + ["complete"]
    assert json.loads(rest[-1].removeprefix("data: "))["summary"]["finish_reason"] == "stop"
