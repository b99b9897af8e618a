"""The terminal is as it was whatever ends the console, and a console that cannot start says why in a sentence."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tui.terminal import Terminal

CONSOLE = [sys.executable, "-P", "-m", "tekton_tui", "--connect", "http://127.0.0.1:9"]
SWITCHED_ON = {"1049", "1000", "1003", "1006", "2004", "1004"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_leaves_the_terminal_as_it_was_and_the_draft_to_the_last_key(
    tmp_path: Path, number: signal.Signals
) -> None:
    with Terminal([*CONSOLE, "--home", str(tmp_path)]) as terminal:
        terminal.wait_for("no backend")
        terminal.type("3")
        terminal.wait_for("No backend is attached")
        terminal.type("half a thought")
        terminal.wait_for("half a thought")
        assert terminal.emulator.modes >= SWITCHED_ON and not terminal.cooked
        terminal.process.send_signal(number)
        assert terminal.wait() == 128 + number
        assert not terminal.emulator.modes & SWITCHED_ON and terminal.cooked
        assert "25" in terminal.emulator.modes, "the cursor is shown"
    assert json.loads((tmp_path / "state" / "drafts.json").read_text()) == {"team": "half a thought"}
    with Terminal([*CONSOLE, "--home", str(tmp_path)]) as terminal:
        terminal.wait_for("no backend")
        terminal.type("3")
        terminal.wait_for("half a thought")


def refusal(*arguments: str, env: dict[str, str] | None = None, size: tuple[int, int] = (80, 24)) -> str:
    """Return what a console that does not start says, on a terminal."""
    with Terminal([*CONSOLE, *arguments], env=env, size=size) as terminal:
        assert terminal.wait() == 2
        assert not terminal.emulator.modes & SWITCHED_ON and terminal.cooked
        return terminal.written.decode()


def test_a_terminal_that_is_too_small_dumb_or_not_of_utf_8_is_refused_in_a_sentence(tmp_path: Path) -> None:
    home = ("--home", str(tmp_path))
    small = refusal(*home, size=(30, 8))
    assert "the terminal is 30×8" in small and "--plain" in small
    for name in ("dumb", "unknown", ""):
        said = refusal(*home, env={"TERM": name})
        assert f"TERM is {name or 'not set'}" in said and "tekton-tui --plain" in said
    assert "not UTF-8" in refusal(*home, env={"PYTHONIOENCODING": "ascii"})


@pytest.mark.parametrize("away", ["stdin", "stdout", "stderr"])
def test_without_a_terminal_it_says_so_and_writes_no_escape_codes(tmp_path: Path, away: str) -> None:
    with Terminal([sys.executable, "-c", "import time; time.sleep(60)"], controlling=False) as terminal:
        ends = {"stdin": terminal.slave, "stdout": terminal.slave, "stderr": terminal.slave}
        ends[away] = subprocess.PIPE if away == "stderr" else subprocess.DEVNULL
        ends["stderr"] = subprocess.PIPE
        done = subprocess.run([*CONSOLE, "--home", str(tmp_path)], timeout=60, check=False, **ends)
        assert done.returncode == 2
        said = done.stderr.decode()
        assert "terminal" in said and said.count("\n") == 1 and "\x1b" not in said and "Traceback" not in said


def test_the_size_is_the_terminals_own_whatever_a_shell_has_exported(tmp_path: Path) -> None:
    with Terminal(
        [*CONSOLE, "--home", str(tmp_path)], env={"COLUMNS": "41", "LINES": "11"}, size=(120, 40)
    ) as terminal:
        terminal.wait_for("3 Team Chat")
        terminal.wait_for("no backend")


def test_a_home_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    local = [sys.executable, "-P", "-m", "tekton_tui", "--home", str(file / "home")]
    with Terminal(local) as terminal:
        assert terminal.wait() == 2
        assert "is no folder" in terminal.written.decode()
    if os.geteuid() == 0:  # nothing is unwritable for root: be somebody else
        nobody = pwd.getpwnam("nobody").pw_uid
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        asked = (
            "import os, sys; from pathlib import Path; from tekton_tui.runtime.terminal import _wrong_home;"
            f"os.setuid({nobody}); print(_wrong_home(Path(sys.argv[1])))"
        )
        done = subprocess.run(
            [sys.executable, "-c", asked, str(closed / "home")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and str(closed) in done.stdout, (done.stdout, done.stderr)
