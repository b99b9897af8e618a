"""Calls that take long: their pieces and ends are handed on while they come; interrupted, the backend ends them too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from backend.cli import terminal
from backend.client import Client, ConnectionChanged
from backend.schema.errors import TektonError
from backend.schema.events import AskOpened, PipelineEnd, Snapshot, StageText, Topic
from backend.schema.frames import StreamChunk, StreamEnd, StreamError
from backend.schema.params import Cancel, Params

R = TypeVar("R")
T = TypeVar("T")

LOST_AFTER_S = 5.0
"""How long a dropped connection may take to come back before a running call counts as lost."""
CANCEL_TIMEOUT_S = 5.0
"""How long the end of a command waits for the backend to confirm a cancellation."""
_OfRequest = StreamChunk | StreamEnd | StreamError | StageText | PipelineEnd
CallEvent = _OfRequest | Snapshot
"""A `Snapshot` says that events were lost: pieces after it do not follow those before it."""
Handler = Callable[[CallEvent], None]


async def call_or_cancel(
    client: Client, params: Params[R], request_id: str, failure: asyncio.Future[None] | None = None
) -> R:
    """Call an action; when this task is cancelled or `failure` fails first, cancel the action at the backend.

    Raises:
        TektonError: The action failed. What `failure` holds is raised, too.
    """
    call = asyncio.ensure_future(client.call(params))
    try:
        await asyncio.wait({call, failure} if failure else {call}, return_when=asyncio.FIRST_COMPLETED)
        if failure is not None and not call.done():
            failure.result()
        return call.result()
    except (asyncio.CancelledError, OSError):
        call.cancel()
        try:
            await client.call(Cancel(target=request_id), timeout_s=CANCEL_TIMEOUT_S)
        except TektonError as error:
            if error.code != "not_found":  # it had ended meanwhile
                terminal.error(f"not cancelled: {error.message}")
        raise
    finally:
        call.cancel()


def reader_of(event: object, readers: Mapping[str, T]) -> T | None:
    """Return whose event it is, by request id. A member of a team or a stage has the id of its call, a slash and more."""
    name = event.ask.request_id if isinstance(event, AskOpened) else getattr(event, "request_id", "")
    while name and name not in readers:
        name = name.rpartition("/")[0]
    return readers.get(name)


class Listener:
    """Hands events to the call with their request id. One for a connection: it reads all of its events."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._topics: set[Topic] = set()
        self._snapshots_due = 0
        self._handlers: dict[str, Handler] = {}
        self._failures: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._giving_up: asyncio.TimerHandle | None = None

    async def call(self, params: Params[R], request_id: str, topic: Topic, handle: Handler) -> R:
        """Call an action and return its result; meanwhile `handle` gets the events of its request id.

        Events of the members of a team and of stages, whose ids are `ID/…`, are among them. When this task is
        cancelled or `handle` cannot write, the action is cancelled at the backend before the exception goes on.

        Raises:
            TektonError: The action failed, or the backend was lost meanwhile.
            OSError: `handle` could not write.
        """
        async with self._subscribed(topic, request_id, handle) as failure:
            return await call_or_cancel(self._client, params, request_id, failure)

    @asynccontextmanager
    async def _subscribed(
        self, topic: Topic, request_id: str, handle: Handler
    ) -> AsyncGenerator[asyncio.Future[None]]:
        """Yield a future that fails when no more events can come: the backend is lost, or `handle` raised."""
        if topic not in self._topics:
            self._topics.add(topic)
            self._snapshots_due += 1
            await self._client.subscribe(self._topics)
        if self._task is None:
            self._task = asyncio.create_task(self._read(), name="listener")
        failure = self._failures[request_id] = asyncio.get_running_loop().create_future()
        self._handlers[request_id] = handle
        try:
            yield failure
        finally:
            del self._handlers[request_id], self._failures[request_id]
            failure.cancel()

    async def _read(self) -> None:
        async for batch in self._client.events():
            for _, event in batch:
                self._dispatch(event)

    def _dispatch(self, event: object) -> None:
        if isinstance(event, ConnectionChanged):
            self._connection_changed(event)
        elif isinstance(event, Snapshot):
            if self._snapshots_due:
                self._snapshots_due -= 1
                return
            for name, handle in self._handlers.items():
                self._handle(name, handle, event)
        elif isinstance(event, _OfRequest):
            whole = event.request_id
            name = whole if whole in self._handlers else whole.partition("/")[0]
            if (handle := self._handlers.get(name)) is not None:
                self._handle(name, handle, event)

    def _handle(self, name: str, handle: Handler, event: CallEvent) -> None:
        try:
            handle(event)
        except OSError as error:
            if not self._failures[name].done():
                self._failures[name].set_exception(error)

    def _connection_changed(self, change: ConnectionChanged) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        if change.state == "lost":
            loop = asyncio.get_running_loop()
            # a drop of a second or two is made good by the replay: only a longer one ends what waits for events
            self._giving_up = loop.call_later(LOST_AFTER_S, self._give_up, change.reason)
        elif change.reason:
            self._give_up(change.reason)

    def _give_up(self, reason: str) -> None:
        error = TektonError(
            f"the backend was lost before the answer was complete: {reason}", code="backend_lost"
        )
        for failure in self._failures.values():
            if not failure.done():
                failure.set_exception(error)
