"""What was asked of the gateway and how it went: recent calls, refusals, an audit of control calls.

Also keeps calls by request id, so that one sent again joins the first instead of running twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from backend import log as jsonlog
from backend.events import EventStream
from backend.home import Home
from backend.orchestration.recent import Recent
from backend.schema.errors import TektonError
from backend.schema.events import CallTransport, GatewayCall
from backend.tasks import Background
from backend.wire import encode_line, encoder

log = logging.getLogger(__name__)

RECENT_CALLS = 300
REMEMBERED_RESULTS = 1_000
REMEMBERED_NAMES = 5_000
NAMES_BYTES = 2 * 1024 * 1024
KNOWN_BY_ID = frozenset({"chat", "team_chat", "ask_member", "pipeline", "bulk"})
"""Actions whose request ids name an answer for good, wherever it is kept."""
AUDIT_MAX_BYTES = 4 * 1024 * 1024


class CallLog:
    """The newest calls and refusals, published as they happen; control calls also go to a file."""

    def __init__(
        self, home: Home, events: EventStream, record_error: Callable[[str, str, str], None]
    ) -> None:
        self._events, self._record_error = events, record_error
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
        transport: CallTransport,
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
        self._events.publish("gateway", call)
        for observe in [*self.on_call, *([self._write_audit] if scope == "control" else [])]:
            try:
                observe(call)
            # The call is done: what only watches it must not turn it into a failure.
            except Exception as error:
                log.exception("after %s %s", transport, action)
                self._record_error("gateway", "internal", f"{action} was done, but not written down: {error}")

    def _write_audit(self, call: GatewayCall) -> None:
        if self._audit.exists() and self._audit.stat().st_size > AUDIT_MAX_BYTES:
            # one older file is kept: an audit that fills the disk would end what it watches over
            os.replace(self._audit, self._audit.with_suffix(".1.log"))
        # one write to a file opened for appending stays in one piece, also where two gateways share the home
        descriptor = os.open(self._audit, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, encode_line(call))
        finally:
            os.close(descriptor)


class IdempotencyCache:
    """Calls by request id. A call runs on when its client is gone, so that the client can come back for it.

    Results are remembered up to `max_bytes` of them. Actions that are `KNOWN_BY_ID` to orchestration are not:
    there the id names the answer also after a restart, and whoever comes with it joins.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._calls: dict[str, _Call] = {}
        self._ended: Recent[_Call] = Recent(REMEMBERED_RESULTS, max_bytes)
        self._names: Recent[str] = Recent(REMEMBERED_NAMES, NAMES_BYTES)
        """Actions by the newest request ids: an id never names calls of two kinds."""
        self._tasks = Background()

    async def run(self, request_id: str, name: str, params: Any, start: Callable[[], Awaitable[Any]]) -> Any:
        """Run a call once; whoever comes with the same id, name and parameters gets the same result or error.

        Raises:
            TektonError: What the call raises, or `conflict` when the id already names another call.
        """
        # a digest instead of the parameters: with pictures and tools among them a call may have megabytes
        content = blake2b(encoder.encode(params), digest_size=16).digest()
        if known := self._calls.get(request_id) or self._ended.get(request_id):
            if (known.name, known.content) != (name, content):
                raise TektonError(
                    f"request_id {request_id!r} already names another call of {known.name}", code="conflict"
                )
            # who waits may go away; the call is that of everybody who asked under this id
            return await asyncio.shield(known.task)
        if (before := self._names.get(request_id) or name) != name:
            raise TektonError(f"request_id {request_id!r} already names a call of {before}", code="conflict")
        self._names.put(request_id, name, len(request_id))

        async def run() -> Any:
            return await start()

        task = self._tasks.start(run(), f"call {name} {request_id}")
        if name not in KNOWN_BY_ID:
            call = self._calls[request_id] = _Call(name, content, task)
            task.add_done_callback(lambda _: self._end(request_id, call))
        return await asyncio.shield(task)

    def _end(self, request_id: str, call: _Call) -> None:
        del self._calls[request_id]
        if not call.task.cancelled():
            error = call.task.exception()  # whoever waits sees it; nobody waiting is no fault
            size = len(str(error)) if error else len(encoder.encode(call.task.result()))
            if size <= self._max_bytes:  # what is larger was read, and can be read again
                self._ended.put(request_id, call, size)

    async def close(self) -> None:
        """End the calls under way."""
        await self._tasks.end()


@dataclass(frozen=True)
class _Call:
    name: str
    content: bytes
    task: asyncio.Task[Any]
