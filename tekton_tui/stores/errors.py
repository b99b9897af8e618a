"""The error log: the newest records, and how many nobody has acknowledged."""

from __future__ import annotations

from backend.schema.events import ErrorEntry, ErrorsAcknowledged
from backend.schema.records import ErrorRecord
from tekton_tui.clock import gateway_time
from tekton_tui.stores.signal import Signal


class ErrorStore:
    """Records by id. `changed` is emitted after every change."""

    def __init__(self) -> None:
        self.records: dict[int, ErrorRecord] = {}
        self.unacknowledged = 0
        self.listed = False
        """Whether the error log was read."""
        self.version = 0
        """Counts what the backend has said by itself: an answer asked for before the last of it may be older."""
        self.changed: Signal[[]] = Signal()

    def count(self, unacknowledged: int) -> None:
        self.version += 1
        self.unacknowledged = unacknowledged
        self.changed.emit()

    def load(self, records: list[ErrorRecord], unacknowledged: int, version: int) -> None:
        """Add records of the error log as it was at a `version`; what events have brought since stays as they said it."""
        same, self.listed = version == self.version, True
        for record in records:
            if same or record.id not in self.records:
                self.records[record.id] = record
        self.count(unacknowledged if same else self.unacknowledged)

    def put(self, event: ErrorEntry) -> None:
        self.records[event.record.id] = event.record
        self.count(event.unacknowledged)

    def acknowledge(self, event: ErrorsAcknowledged) -> None:
        for number in event.ids:
            if record := self.records.get(number):
                record.acknowledged = event.timestamp or gateway_time()
        self.count(event.unacknowledged)

    def newest_first(self) -> list[ErrorRecord]:
        return sorted(self.records.values(), key=lambda record: record.last, reverse=True)
