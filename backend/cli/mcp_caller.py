"""The caller outside the backend: a tool's actions go over one WebSocket, its events come back on the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any

from backend.client import Client
from backend.gateway.mcp.running import Events
from backend.schema.errors import TektonError
from backend.schema.events import Event

QUEUED_EVENTS = 10_000
"""Events kept for a slow reader of progress; later ones are left out, results are not."""


def for_backend(values: dict[str, Any]) -> dict[str, Any]:
    """Return an action's values so that its deadline reaches the backend: `timeout_s` would be the client's own."""
    return {"timeout" if name == "timeout_s" else name: value for name, value in values.items()}


class _RemoteEvents:
    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue(QUEUED_EVENTS)

    def put(self, event: Event) -> None:
        if not self._queue.full():
            self._queue.put_nowait(event)

    async def next(self) -> list[Event]:
        return [await self._queue.get(), *self.pending()]

    def pending(self) -> list[Event]:
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]


class RemoteCaller:
    """Calls actions through a gateway. `pump` must run as long as it is used."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._readers: dict[str, _RemoteEvents] = {}
        self._endings: set[asyncio.Task[None]] = set()

    async def pump(self) -> None:
        """Hand each event to whoever follows its conversation, to the end of the connection."""
        async for batch in self._client.events():
            for _, event in batch:
                self._sort(event)

    async def call(self, action: str, values: dict[str, Any]) -> Any:
        return await self._client.call(action, **for_backend(values))

    @contextlib.contextmanager
    def events(self, request_id: str) -> Generator[Events]:
        reader = self._readers[request_id] = _RemoteEvents()
        try:
            yield reader
        finally:
            self._readers.pop(request_id, None)

    def cancel_soon(self, request_id: str) -> None:
        async def cancel() -> None:
            with contextlib.suppress(TektonError):  # it ended by itself meanwhile, or never began
                await self._client.call("cancel", request_id=request_id)

        task = asyncio.create_task(cancel())
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def finish(self, timeout_s: float) -> None:
        """Wait until what was given up has been told to the gateway."""
        if self._endings:
            await asyncio.wait(self._endings, timeout=timeout_s)

    def _sort(self, event: Any) -> None:
        """A lane of a team or a stage has the request id of its call, a slash and more."""
        name = getattr(event, "request_id", "")
        while name:
            if reader := self._readers.get(name):
                reader.put(event)
                return
            name = name.rpartition("/")[0]
