"""Tutorial and recipes, typed into a shell as they are printed, in a home of their own; what they print is compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commandline import BOUND_S, ROOT, Line

CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {"tekton": "backend.cli.tekton", "aish": "backend.cli.aish"}


def steps(page: str) -> list[tuple[str, str]]:
    """Return each command of a page with what it is said to print."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found: list[tuple[str, str]] = []
    for block in CONSOLE.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((command, printed))
    return found


def is_like(said: str, printed: str) -> bool:
    """Return whether a text is what was printed, where `…` stands for anything, also for lines."""
    pattern = re.escape(printed.strip()).replace(re.escape("…"), ".*?")
    return re.fullmatch(pattern, said.strip(), re.DOTALL) is not None


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the two commands, as an installation has them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, module in PROGRAMS.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        path.chmod(0o755)
    return folder


@pytest.mark.parametrize("page", ["tutorial.md", "recipes.md"])
def test_what_is_printed_is_what_happens(page: str, quiet: Line, programs: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    environment = {**quiet.environment, "PATH": f"{programs}{os.pathsep}{quiet.environment['PATH']}"}
    for command, printed in steps(page):
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            env=environment,
            cwd=work,
        )
        said = done.stdout if printed.strip() or done.returncode else ""
        assert is_like(said, printed), f"$ {command}\n{done.stdout}\n{done.stderr}"
        if "||" not in command:
            assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
