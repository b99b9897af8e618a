"""The registry's audit log: one JSON line for each change, rotated by size.

Knows nothing of the registry's content. Written under the registry's lock, so lines of two processes never mix.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from backend.schema.records import AuditLine
from backend.wire import encode_line

MAX_AUDIT_BYTES = 4 * 1024 * 1024
KEPT_AUDITS = 3
"""How many older files are kept beside the current one, as `….1` (newest) to `….3`."""


class AuditLog:
    """An append-only file of at most `max_bytes`. The caller must hold the registry's lock."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_AUDIT_BYTES, keep: int = KEPT_AUDITS) -> None:
        self.path = path
        self._max_bytes, self._keep = max_bytes, keep

    def append(self, lines: list[AuditLine]) -> None:
        """Write lines with one write; rotate first if the file would become too long."""
        if not lines:
            return
        data = b"".join(encode_line(line) for line in lines)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(data) > self._max_bytes:
                self._rotate()
                os.close(descriptor)
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
            if newer.exists():
                newer.replace(older)


def audit_line(ai_id: str, event: str, previous_state: str | None, detail: str) -> AuditLine:
    """Return an audit line with the current time."""
    return AuditLine(time.time(), ai_id, event, previous_state, detail)
