"""The error family every room's errors descend from.

TektonError
├── InvalidRequest   what the caller gave cannot be used   invalid_request
├── (one family a room, drawn in that room's module)

An error that leaves a process does so as its `code` and its text; both are shown to people.
"""

from __future__ import annotations

from typing import Literal

ErrorCode = Literal[
    "invalid_json",
    "invalid_request",
    "unknown_type",
    "line_too_long",
    "provider_unavailable",
    "provider_auth",
    "provider_rate_limited",
    "model_not_found",
    "context_overflow",
    "stalled",
    "cancelled",
    "budget_exceeded",
    "unauthorized",
    "internal",
    # beyond the specialist socket: what the platform itself may answer
    "unknown_specialist",
    "unknown_session",
    "not_found",
    "not_running",
    "already_running",
    "foreign_port",
    "launch_failed",
    "launch_refused",
    "registry_busy",
    "lifecycle_off",
    "forbidden",
    "conflict",
    "too_large",
    "too_many",
    "timeout",
    "worker_lost",
    "backend_lost",
    "config_invalid",
]


REFUSED_UPSTREAM: frozenset[ErrorCode] = frozenset(
    {"provider_unavailable", "provider_auth", "provider_rate_limited", "model_not_found", "context_overflow"}
)
"""Failures of which, while nothing of an answer came, nobody is billed."""


class TektonError(Exception):
    """An expected failure: a code from `ErrorCode` and a sentence that says what to do about it.

    `evidence` holds the other side's own words (an upstream body, stderr lines), already redacted.
    `detail` holds machine-readable extras, e.g. `{"retry_after_s": 12}`.
    """

    code: ErrorCode = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: ErrorCode | None = None,
        evidence: str = "",
        detail: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.evidence = evidence
        self.detail = detail or {}


class InvalidRequest(TektonError):
    """The caller's values cannot be used; the message names the parameter and what was expected."""

    code = "invalid_request"
