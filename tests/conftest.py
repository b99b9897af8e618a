"""What all tests share: property tests draw the same examples in CI every time."""

from __future__ import annotations

import os

from hypothesis import settings

from tests.redis_server import redis_server

__all__ = ["redis_server"]

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")
