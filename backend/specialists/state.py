"""The states of a specialist and the transitions between them, as one table.

    stopped → starting → ready ⇄ busy → stopping → stopped
    at any time after starting: exited(code), killed(signal), lost; before it: foreign-port

`busy` has phases (queued, prefill, streaming, stalled, waiting, tool), which belong to its turns, not to the process.
`exited` and `killed` are ends that nobody here asked for; an end that was asked for is `stopped`, and its cause says
how it came about. `lost` is a process that should be there and is not, or that lives and does not answer; it may
answer again. An end whose status cannot be read (an adopted process is no child of ours) is `exited` without a code.
"""

from __future__ import annotations

from collections.abc import Iterable

from backend.schema.frames import Phase
from backend.schema.states import SpecialistState

_ENDS: frozenset[SpecialistState] = frozenset({"exited", "killed", "lost"})
_BEGINNINGS: frozenset[SpecialistState] = frozenset({"starting", "ready", "lost", "foreign-port", "stopped"})
"""Where a row without a process can go: launched, adopted, adopted without an answer, port refused, cleared."""


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


_LOUDEST: tuple[Phase, ...] = ("waiting", "streaming", "stalled", "tool", "prefill", "queued")


class IllegalTransition(Exception):
    """A row was about to make a transition the table does not have: a bug in this program."""


def check(before: SpecialistState, after: SpecialistState) -> None:
    """Check a transition; staying in a state is always allowed.

    Raises:
        IllegalTransition: The table does not have it.
    """
    if before != after and after not in TRANSITIONS[before]:
        raise IllegalTransition(f"{before} → {after}")


def loudest(phases: Iterable[Phase]) -> Phase | None:
    """Return the phase to show while several turns run: what needs a person first, then the furthest one."""
    present = set(phases)
    return next((phase for phase in _LOUDEST if phase in present), None)
