"""The link to the backend as the console tells it: attaching, attached, lost since when and why."""

from __future__ import annotations

import time
from typing import Literal

from tekton_tui.stores.signal import Signal

LinkState = Literal["attaching", "attached", "lost", "failed", "closed"]


class ConnectionStore:
    """`changed` after every change of state."""

    def __init__(self) -> None:
        self.state: LinkState = "attaching"
        self.since = time.time()
        self.reason = ""
        self.changed: Signal[[]] = Signal()

    def set(self, state: LinkState, reason: str = "") -> None:
        """Take a state; the same one again brings another reason, and counts from when it began."""
        if state != self.state:
            self.state, self.since = state, time.time()
        self.reason = reason
        self.changed.emit()

    @property
    def stale(self) -> bool:
        """Whether what is shown may no longer be true."""
        return self.state in ("lost", "failed")
