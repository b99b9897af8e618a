"""The embedded model server as a process of its own, started as the platform does; used by tests and benches."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Generator

import msgspec

from backend.config import Settings
from backend.home import Home, write_private

END_S = 60.0


@contextlib.contextmanager
def model_server(home: Home, settings: Settings) -> Generator[None]:
    """Run the server; where it is found, and by which key, lies in `home.embedded_facts`."""
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "backend.providers.embedded.server", "--ready-fd", str(write_end)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(write_end,),
        env={**os.environ, "TEKTON_HOME": str(home.root)},
    )  # fmt: skip
    try:
        os.close(write_end)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(settings))
        process.stdin.close()
        with os.fdopen(read_end, "rb") as pipe:
            write_private(home.embedded_facts, pipe.readline())
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        process.kill()
        process.wait()
