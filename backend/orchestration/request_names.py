"""What request ids name: one question of one kind, for all clients. Knows the kinds by their words, not what they ask."""

from __future__ import annotations

from collections.abc import Callable

from backend.schema.errors import TektonError

QUESTION = "a question to one specialist"
TEAM_QUESTION = "a question to the team"
MEMBER_CALL = "a call of a team's member"
PIPELINE = "a pipeline run"
BULK = "a bulk"
FETCH = "the fetching of a model"


class RequestIdTaken(TektonError):
    """The request id names another question, or one to somebody else."""

    code = "conflict"


def taken(request_id: str, kind: str = "another question") -> RequestIdTaken:
    """Return the refusal of an id that names something else."""
    return RequestIdTaken(f"the request id {request_id!r} names {kind} already: choose a new one")


class RequestNames:
    """Who knows which ids. Each kind says what it knows; whoever begins something asks whether another kind does.

    `check` waits for nothing: called in the same step in which an id becomes known, no other call gets in between.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, Callable[[str], bool]] = {}

    def register(self, kind: str, is_known: Callable[[str], bool]) -> None:
        """Take a kind into account; `is_known` says whether an id names one of it."""
        self._kinds[kind] = is_known

    def check(self, request_id: str, kind: str) -> None:
        """Refuse an id that names something of another kind.

        Raises:
            RequestIdTaken: With the word for what it names.
        """
        for other, is_known in self._kinds.items():
            if other != kind and is_known(request_id):
                raise taken(request_id, other)
