"""The served memory store: Redis, for many gateways on one store.

Composition of its parts; holds no command. A write that returned was confirmed by the server; what the server keeps when it
dies is its own setting, checked at `open` and described in `durability`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from backend.memory.errors import MemoryFault
from backend.memory.records import Retention, RetentionReport
from backend.memory.redis import checks, index, retention, scripts
from backend.memory.redis.connection import Address, RedisConnections
from backend.memory.redis.error_log import RedisErrors
from backend.memory.redis.late_answers import RedisLateAnswers
from backend.memory.redis.messages import RedisMessages
from backend.memory.redis.sent import RedisSent
from backend.memory.redis.sessions import RedisSessions, check_titles
from backend.memory.redis.settings import RedisSettings
from backend.memory.redis.shared_log import RedisSharedLog
from backend.memory.redis.tool_calls import RedisToolCalls
from backend.memory.redis.turns import RedisTurns
from backend.memory.shared_log import LateAnswers, SharedLog
from backend.tasks import end_tasks

log = logging.getLogger(__name__)

_SCRIPTS = [value for name, value in vars(scripts).items() if name.isupper()]


class RedisStore:
    """A `MemoryStore` on a Redis server; any number of gateways may open it.

    `gateway` names this gateway for good: the turns it left open are found again under that name. With `fleet` it
    shares that fleet with other gateways through its shared log.
    """

    def __init__(self, address: Address, gateway: str, *, fleet: str = "", volatile: bool = False) -> None:
        self.address = address
        self._fleet_log = RedisSharedLog(address, fleet, gateway) if fleet else None
        self.shared_log: SharedLog | None = self._fleet_log
        self.set_aside: Path | None = None
        self.damage = ""
        self.durability = ""
        """In words, what the server keeps when it dies; known after `open`."""
        self._volatile = volatile
        self._connections = RedisConnections(address, _SCRIPTS)
        self._catching_up: asyncio.Task[None] | None = None
        self.sessions = RedisSessions(self._connections)
        self.messages = RedisMessages(self._connections, gateway)
        self.sent = RedisSent(self._connections)
        self.turns = RedisTurns(self._connections, gateway)
        self.errors = RedisErrors(self._connections)
        self.settings = RedisSettings(self._connections)
        self.tool_calls = RedisToolCalls(self._connections)
        self.late_answers: LateAnswers | None = (
            RedisLateAnswers(self._connections, self.messages, fleet, gateway) if fleet else None
        )

    @property
    def place(self) -> str:
        return f"Redis at {self.address.shown}, which {self.durability}"

    async def open(self) -> None:
        """Connect, check that the server can be trusted, and finish what a crash left half removed.

        Raises:
            StoreFailed: It cannot be reached, refuses the password, or might lose what it confirms.
        """
        try:
            if self._fleet_log is None:
                self._connections.open()
            else:
                await self._fleet_log.join()
                self._connections.open(
                    name=self._fleet_log.client_name, on_connect=self._fleet_log.check_listed
                )
            writer = self._connections.writer
            self.durability = await checks.check(writer, self.address.shown, volatile=self._volatile)
            older = await index.prepare(writer)
            await retention.finish_removals(writer)
            self._catching_up = asyncio.create_task(self._catch_up(older), name="memory-catch-up")
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await end_tasks(self._catching_up)
        await self._connections.close()
        if self._fleet_log is not None:
            await self._fleet_log.leave()

    def figures(self) -> dict[str, int]:
        return self._connections.figures()

    async def retain(self, ages: Retention, now: float | None = None) -> RetentionReport:
        report = await retention.retain(self._connections.writer, ages, time.time() if now is None else now)
        await check_titles(self._connections.writer)
        return report

    async def _catch_up(self, older: bool) -> None:
        """List the titles that are not listed, index the `older` messages that an index of another version had.

        Leaves the server free half of the time.
        """
        try:
            await check_titles(self._connections.writer)
            if older:
                await index.remove_earlier(self._connections.writer)
            while older:
                began = time.monotonic()
                older = await index.index_older(self._connections.writer)
                await asyncio.sleep(time.monotonic() - began)
        except MemoryFault as error:
            log.error("older messages may not be found until the next start: %s", error.message)
