"""The running of a tool, the same for every dialect: scope, arguments, the action, notices and questions meanwhile, cancelling.

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
from backend.schema.events import AskClosed, AskOpened, Event
from backend.schema.tools import Ask

Notify = Callable[[Notice], Awaitable[None]]


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

    async def attend(self, request_id: str) -> bool:
        """Count as somebody who answers what is asked in a conversation, until `leave`; return whether that is possible."""
        ...

    def leave(self, request_id: str, after_s: float = 0.0) -> None:
        """Take back one `attend`, now or so many seconds from now."""
        ...

    async def asks(self) -> list[Ask]:
        """Return what waits for a person on the platform."""
        ...

    def cancel_soon(self, request_id: str) -> None: ...


class Paused(Exception):
    """The client is to answer what waits, and to call again within `for_s` seconds; the call runs on."""

    def __init__(self, for_s: float) -> None:
        super().__init__("the client is to answer and to call again")
        self.for_s = for_s


class Questions(Protocol):
    """Puts to the client of a call what waits for a person in it."""

    @property
    def paused(self) -> asyncio.Future[Paused]:
        """Resolves when the client is to answer by calling again."""
        ...

    async def begin(self, waiting: list[Ask], leave: Callable[[], None]) -> None:
        """Begin with what waits in the call already; `leave` counts the client as one that answers no more."""
        ...

    def opened(self, ask: Ask) -> None:
        """Learn that something waits; what is known is no news."""
        ...

    def closed(self, ask_id: str) -> None:
        """Learn that something waits no more."""
        ...

    async def close(self) -> None:
        """Take back what the client was asked and has not answered."""
        ...


_running_on: set[asyncio.Future[Any]] = set()
"""Calls whose client is to come back for them."""


async def run_tool(
    caller: Caller,
    tool: Tool,
    arguments: dict[str, Any],
    scope: Scope,
    notify: Notify | None = None,
    *,
    request_id: str = "",
    questions: Callable[[str], Questions] | None = None,
) -> Any:
    """Run a tool and return its result; `notify` receives each notice of progress, in order, before that.

    `request_id` names the call where it is gone on with. `questions` makes, for a request id, what puts to the client what
    waits for a person.

    Raises:
        TektonError: `forbidden` by scope, `invalid_request` for arguments, or what the action raises.
        Paused: The client is to answer `questions` by calling again.
    """
    tool.check(scope)
    # models fill optional arguments with null
    values = {key: value for key, value in tool.values(arguments).items() if value is not None}
    if not tool.is_long:
        return await caller.call(tool.action.name, values)
    request_id = values["request_id"] = request_id or values.get("request_id") or new_request_id()
    if questions is None or not await caller.attend(request_id):
        return await _run(caller, tool.action.name, values, notify)
    asking, attends = questions(request_id), True

    def leave(after_s: float = 0.0) -> None:
        nonlocal attends
        if attends:
            attends = False
            caller.leave(request_id, after_s)

    try:
        return await _run(caller, tool.action.name, values, notify, asking, leave)
    finally:
        await asking.close()
        leave(asking.paused.result().for_s if asking.paused.done() else 0.0)


async def _run(
    caller: Caller,
    action: str,
    values: dict[str, Any],
    notify: Notify | None,
    questions: Questions | None = None,
    leave: Callable[[], None] = lambda: None,
) -> Any:
    request_id: str = values["request_id"]
    try:
        if notify is None and questions is None:
            return await caller.call(action, values)
        with caller.events(request_id) as events:
            if questions is not None:
                waiting = [ask for ask in await caller.asks() if is_of(ask.request_id, request_id)]
                await questions.begin(waiting, leave)
            return await _followed(caller.call(action, values), events, notify, questions)
    except asyncio.CancelledError:
        caller.cancel_soon(request_id)
        raise


def is_of(name: str, request_id: str) -> bool:
    """Return whether a turn is of a call: a member of a team or a stage has the call's id, a slash and more."""
    return name == request_id or name.startswith(f"{request_id}/")


async def _followed(
    call: Awaitable[Any], events: Events, notify: Notify | None, questions: Questions | None
) -> Any:
    """Await a call and pass on its events as they arrive, including those left at its end."""
    notices = Notices()

    async def pass_on(batch: list[Event]) -> None:
        for event in batch:
            if notify is not None and (notice := notices.take(event)) is not None:
                await notify(notice)
            if questions is not None and isinstance(event, AskOpened):
                questions.opened(event.ask)
            elif questions is not None and isinstance(event, AskClosed):
                questions.closed(event.id)

    working = asyncio.ensure_future(call)
    reading = asyncio.ensure_future(events.next())
    waited: set[asyncio.Future[Any]] = {questions.paused} if questions is not None else set()
    try:
        while not working.done():
            await asyncio.wait([working, reading, *waited], return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await pass_on(reading.result())
                reading = asyncio.ensure_future(events.next())
            if questions is not None and questions.paused.done() and not working.done():
                _running_on.add(working)
                working.add_done_callback(_forget)
                raise questions.paused.result()
        if reading.done():
            await pass_on(reading.result())
        reading.cancel()
        await pass_on(events.pending())
        return working.result()
    finally:
        ending = [reading] if working in _running_on else [working, reading]
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)


def _forget(call: asyncio.Future[Any]) -> None:
    _running_on.discard(call)
    if not call.cancelled():
        call.exception()  # who comes back for it is told; nobody coming is no fault
