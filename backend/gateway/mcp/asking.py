"""What waits for a person in a call, put to the client that called: at once where it can be asked, else by its calling again.

A client's answer is an answer of the desk: the first one counts, and whoever was first elsewhere takes the question back here.
One that dismisses a question, cannot be asked or is gone has answered nothing; the question waits on. Knows no SDK.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from backend.gateway.mcp.elicitation import Question, Reply, answer_of, question_of
from backend.gateway.mcp.run_tool import Caller, Paused
from backend.schema.errors import TektonError
from backend.schema.tools import Ask
from backend.tasks import end_tasks

log = logging.getLogger(__name__)

MAX_TRIES = 3
"""How often a client is asked that answers what is no answer."""


class Said(NamedTuple):
    """What a client answered."""

    reply: Reply
    content: Mapping[str, Any] | None


Put = Callable[[Question], Awaitable[Said]]
"""Puts a question to the client and waits for its answer. Raises whatever keeps it from being asked."""


async def give(caller: Caller, ask: Ask, said: Said) -> str:
    """Give a client's answer to the platform; return what is wrong with it, empty when that is done with."""
    try:
        values = answer_of(ask, *said)
        if values is not None:
            await caller.call("answer_ask", values)
    except ValueError as error:
        return str(error)
    except TektonError as error:
        if error.code == "invalid_request":
            return error.message
        log.info("an answer to %s came too late: %s", ask.id, error.message)
    return ""


class AskedAtOnce:
    """Puts each question to the client while the call runs, all that wait at a time. `gone` is set when the client has left."""

    def __init__(self, caller: Caller, put: Put, gone: asyncio.Event | None) -> None:
        self.paused: asyncio.Future[Paused] = asyncio.get_running_loop().create_future()
        self._caller, self._put = caller, put
        self._asked: dict[str, asyncio.Task[None]] = {}
        self._gone = gone
        self._watching: asyncio.Task[None] | None = None

    async def begin(self, waiting: list[Ask], leave: Callable[[], None]) -> None:
        if self._gone is not None:
            self._watching = asyncio.create_task(self._watch(self._gone, leave), name="client of a call")
        for ask in waiting:
            self.opened(ask)

    def opened(self, ask: Ask) -> None:
        if ask.id not in self._asked and not (self._gone is not None and self._gone.is_set()):
            self._asked[ask.id] = asyncio.create_task(self._ask(ask), name=f"elicit {ask.id}")

    def closed(self, ask_id: str) -> None:
        if (task := self._asked.get(ask_id)) is not None:
            task.cancel()

    async def close(self) -> None:
        await end_tasks(*self._asked.values(), self._watching)

    async def _ask(self, ask: Ask) -> None:
        problem = ""
        for _ in range(MAX_TRIES):
            try:
                said = await self._put(question_of(ask, problem))
            except Exception as error:  # whatever a client makes of it: the question waits for somebody else
                log.warning("a client could not be asked about %s: %s", ask.id, error)
                return
            if not (problem := await give(self._caller, ask, said)):
                return

    async def _watch(self, gone: asyncio.Event, leave: Callable[[], None]) -> None:
        """Count the client no more once it is gone; nobody answers what it was asked."""
        await gone.wait()
        leave()
        for task in self._asked.values():
            task.cancel()


class AskedBetween:
    """Has the client answer between two calls: what waits is handed out, and the call ends until the client calls again.

    `said` are its answers to what was handed out before, `tries` how often that was: `MAX_TRIES` for what it dismissed.
    """

    def __init__(
        self, caller: Caller, request_id: str, said: Mapping[str, Said], tries: Mapping[str, int]
    ) -> None:
        self.paused: asyncio.Future[Paused] = asyncio.get_running_loop().create_future()
        self.request_id, self.tries = request_id, dict(tries)
        self.asks: dict[str, Question] = {}
        """What is handed out."""
        self._caller, self._said = caller, said

    async def begin(self, waiting: list[Ask], leave: Callable[[], None]) -> None:
        for ask in waiting:
            problem, said = "", self._said.get(ask.id)
            if said is not None:
                problem = await give(self._caller, ask, said)
                if not problem:
                    self.tries[ask.id] = MAX_TRIES
            self._hand_out(ask, problem)

    def opened(self, ask: Ask) -> None:
        self._hand_out(ask, "")

    def closed(self, ask_id: str) -> None:
        """What was handed out cannot be taken back: its answer will be too late."""

    async def close(self) -> None:
        """There is nothing to take back."""

    def _hand_out(self, ask: Ask, problem: str) -> None:
        tried = self.tries.get(ask.id, 0)
        if tried >= MAX_TRIES or ask.id in self.asks:
            return
        self.tries[ask.id] = tried + 1
        self.asks[ask.id] = question_of(ask, problem)
        if not self.paused.done():
            self.paused.set_result(Paused(max(0.0, ask.until - time.time())))
