"""What the exit code says, for `tekton` and `aish` alike."""

from __future__ import annotations

OK = 0
FAILED = 1
"""Something failed that has no code of its own here."""
USAGE = 2
"""The words of the call are off, or the configuration is."""
NOT_FOUND = 3
"""No such specialist, session, turn or model."""
NOT_RUNNING = 4
"""The specialist or the backend does not run."""
PROVIDER = 5
"""The model behind the specialist did not answer."""
REFUSED = 6
"""Refused before anything was done: budget, port, cap, token, size."""
TIMEOUT = 7
CANCELLED = 130
PIPE_CLOSED = 141
"""Whoever read our output left, as a shell says it of any program."""

BY_CODE: dict[str, int] = {
    "invalid_request": USAGE, "invalid_json": USAGE, "unknown_type": USAGE, "config_invalid": USAGE,
    "unknown_specialist": NOT_FOUND, "unknown_session": NOT_FOUND, "not_found": NOT_FOUND, "model_not_found": NOT_FOUND,
    "not_running": NOT_RUNNING, "backend_lost": NOT_RUNNING, "worker_lost": NOT_RUNNING, "lifecycle_off": NOT_RUNNING,
    "provider_unavailable": PROVIDER, "provider_auth": PROVIDER, "provider_rate_limited": PROVIDER,
    "context_overflow": PROVIDER, "stalled": PROVIDER, "internal": FAILED,
    "budget_exceeded": REFUSED, "foreign_port": REFUSED, "launch_refused": REFUSED, "too_large": REFUSED,
    "line_too_long": REFUSED, "unauthorized": REFUSED, "forbidden": REFUSED, "too_many": REFUSED, "conflict": REFUSED,
    "timeout": TIMEOUT, "cancelled": CANCELLED,
}  # fmt: skip
"""Exit code of each error code; the rest is `FAILED`."""


def exit_code(code: str) -> int:
    return BY_CODE.get(code, FAILED)
