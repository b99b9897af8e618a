"""The rows of the grid: what is known now of every specialist and service, published on each change.

Knows no process. A row is replaced, never altered, so that whoever holds one sees what was true when it was read.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from backend.schema.events import ServiceEvent, SpecialistEvent, SpecialistGone, Topic
from backend.schema.records import ServiceStatus, SpecialistStatus
from backend.specialists.state import check

Publish = Callable[[msgspec.Struct, Topic], object]


class StatusTable:
    """Rows by id in the catalogue's order, services by name."""

    def __init__(self, publish: Publish) -> None:
        self.rows: dict[str, SpecialistStatus] = {}
        self.services: dict[str, ServiceStatus] = {}
        self._publish = publish
        self.copied = False
        """Whether the rows are copies of another gateway's: `update` then changes and publishes nothing."""

    def put(self, row: SpecialistStatus) -> None:
        """Put a row in, in place of one with its id, without publishing it."""
        self.rows[row.id] = row

    def add(self, row: SpecialistStatus) -> None:
        """Put a row in and publish it, unless rows are copies."""
        if self.copied:
            return
        self.rows[row.id] = row
        self._publish(SpecialistEvent(row, time.time()), "fleet")

    def remove(self, ai_id: str) -> None:
        """Take a row out and publish that, unless rows are copies."""
        if not self.copied and self.rows.pop(ai_id, None) is not None:
            self._publish(SpecialistGone(ai_id, time.time()), "fleet")

    def update(self, ai_id: str, **changes: object) -> SpecialistStatus:
        """Change fields of a row and publish it if one differs; stamps `since` and `phase_since`.

        Raises:
            IllegalTransition: The table of states has no such transition.
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

    def update_service(
        self, name: str, title: str = "", *, publish: bool = True, **changes: object
    ) -> ServiceStatus:
        """Change fields of a service's row, made if there is none, and publish it if one differs and `publish` is true."""
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
        if publish:
            self._publish(ServiceEvent(after, now), "fleet")
        return after
