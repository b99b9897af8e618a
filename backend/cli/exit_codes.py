"""What the exit code says, for `tekton` and `aish` alike."""

from __future__ import annotations

OK, FAILED, USAGE, NOT_FOUND, NOT_RUNNING, PROVIDER, REFUSED, TIMEOUT = range(8)
CANCELLED, PIPE_CLOSED = 130, 141
"""As a shell reports a program that SIGINT or SIGPIPE ended."""
SIGNALLED = 128
"""With the number of another signal added: what that signal ended."""

MEANINGS: dict[int, str] = {
    OK: "done",
    FAILED: "failed",
    USAGE: "usage or configuration error",
    NOT_FOUND: "not found",
    NOT_RUNNING: "not running",
    PROVIDER: "the model did not answer",
    REFUSED: "refused: budget, port, size, token",
    TIMEOUT: "time-out",
    CANCELLED: "cancelled",
    PIPE_CLOSED: "broken pipe",
}
"""What `--help` says of each."""

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
    """Return the exit code that stands for an error code."""
    return BY_CODE.get(code, FAILED)
