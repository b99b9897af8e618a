"""The main job from end to end: real processes, the real embedded model, and a backend that dies in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from backend.client import Client, ai_send, attach
from backend.home import Home
from backend.providers.embedded import EmbeddedSettings, weights
from backend.schema.errors import TektonError

STARTER = ["numa", "rhetor", "apollo", "athena"]
WAIT_S = 60.0


@pytest.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Home]:
    """A private platform on free ports; whatever of it still runs at the end is ended by pid."""
    monkeypatch.setenv("TEKTON_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TEKTON_PORT_PROFILE", "free")
    monkeypatch.setenv("TEKTON_GATEWAY_PORT", "0")
    place = Home.from_environment().prepare()
    yield place
    pids = [_backend_pid(place), *_registry_pids(place)]
    for pid in filter(None, pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _backend_pid(home: Home) -> int:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(home.backend_facts.read_bytes())["pid"]
    return 0


def _registry_pids(home: Home) -> list[int]:
    pids: list[int] = []
    with contextlib.suppress(OSError, msgspec.DecodeError):
        pids += [entry["pid"] for entry in msgspec.json.decode(home.registry.read_bytes()).values()]
    with contextlib.suppress(OSError, msgspec.DecodeError):
        pids.append(msgspec.json.decode(home.embedded_facts.read_bytes())["pid"])
    return [pid for pid in pids if pid and psutil.pid_exists(pid)]


async def _rows(client: Client) -> dict[str, Any]:
    return {row["name"]: row for row in (await client.request("snapshot", {}))["specialists"]}


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(180)
async def test_a_fresh_home_launches_answers_and_is_found_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        weights.find(EmbeddedSettings(), home)
    except TektonError as missing:
        pytest.skip(missing.message)
    monkeypatch.setenv("TEKTON_PROVIDER", "embedded")
    client = await attach(home)
    try:
        results = (await client.request("launch", {"ids": ["starter"]}))["results"]
        assert [(row["id"], row["ok"]) for row in results] == [(f"{name}-ai", True) for name in STARTER]
        outcome = await client.request(
            "chat", {"ai_id": "apollo", "content": "What is your role?", "max_tokens": 24}, timeout_s=WAIT_S
        )
        assert outcome["content"].strip() and outcome["usage"]["output_tokens"] > 1
        team = await client.request(
            "team_chat", {"content": "Name one risk.", "max_tokens": 12}, timeout_s=WAIT_S
        )
        assert {row["socket_id"] for row in team["responses"]} == {f"{name}-ai" for name in STARTER}
        assert not team["failures"]
        before = {name: row["pid"] for name, row in (await _rows(client)).items() if row.get("pid")}
        port = (await _rows(client))["numa"]["port"]
        assert (await ai_send("numa-ai", "Hello", "127.0.0.1", port)).strip()
        [killed] = (await client.request("kill", {"ids": ["athena"]}))["results"]
        assert killed["ok"] and not psutil.pid_exists(before["athena"])
        await client.request("shutdown", {"stop_fleet": False})
    finally:
        await client.close()
    async with asyncio.timeout(WAIT_S):
        while home.backend_facts.exists():
            await asyncio.to_thread(os.stat, home.root)
    client = await attach(home)
    try:
        after = {name: row["pid"] for name, row in (await _rows(client)).items() if row.get("pid")}
        assert after == {name: pid for name, pid in before.items() if name != "athena"}
        history = await client.request("conversation_history", {"specialist_id": "apollo"})
        assert [m["content"] for m in history["messages"]] == ["What is your role?", outcome["content"]]
        await client.request("shutdown", {"stop_fleet": True})
    finally:
        await client.close()
    async with asyncio.timeout(WAIT_S):
        while _registry_pids(home):
            await asyncio.to_thread(os.stat, home.root)


@pytest.mark.e2e
@pytest.mark.timeout(180)
async def test_a_backend_killed_in_the_middle_leaves_workers_and_a_visible_error(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEKTON_PROVIDER", "scripted")
    client = await attach(home)
    await client.request("launch", {"ids": ["apollo"]})
    pid = (await _rows(client))["apollo"]["pid"]
    done = await client.request("chat", {"ai_id": "apollo", "content": "kept"})
    await client.subscribe(["chat"])
    await client.request(
        "chat",
        {
            "ai_id": "apollo",
            "content": "[[repeat 100000]] [[rate 20]]",
            "request_id": "open-turn",
            "wait": False,
        },
    )
    async with asyncio.timeout(WAIT_S):
        async for batch in client.events():
            if any(type(event).__name__ == "StreamChunk" for _, event in batch):
                break
    os.kill(_backend_pid(home), signal.SIGKILL)
    await client.close()
    client = await attach(home)
    try:
        row = (await _rows(client))["apollo"]
        assert row["pid"] == pid and row["adopted"]
        messages = (await client.request("conversation_history", {"specialist_id": "apollo"}))["messages"]
        assert done["content"] in [message["content"] for message in messages]
        assert messages[-1]["error_code"] == "backend_lost" and messages[-1]["request_id"] == "open-turn"
        errors = (await client.request("list_errors", {}))["errors"]
        assert any(error["code"] == "backend_lost" and error["where"] == "apollo-ai" for error in errors)
        assert (await client.request("chat", {"ai_id": "apollo", "content": "again"}))[
            "content"
        ] == "You said: again"
        await client.request("shutdown", {"stop_fleet": True})
    finally:
        await client.close()


@pytest.mark.e2e
@pytest.mark.timeout(180)
async def test_ten_exchanges_are_remembered_and_a_request_sent_twice_is_asked_once(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEKTON_PROVIDER", "scripted")
    client = await attach(home)
    try:
        await client.request("launch", {"ids": ["apollo"]})
        for number in range(10):
            await client.request("chat", {"ai_id": "apollo", "content": f"fact {number}"})
        told = await client.request("chat", {"ai_id": "apollo", "content": "[[messages]]"})
        sent = msgspec.json.decode(told["content"])
        assert [m["content"] for m in sent if m["role"] == "user"][:10] == [
            f"fact {number}" for number in range(10)
        ]
        first, second = await asyncio.gather(
            client.request("chat", {"ai_id": "apollo", "content": "once", "request_id": "same"}),
            client.request("chat", {"ai_id": "apollo", "content": "once", "request_id": "same"}),
        )
        assert first == second
        history = await client.request("conversation_history", {"specialist_id": "apollo"})
        assert sum(message["content"] == "once" for message in history["messages"]) == 1
        await client.request("shutdown", {"stop_fleet": True})
    finally:
        await client.close()
