"""What every endpoint of the gateway is given: the platform, authentication, call log and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from backend.gateway.auth import Guard
from backend.gateway.call_log import CallLog, IdempotencyCache
from backend.gateway.metrics import Meters
from backend.gateway.tracing import Tracing
from backend.orchestration.platform import Platform
from backend.schema.results import GatewayClient


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
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list[Callable[[], Awaitable[None]]])
    """What endpoints that hold something open want done at the end."""

    async def close(self) -> None:
        """End calls under way and what endpoints hold open."""
        await self.calls.close()
        for close in self.closers:
            await close()
