"""The fleet on a gateway that does not lead it: rows copied from the leader, and connections of its own.

Launches, watches and ends nobody.
"""

from __future__ import annotations

import asyncio
import logging

from backend.schema.errors import TektonError
from backend.schema.records import ServiceStatus, SpecialistStatus
from backend.schema.states import LIVE
from backend.specialists.context import SupervisorContext
from backend.specialists.endpoints import Endpoints

log = logging.getLogger(__name__)


class Follower:
    """Keeps table and channels in line with the rows that the leading gateway publishes."""

    def __init__(self, context: SupervisorContext, endpoints: Endpoints) -> None:
        self._context, self._endpoints = context, endpoints
        self._opening: dict[str, asyncio.Task[None]] = {}
        self.coming: dict[str, asyncio.Future[None]] = {}
        """Resolved when the launch or restart that the leader has under way is over, and the channel here is open."""

    def copy(self, row: SpecialistStatus) -> None:
        """Copy a row of the leader; open or close the channel to its specialist as its state demands."""
        context = self._context
        context.table.put(row)
        channel = context.channels.get(row.id)
        if row.state in LIVE:
            if (channel is None or channel.closed.done()) and row.id not in self._opening:
                task = self._opening[row.id] = asyncio.create_task(self._open(row), name=f"open {row.id}")
                task.add_done_callback(lambda _: self._opened(row.id))
        elif channel is not None and row.state not in ("lost", "stopping"):
            context.channels.pop(row.id).close(row.cause or row.state)
        if row.restarting or row.state == "starting":
            self.coming.setdefault(row.id, asyncio.get_running_loop().create_future())
        elif row.id in self.coming and row.id not in self._opening:
            self.coming.pop(row.id).set_result(None)

    def _opened(self, ai_id: str) -> None:
        del self._opening[ai_id]
        row = self._context.table.rows.get(ai_id)
        if ai_id in self.coming and not (row and row.restarting):
            self.coming.pop(ai_id).set_result(None)

    def drop(self, ai_id: str) -> None:
        """Forget a row that the leader took out."""
        self._context.table.rows.pop(ai_id, None)

    def copy_service(self, service: ServiceStatus) -> None:
        """Copy a service's row of the leader."""
        self._context.table.services[service.name] = service

    async def settled(self) -> None:
        """Wait until each connection that is being opened is open or has failed."""
        if self._opening:
            await asyncio.wait(list(self._opening.values()))

    def stop(self) -> None:
        """Stop opening connections, and waiting for a leader."""
        for task in self._opening.values():
            task.cancel()
        while self.coming:
            self.coming.popitem()[1].set_result(None)

    async def _open(self, row: SpecialistStatus) -> None:
        context = self._context
        try:
            if row.transport == "api":
                component = context.component(row.id)
                if component is not None:
                    context.channels[row.id] = self._endpoints.channel(component)
                return
            context.channels[row.id] = await context.connect(row.id, row.host, row.port)
        except TektonError as error:
            log.warning("%s cannot be reached from this gateway: %s", row.id, error.message)
