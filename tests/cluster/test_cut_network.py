"""Three hosts, by TLS, and the network cut between them: what is seen, how fast, and that nothing waits for ever."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend import config
from backend.client import Client, ConnectionChanged, connect_to
from backend.home import Home
from backend.providers import create
from backend.providers.base import CompletionRequest, ProviderError
from backend.schema.errors import TektonError
from backend.schema.frames import ChatMessage
from tests.certificates import Authority
from tests.cluster import ON_RAY
from tests.cluster.hosts import Hosts, permitted

pytestmark = [
    *ON_RAY,
    pytest.mark.skipif(
        not permitted(), reason="this machine does not let us make network namespaces (ip netns)"
    ),
]
WAIT_S = 60.0
LONG = "[[repeat 9000]] [[rate 100]] long"
RAY = str(Path(sys.executable).with_name("ray"))
CONFIG = """
[gateway]
host = "{gateway}"
port = 8003
[cluster]
address = "{gateway}:6379"
[tls]
cert = "{cert}"
key = "{key}"
ca = "{ca}"
[specialists.apollo]
resources = {{ far = 0.1 }}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A gateway with the head on one host, a node on another; this process stands on a third, the console's."""
    folder = tmp_path_factory.mktemp("cut")
    hosts = Hosts("gate", "node", "desk")
    gateway, node = hosts.address("gate"), hosts.address("node")
    authority = Authority(folder / "ca")
    files = authority.issue(gateway, node)
    home = folder / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(
        CONFIG.format(gateway=gateway, cert=files.cert, key=files.key, ca=authority.ca)
    )
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "2",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TEKTON_HOME": str(home),
        "TEKTON_PROVIDER": "scripted",
        "TEKTON_PORT_PROFILE": "free",
    }
    environment.pop("TEKTON_GATEWAY_PORT", None)
    logs = [open(folder / f"{name}.log", "ab") for name in ("gate", "node", "serve")]  # noqa: SIM115
    ray = [RAY, "start", "--block", "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"]
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str, words: list[str], log: Any) -> subprocess.Popen[bytes]:
        running.append(
            subprocess.Popen(
                [*hosts.inside(name), *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        )
        return running[-1]

    try:
        start(
            "gate",
            [*ray, "--head", "--port=6379", f"--node-ip-address={gateway}", "--include-dashboard=false"],
            logs[0],
        )
        until((folder / "gate.log"), "Ray runtime started")
        start(
            "node",
            [*ray, f"--address={gateway}:6379", f"--node-ip-address={node}", '--resources={"far": 1}'],
            logs[1],
        )
        until((folder / "node.log"), "Ray runtime started")
        start("gate", [sys.executable, "-P", "-m", "backend.cli.tekton", "serve"], logs[2])
        until((folder / "serve.log"), "tekton serves https://")
        with hosts.stand_on("desk"):
            yield hosts, f"https://{gateway}:8003", str(home / "token"), authority.ca
    finally:
        for process in reversed(running):
            end(process)
        hosts.remove()
        for log in logs:
            log.close()


def until(path: Path, words: str) -> None:
    """Wait until a log says something."""
    deadline = time.monotonic() + WAIT_S
    while words not in (text := path.read_text(errors="replace")):
        assert time.monotonic() < deadline, text[-3000:]
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started, by its own group."""
    for number in (15, 9):
        try:
            os.killpg(process.pid, number)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


async def row_of(client: Client, name: str) -> dict[str, Any]:
    return next(row for row in (await client.request("snapshot", {}))["specialists"] if row["name"] == name)


async def until_row(client: Client, name: str, *states: str) -> dict[str, Any]:
    """Wait for a row's state as the events tell it."""
    await client.subscribe(["fleet"])
    row = await row_of(client, name)
    async with asyncio.timeout(WAIT_S):
        while row.get("state", "stopped") not in states:
            await anext(aiter(client.events()))
            row = await row_of(client, name)
    return row


async def until_state(client: Client, state: str) -> ConnectionChanged:
    """Wait until the link to the gateway is in a state, as the client itself tells it."""
    async with asyncio.timeout(WAIT_S):
        async for batch in client.events():
            for _, event in batch:
                if isinstance(event, ConnectionChanged) and event.state == state:
                    return event
    raise AssertionError("the events ended")


async def test_a_node_behind_a_cut_is_seen_lost_its_turn_ends_in_words_and_it_comes_back(place: Any) -> None:
    hosts, url, token, ca = place
    client = await connect_to(url, token, ca)
    launched = (await client.request("launch", {"ids": ["apollo"]}, timeout_s=WAIT_S))["results"]
    assert launched[0]["ok"], launched
    before = await row_of(client, "apollo")
    assert before["host"] == hosts.address("node")
    assert (await client.request("chat", {"id": "apollo", "message": "hello"}, timeout_s=WAIT_S))["content"]
    turn = asyncio.create_task(client.request("chat", {"id": "apollo", "message": LONG}))
    await until_row(client, "apollo", "busy")
    began = time.monotonic()
    await asyncio.to_thread(hosts.cut, "node")
    with pytest.raises(TektonError, match="has confirmed nothing for 2 s"):
        await asyncio.wait_for(turn, WAIT_S)
    print(f"the turn ended {time.monotonic() - began:.1f} s after the cut")
    row = await until_row(client, "apollo", "lost")
    print(f"the row was lost {time.monotonic() - began:.1f} s after it: {row['cause']}")
    ledger = (await client.request("list_errors", {}))["errors"]
    assert any("the host or its network is gone" in error["message"] for error in ledger)
    with pytest.raises(TektonError, match="does not answer"):
        await client.request("chat", {"id": "apollo", "message": "are you there?"}, timeout_s=WAIT_S)
    await asyncio.to_thread(hosts.mend, "node")
    mended = time.monotonic()
    row = await until_row(client, "apollo", "ready")
    print(f"ready again {time.monotonic() - mended:.1f} s after the mending")
    assert row["pid"] == before["pid"], "nothing was started anew"
    assert (await client.request("chat", {"id": "apollo", "message": "and now?"}, timeout_s=WAIT_S))[
        "content"
    ]
    await client.close()


async def test_a_console_behind_a_cut_says_so_and_goes_on_where_it_was(place: Any) -> None:
    hosts, url, token, ca = place
    client = await connect_to(url, token, ca)
    await client.subscribe(["fleet"])
    await until_state(client, "attached")
    began = time.monotonic()
    await asyncio.to_thread(hosts.cut, "desk")
    lost = await until_state(client, "lost")
    print(f"the console knew {time.monotonic() - began:.1f} s after the cut: {lost.reason}")
    assert "nothing came for" in lost.reason
    with pytest.raises(TektonError, match="the backend is lost"):
        await client.request("snapshot", {}, timeout_s=WAIT_S)
    await asyncio.to_thread(hosts.mend, "desk")
    mended = time.monotonic()
    await until_state(client, "attached")
    print(f"attached again {time.monotonic() - mended:.1f} s after the mending")
    assert await client.request("snapshot", {}, timeout_s=WAIT_S)
    await client.close()


async def test_a_long_cut_costs_the_node_and_says_so(place: Any) -> None:
    """The node does not come back by itself: what follows does without Ray."""
    hosts, url, token, ca = place
    client = await connect_to(url, token, ca)
    await until_row(client, "apollo", "ready")
    began = time.monotonic()
    await asyncio.to_thread(hosts.cut, "node")
    await until_row(client, "apollo", "lost")
    async with asyncio.timeout(WAIT_S):
        while "node" not in (row := await row_of(client, "apollo"))["cause"].partition("because")[2]:
            await anext(aiter(client.events()))
    print(f"the cluster gave the node up {time.monotonic() - began:.1f} s after the cut: {row['cause']}")
    assert row["state"] == "lost" and "pid" not in row
    await asyncio.to_thread(hosts.mend, "node")
    refused = (await client.request("launch", {"ids": ["apollo"]}, timeout_s=WAIT_S))["results"][0]
    print(f"a launch afterwards: {refused['ok']} {refused['message']}")
    await client.close()


UPSTREAM = """
import asyncio, sys
async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\nconnection: close\\r\\n\\r\\n")
    while True:
        writer.write(b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
            b'[{"index":0,"delta":{"content":"word "}}]}\\n\\n')
        await asyncio.sleep(0.05)
async def main():
    server = await asyncio.start_server(answer, "0.0.0.0", 9009)
    print("serves", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


async def test_an_endpoint_behind_a_cut_ends_its_answer_as_an_error(place: Any, tmp_path: Path) -> None:
    hosts = place[0]
    address = hosts.address("node")
    upstream = await asyncio.create_subprocess_exec(
        *hosts.inside("node"), sys.executable, "-c", UPSTREAM, stdout=subprocess.PIPE
    )
    try:
        assert upstream.stdout and await upstream.stdout.readline()
        home = Home(tmp_path / "home").prepare()
        home.config.write_text(f'[providers.openai]\nbase_url = "http://{address}:9009/v1"\nmodel = "m"\n')
        provider = create("openai", config.load(home, {}), home, {})
        await provider.prepare()
        request = CompletionRequest("", [ChatMessage("user", "hello")], "m")
        began, pieces = 0.0, 0
        with pytest.raises(ProviderError) as failed:
            async with asyncio.timeout(WAIT_S):
                async for _ in provider.stream(request):
                    pieces += 1
                    if pieces == 3:
                        began = time.monotonic()
                        await asyncio.to_thread(hosts.cut, "node")
        print(
            f"the endpoint's answer ended {time.monotonic() - began:.1f} s after the cut: {failed.value.message}"
        )
        await provider.aclose()
    finally:
        hosts.mend("node")
        upstream.kill()
        await upstream.wait()
