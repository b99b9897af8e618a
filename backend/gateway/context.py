"""What every endpoint of the gateway is given: the platform, authentication, call log and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from backend.gateway.auth import Guard
from backend.gateway.call_log import CallLog, IdempotencyCache
from backend.gateway.metrics import Meters
from backend.gateway.tracing import Tracing
from backend.orchestration.platform import Platform
from backend.schema.results import GatewayClient

ANSWER_S = 3.0
"""How long a backend that was told to end waits for its answer to that to be sent."""


@dataclass
class Gateway:
    """One serving gateway. `clients` are the WebSocket connections open now, by number."""

    platform: Platform
    guard: Guard
    log: CallLog
    calls: IdempotencyCache
    address: str
    tracing: Tracing | None = None
    meters: Meters = field(default_factory=Meters)
    clients: dict[int, GatewayClient] = field(default_factory=dict[int, GatewayClient])
    streams: int = 0
    ending_calls: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    """Calls over WebSocket that end this backend and have not been answered yet."""
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list[Callable[[], Awaitable[None]]])
    """What endpoints that hold something open want done at the end."""

    async def answer_ending_calls(self) -> None:
        """Let who ended this backend have the answer, which waits for the events that led to it; `ANSWER_S` at most."""
        if self.ending_calls:
            await asyncio.wait(self.ending_calls, timeout=ANSWER_S)

    async def close(self) -> None:
        """End calls under way and what endpoints hold open."""
        await self.calls.close()
        for close in self.closers:
            await close()
