"""The error ledger as the console knows it: newest records by id, and how many nobody has acknowledged."""

from __future__ import annotations

import time

from backend.schema.events import ErrorEntry, ErrorsAcknowledged
from backend.schema.records import ErrorRecord
from tekton_tui.stores.signal import Signal


class ErrorStore:
    """Records newest first. `changed` after any change; `came` with each new failure."""

    def __init__(self) -> None:
        self.records: dict[int, ErrorRecord] = {}
        self.unacknowledged = 0
        self.changed: Signal[[]] = Signal()
        self.came: Signal[[ErrorRecord]] = Signal()

    def count(self, unacknowledged: int) -> None:
        self.unacknowledged = unacknowledged
        self.changed.emit()

    def load(self, records: list[ErrorRecord], unacknowledged: int) -> None:
        """Take the ledger in; what came as an event meanwhile stays when it is newer."""
        for record in records:
            known = self.records.get(record.id)
            if known is None or record.last >= known.last:
                self.records[record.id] = record
        self.count(unacknowledged)

    def put(self, event: ErrorEntry) -> None:
        self.records[event.record.id] = event.record
        self.count(event.unacknowledged)
        self.came.emit(event.record)

    def acknowledge(self, event: ErrorsAcknowledged) -> None:
        for number in event.ids:
            if record := self.records.get(number):
                record.acknowledged = event.timestamp or time.time()
        self.count(event.unacknowledged)

    def newest_first(self) -> list[ErrorRecord]:
        return sorted(self.records.values(), key=lambda record: record.last, reverse=True)
