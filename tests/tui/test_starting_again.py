"""A backend that was killed is started by one key. Real processes, by bytes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.tui.terminal import Terminal

CONNECT_KEY = "\x1b[15~"


def backends(home: Path) -> list[psutil.Process]:
    """Return the backend processes of a home."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (
                process.environ().get("TEKTON_HOME") == str(home)
                and "backend.gateway.serve" in process.cmdline()
            ):
                found.append(process)
    return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for process in backends(tmp_path):
        process.terminate()
        process.wait(20)


@pytest.mark.e2e
def test_f5_starts_a_backend_that_is_gone_and_the_draft_stays(home: Path) -> None:
    console = [sys.executable, "-P", "-m", "tekton_tui", "--home", str(home)]
    with Terminal(console, size=(100, 30), env={"TEKTON_GATEWAY_PORT": "0"}) as terminal:
        terminal.wait_for("Who should answer?")
        terminal.type("3")
        terminal.wait_for("Ask the whole team")
        terminal.type("half a thought")
        terminal.wait_for("half a thought")
        [first] = backends(home)
        os.kill(first.pid, signal.SIGKILL)
        terminal.wait_for("F5 starts it here")
        terminal.type(CONNECT_KEY)
        terminal.wait_for(lambda text: "F5" not in text and "attaching" not in text, "attached again")
        [second] = backends(home)
        assert second.pid != first.pid
        assert "half a thought" in terminal.text, "nothing that was written is lost with it"
