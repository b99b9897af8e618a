"""What was asked of the gateway and how it went: recent calls, refusals, an audit of control calls.

Also keeps calls by request id, so that one sent again joins the first instead of running twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from backend import jsonlog
from backend.events import EventStream
from backend.home import Home
from backend.schema.errors import TektonError
from backend.schema.events import GatewayCall
from backend.wire import encode_line

log = logging.getLogger(__name__)

RECENT_CALLS = 300
REMEMBERED_RESULTS = 1_000
AUDIT_MAX_BYTES = 4 * 1024 * 1024


class CallLog:
    """The newest calls and refusals, published as they happen; control calls also go to a file."""

    def __init__(self, home: Home, events: EventStream) -> None:
        self._events = events
        self._audit = home.logs / "control-audit.log"
        self.recent: deque[GatewayCall] = deque(maxlen=RECENT_CALLS)
        self.refusals: deque[GatewayCall] = deque(maxlen=RECENT_CALLS)
        self.on_call: list[Callable[[GatewayCall], None]] = []
        """Called with every call written down."""
        self.total = 0
        self.refused = 0

    def note(
        self,
        client: str,
        transport: Literal["http", "sse", "ws", "mcp", "openai"],
        action: str,
        status: int,
        *,
        began: float = 0.0,
        refusal: str = "",
        request_id: str = "",
        scope: str = "",
        token: str = "",
    ) -> None:
        """Write a call down; `began` is `time.monotonic()` of its arrival, `token` a label."""
        elapsed_ms = (time.monotonic() - began) * 1000 if began else 0.0
        call = GatewayCall(
            time.time(), client, transport, action, status, elapsed_ms, refusal, request_id, scope, token
        )
        if jsonlog.structured:
            text = f"{transport} {action} {status}"
            log.info(text, extra={"fields": {"call": call}, "request_id": request_id})
        self.total += 1
        self.recent.append(call)
        if refusal:
            self.refused += 1
            self.refusals.append(call)
        for tell in self.on_call:
            tell(call)
        self._events.publish("gateway", call)
        if scope == "control":
            self._write_audit(call)

    def _write_audit(self, call: GatewayCall) -> None:
        if self._audit.exists() and self._audit.stat().st_size > AUDIT_MAX_BYTES:
            os.replace(self._audit, self._audit.with_suffix(".1.log"))
        descriptor = os.open(self._audit, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, encode_line(call))
        finally:
            os.close(descriptor)


class CallBook:
    """Calls by request id. A call runs on when its client is gone, so that the client can come back for it."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, tuple[str, asyncio.Task[Any]]] = OrderedDict()

    async def run(self, request_id: str, name: str, start: Callable[[], Awaitable[Any]]) -> Any:
        """Run a call once; whoever comes with the same id and name gets the same result or error.

        Raises:
            TektonError: What the call raises, or `conflict` when the id already names another action.
        """
        if known := self._calls.get(request_id):
            if known[0] != name:
                raise TektonError(
                    f"request_id {request_id!r} already names a call of {known[0]}", code="conflict"
                )
            return await asyncio.shield(known[1])

        async def run() -> Any:
            return await start()

        task = asyncio.create_task(run(), name=f"call {name} {request_id}")
        self._calls[request_id] = (name, task)
        self._forget()
        return await asyncio.shield(task)

    def _forget(self) -> None:
        while len(self._calls) > REMEMBERED_RESULTS:
            oldest = next(iter(self._calls))
            if not self._calls[oldest][1].done():
                return
            del self._calls[oldest]

    async def close(self) -> None:
        tasks = [task for _, task in self._calls.values() if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
