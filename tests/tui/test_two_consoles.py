"""Two consoles on one backend do the same at the same time: one is first, the other says how it is, and neither loses anything. Real
processes, by bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.tui.terminal import Terminal

pytestmark = [pytest.mark.keys, pytest.mark.e2e]
READ_S = 0.5
SERVER = Path(__file__).parents[1] / "approvals" / "server.py"


@pytest.fixture
def consoles(tmp_path: Path) -> Iterator[tuple[Terminal, Terminal]]:
    (tmp_path / "config.toml").write_text(
        f'[tools.files]\ncommand = ["{sys.executable}", "{SERVER}"]\n[specialists.numa]\ntools = ["files"]\n'
    )
    env = {"TEKTON_GATEWAY_PORT": "0", "TEKTON_PROVIDER": "scripted", "TEKTON_PORT_PROFILE": "free"}
    argv = [sys.executable, "-P", "-m", "tekton_tui", "--home", str(tmp_path)]
    try:
        with ExitStack() as stack:
            one = stack.enter_context(Terminal(argv, size=(100, 30), env=env))
            one.wait_for("start the four")
            one.drain(READ_S)
            one.type("\r")
            one.wait_for("to numa")
            other = stack.enter_context(Terminal(argv, size=(100, 30), env=env))
            other.wait_for("4 run")
            yield one, other
    finally:
        tekton = [sys.executable, "-c", "from backend.cli.entry_points import tekton; tekton()"]
        for command in (["kill", "--all"], ["stop"]):
            subprocess.run(
                [*tekton, *command], env={**os.environ, **env, "TEKTON_HOME": str(tmp_path)},
                check=False, capture_output=True, timeout=60,
            )  # fmt: skip


def both(consoles: tuple[Terminal, Terminal], keys: str, shows: str = "") -> None:
    for console in consoles:
        console.type(keys)
    for console in consoles:
        console.wait_for(shows) if shows else console.drain(READ_S)


def test_one_specialist_is_killed_and_one_conversation_deleted_by_both_at_once(
    consoles: tuple[Terminal, Terminal],
) -> None:
    one, other = consoles
    one.drain(READ_S)
    one.type("\x15hello there\r")
    one.wait_for("0 answers")
    other.type(":chat rhetor\r")
    other.wait_for("to rhetor")
    other.type("a draft")
    other.wait_for("a draft")
    both(consoles, "\x1b")
    both(consoles, ":fleet\r")
    both(consoles, ":kill apollo\r", "Cancel")
    both(consoles, "")
    both(consoles, "\x1b[D")
    both(consoles, "\r", "apollo")
    for console in consoles:
        console.wait_for(lambda text: "Cancel" not in text and "3 run" in text)
    both(consoles, ":sessions\r", "hello there")
    both(consoles, "")
    both(consoles, "D", "for good")
    both(consoles, "")
    both(consoles, "\x1b[D")
    both(consoles, "\r", "No conversation yet")
    for console in consoles:
        assert console.text.count("There is no session") <= 1 and console.process.poll() is None
    other.type(":chat rhetor\r")
    other.wait_for("a draft")


@pytest.mark.parametrize(("first", "second"), ["aa", "ax", "xa", "xx"])
def test_one_call_is_answered_by_both_at_once_and_runs_once_or_not_at_all(
    consoles: tuple[Terminal, Terminal], tmp_path: Path, first: str, second: str
) -> None:
    one, other = consoles
    written = tmp_path / "written.txt"
    both(consoles, "\x1b")
    both(consoles, ":needs\r", "Nothing waits for you")
    text = f'[[call files__write {{"path": "{written}", "text": "once"}}]]'
    command = [sys.executable, "-c", "from backend.cli.entry_points import aish; aish()", "numa", text]
    asking = subprocess.Popen(
        command, env={**os.environ, "TEKTON_HOME": str(tmp_path)}, stdout=subprocess.PIPE
    )
    try:
        both(consoles, "", "files:write")
        both(consoles, "")
        one.type(first)
        other.type(second)
        for console in consoles:
            console.wait_for(
                lambda shown: "needs you" not in shown.splitlines()[0] and "files:write" not in shown
            )
            assert console.process.poll() is None
        asking.communicate(timeout=60)
    finally:
        asking.kill()
        asking.communicate()
    lines = written.read_text().split() if written.exists() else []
    assert lines in (
        [["once"]] if (first, second) == ("a", "a") else [[]] if first == second else [["once"], []]
    )
