"""A process that has imported the command line and forks itself for each call: a tenth of a cold start's time.

    python warm_start.py DESCRIPTOR

Reads calls from the socket of that descriptor, each with its three streams; answers with the pid, then the status.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from importlib import import_module
from typing import Any

MODULES = (
    "aish", "shell", "commands.ask", "commands.config", "commands.doctor", "commands.fleet", "commands.logs", "commands.memory", "pipeline",
    "commands.status", "tekton",
)  # fmt: skip
STREAMS = 3
MAX_CALL_BYTES = 262_144


def serve(control: socket.socket) -> None:
    """Run one call after another until the other end closes."""
    while True:
        data, streams, _, _ = socket.recv_fds(control, MAX_CALL_BYTES, STREAMS)
        if not data:
            return
        call = json.loads(data)
        pid = os.fork()
        if pid == 0:
            control.close()
            os._exit(_run(call, streams))
        for stream in streams:
            os.close(stream)
        control.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        control.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _run(call: dict[str, Any], streams: list[int]) -> int:
    """Be the program: its streams, environment, folder and words."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["cwd"])
    sys.argv = [call["program"], *call["words"]]
    try:
        code = int(import_module(f"backend.cli.{call['program']}").main(call["words"]) or 0)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    for name in MODULES:
        import_module(f"backend.cli.{name}")
    import_module("backend.client")
    import_module("backend.catalog")
    serve(socket.socket(fileno=int(sys.argv[1])))
