"""The environment of a checkout: one set-up at a time, an interrupted one is made anew, nothing is removed that is in use."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

SETUP = Path(__file__).parents[2] / "tools" / "setup.py"


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SETUP, *words]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60, check=False
    )


def bare(place: Path) -> Path:
    """Make an environment without pip, as a set-up leaves it that was killed early."""
    venv.create(place, with_pip=False, symlinks=True)
    return place


def test_an_environment_that_is_up_to_date_is_left_alone(tmp_path: Path) -> None:
    place = bare(tmp_path / "env")
    (place / ".run").touch()
    done = run("install", place, "run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_second_set_up_waits_for_the_first_and_finds_its_work_done(tmp_path: Path) -> None:
    place = bare(tmp_path / "env")
    with Path(f"{place}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, SETUP, "install", place, "run"], stdout=subprocess.PIPE, text=True
        )
        assert second.stdout is not None and "waiting for it" in second.stdout.readline()
        (place / ".run").touch()
    assert second.wait(30) == 0 and second.stdout.read() == ""
    second.stdout.close()


def killed_while_it_makes(place: Path) -> list[str]:
    """Begin a set-up, kill it with all it started once it has begun to make the environment; return what it said."""
    begun = subprocess.Popen(
        [sys.executable, SETUP, "install", place, "run"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert begun.stdout is not None
    said: list[str] = []
    while not said or "making the environment" not in said[-1]:
        said.append(begun.stdout.readline())
        assert said[-1], said
    while not (place / ".unfinished").exists():
        assert begun.poll() is None, said
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait(30)
    begun.stdout.close()
    return said


def test_a_set_up_that_was_killed_is_begun_anew_by_the_next(tmp_path: Path) -> None:
    place = tmp_path / "env"
    assert not any("interrupted" in line for line in killed_while_it_makes(place))
    (place / ".run").touch()  # whatever else says that it is whole
    (place / "left-over").touch()
    assert "was interrupted: making it anew" in killed_while_it_makes(place)[0]
    assert not (place / "left-over").exists() and not (place / ".run").exists()


def test_an_environment_that_programs_run_from_is_not_removed(tmp_path: Path) -> None:
    place = bare(tmp_path / "env")
    runs = subprocess.Popen(
        [place / "bin" / "python", "-c", "print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert runs.stdout is not None and runs.stdin is not None
    runs.stdout.readline()
    refused = run("remove", place)
    assert refused.returncode == 1 and f"pid {runs.pid}" in refused.stderr and place.exists()
    runs.communicate(b"\n")
    assert run("remove", place).returncode == 0 and not place.exists()
