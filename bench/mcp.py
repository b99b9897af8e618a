"""What a tool call costs over MCP, beside the same action over the bare HTTP route and the bare WebSocket.

A real backend in a home of its own, real clients, one call after another. Prints milliseconds at p50 and p99 and the
ratio to the bare route of the same run. Run: `python -m bench.mcp [--calls 400]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from backend.client import Client as Link
from backend.client import attach, locate
from backend.home import Home

TOOL, ACTION, ROUTE = "GetOrchestration", "get_orchestration", "/api/v1/orchestration"
WARM_UP = 30
GOALS = {"mcp over HTTP": 6.0, "mcp over stdio": 3.0}
"""Goals of the p50, in milliseconds, by how a row's name begins."""

Call = Callable[[], Awaitable[Any]]


async def timed(call: Call, count: int) -> list[float]:
    """Return the milliseconds of `count` calls, one after another, the first ones left out."""
    for _ in range(WARM_UP):
        await call()
    times: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)


@contextlib.asynccontextmanager
async def ways(home: Home, link: Link) -> AsyncIterator[dict[str, Call]]:
    """Yield every way to make the same call, the bare route first."""
    url, token = locate(home)
    headers = {"Authorization": f"Bearer {token}"}
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers=headers, trust_env=False)
        )
        found: dict[str, Call] = {
            "bare HTTP route": lambda: http.get(ROUTE),
            "bare WebSocket": lambda: link.request(ACTION, {}),
            "/mcp without the SDK's client": lambda: http.post("/mcp", content=BODY, headers=RAW_HEADERS),
        }
        for name, mode in (("stateless", "2026-07-28"), ("handshake", "legacy")):
            other = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, trust_env=False))
            transport = streamable_http_client(f"{url}/mcp", http_client=other)
            client = await stack.enter_async_context(Client(transport, mode=mode))
            found[f"mcp over HTTP, {name}"] = _tool_call(client)
        for name, mode in (("stateless", "2026-07-28"), ("handshake", "legacy")):
            environment = {k: v for k, v in os.environ.items() if k.startswith(("TEKTON", "PYTHON"))}
            server = StdioServerParameters(
                command=sys.executable, args=["-P", "-m", "backend.cli.tekton", "mcp"], env=environment
            )
            client = await stack.enter_async_context(Client(stdio_client(server), mode=mode))
            found[f"mcp over stdio, {name}"] = _tool_call(client)
        yield found


def _tool_call(client: Client) -> Call:
    return lambda: client.call_tool(TOOL, {})


RAW_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": TOOL,
}
BODY = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": TOOL,
            "arguments": {},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    }
).encode()


async def main(calls: int) -> None:
    with tempfile.TemporaryDirectory(prefix="tekton-") as folder:
        os.environ |= {
            "TEKTON_HOME": str(Path(folder) / "home"),
            "TEKTON_PORT_PROFILE": "free",
            "TEKTON_GATEWAY_PORT": "0",
            "TEKTON_PROVIDER": "scripted",
        }
        home = Home.from_environment().prepare()
        link = await attach(home)
        try:
            async with ways(home, link) as found:
                _print({name: await timed(call, calls) for name, call in found.items()})
        finally:
            await link.request("shutdown", {"stop_fleet": True})
            await link.close()


def _print(rows: dict[str, list[float]]) -> None:
    floor = statistics.median(next(iter(rows.values())))
    load = os.getloadavg()[0]
    print(f"{'':32}{'p50 ms':>9}{'p99 ms':>9}{'× floor':>9}   load {load:.1f} on {os.cpu_count()} cores")
    for name, times in rows.items():
        median = statistics.median(times)
        goal = next((goal for word, goal in GOALS.items() if name.startswith(word)), None)
        verdict = f"   goal ≤ {goal:g} ms: {'met' if median <= goal else 'missed'}" if goal else ""
        print(f"{name:32}{median:9.2f}{times[int(len(times) * 0.99)]:9.2f}{median / floor:9.2f}{verdict}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400)
    asyncio.run(main(parser.parse_args().calls))
