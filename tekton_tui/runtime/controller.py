"""The console's connection to the backend: attaches, feeds the stores with events, carries calls. Knows no widgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from backend.schema.errors import TektonError
from backend.schema.events import Topic
from backend.schema.params import Params, Startable
from backend.schema.results import Started
from tekton_tui import clock
from tekton_tui.dispatch import dispatch
from tekton_tui.formatting import CONSOLE_PREFIX
from tekton_tui.stores import Signal, Stores

R = TypeVar("R")

TOPICS: tuple[Topic, ...] = ("fleet", "metrics", "chat", "errors", "pipes", "asks", "tools")
"""What the console subscribes to at once; screens add topics when they are first shown."""


class ConsoleClient(Protocol):
    """What the controller needs of a client; `backend.client.Client` is one."""

    url: str
    scopes: list[str]
    ahead_s: float
    """By how many seconds the gateway's clock is ahead of this machine's."""

    @property
    def pace(self) -> tuple[float, float]:
        """Seconds from a question to its answer on the link, and bytes a second."""
        ...

    @property
    def note(self) -> str:
        """In what gateway and console differ, version and clock; empty when they do not."""
        ...

    async def call(self, params: Params[R], /) -> R: ...

    async def start(self, params: Startable[Any], /) -> Started: ...

    async def subscribe(self, topics: Iterable[Topic], *, condensed: bool = False) -> None: ...

    def events(self) -> AsyncIterator[list[tuple[int, Any]]]: ...

    async def close(self) -> None: ...


Connect = Callable[[], Awaitable[ConsoleClient]]


class Controller:
    """Connects once, feeds the stores, carries calls.

    `notice` is emitted with a sentence for the operator and whether it reports a failure.
    """

    def __init__(self, stores: Stores, connect: Connect) -> None:
        self.stores = stores
        self.notice: Signal[[str, bool]] = Signal()
        self._connect = connect
        self._client: ConsoleClient | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._topics: set[Topic] = set(TOPICS)
        self._settled = asyncio.Event()
        """Set once it is known whether there is a backend, and what it says first."""

    @property
    def connected(self) -> bool:
        """Whether there is a client, be its connection lost at the moment or not."""
        return self._client is not None

    async def run(self) -> None:
        """Attach and feed the stores until closed.

        A refusal to attach becomes a state of the connection store, which the screen shows; the operator may then have
        this called again.
        """
        self._settled.clear()
        self.stores.connection.set("attaching")
        # A run after a failure still has the client of the one before.
        await self._close_client()
        try:
            self._client = await self._connect()
            await self._client.subscribe(sorted(self._topics), condensed=True)
        except TektonError as error:
            await self._close_client()
            self.stores.connection.set("failed", error.message)
            self._settled.set()
            return
        self.stores.connection.set("attached")
        self._name_place()
        self._report_scope()
        if note := self._client.note:
            self.notify(note)
        async for batch in self._client.events():
            self._feed([event for _, event in batch])
            self._settled.set()

    async def call(self, params: Params[R]) -> R:
        """Call an action and return its result; while the backend is being attached, wait for it: a place that was opened
        before reads what it shows then.

        Raises:
            TektonError: The backend refused or failed, or none is attached.
        """
        await self._settled.wait()
        return await self._attached().call(params)

    def request(
        self,
        params: Params[R],
        then: Callable[[R], None] | None = None,
        *,
        otherwise: Callable[[], None] | None = None,
        quiet: bool = False,
    ) -> None:
        """Call an action in the background and pass its result to `then`.

        A failure becomes a notice unless `quiet`, and `otherwise` is called.
        """
        self.spawn(self._finish(self.call(params), then, otherwise, quiet))

    def start(
        self,
        params: Startable[Any],
        then: Callable[[Started], None] | None = None,
        *,
        otherwise: Callable[[], None] | None = None,
    ) -> None:
        """Start an action that takes long, in the background; what comes of it comes as events. Never later than it was asked.

        A refusal becomes a notice, and `otherwise` is called.
        """

        async def started() -> Started:
            return await self._attached().start(params)

        self.spawn(self._finish(started(), then, otherwise, quiet=False))

    def _attached(self) -> ConsoleClient:
        if self._client is None:
            raise TektonError("no backend is attached yet", code="backend_lost")
        return self._client

    def notify(self, text: str, *, failed: bool = False) -> None:
        """Show the operator a sentence; `failed` says that it reports a failure."""
        self.notice.emit(text, failed)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine in the background; its failure goes to the loop's exception handler."""
        # the loop keeps weak references only: a task that nobody else holds may be collected while it runs
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler(
                {"message": f"{task.get_name()} failed", "exception": error}
            )

    def subscribe(self, *topics: Topic) -> None:
        if self._topics.issuperset(topics):
            return
        self._topics.update(topics)
        if self._client is not None:
            self.spawn(self._client.subscribe(sorted(self._topics), condensed=True))

    def _report_scope(self) -> None:
        """Say at once what the gateway will refuse to a token of a smaller scope."""
        scopes = self._attached().scopes
        if scopes and "control" not in scopes:
            may = "ask, not launch or stop" if "chat" in scopes else "look: it may only read"
            self.notify(f"this token lets you {may}; the gateway refuses the rest", failed=True)

    async def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def close(self) -> None:
        """Cancel the calls under way and close the client."""
        for task in list(self._tasks):
            task.cancel()
        if self._client is not None:
            await self._client.close()

    async def _finish(
        self,
        call: Awaitable[R],
        then: Callable[[R], None] | None,
        otherwise: Callable[[], None] | None,
        quiet: bool,
    ) -> None:
        try:
            result = await call
        except TektonError as error:
            if not quiet:
                self.notify(error.message, failed=True)
            if otherwise is not None:
                otherwise()
            return
        if then is not None:
            then(result)

    def _feed(self, events: list[Any]) -> None:
        # Imported here: the client's libraries would hold up the first paint.
        from backend.client import ConnectionChanged

        for event in events:
            if isinstance(event, ConnectionChanged):
                self._connection_changed(event.state, event.reason)
        dispatch(self.stores, [event for event in events if not isinstance(event, ConnectionChanged)])

    def _name_place(self) -> None:
        """Say which of the gateways elsewhere answers, and take its clock."""
        connection, client = self.stores.connection, self._client
        if client is None:
            return
        clock.set_ahead(client.ahead_s)
        if not connection.starts_here:
            connection.to(client.url)
            connection.pace = lambda: client.pace

    def _connection_changed(self, state: str, reason: str) -> None:
        before = self.stores.connection.state
        if state in ("attached", "lost", "closed"):
            self.stores.connection.set(state, reason)  # pyright: ignore[reportArgumentType]
        if state == "attached":
            self._name_place()
        # Another gateway of the same fleet took over.
        if state == "attached" and before == "lost" and reason.startswith("now at "):
            self.notify(f"attached again, {reason}")


def new_request_id() -> str:
    """Return an id for a request of this console."""
    return f"{CONSOLE_PREFIX}{uuid4().hex[:16]}"
