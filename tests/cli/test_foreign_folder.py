"""Commands run from any folder, whatever lies there: none of its code is imported, none of its files is read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commandline import BOUND_S, ROOT, Line
from tests.cli.terminals import Terminal

MARK = """
from pathlib import Path
Path({folder!r}, "RAN " + __name__).touch()
raise RuntimeError("code of a foreign folder ran: " + __name__)
"""
SCRIPT = """#!{python}
import sys
from {module} import {function}
sys.exit({function}())
"""
"""What an installer writes into the environment's `bin` for an entry point."""


class Installed(Line):
    """The command line as its installed scripts run it: Python puts their folder on the path, not the current one."""

    def __init__(self, home: Path, scripts: Path) -> None:
        super().__init__(home)
        self.scripts = scripts
        scripts.mkdir()
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for name, target in project["scripts"].items():
            module, _, function = target.partition(":")
            text = SCRIPT.format(python=sys.executable, module=module, function=function)
            (scripts / name).write_text(text, encoding="utf-8")
            (scripts / name).chmod(0o755)

    def argv(self, program: str, *words: str) -> list[str]:
        return [str(self.scripts / program), *words]

    def run(self, folder: Path, program: str, *words: str) -> str:
        """Run a command in a folder; return what it wrote, once it has ended well."""
        done = subprocess.run(
            self.argv(program, *words),
            capture_output=True, text=True, timeout=BOUND_S, env=self.environment, cwd=folder,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(params=["python", "node"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A project of the user's that has names of ours: Python's packages and modules, or folders without any code."""
    project = tmp_path / "project"
    names = ["backend", "tests", "tekton_tui", "backend/gateway", "backend/worker", "backend/providers"]
    for name in names:
        (project / name).mkdir(parents=True)
    (project / "backend" / "package.json").write_text("{}")
    (project / "backend" / "catalog.toml").write_text("this is no catalogue")
    (project / ".env").write_text("TEKTON_PROVIDER=nobody\nTEKTON_HOME=/nonexistent\n")
    (project / ".env.tekton").write_text("TEKTON_PROVIDER=nobody\n")
    (project / "config.toml").write_text("nonsense = true\n")
    if request.param == "python":
        for name in [
            *(f"{name}/__init__" for name in names),
            "logging",
            "json",
            "tomllib",
            "msgspec",
            "textual",
        ]:
            (project / f"{name}.py").write_text(MARK.format(folder=str(project)))
    yield project
    assert [path.name for path in project.glob("RAN *")] == []


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installed]:
    line = Installed(tmp_path / "home", tmp_path / "bin")
    try:
        yield line
    finally:
        if line.processes():
            line.end()


@pytest.mark.e2e
def test_every_command_works_in_a_folder_with_names_of_ours(installed: Installed, folder: Path) -> None:
    installed.environment["PYTHONPATH"] = os.path.relpath(ROOT, folder)
    assert "serves" in installed.run(folder, "tekton", "launch", "apollo")
    assert "apollo" in installed.run(folder, "tekton", "status")
    assert "scripted" in installed.run(folder, "tekton", "config", "show")
    assert "You said: hello" in installed.run(folder, "aish", "apollo", "hello")
    assert "You said: hello" in installed.run(folder, "tekton", "team", "hello")
    assert "serves on" in installed.run(folder, "tekton", "logs", "apollo")
    with Terminal(installed, "tekton-tui", columns=120, cwd=folder) as console:
        console.until("apollo")
    backend = next(row for row in installed.processes() if row.pid == installed.backend_pid())
    assert backend.cwd() == str(installed.home), "the folder of whoever began it can go away"
    installed.run(folder, "tekton", "stop", "--fleet")
    serving = subprocess.Popen(
        installed.argv("tekton", "serve"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=installed.environment, cwd=folder,
    )  # fmt: skip
    try:
        assert serving.stdout is not None
        assert b"http" in serving.stdout.readline()
        assert "apollo" in installed.run(folder, "tekton", "status")
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=BOUND_S)
