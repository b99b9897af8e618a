"""What every endpoint of the gateway is given: the platform, the gate and the books."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from backend.gateway.auth import Guard
from backend.gateway.calls import CallBook, CallLog
from backend.gateway.metrics import Meters
from backend.gateway.tracing import Tracing
from backend.orchestration.platform import Platform


@dataclass
class Gateway:
    """One serving gateway. `clients` are the WebSocket connections open now, by number."""

    platform: Platform
    guard: Guard
    log: CallLog
    book: CallBook
    address: str
    tracing: Tracing | None = None
    meters: Meters = field(default_factory=Meters)
    clients: dict[int, dict[str, object]] = field(default_factory=dict[int, dict[str, object]])
    streams: int = 0
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list[Callable[[], Awaitable[None]]])
    """What endpoints that hold something open want done at the end."""

    async def close(self) -> None:
        """End calls under way and what endpoints hold open."""
        await self.book.close()
        for close in self.closers:
            await close()
