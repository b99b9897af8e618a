"""A misspelt parameter is refused on every surface alike, by the name that was meant, and nothing happens."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.gateway.mcp_clients import BOUND_S, over_http, text_of
from tests.gateway.serving import Backend


def states(backend: Backend) -> dict[str, str]:
    rows = backend.ask("GET", "/api/v1/specialists")["specialists"]
    return {row["name"]: row["state"] for row in rows}


async def by_command(backend: Backend, *words: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "backend.cli.tekton", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=backend.environment(),
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), BOUND_S)
    return process.returncode or 0, out.decode()


async def test_a_misspelt_dry_run_launches_nobody_from_anywhere(backend: Backend) -> None:
    assert states(backend)["metis"] == "stopped"
    meant = "did you mean 'dry_run'?"
    code, told = await by_command(backend, "call", "launch", 'ids=["metis"]', "dry-run=true")
    assert code != 0 and "launch: there is no parameter 'dry-run'" in told and meant in told
    async with backend.http() as http:
        for path, body in {
            "/api/v1/fleet/launch": {"ids": ["metis"], "dryrun": True},
            "/api/v1/specialists/metis/launch": {"dry-run": True},
        }.items():
            answer = await http.post(path, json=body)
            assert answer.status_code == 400 and meant in answer.json()["error"]["message"], answer.text
        answer = await http.post("/api/v1/fleet/launch?dryRun=true", json={"ids": ["metis"]})
        assert answer.status_code == 400 and meant in answer.json()["error"]["message"]
    reply = await over_websocket(backend, {"type": "launch", "ids": ["metis"], "dry-run": True})
    assert reply["code"] == "invalid_request" and meant in reply["message"]
    async with over_http(backend) as client:
        result = await client.call_tool("ActivateAISpecialist", {"ids": ["metis"], "dryrun": True})
        assert result.is_error and meant in text_of(result)
    assert states(backend)["metis"] == "stopped"


async def over_websocket(backend: Backend, frame: dict[str, Any]) -> Any:
    address = f"{backend.url.replace('http', 'ws')}/ws"
    async with connect(address, additional_headers=backend.auth(), proxy=None) as socket:
        await socket.recv()
        await socket.send(json.dumps({"request_id": "contract", **frame}))
        async with asyncio.timeout(BOUND_S):
            while True:
                reply = json.loads(await socket.recv())
                if reply.get("request_id") == "contract" and reply["type"] in ("result", "error"):
                    return reply


@pytest.mark.parametrize(
    ("path", "body", "meant"),
    [
        ("/api/v1/team-chat", {"message": "hi", "target_id": ["apollo"]}, "target_ids"),
        ("/api/v1/chat/apollo", {"message": "hi", "max_token": 1}, "max_tokens"),
        ("/api/v1/chat/apollo", {"message": "hi", "temprature": 0.1}, "temperature"),
        ("/api/v1/chat/apollo/stream", {"message": "hi", "sesion_id": "s"}, "session_id"),
        ("/api/v1/pipelines", {"pipeline": "apollo", "inputs": "x"}, "input"),
        ("/api/v1/match", {"query": "x", "limits": 3}, "limit"),
    ],
)
async def test_a_misspelt_parameter_is_refused_and_asks_nobody(
    backend: Backend, path: str, body: dict[str, Any], meant: str
) -> None:
    before = asked(backend)
    async with backend.http() as http:
        answer = await http.post(path, json=body)
    assert answer.status_code == 400 and f"did you mean '{meant}'" in answer.text, answer.text
    assert asked(backend) == before


def asked(backend: Backend) -> int:
    """Return how many turns were asked of anybody so far."""
    return sum(
        row["performance"]["total_requests"]
        for row in backend.ask("GET", "/api/v1/specialists")["specialists"]
    )


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/sessions/{session}/messages?before_id=9223372036854775808", None),
        ("POST", "/api/v1/messages/9223372036854775808/pin", {}),
        ("GET", "/api/v1/errors?limit=99999999999999999999", None),
        ("GET", "/api/v1/pipelines?limit=-1", None),
        ("POST", "/api/v1/chat/apollo", {"message": "hi", "max_tokens": 2**63}),
    ],
)
async def test_numbers_no_store_can_hold_are_the_callers_mistake(
    backend: Backend, method: str, path: str, body: dict[str, Any] | None
) -> None:
    session = backend.ask("POST", "/api/v1/sessions", json={"owner": "apollo"})["id"]
    async with backend.http() as http:
        answer: httpx.Response = await http.request(method, path.format(session=session), json=body)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_request", answer.text


async def test_what_older_clients_send_is_still_taken(backend: Backend) -> None:
    async with backend.http() as http:
        answer = await http.post(
            "/api/team-chat",
            json={
                "message": "hi",
                "moderation_mode": "pass_through",
                "target_sockets": ["apollo-ai"],
                "timeout": 20,
            },
        )
        assert answer.status_code == 200, answer.text
        streamed = await http.get(
            "/api/chat/apollo/stream", params={"message": "hi", "context_id": "", "include_metadata": "false"}
        )
        assert streamed.status_code == 200 and '"complete"' in streamed.text
    reply = await over_websocket(
        backend, {"type": "chat", "ai_id": "apollo", "message": "hi", "stream": True}
    )
    assert reply["type"] == "result" and reply["result"]["content"]
    gone = await over_websocket(backend, {"type": "cancel", "request_id": "contract"})
    assert gone["result"]["request_id"] == "contract", (
        "the frame's id is what is to end when no target is given"
    )


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("GET", "/api/v1/specialist", "/api/v1/specialists"),
        ("POST", "/api/v1/fleet/lunch", "/api/v1/fleet/launch"),
        ("GET", "/api/v1/sesions/s-1/messages", "/api/v1/sessions/s-1/messages"),
        ("POST", "/v1/chat/completion", "/v1/chat/completions"),
        ("GET", "/healht", "/health"),
        ("GET", "/metric", "/metrics"),
        ("GET", "/something/else/entirely", ""),
    ],
)
async def test_a_misspelt_path_is_refused_with_the_one_that_was_meant(
    backend: Backend, method: str, path: str, meant: str
) -> None:
    async with backend.http() as http:
        answer = await http.request(method, path, json={} if method == "POST" else None)
    said = answer.json()["error"]["message"]
    assert answer.status_code == 404
    assert said == f"there is no {method} {path} here" + (f"; did you mean {meant}?" if meant else "")
