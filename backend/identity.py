"""The identity of a process: its pid together with its start time, because pids are used again.

On Linux the start is also kept in clock ticks since boot: the unix time of a process's start changes when the
machine's clock is set, its ticks do not. Knows no registry file.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import psutil
from msgspec import Struct

from backend.schema.records import RegistryEntry

START_TOLERANCE_S = 1.5
"""How far two readings of one process's start may differ, in seconds, where its ticks are not known."""


class Identity(Struct, frozen=True):
    """A process. `start` in unix seconds; `ticks` since the boot with id `boot`, 0 and empty if unknown, each by itself."""

    pid: int
    start: float
    ticks: int = 0
    boot: str = ""

    def still_lives(self) -> bool:
        """Return whether this very process lives. Setting the machine's clock does not matter where ticks and boot are known."""
        found = identify(self.pid)
        if found is None:
            return False
        if self.ticks and self.boot and found.boot:
            return (found.ticks, found.boot) == (self.ticks, self.boot)
        return abs(found.start - self.start) < START_TOLERANCE_S

    def metadata(self) -> dict[str, object]:
        """Return the metadata of a registry entry by which the process is found again though the clock was set."""
        return {"start_ticks": self.ticks, "boot_id": self.boot} if self.ticks else {}


def identify(pid: int) -> Identity | None:
    """Return the identity of a live process, `None` if there is none. A zombie does not live."""
    if pid <= 0:
        return None
    if sys.platform == "linux":
        return _identify_linux(pid)
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Identity(pid, process.create_time())
    except psutil.Error:
        return None


def own_identity() -> Identity:
    """Return the identity of this process."""
    found = identify(os.getpid())
    assert found is not None, "a running process has an identity"
    return found


def entry_alive(entry: RegistryEntry) -> bool:
    """Return whether the process of a registry entry still lives."""
    return recorded_identity(entry).still_lives()


def recorded_identity(entry: RegistryEntry) -> Identity:
    """Return the identity of a registry entry's process, whether or not it lives."""
    ticks, boot = entry.metadata.get("start_ticks"), entry.metadata.get("boot_id")
    if isinstance(ticks, int) and isinstance(boot, str):
        return Identity(entry.pid, entry.process_start, ticks, boot)
    return Identity(entry.pid, entry.process_start)


def _identify_linux(pid: int) -> Identity | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text.rpartition(b")")[2].split()  # the name before it may hold spaces and parentheses
    if fields[0] in (b"Z", b"X", b"x"):
        return None
    ticks = int(fields[19])
    return Identity(pid, _boot_time() + ticks / os.sysconf("SC_CLK_TCK"), ticks, _boot_id())


def _boot_time() -> float:
    for line in Path("/proc/stat").read_bytes().splitlines():
        if line.startswith(b"btime "):
            return float(line.split()[1])
    raise RuntimeError("/proc/stat has no btime line")


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
