"""Who calls: set by each surface while it runs an action, for what has to be put down to somebody."""

from __future__ import annotations

from contextvars import ContextVar

caller: ContextVar[str] = ContextVar("caller", default="this program")
"""In words, such as `owner over ws`."""
