"""The gateway of a real backend process: who may come in, streams, and drops in the middle of one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from httpx_sse import aconnect_sse

from backend.client import Client, attach, locate
from backend.home import Home
from backend.schema.frames import StreamChunk, StreamEnd

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
WAIT_S = 60.0


@pytest.fixture
async def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Home]:
    """A backend with apollo and athena, scripted, on free ports; stopped with its fleet."""
    for name, value in {"TEKTON_HOME": str(tmp_path / "home"), "TEKTON_PORT_PROFILE": "free", "TEKTON_GATEWAY_PORT": "0",
                        "TEKTON_PROVIDER": "scripted"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    home = Home.from_environment().prepare()
    client = await attach(home)
    pid = json.loads(home.backend_facts.read_text())["pid"]
    await client.request("launch", {"ids": ["apollo", "athena"]})
    yield home
    with contextlib.suppress(Exception):
        await client.request("shutdown", {"stop_fleet": True})
    await client.close()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


async def test_only_the_right_host_origin_and_token_come_in(backend: Home) -> None:
    url, token = locate(backend)
    good = {"Authorization": f"Bearer {token}"}
    cases = [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {token}"}, 401),
        (good, 200),
        ({**good, "Host": "evil.example"}, 403),
        ({**good, "Host": "127.0.0.1/?#"}, 400),
        ({**good, "Origin": "http://evil.example"}, 403),
        ({**good, "Origin": "null"}, 403),
        ({**good, "Origin": url}, 200),
        ({**good, "Sec-Fetch-Site": "cross-site"}, 403),
    ]
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
        for headers, status in cases:
            answer = await http.get("/api/v1/specialists", headers=headers)
            assert answer.status_code == status, headers
            if status != 200:
                assert answer.json()["error"]["message"]
        assert (await http.get("/health")).json()["status"] == "healthy"
        assert (await http.get("/health", headers={"Host": "evil.example"})).status_code == 403
        assert (await http.post("/api/v1/match", headers=good, content=b"{broken")).json()["error"][
            "code"
        ] == "invalid_json"
        assert (await http.get("/nowhere", headers=good)).status_code == 404
        unknown = await http.post("/api/v1/specialists/nobody/launch", headers=good)
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_specialist")


async def test_chat_streams_live_as_server_sent_events_and_a_failure_keeps_its_partial_count(
    backend: Home,
) -> None:
    url, token = locate(backend)
    async with httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60
    ) as http:
        frames: list[dict[str, object]] = []
        params = {"message": "[[repeat 5]]"}
        async with aconnect_sse(http, "GET", "/api/chat/apollo/stream", params=params) as stream:
            frames += [event.json() async for event in stream.aiter_sse()]
        assert [frame["type"] for frame in frames] == ["chunk"] * 5 + ["complete"]
        assert frames[-1]["summary"]["total_chunks"] == 5  # type: ignore[index]
        body = {"message": "[[repeat 9]] [[cut provider_unavailable]]"}
        async with aconnect_sse(http, "POST", "/api/chat/apollo/stream", json=body) as stream:
            last = [event.json() async for event in stream.aiter_sse()][-1]
        assert (last["type"], last["code"]) == ("error", "provider_unavailable")
        assert last["partial_response"]["chunks_received"] == 3
        async with aconnect_sse(http, "POST", "/api/chat/team/stream", json={"message": "hello"}) as stream:
            team = [event.json() async for event in stream.aiter_sse()]
        assert team[-1]["type"] == "team_complete"
        assert team[-1]["summary"]["completed_streams"] == 2
        assert {frame["specialist_id"] for frame in team[:-1]} == {"apollo-ai", "athena-ai"}


async def test_forced_drops_lose_no_event_and_double_none(backend: Home) -> None:
    client = await Client.connect(lambda: locate(backend))
    seen: list[int] = []
    texts: dict[str, list[str]] = {"d1": [], "d2": []}
    ended: set[str] = set()

    async def read() -> None:
        async for batch in client.events():
            for seq, event in batch:
                if seq:
                    seen.append(seq)
                if isinstance(event, StreamChunk) and event.request_id in texts:
                    texts[event.request_id].append(event.content)
                if isinstance(event, StreamEnd):
                    ended.add(event.request_id)
            if ended >= set(texts):
                return

    await client.subscribe(["chat"])
    reading = asyncio.create_task(read())
    try:
        for name, request_id in (("apollo", "d1"), ("athena", "d2")):
            await client.request(
                "chat",
                {
                    "ai_id": name,
                    "content": "[[repeat 400]] [[rate 150]]",
                    "request_id": request_id,
                    "wait": False,
                },
            )
        drops = 0
        while not reading.done():
            async with asyncio.timeout(WAIT_S):
                length = len(seen)
                while len(seen) < length + 40 and not reading.done():
                    await asyncio.wait([reading], timeout=0.02)
            await client.drop()
            drops += 1
        await reading
        assert drops >= 5
        events = list(seen[1:])
        assert len(events) == len(set(events)), "no event came twice"
        for request_id in texts:
            assert "".join(texts[request_id]).split() == [f"token{n}" for n in range(400)]
    finally:
        reading.cancel()
        await client.close()
