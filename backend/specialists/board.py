"""The rows of the grid: what is known of every specialist and service now, told to the event stream on each change.

Knows no process. Rows are replaced, never altered, so that who holds one holds what was true then.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from backend.schema.events import ServiceEvent, SpecialistEvent, Topic
from backend.schema.records import ServiceStatus, SpecialistStatus
from backend.specialists.state import check

Publish = Callable[[msgspec.Struct, Topic], object]


class Board:
    """Rows by id in table order, services by name."""

    def __init__(self, publish: Publish) -> None:
        self.rows: dict[str, SpecialistStatus] = {}
        self.services: dict[str, ServiceStatus] = {}
        self._publish = publish
        self.copied = False
        """Whether the rows are another gateway's: then nothing here changes them, and nothing is told."""

    def put(self, row: SpecialistStatus) -> None:
        """Put a new row in without telling anybody."""
        self.rows[row.id] = row

    def change(self, ai_id: str, **changes: object) -> SpecialistStatus:
        """Change a row and publish it if that made a difference; stamps `since` and `phase_since`.

        Raises:
            IllegalTransition: The states' table has no such edge.
        """
        before, now = self.rows[ai_id], time.time()
        if self.copied:
            return before
        after = msgspec.structs.replace(before, **changes)
        if after == before:
            return before
        check(before.state, after.state)
        if after.state != before.state:
            after.since = now
        if after.phase != before.phase:
            after.phase_since = now if after.phase else 0.0
        self.rows[ai_id] = after
        self._publish(SpecialistEvent(after, now), "fleet")
        return after

    def change_service(self, name: str, title: str = "", **changes: object) -> ServiceStatus:
        """Change a service's row, made if there is none, and publish it if that made a difference."""
        now = time.time()
        before = self.services.get(name)
        after = msgspec.structs.replace(before or ServiceStatus(name, title or name), **changes)
        if title:
            after.title = title
        if before is not None and after == before:
            return before
        if before is None or after.state != before.state:
            after.since = now
        self.services[name] = after
        self._publish(ServiceEvent(after, now), "fleet")
        return after
