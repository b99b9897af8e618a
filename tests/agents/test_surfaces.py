"""An external agent asked by every way a specialist of ours is asked: it answers the same words everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.test_agents import config
from tests.gateway.mcp_clients import over_http, text_of
from tests.gateway.serving import Backend, start_backend


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("work")
    home = tmp_path_factory.mktemp("surfaces") / "home"
    backend = start_backend(home, config=config(folder), launch=("coder", "apollo"))
    yield backend
    backend.stop()


def post(backend: Backend, path: str, **values: Any) -> Any:
    return backend.ask("POST", path, json=values)


def test_chat_search_and_export_have_what_it_said(backend: Backend) -> None:
    said = post(backend, "/api/v1/chat/coder", message="say alpha beta")
    assert said["content"] == "alpha beta "
    found = backend.ask("GET", "/api/v1/memory/search", params={"q": "beta", "owner": "coder"})
    assert {hit["message"]["author"] for hit in found["hits"]} == {"you", "coder-ai"}
    page = backend.ask("GET", f"/api/v1/sessions/{said['session_id']}/export", params={"format": "md"})
    assert "alpha beta" in page["content"] and "say alpha beta" in page["content"]


def test_the_team_discusses_and_bulk_asks_with_it(backend: Backend) -> None:
    team = post(
        backend, "/api/v1/team-chat", message="what?\nsay gamma", target_ids=["coder", "apollo"], max_rounds=2
    )
    assert len(team["rounds"]) == 2
    for one in team["rounds"]:
        assert {answer["socket_id"] for answer in one["responses"]} == {"coder-ai", "apollo-ai"}, one
    asked = [{"specialist_id": name, "message": f"say {name}"} for name in ("coder", "apollo", "coder")]
    bulk = post(backend, "/api/v1/bulk", requests=asked)
    assert [row["outcome"]["content"] for row in bulk["results"]] == [
        "coder ",
        "You said: say apollo",
        "coder ",
    ]


def test_the_dialects_answer_for_it_whole_and_streamed(backend: Backend) -> None:
    messages = [{"role": "user", "content": "say delta"}]
    whole = post(backend, "/v1/chat/completions", model="coder", messages=messages)
    assert whole["choices"][0]["message"]["content"] == "delta "
    claude = post(backend, "/v1/messages", model="coder", messages=messages, max_tokens=100)
    assert claude["content"][0]["text"] == "delta "
    llama = post(backend, "/api/chat", model="coder", messages=messages, stream=False)
    assert llama["message"]["content"] == "delta "


async def test_mcp_and_streams_bring_it(backend: Backend) -> None:
    async with over_http(backend) as client:
        told = await client.call_tool(
            "SendMessageToSpecialist", {"specialist_id": "coder", "message": "say epsilon"}
        )
        assert not told.is_error and "epsilon" in text_of(told)
    async with backend.http() as http:
        body = {"model": "coder", "messages": [{"role": "user", "content": "say zeta"}], "stream": True}
        lines = (await http.post("/v1/chat/completions", json=body)).text.split("\n\n")
        deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines if line.startswith("data: {")]
        assert "".join(delta.get("content") or "" for delta in deltas) == "zeta "


def test_the_shell_asks_it_and_pipes_to_one_of_ours(backend: Backend) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backend.cli.aish", "-c", "echo 'say eta' | coder | apollo"],
        env={**backend.environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("You said: ") and done.stdout.rstrip().endswith("eta")
