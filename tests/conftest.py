"""What all tests share."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import settings

from tests.randomness import FUZZ
from tests.redis_server import redis_server

__all__ = ["redis_server"]

LONGEST = tuple(
    f"tests/{name}.py"
    for name in (
        "tui/test_pictures", "tui/test_every_key", "tui/test_contrast", "tui/test_sizes", "cli/test_streams", "tui/test_verbs",
        "tui/test_every_word", "cli/test_help", "tui/test_chat_pairs", "tui/test_new_specialist", "client/test_slow_line",
        "tui/test_chat_screen", "tui/test_team_view", "tui/test_triage", "gateway/test_told_to_end", "gateway/test_mcp_tools",
    )
)  # fmt: skip
"""The files that take longest. They are begun first: no process is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(LONGEST)))


def pytest_collection(session: pytest.Session) -> None:
    """Begin, as one of several processes that collect everything, with other files than the rest: no file of a new clone is
    compiled by more than one of them, and what one compiles the others read.
    """
    tests = Path(__file__).parent
    if session.config.args != ["tests"] or "PYTEST_XDIST_WORKER" not in os.environ:
        return
    place, processes = (
        int(os.environ["PYTEST_XDIST_WORKER"][2:]),
        int(os.environ["PYTEST_XDIST_WORKER_COUNT"]),
    )
    for file in sorted(tests.rglob("test_*.py"))[place::processes]:
        with suppress(Exception, pytest.skip.Exception):  # whatever it is, collecting it says so
            import_module(".".join(file.with_suffix("").relative_to(tests.parent).parts))


gc.disable()
"""While the tests are imported: what they are made of stays, and was looked at again and again, a fifth of the time."""


def pytest_collection_finish() -> None:
    gc.enable()
    gc.collect()
    gc.freeze()


# A process that tests start, and each of those that run tests, reads compiled what another has compiled, also where the
# caller's environment asks for no bytecode.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None)
settings.load_profile("new" if FUZZ else "same")

if os.environ.get("PYTEST_XDIST_WORKER"):
    # a process that runs tests beside others is told a width and ignores ctrl-c; what tests start must not inherit that
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
