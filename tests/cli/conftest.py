"""A real backend with two scripted specialists, and a way to run the command line against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commandline import Line


@pytest.fixture(scope="session")
def long_lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A backend with apollo and athena, begun by the first command as a user's would be."""
    one = Line(tmp_path_factory.mktemp("cli") / "home")
    try:
        done = one("tekton", "launch", "apollo", "athena")
        assert done.returncode == 0, done.stderr + done.stdout
        yield one
    finally:
        one.end()


@pytest.fixture(scope="module")
def line(long_lived: Line) -> Line:
    """That backend without any conversation: a long one of another file would be summed up in the prompts of this one."""
    long_lived.forget_conversations()
    return long_lived


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Line]:
    """A home of the test's own where nothing runs yet; what the test starts there is ended."""
    one = Line(tmp_path / "home")
    try:
        yield one
    finally:
        if one.processes():
            one.end()
