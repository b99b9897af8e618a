"""The running of a tool, the same for every dialect: scope, arguments, the action, notices meanwhile, cancelling.

Knows actions by name and a `Caller` that reaches them; no transport and no SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from backend.gateway.mcp.progress import Notice, Notices
from backend.gateway.mcp.tools import Tool
from backend.orchestration.action import Scope
from backend.orchestration.turns.manager import new_request_id
from backend.schema.events import Event

Tell = Callable[[Notice], Awaitable[None]]


class Events(Protocol):
    """The events of one conversation, in order."""

    async def next(self) -> list[Event]:
        """Wait until there are some. A reader that is cancelled loses none."""
        ...

    def pending(self) -> list[Event]:
        """Return what is there now, perhaps nothing."""
        ...


class Caller(Protocol):
    """How a tool reaches the platform: in this process, or through a gateway."""

    async def call(self, action: str, values: dict[str, Any]) -> Any:
        """Run an action. The events of its conversation are there before it returns or raises `TektonError`."""
        ...

    def events(self, request_id: str) -> contextlib.AbstractContextManager[Events]:
        """Follow the events of one conversation from now on."""
        ...

    def cancel_soon(self, request_id: str) -> None: ...


async def run_tool(
    caller: Caller, tool: Tool, arguments: dict[str, Any], scope: Scope, tell: Tell | None = None
) -> Any:
    """Run a tool and return its result; `tell` receives each notice of progress, in order, before that.

    Raises:
        TektonError: `forbidden` by scope, `invalid_request` for arguments, or what the action raises.
    """
    tool.check(scope)
    values = {key: value for key, value in tool.values(arguments).items() if value is not None}
    if not tool.is_long:
        return await caller.call(tool.action.name, values)
    request_id = values["request_id"] = values.get("request_id") or new_request_id()
    try:
        if tell is None:
            return await caller.call(tool.action.name, values)
        with caller.events(request_id) as events:
            return await _told(caller.call(tool.action.name, values), events, tell)
    except asyncio.CancelledError:
        caller.cancel_soon(request_id)
        raise


async def _told(call: Awaitable[Any], events: Events, tell: Tell) -> Any:
    """Await a call and pass its events to `tell` as they arrive, including those left at its end."""
    notices = Notices()

    async def tell_all(batch: list[Event]) -> None:
        for event in batch:
            if (notice := notices.take(event)) is not None:
                await tell(notice)

    working = asyncio.ensure_future(call)
    reading = asyncio.ensure_future(events.next())
    try:
        while not working.done():
            await asyncio.wait([working, reading], return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await tell_all(reading.result())
                reading = asyncio.ensure_future(events.next())
        if reading.done():
            await tell_all(reading.result())
        reading.cancel()
        await tell_all(events.pending())
        return working.result()
    finally:
        for task in (working, reading):
            task.cancel()
        await asyncio.wait([working, reading])
