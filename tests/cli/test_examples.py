"""The programs in `examples/`, run as they stand against a real backend."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commandline import BOUND_S, ROOT, Line

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(line: Line, name: str, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *words],
        input=given, capture_output=True, text=True, timeout=BOUND_S, env=line.environment, cwd=line.home.parent,
    )  # fmt: skip


def test_one_specialist_is_asked(line: Line) -> None:
    done = run(line, "ask", "Hello", "apollo")
    assert (done.returncode, done.stdout) == (0, "You said: Hello\n"), done.stderr
    absent = run(line, "ask", "Hello", "terma")
    assert absent.returncode == 1 and "tekton launch terma" in absent.stderr


def test_an_answer_is_printed_as_it_comes(line: Line) -> None:
    done = run(line, "stream", "a b c")
    assert done.stdout == "You said: a b c\n" and "first text after" in done.stderr


def test_a_team_is_launched_and_asked(line: Line) -> None:
    done = run(line, "team", "Hello team", "apollo", "athena")
    assert done.returncode == 0, done.stderr
    assert "== apollo-ai" in done.stdout and "== athena-ai" in done.stdout
    assert done.stdout.count("You said: Hello team") == 2


def test_many_questions_are_answered_in_their_order(line: Line) -> None:
    done = run(line, "bulk", "apollo", given="one\ntwo\n\nthree\n")
    assert [text for text in done.stdout.splitlines() if text.startswith("You said")] == [
        "You said: one", "You said: two", "You said: three",
    ]  # fmt: skip
    assert "3 answered, 0 failed" in done.stderr


@pytest.fixture
def watcher(line: Line) -> Iterator[subprocess.Popen[str]]:
    program = [sys.executable, str(ROOT / "examples" / "watch.py")]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=line.environment)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.timeout(90)
def test_changes_of_the_fleet_are_followed(line: Line, watcher: subprocess.Popen[str]) -> None:
    assert watcher.stdout is not None
    assert [watcher.stdout.readline(), watcher.stdout.readline()] == ["backend: attached\n", "2 answer\n"]
    assert line("tekton", "launch", "metis").returncode == 0
    assert line("tekton", "kill", "metis").returncode == 0
    seen = [watcher.stdout.readline()]
    while not any(text in seen[-1] for text in ("metis-ai: stopped", "metis-ai: exited")):
        seen.append(watcher.stdout.readline())
    assert "metis-ai: ready\n" in seen


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: Path(path).stem)
def test_each_example_says_how_it_is_run(path: Path) -> None:
    assert f"python examples/{path.name}" in path.read_text(encoding="utf-8").split('"""')[1]
