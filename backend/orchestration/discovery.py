"""Discovery: which specialists there are, in the shape clients of the platform know."""

from __future__ import annotations

from backend.schema.records import SpecialistStatus
from backend.schema.results import Connection, Performance, Specialist
from backend.schema.states import LIVE


def discover(
    statuses: list[SpecialistStatus],
    *,
    capability: str = "",
    role: str = "",
    state: str = "",
    active_only: bool = False,
) -> list[Specialist]:
    """Return the specialists that pass every filter given; words are compared without case."""
    return [
        describe(status)
        for status in statuses
        if (not active_only or status.state in LIVE)
        and (not state or status.state == state.lower())
        and (not capability or _has(status.capabilities, capability))
        and (not role or _has(status.roles, role))
    ]


def describe(status: SpecialistStatus) -> Specialist:
    """Return one specialist as discovery shows it."""
    asked = status.turns + status.failures
    return Specialist(
        id=status.id,
        name=status.name,
        type="ai",
        title=status.title,
        component_id=status.component,
        status="active" if status.state in LIVE else "inactive",
        state=status.state,
        model=status.model,
        capabilities=status.capabilities,
        roles=status.roles,
        connection=Connection(status.host, status.port, status.transport),
        performance=Performance(
            avg_response_time=status.avg_response_s,
            success_rate=status.turns / asked if asked else None,
            total_requests=asked,
            first_token_ms=status.first_token_ms,
            tokens_per_second=status.tokens_per_second,
        ),
    )


def _has(words: list[str], wanted: str) -> bool:
    """Return whether a word is among others, `code analysis` and `code_analysis` being the same."""
    return _plain(wanted) in map(_plain, words)


def _plain(word: str) -> str:
    return word.strip().lower().replace("_", " ").replace("-", " ")
