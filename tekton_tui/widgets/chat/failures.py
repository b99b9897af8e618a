"""What a failed turn is called on the screen, and which keys of the conversation help; knows no widget."""

from __future__ import annotations

from typing import Final, NamedTuple

Keys = tuple[tuple[str, str], ...]
AGAIN: Final = ("R", "asks again")
START: Final = ("s", "starts it")
LOG: Final = ("l", "its log")
MODEL: Final = ("m", "another model")
SHORTER: Final = ("i", "shorten it")


class FailureWords(NamedTuple):
    """A cause in a few words, and the keys that help with it."""

    cause: str
    remedy: Keys = (AGAIN,)


FAILURES: Final[dict[str, FailureWords]] = {
    "provider_unavailable": FailureWords("no connection to its model", (AGAIN, MODEL)),
    "provider_auth": FailureWords("the provider refused the key", (MODEL, AGAIN)),
    "provider_rate_limited": FailureWords("the provider asks to wait", (AGAIN, MODEL)),
    "model_not_found": FailureWords("its model is not there", (MODEL, AGAIN)),
    "context_overflow": FailureWords("too long for its model", (SHORTER, MODEL)),
    "stalled": FailureWords("no token for too long", (AGAIN, LOG)),
    "budget_exceeded": FailureWords("today's budget is spent", (MODEL,)),
    "worker_lost": FailureWords("its process ended", (START, LOG)),
    "not_running": FailureWords("it does not run", (START, LOG)),
    "backend_lost": FailureWords("the backend ended meanwhile"),
    "timeout": FailureWords("no answer in time"),
    "too_many": FailureWords("too many questions wait"),
    "invalid_request": FailureWords("the question was refused", (SHORTER,)),
    "internal": FailureWords("something failed in the backend", (LOG, AGAIN)),
}
"""By error code; one that is not here is named by its own words."""


def failure_words(code: str) -> FailureWords:
    """Return what a failure is called and what helps."""
    return FAILURES.get(code) or FailureWords(code.replace("_", " ") or "failed")
