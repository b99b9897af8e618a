"""A backend that answers, one that runs and does not answer, and none: three different answers of every command."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from backend.cli.commands import backend as commands
from backend.home import Home
from tests.cli.commandline import BOUND_S, Line
from tests.cli.terminals import Terminal
from tests.client.gateway import Gateway


@pytest.fixture
def hung(quiet: Line) -> Iterator[Line]:
    """A home whose backend was stopped by a signal, with apollo at work."""
    assert quiet("tekton", "launch", "apollo").returncode == 0
    pid = quiet.backend_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield quiet
    finally:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_silent_backend_is_named_with_its_pid_and_no_exit_code_is_0(hung: Line) -> None:
    pid = hung.backend_pid()
    commands = [
        ("tekton", "status"),
        ("tekton", "status", "--json"),
        ("tekton", "stop"),
        ("tekton", "kill", "apollo"),
        ("tekton", "errors"),
        ("tekton", "doctor"),
        ("tekton", "launch", "athena"),
        ("aish", "apollo", "hello"),
    ]
    with ThreadPoolExecutor(len(commands)) as at_once:  # each waits its ten seconds
        ended = dict(zip(commands, at_once.map(lambda words: _run(hung, words), commands), strict=True))
    for words, done in ended.items():
        told = " ".join((done.stdout + done.stderr).split())
        assert f"(pid {pid})" in told and "does not answer" in told and "no backend" not in told, (
            words,
            told,
        )
        assert done.returncode == (1 if "doctor" in words else 7), words
    [row] = [row for row in ended["tekton", "status"].stdout.splitlines() if row.startswith("apollo")]
    assert " ready " in row
    snapshot = json.loads(ended["tekton", "status", "--json"].stdout)
    assert snapshot["backend"] == {"pid": pid, "answers": False}
    os.kill(pid, signal.SIGCONT)
    assert hung("tekton", "status").returncode == 0


def test_a_silent_backend_is_ended_when_a_person_says_so(hung: Line) -> None:
    pid = hung.backend_pid()
    for answer, code in (("n", 7), ("y", 0)):
        with Terminal(hung, "tekton", "stop") as shown:
            shown.until(f"End the backend (pid {pid})? [y/N]")
            shown.type(f"{answer}\n")
            assert shown.ended() == code
        assert lives(pid) == (answer == "n")
    assert hung("tekton", "stop").stdout == "no backend runs\n"
    assert "apollo" in hung("tekton", "status").stdout and hung("tekton", "kill", "--all").returncode == 0


def test_a_silent_backend_is_ended_by_force_with_its_specialists(hung: Line) -> None:
    pid = hung.backend_pid()
    done = hung("tekton", "stop", "--force", "--fleet")
    assert done.returncode == 0 and f"(pid {pid}) was ended" in done.stdout and "apollo: " in done.stdout
    assert not hung.processes()


def test_every_specialist_is_killed_beside_a_silent_backend(hung: Line) -> None:
    done = hung("tekton", "kill", "--all")
    assert done.returncode == 7 and done.stdout.startswith("apollo: ") and "does not answer" in done.stderr
    assert {process.pid for process in hung.processes()} == {hung.backend_pid()}


def test_stop_returns_when_the_process_is_gone(quiet: Line) -> None:
    """A question is on its way: the backend has to end it and to close its stores first."""
    for _ in range(2):
        assert quiet("tekton", "launch", "apollo").returncode == 0
        pid = quiet.backend_pid()
        asked = subprocess.Popen(
            quiet.argv("aish", "apollo", "[[repeat 4000]] [[rate 20]]"), env=quiet.environment, stdout=subprocess.PIPE
        )  # fmt: skip
        assert asked.stdout is not None and asked.stdout.read(6) == b"token0"
        done = quiet("tekton", "stop")
        assert (done.returncode, done.stdout) == (0, "the backend has ended; 1 specialist goes on running\n")
        assert not lives(pid)
        assert quiet("tekton", "status").stdout.startswith("no backend runs")
        assert asked.wait(BOUND_S) != 0
        asked.stdout.close()
    assert quiet("tekton", "launch", "apollo").returncode == 0
    assert quiet("tekton", "kill", "--all").returncode == 0
    assert quiet("tekton", "stop").stdout == "the backend has ended\n"


async def test_stop_says_so_of_a_backend_that_goes_on_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that says it ends and does not: this process, and a gateway that only talks."""
    home = Home(tmp_path / "home").prepare()
    monkeypatch.setenv("TEKTON_HOME", str(home.root))
    monkeypatch.setattr(commands, "STOP_WAIT_S", 0.1)
    async with Gateway() as gateway:
        gateway.answers = [b'{"type":"result","request_id":"ID","result":{"stopping":true,"results":[]}}']
        home.backend_facts.write_text(json.dumps({"url": gateway.url, "pid": os.getpid()}))
        home.token.write_text("t" * 40)
        home.token.chmod(0o600)
        assert await commands.stop(argparse.Namespace(fleet=False, force=False)) == 7
    told = " ".join(capsys.readouterr().err.split())
    assert f"(pid {os.getpid()})" in told and "still runs" in told


def test_the_pid_of_another_process_is_no_backend(quiet: Line) -> None:
    """Facts of a dead backend whose pid was given to another process since."""
    assert quiet("tekton", "launch", "apollo").returncode == 0
    pid = quiet.backend_pid()
    facts = quiet.home / "run" / "backend.json"
    left = json.loads(facts.read_text())
    backend = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    backend.wait(BOUND_S)
    facts.write_text(json.dumps({**left, "pid": os.getpid()}))
    done = quiet("tekton", "status")
    assert done.returncode == 0 and "no backend runs" in done.stdout
    assert quiet("tekton", "stop").stdout == "no backend runs\n"
    assert quiet("aish", "apollo", "hello").stdout == "You said: hello\n"


def _run(line: Line, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line.argv(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOUND_S, env=line.environment
    )  # fmt: skip
