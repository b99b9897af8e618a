"""A program that a worker runs ends with the worker, however that ends, and so does whatever the program began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from backend.worker.tools import guard

PARENT = """
import os, subprocess, sys
guard, script = sys.argv[1:]
child = subprocess.Popen(
    [sys.executable, "-I", "-S", guard, str(os.getpid()), sys.executable, "-c", script],
    stdin=subprocess.PIPE, stdout=sys.stdout, start_new_session=True)
child.wait()
"""
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
far = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(600)"], start_new_session=True)
print(os.getppid(), os.getpid(), far.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are taken over on Linux only")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_that_ignores_every_request_ends_with_its_worker_and_so_do_its_far_children(
    end: int,
) -> None:
    script = str(Path(guard.__file__))
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, script, STUBBORN], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        processes = [psutil.Process(pid) for pid in pids]
        parent.send_signal(end)
        gone, left = psutil.wait_procs(processes, timeout=60)
    for process in left:
        process.kill()
    assert (len(gone), left) == (3, [])


def test_its_status_is_the_programs_and_a_command_that_is_not_there_is_named() -> None:
    def run(*command: str) -> tuple[int, str]:

        done = subprocess.run(
            [sys.executable, "-I", "-S", str(Path(guard.__file__)), str(os.getpid()), *command],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        return done.returncode, done.stderr

    assert run(sys.executable, "-c", "raise SystemExit(7)") == (7, "")
    status, words = run("/nonexistent/server")
    assert status == 127 and "/nonexistent/server: No such file" in words
