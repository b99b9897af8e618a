"""A fleet another gateway leads: its rows copied, and connections of our own to those who can be asked.

Launches, watches and ends nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from backend.schema.errors import TektonError
from backend.schema.records import ServiceStatus, SpecialistStatus
from backend.specialists.endpoints import Endpoints
from backend.specialists.fleet import Fleet
from backend.specialists.state import ANSWERING

log = logging.getLogger(__name__)


class Following:
    """Keeps board and links in line with the leader's words."""

    def __init__(self, fleet: Fleet, endpoints: Endpoints) -> None:
        self._fleet, self._endpoints = fleet, endpoints
        self._opening: dict[str, asyncio.Task[None]] = {}

    def copy(self, row: SpecialistStatus) -> None:
        """Take a row as the leader shows it; open or close the way to ask."""
        fleet = self._fleet
        fleet.board.put(row)
        link = fleet.links.get(row.id)
        if row.state in ANSWERING:
            if (link is None or link.closed.done()) and row.id not in self._opening:
                self._soon(row.id, self._open(row))
        elif link is not None and row.state not in ("lost", "stopping"):
            fleet.links.pop(row.id).close(row.cause or row.state)

    def copy_service(self, service: ServiceStatus) -> None:
        self._fleet.board.services[service.name] = service

    async def settled(self) -> None:
        """Wait until connections being opened are there, or are known to fail."""
        if self._opening:
            await asyncio.wait(list(self._opening.values()))

    def stop(self) -> None:
        for task in self._opening.values():
            task.cancel()

    def _soon(self, ai_id: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._opening[ai_id] = asyncio.create_task(work, name=f"follow {ai_id}")
        task.add_done_callback(lambda _: self._opening.pop(ai_id, None))

    async def _open(self, row: SpecialistStatus) -> None:
        fleet = self._fleet
        try:
            if row.transport == "api":
                component = fleet.component(row.id)
                if component is not None:
                    fleet.links[row.id] = self._endpoints.channel(component)
                return
            fleet.links[row.id] = await fleet.reach(row.id, row.host, row.port)
        except TektonError as error:
            log.warning("%s cannot be reached from this gateway: %s", row.id, error.message)
