"""The official MCP client against our gateway, over HTTP and over stdio, in each protocol era."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.gateway.serving import Backend

ERAS = ("legacy", "auto", "2026-07-28")
"""The handshake of 2025, the probe that finds what is newest, and the stateless era without a probe."""
BOUND_S = 60.0


@contextlib.asynccontextmanager
async def over_http(
    backend: Backend, mode: str = "auto", scope: str = "", token: str = "", asked: Any = None, **headers: str
) -> AsyncIterator[Client]:
    """Yield a client; `asked` answers what the server asks by elicitation, which it offers only with it."""
    auth = {"Authorization": f"Bearer {token}"} if token else backend.auth(scope)
    async with (
        httpx2.AsyncClient(headers={**auth, **headers}, trust_env=False, timeout=BOUND_S) as http,
        Client(
            streamable_http_client(f"{backend.url}/mcp", http_client=http),
            mode=mode,
            read_timeout_seconds=BOUND_S,
            elicitation_callback=asked,
        ) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def over_stdio(
    backend: Backend, mode: str = "auto", *words: str, asked: Any = None
) -> AsyncIterator[Client]:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "backend.cli.tekton", "mcp", *words],
        env={
            key: value for key, value in backend.environment().items() if key.startswith(("TEKTON", "PYTHON"))
        },
    )
    async with Client(
        stdio_client(parameters), mode=mode, read_timeout_seconds=BOUND_S, elicitation_callback=asked
    ) as client:
        yield client


def text_of(result: Any) -> str:
    """Return the text of a tool's result."""
    return "".join(part.text for part in result.content)


class Progress:
    """A progress callback that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str]] = []

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.told.append((progress, message or ""))

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.told]
