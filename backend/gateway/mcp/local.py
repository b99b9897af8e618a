"""The caller inside the backend: actions run here, events read from the platform's own log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any

from backend.events import EventStream, ReplayLost
from backend.gateway.context import Gateway
from backend.gateway.mcp.run_tool import Events
from backend.orchestration.actions import ACTIONS
from backend.schema.errors import TektonError
from backend.schema.events import Event, event_decoder
from backend.schema.tools import Ask
from backend.tasks import Background


class _LocalEvents:
    """Reads the platform's own log. Past its end it goes on from now: progress may be missed, results not."""

    def __init__(self, stream: EventStream, request_id: str) -> None:
        self.subscription = stream.subscribe()
        # before the call begins, so that nothing of it is missed
        self.subscription.follow(request_id)

    async def next(self) -> list[Event]:
        try:
            return [event_decoder.decode(line) for line in await self.subscription.next()]
        except ReplayLost:
            self.subscription.go_on()
            return []

    def pending(self) -> list[Event]:
        try:
            return [event_decoder.decode(line) for line in self.subscription.pending()]
        except ReplayLost:
            return []


class LocalCaller:
    """Calls actions in the backend's own process."""

    def __init__(self, gateway: Gateway) -> None:
        self._platform = gateway.platform
        self._endings = Background()

    async def attend(self, request_id: str) -> bool:
        self._platform.events.attend(request_id)
        return True

    def leave(self, request_id: str, after_s: float = 0.0) -> None:
        asyncio.get_running_loop().call_later(after_s, self._platform.events.leave, request_id)

    async def asks(self) -> list[Ask]:
        return self._platform.approvals.asks

    async def call(self, action: str, values: dict[str, Any]) -> Any:
        found = ACTIONS[action]
        return await found.run(self._platform, found.read_params(values, lax=True))

    @contextlib.contextmanager
    def events(self, request_id: str) -> Generator[Events]:
        events = _LocalEvents(self._platform.events, request_id)
        try:
            yield events
        finally:
            events.subscription.close()

    def cancel_soon(self, request_id: str) -> None:
        async def cancel() -> None:
            with contextlib.suppress(TektonError):  # it ended by itself meanwhile, or never began
                await self.call("cancel", {"request_id": request_id})

        self._endings.start(cancel(), f"cancel {request_id}")
