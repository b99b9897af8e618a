"""The time by the gateway's clock, which every age on the screen is counted by: what it stamps may come from another machine.

Knows no gateway; the controller says by how much its clock is ahead of ours.
"""

from __future__ import annotations

import time

_ahead_s = 0.0


def set_ahead(seconds: float) -> None:
    """Take by how many seconds the gateway's clock is ahead of this machine's."""
    global _ahead_s
    _ahead_s = seconds


def gateway_time() -> float:
    """Return the unix time by the gateway's clock."""
    return time.time() + _ahead_s
