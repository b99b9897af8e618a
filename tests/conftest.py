"""What all tests share."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

from tests.randomness import FUZZ
from tests.redis_server import redis_server

__all__ = ["redis_server"]

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None)
settings.load_profile("new" if FUZZ else "same")

if os.environ.get("PYTEST_XDIST_WORKER"):
    # a process that runs tests beside others is told a width and ignores ctrl-c; what tests start must not inherit that
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
