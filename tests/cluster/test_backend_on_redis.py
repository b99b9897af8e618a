"""A real backend whose conversations lie on a real Redis server: started, killed, and the server taken from under it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from backend.client import Client, attach
from backend.home import Home, read_token
from backend.schema.errors import TektonError
from backend.schema.events import ErrorEntry
from backend.schema.frames import StreamChunk
from tests.cluster import ON_REDIS
from tests.redis_server import RedisServer

pytestmark = ON_REDIS


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    own = RedisServer(tmp_path / "redis").start()
    yield own
    own.kill()


@pytest.fixture
def config(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TEKTON_STORE", server.address.url)
    return ""


@pytest.fixture
async def client(client: Client) -> Client:
    await client.request("launch", {"ids": ["apollo"]})
    return client


async def test_a_conversation_survives_a_kill_of_the_backend_and_is_on_the_server_alone(
    home: Home, client: Client
) -> None:
    outcome = await client.request("chat", {"id": "apollo", "message": "remember the quokka"})
    assert outcome["content"]
    snapshot = await client.request("snapshot", {})
    assert "Redis at 127.0.0.1" in snapshot["platform"]["store"]
    assert not home.database.exists()
    os.kill(json.loads(home.backend_facts.read_text())["pid"], signal.SIGKILL)

    again = await attach(home)
    hits = await again.request("search_memory", {"q": "quokka"})
    assert "quokka" in hits["hits"][0]["message"]["content"]
    more = await again.request("chat", {"id": "apollo", "message": "and now?"})
    assert more["content"]
    await again.close()


async def test_a_server_that_goes_away_is_seen_and_chat_goes_on_once_it_is_back(
    server: RedisServer, client: Client
) -> None:
    await client.request("chat", {"id": "apollo", "message": "before"})
    server.kill()
    with pytest.raises(TektonError, match=r"Redis at 127\.0\.0\.1.*See that it runs"):
        await client.request("chat", {"id": "apollo", "message": "into the void"})
    server.start()
    session = (await client.request("list_sessions", {"owner": "apollo"}))["sessions"][0]
    rows = (await client.request("session_messages", {"id": session["id"]}))["messages"]
    assert [row["content"] for row in rows if row["role"] == "user"] == ["before"]
    assert (await client.request("chat", {"id": "apollo", "message": "after"}))["content"]


async def test_an_answer_that_cannot_be_kept_is_told_to_whoever_watches(
    server: RedisServer, client: Client
) -> None:
    await client.subscribe(["chat", "errors"])
    seen: asyncio.Queue[ErrorEntry] = asyncio.Queue()
    begun = asyncio.Event()

    async def watch() -> None:
        async for batch in client.events():
            for _, event in batch:
                if isinstance(event, ErrorEntry):
                    seen.put_nowait(event)
                elif isinstance(event, StreamChunk):
                    begun.set()

    watching = asyncio.create_task(watch())
    turn = asyncio.create_task(
        client.request("chat", {"id": "apollo", "message": "[[repeat 400]] [[rate 200]] a long story"})
    )
    await asyncio.wait_for(begun.wait(), 20)
    server.kill()
    await asyncio.wait_for(turn, 30)
    entry = await asyncio.wait_for(seen.get(), 20)
    while "could not be stored" not in entry.record.message:  # that the store is gone is told first
        entry = await asyncio.wait_for(seen.get(), 20)
    assert entry.record.id < 0 and "not stored yet" in entry.record.evidence
    watching.cancel()
    server.start()


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("redis://127.0.0.1:1/0", "Redis at 127.0.0.1:1"),
        ("redis://user:hidden-word@127.0.0.1/0", "TEKTON_REDIS_PASSWORD"),
        ("http://127.0.0.1/0", "expected redis://"),
        ("redis://127.0.0.1:99999/0", "expected redis://"),
    ],
)
def test_serve_refuses_an_address_it_cannot_use_and_says_why(store: str, told: str, home: Home) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "backend.cli.tekton", "serve", "--store", store],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert told in done.stderr and "Traceback" not in done.stderr
    assert "hidden-word" not in done.stderr


LOSE_THE_LOG = """
local gone = 0
for _, pattern in ipairs({'*:events', '*:epoch'}) do
  for _, key in ipairs(redis.call('KEYS', pattern)) do gone = gone + redis.call('DEL', key) end
end
return gone
"""


def lose_the_log(server: RedisServer) -> None:
    """Take the event log and its life from the store, as an older copy of it would: numbers begin anew."""
    with redis.Redis("127.0.0.1", server.port) as connection:
        assert connection.eval(LOSE_THE_LOG, 0) == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat/apollo/stream", {"message": "[[repeat 40]] [[rate 40]]"}),
        ("/api/chat/team/stream", {"message": "[[repeat 40]] [[rate 40]]", "target_sockets": ["apollo"]}),
        (
            "/v1/chat/completions",
            {
                "model": "apollo",
                "stream": True,
                "messages": [{"role": "user", "content": "[[repeat 40]] [[rate 40]]"}],
            },
        ),
    ],
)
async def test_a_stream_goes_on_whole_where_the_numbers_of_events_begin_anew(
    home: Home, server: RedisServer, client: Client, path: str, body: dict[str, Any]
) -> None:
    """It was broken off, as if it had been read too slowly, and its turn cancelled."""
    text, lines = "", list[str]()
    headers = {"Authorization": f"Bearer {read_token(home.token)}"}
    async with (
        httpx.AsyncClient(base_url=client.url, headers=headers, timeout=60) as http,
        http.stream("POST", path, json=body) as response,
    ):
        async for line in response.aiter_lines():
            lines.append(line)
            if not line.startswith("data: {"):
                continue
            said = json.loads(line.removeprefix("data: "))
            for choice in said.get("choices", ()):
                said["content"] = choice["delta"].get("content") or ""
            text += said.get("content", "")
            if said.get("content", "").strip() in ("token5", "token20"):
                await asyncio.to_thread(lose_the_log, server)
    assert text.split() == [f"token{number}" for number in range(40)], lines[-3:]
    assert any(end in lines[-2] + lines[-1] for end in ("complete", "[DONE]")), lines[-3:]
