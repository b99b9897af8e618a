"""The command line over one home, as a user's shell would run it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile

import psutil

ROOT = Path(__file__).parents[2]
BOUND_S = 60.0
"""How long any one command may take before it counts as never."""
MODULES = {"tekton": "backend.cli.tekton", "aish": "backend.cli.aish"}


class Warm:
    """The other end of `warm_start`."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
        }
        script = str(Path(__file__).with_name("warm_start.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, str(theirs.fileno())], pass_fds=(theirs.fileno(),), env=environment
        )
        theirs.close()
        self._control.settimeout(BOUND_S)
        self._lines = self._control.makefile("rb")
        atexit.register(self.close)

    def run(self, call: dict[str, object], streams: list[int]) -> int:
        """Run one call; one that takes too long is killed, and this process is of no use after it."""
        socket.send_fds(self._control, [json.dumps(call).encode()], streams)
        pid = int(self._lines.readline())
        try:
            return int(self._lines.readline())
        except TimeoutError as error:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(str(call["program"]), BOUND_S) from error

    def close(self) -> None:
        self._lines.close()
        self._control.close()
        self._process.wait()


@functools.cache
def _warm() -> Warm:
    return Warm()


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
        return [sys.executable, "-P", "-m", MODULES[program], *words]

    def __call__(
        self, program: str, *words: str, given: str | bytes | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end in a process of its own; without `given`, its input is empty."""
        data = given.encode() if isinstance(given, str) else given or b""
        with TemporaryFile() as stdin, TemporaryFile() as stdout, TemporaryFile() as stderr:
            stdin.write(data)
            stdin.seek(0)
            call = {
                "program": program,
                "words": words,
                "environment": self.environment,
                "cwd": str(cwd or self.home.parent),
            }
            try:
                code = _warm().run(call, [stdin.fileno(), stdout.fileno(), stderr.fileno()])
            except BaseException:  # out of step with its answers: the next command begins another
                _warm().close()
                _warm.cache_clear()
                raise
            stdout.seek(0)
            stderr.seek(0)
            out, err = stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace")
        return subprocess.CompletedProcess([program, *words], code, out, err)

    def shell(self, script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a line of the system's shell in which `tekton` and `aish` are ours."""
        functions = "".join(
            f'{name}() {{ "{sys.executable}" -m {module} "$@"; }}\n' for name, module in MODULES.items()
        )
        return subprocess.run(
            ["bash", "-c", functions + script],
            capture_output=True, text=True, errors="replace", timeout=BOUND_S, env=self.environment, cwd=cwd,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def until(self, name: str, state: str) -> None:
        """Wait until a specialist is in a state; each look is a whole command."""
        deadline = time.monotonic() + BOUND_S
        while time.monotonic() < deadline:
            rows = json.loads(self("tekton", "status", "--json").stdout)["specialists"]
            if {row["name"]: row.get("state") for row in rows}[name] == state:
                return
        raise AssertionError(f"{name} never became {state}")

    def forget_conversations(self) -> None:
        """Delete every conversation there is."""
        for session in json.loads(self("tekton", "sessions", "--json").stdout)["sessions"]:
            done = self("tekton", "sessions", "delete", session["id"], "--yes")
            assert done.returncode == 0, done.stderr

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
        _, left = psutil.wait_procs(self.processes(), timeout=60)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(left, timeout=60)
