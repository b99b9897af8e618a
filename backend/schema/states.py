"""The states of a specialist, and the sets of them that code asks about. Each set is declared here and nowhere else."""

from __future__ import annotations

from typing import Literal

SpecialistState = Literal[
    "stopped", "starting", "ready", "busy", "stopping", "exited", "killed", "lost", "foreign-port"
]

LIVE: frozenset[SpecialistState] = frozenset({"ready", "busy"})
"""States in which a specialist can be asked."""
RUNNING: frozenset[SpecialistState] = frozenset({"starting", "ready", "busy", "stopping"})
"""States in which a process of ours is expected to exist."""
BROKEN: frozenset[SpecialistState] = frozenset({"exited", "killed", "lost", "foreign-port"})
"""States that nobody asked for and that a person should look at."""
