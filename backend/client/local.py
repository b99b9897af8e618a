"""The command line of this installation, run for whoever wants to show what it says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from backend.schema.errors import TektonError

TIMEOUT_S: Final = 60.0
PROGRAM: Final = "from backend.cli.entry_points import tekton; raise SystemExit(tekton())"


async def run_tekton(*words: str) -> tuple[int, str]:
    """Run `tekton` with these words on this machine, with our environment; return its exit code and what it wrote.

    Raises:
        TektonError: It did not end within `TIMEOUT_S`.
    """
    process = _start(words)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            written, _ = await asyncio.to_thread(process.communicate)
    except TimeoutError as error:
        raise TektonError(f"`tekton {' '.join(words)}` did not end within {TIMEOUT_S:g} s") from error
    finally:
        if process.poll() is None:  # the thread that reads sees its end
            process.kill()
    return process.returncode, written.decode(errors="replace")


def _start(words: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: a folder named `backend` where the caller stands must not be taken for ours
        [sys.executable, "-P", "-c", PROGRAM, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100"},
    )
