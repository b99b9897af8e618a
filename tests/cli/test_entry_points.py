"""Ctrl-c before a command is there: it ends quietly, whatever was being imported."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

IMPORTED_FOR_EVER = """
import os
os.write(1, b"importing\\n")
try:
    os.read(0, 1)
except BaseException:
    os.read(0, 1)
"""
"""Stands where the library's `argparse` would be found, which each command imports first. It swallows an exception,
as imports that have a second way do."""


@pytest.mark.parametrize("command", ["tekton", "aish", "tekton_tui"])
async def test_ctrl_c_while_a_command_is_imported_ends_it_with_130_and_no_word(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / "argparse.py").write_text(IMPORTED_FOR_EVER)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", f"import sys; from backend.cli.entry_points import {command}; sys.exit({command}())",
        env={**os.environ, "PYTHONPATH": str(tmp_path), "TEKTON_HOME": str(tmp_path / "home")},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGINT)
        words = await process.stderr.read()
        assert await process.wait() == 130
    assert words == b""


async def test_a_command_started_with_ctrl_c_ignored_goes_on_ignoring_it(tmp_path: Path) -> None:
    """As a shell starts what has an `&` behind it."""
    asking = "import _signal; print(_signal.getsignal(_signal.SIGINT) == _signal.SIG_IGN)"
    ignoring = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    (tmp_path / "argparse.py").write_text(f"{asking}\nraise SystemExit(0)\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ignoring, sys.executable, "-c", "from backend.cli.entry_points import aish; aish()",
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert out == b"True\n"
