"""Answers on their way: pieces and ends of turns and pipelines, by request id, from one connection's events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from backend.client import Client, ConnectionChanged
from backend.schema.errors import TektonError
from backend.schema.events import PipelineEnd, Snapshot, StageText, Topic
from backend.schema.frames import StreamChunk, StreamEnd, StreamError

LOST_AFTER_S = 5.0
"""How long a dropped connection may take to come back before an answer on its way counts as lost."""
_Named = StreamChunk | StreamEnd | StreamError | StageText | PipelineEnd
Heard = _Named | Snapshot
"""A `Snapshot` says that events were lost: pieces from then on have a hole before them."""
Hear = Callable[[Heard], None]


class Listener:
    """Hands events to whoever waits for their request id. One for a connection: it reads all of its events."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._topics: set[Topic] = set()
        self._snapshots_due = 0
        self._hearers: dict[str, Hear] = {}
        self._failures: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._given_up: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def hearing(
        self, topic: Topic, request_id: str, hear: Hear
    ) -> AsyncGenerator[asyncio.Future[None]]:
        """Call `hear` with events of this request id, and of lanes `ID/…` under it, while the context lasts.

        Yields a future that fails when nothing more can be heard: the backend is gone, or `hear` raised.
        """
        if topic not in self._topics:
            self._topics.add(topic)
            self._snapshots_due += 1
            await self._client.subscribe(self._topics)
        if self._task is None:
            self._task = asyncio.create_task(self._read(), name="listener")
        failure = self._failures[request_id] = asyncio.get_running_loop().create_future()
        self._hearers[request_id] = hear
        try:
            yield failure
        finally:
            del self._hearers[request_id], self._failures[request_id]
            failure.cancel()

    async def _read(self) -> None:
        async for batch in self._client.events():
            for _, event in batch:
                self._take(event)

    def _take(self, event: object) -> None:
        if isinstance(event, ConnectionChanged):
            self._link_changed(event)
        elif isinstance(event, Snapshot):
            if self._snapshots_due:
                self._snapshots_due -= 1
                return
            for name, hear in self._hearers.items():
                self._tell(name, hear, event)
        elif isinstance(event, _Named):
            found = (
                event.request_id if event.request_id in self._hearers else event.request_id.partition("/")[0]
            )
            if (hear := self._hearers.get(found)) is not None:
                self._tell(found, hear, event)

    def _tell(self, name: str, hear: Hear, event: Heard) -> None:
        try:
            hear(event)
        except OSError as error:  # whoever reads our output left
            if not self._failures[name].done():
                self._failures[name].set_exception(error)

    def _link_changed(self, change: ConnectionChanged) -> None:
        if self._given_up is not None:
            self._given_up.cancel()
            self._given_up = None
        if change.state == "lost":
            self._given_up = asyncio.get_running_loop().call_later(LOST_AFTER_S, self._give_up, change.reason)
        elif change.reason:
            self._give_up(change.reason)

    def _give_up(self, reason: str) -> None:
        error = TektonError(
            f"the backend was lost while the answer was on its way: {reason}", code="backend_lost"
        )
        for failure in self._failures.values():
            if not failure.done():
                failure.set_exception(error)


async def first_of(wanted: asyncio.Future[Any], failure: asyncio.Future[None]) -> Any:
    """Return what `wanted` gives, or raise what `failure` holds, whichever comes first."""
    await asyncio.wait((wanted, failure), return_when=asyncio.FIRST_COMPLETED)
    if not wanted.done():
        failure.result()
    return wanted.result()
