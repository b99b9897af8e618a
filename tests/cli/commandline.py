"""The command line over one home, as a user's shell would run it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
BOUND_S = 40.0
"""How long any one command may take before it counts as never."""
MODULES = {"tekton": "backend.cli.tekton", "aish": "backend.cli.aish"}


class Line:
    """The command line over one home; `environment` is the whole environment of each command."""

    def __init__(self, home: Path, **changes: str) -> None:
        self.home = home
        self.environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "TEKTON_HOME": str(home),
            "TEKTON_PROVIDER": "scripted",
            "TEKTON_PORT_PROFILE": "free",
            "TEKTON_GATEWAY_PORT": "0",
            "TEKTON_SCRIPTED_COUNT": str(home.parent / "calls"),
            **changes,
        }

    def argv(self, program: str, *words: str) -> list[str]:
        return [sys.executable, "-m", MODULES[program], *words]

    def __call__(
        self, program: str, *words: str, given: str | bytes | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; without `given`, its input is empty."""
        data = given.encode() if isinstance(given, str) else given
        done = subprocess.run(
            self.argv(program, *words),
            input=data or b"",
            capture_output=True,
            timeout=BOUND_S,
            env=self.environment,
            cwd=cwd or self.home.parent,
        )
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def shell(self, script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a line of the system's shell in which `tekton` and `aish` are ours."""
        functions = "".join(
            f'{name}() {{ "{sys.executable}" -m {module} "$@"; }}\n' for name, module in MODULES.items()
        )
        return subprocess.run(
            ["bash", "-c", functions + script],
            capture_output=True, text=True, timeout=BOUND_S, env=self.environment, cwd=cwd,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def backend_pid(self) -> int:
        return int(json.loads((self.home / "run" / "backend.json").read_text())["pid"])

    def processes(self) -> list[psutil.Process]:
        """Return what runs in this home: the backend and its workers."""
        wanted = str(self.home)
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("TEKTON_HOME") == wanted
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def end(self) -> None:
        """Stop backend and fleet; what is left after that is killed, pid by pid."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self("tekton", "stop", "--fleet")
        _, left = psutil.wait_procs(self.processes(), timeout=5)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(left, timeout=5)
