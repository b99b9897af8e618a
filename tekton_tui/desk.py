"""The console's desk: the one place that talks to the backend. Widgets ask it; answers come as events or results.

Knows stores and the client, no widgets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from tekton_tui.dispatch import dispatch
from tekton_tui.stores import Signal, Stores

if TYPE_CHECKING:
    from backend.schema.events import Topic

TOPICS: tuple[Topic, ...] = ("fleet", "metrics", "chat", "errors", "pipes")


class ConsoleClient(Protocol):
    """What the desk needs of a client; `backend.client.Client` is one."""

    url: str

    async def call(self, action: str, *, timeout_s: float | None = None, **params: Any) -> Any: ...

    async def subscribe(self, topics: Iterable[Topic]) -> None: ...

    def events(self) -> AsyncIterator[list[tuple[int, Any]]]: ...

    async def close(self) -> None: ...


Connect = Callable[[], Awaitable[ConsoleClient]]


class Desk:
    """Connects once, feeds the stores, carries calls. `notice` tells the operator: words and whether they are bad."""

    def __init__(self, stores: Stores, connect: Connect) -> None:
        self.stores = stores
        self.notice: Signal[[str, bool]] = Signal()
        self.attached: Signal[[]] = Signal()
        self._connect = connect
        self._client: ConsoleClient | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._topics: set[Topic] = set(TOPICS)

    @property
    def connected(self) -> bool:
        return self._client is not None

    async def run(self) -> None:
        """Attach and feed the stores until closed. A refusal to attach is a state the screen shows.

        May be called again after a refusal, by hand.
        """
        from backend.schema.errors import TektonError

        self.stores.connection.set("attaching")
        try:
            self._client = await self._connect()
            await self._client.subscribe(sorted(self._topics))
        except TektonError as error:
            await self._let_go()
            self.stores.connection.set("failed", error.message)
            return
        self.stores.connection.set("attached")
        self._tell_scope()
        self.attached.emit()
        async for batch in self._client.events():
            self._feed([event for _, event in batch])

    async def call(self, action: str, **params: Any) -> Any:
        """Call an action and return its result.

        Raises:
            TektonError: What the backend answered, or that there is none.
        """
        from backend.schema.errors import TektonError

        if self._client is None:
            raise TektonError("no backend is attached yet", code="backend_lost")
        return await self._client.call(action, **params)

    def do(
        self,
        action: str,
        *,
        then: Callable[[Any], None] | None = None,
        otherwise: Callable[[], None] | None = None,
        **params: Any,
    ) -> None:
        """Call an action in the background; a failure becomes a notice, then `otherwise` is called."""
        self.spawn(self._do(action, then, otherwise, params))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler(
                {"message": f"{task.get_name()} failed", "exception": error}
            )

    async def add_topic(self, topic: Topic) -> None:
        """Also read a topic from now on."""
        if topic not in self._topics and self._client is not None:
            self._topics.add(topic)
            await self._client.subscribe(sorted(self._topics))

    def _tell_scope(self) -> None:
        """Say at once what a small token will be refused later."""
        scopes: list[str] = getattr(self._client, "scopes", [])
        if scopes and "control" not in scopes:
            may = "ask, not launch or stop" if "chat" in scopes else "look: it may only read"
            self.notice.emit(f"this token lets you {may}; the gateway refuses the rest", True)

    async def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._client is not None:
            await self._client.close()

    async def _do(
        self,
        action: str,
        then: Callable[[Any], None] | None,
        otherwise: Callable[[], None] | None,
        params: dict[str, Any],
    ) -> None:
        from backend.schema.errors import TektonError

        try:
            result = await self.call(action, **params)
        except TektonError as error:
            self.notice.emit(error.message, True)
            if otherwise is not None:
                otherwise()
            return
        if then is not None:
            then(result)

    def _feed(self, events: list[Any]) -> None:
        from backend.client import ConnectionChanged

        for event in events:
            if isinstance(event, ConnectionChanged):
                self._link_changed(event.state, event.reason)
        dispatch(self.stores, [event for event in events if not isinstance(event, ConnectionChanged)])

    def _link_changed(self, state: str, reason: str) -> None:
        before = self.stores.connection.state
        if state in ("attached", "lost", "closed"):
            self.stores.connection.set(state, reason)  # pyright: ignore[reportArgumentType]
        if state == "attached" and before == "lost":
            self.attached.emit()
            if reason.startswith("now at "):  # another gateway of the same fleet took over
                self.notice.emit(f"attached again, {reason}", False)


def new_request_id() -> str:
    return f"tui-{uuid4().hex[:16]}"
