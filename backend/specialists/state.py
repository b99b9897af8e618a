"""The states of a specialist, as one table. Facts move a row along it; the screen never guesses.

    stopped → starting → ready ⇄ busy → stopping → stopped
    and at any time after starting: exited(code), killed(signal), lost; before it: foreign-port

`busy` has phases (queued, prefill, streaming, stalled): facts of its turns, not states of the process.
`exited` and `killed` are ends nobody here asked for; an end we asked for is `stopped`, its cause says how it came.
`lost` is a process that should be there and is not, or lives and does not answer: it may answer again.
An end whose code nobody could read (an adopted process is not our child) is `exited` with code unknown.
"""

from __future__ import annotations

from collections.abc import Iterable

from backend.schema.frames import Phase
from backend.schema.records import SpecialistState

_ENDS: frozenset[SpecialistState] = frozenset({"exited", "killed", "lost"})
_BEGINNINGS: frozenset[SpecialistState] = frozenset({"starting", "ready", "lost", "foreign-port", "stopped"})
"""Where a row goes whose process is not there: launched, adopted alive, adopted mute, refused its port, cleared."""


def _to(*states: SpecialistState) -> frozenset[SpecialistState]:
    return frozenset(states)


TRANSITIONS: dict[SpecialistState, frozenset[SpecialistState]] = {
    "stopped": _BEGINNINGS,
    "starting": _ENDS | _to("ready", "stopping", "stopped", "foreign-port"),
    "ready": _ENDS | _to("busy", "stopping"),
    "busy": _ENDS | _to("ready", "stopping"),
    "stopping": _ENDS | _to("stopped"),
    "exited": _BEGINNINGS,
    "killed": _BEGINNINGS,
    "lost": _ENDS | _BEGINNINGS | _to("stopping"),
    "foreign-port": _BEGINNINGS,
}

RUNNING: frozenset[SpecialistState] = frozenset({"starting", "ready", "busy", "stopping"})
"""States in which a process of ours is expected to live."""
ANSWERING: frozenset[SpecialistState] = frozenset({"ready", "busy"})
"""States in which a specialist can be asked."""

_LOUDEST: tuple[Phase, ...] = ("streaming", "stalled", "prefill", "queued")


class IllegalTransition(Exception):
    """A row was about to move along no edge of the table: a mistake in this program."""


def check(before: SpecialistState, after: SpecialistState) -> None:
    """Let a transition of the table pass; staying is always one.

    Raises:
        IllegalTransition: The table has no such edge.
    """
    if before != after and after not in TRANSITIONS[before]:
        raise IllegalTransition(f"{before} → {after}")


def loudest(phases: Iterable[Phase]) -> Phase | None:
    """Return the phase a row shows while several turns run: the one furthest on, a stall before a wait."""
    present = set(phases)
    return next((phase for phase in _LOUDEST if phase in present), None)
