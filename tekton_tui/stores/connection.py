"""The state of the connection to the backend, since when, and why."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

from tekton_tui.stores.signal import Signal

SLOW_S = 1.0
"""A link is slow when its answers come later than this."""
LinkState = Literal["attaching", "attached", "lost", "failed", "closed"]


class ConnectionStore:
    """`changed` is emitted after every change of state or reason."""

    def __init__(self) -> None:
        self.state: LinkState = "attaching"
        self.since = time.time()
        self.reason = ""
        self.starts_here = True
        """Whether a backend that is gone is started here; else it is another machine's."""
        self.place = ""
        """Host and port of a gateway elsewhere; empty for the home's own."""
        self.in_clear = False
        """Whether what is said to that gateway can be read on the way."""
        self.pace: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0)
        """Returns how far the link to the gateway is behind, in seconds, and the bytes a second that it carries."""
        self.changed: Signal[[]] = Signal()

    def set(self, state: LinkState, reason: str = "") -> None:
        """Set the state; the same one again changes the reason only, not `since`."""
        if state != self.state:
            self.state, self.since = state, time.time()
        self.reason = reason
        self.changed.emit()

    def to(self, url: str) -> None:
        """Remember which gateway elsewhere this is; `url` is its address."""
        address = urlsplit(url)
        # an address may carry a name and a password, which belong on no screen
        self.place = address.netloc.rpartition("@")[2]
        host = address.hostname or ""
        # what goes to this machine itself leaves no wire to listen on
        near = host in ("localhost", "::1") or host.startswith("127.")
        self.in_clear = address.scheme in ("http", "ws") and not near
        self.changed.emit()

    @property
    def slow(self) -> str:
        """How far a slow link is behind, in words; empty for one that is not slow."""
        behind_s, bytes_per_s = self.pace()
        if behind_s <= SLOW_S or self.state != "attached":
            return ""
        return f"slow: {behind_s:.0f} s behind, {bytes_per_s / 1000:.0f} kB/s"

    @property
    def stale(self) -> bool:
        """Whether the stores may be out of date."""
        return self.state in ("lost", "failed")
