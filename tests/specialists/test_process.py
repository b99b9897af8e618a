"""A process of the platform by itself: fed, watched, left alone, whatever the moment in which it ends."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from backend.specialists.process import Process, start

pytestmark = pytest.mark.e2e

BOUND_S = 30.0
SMALL, LARGE = 1_000, 1_000_000
"""A text that fits into a pipe, and one that waits for its reader."""


async def started(program: str, cwd: Path) -> Process:
    log_fd = os.open(cwd / "log", os.O_WRONLY | os.O_CREAT)
    try:
        return await start(
            [sys.executable, "-c", program], environment=os.environ, log_fd=log_fd, pass_fds=(), cwd=cwd
        )
    finally:
        os.close(log_fd)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_feeding_a_child_that_has_ended_is_no_error_and_its_end_is_told(
    size: int, tmp_path: Path
) -> None:
    process = await started("raise SystemExit(3)", tmp_path)
    ending = await asyncio.wait_for(process.exited, BOUND_S)
    await asyncio.wait_for(process.feed(b"x" * size), BOUND_S)
    assert (ending.code, ending.signal, ending.leftover) == (3, None, False)


async def test_a_child_that_ends_while_it_is_fed_is_no_error_either(tmp_path: Path) -> None:
    process = await started("import os; os.read(0, 1); os._exit(4)", tmp_path)
    await asyncio.wait_for(process.feed(b"x" * LARGE), BOUND_S)
    assert (await asyncio.wait_for(process.exited, BOUND_S)).code == 4


async def test_a_child_left_alone_before_it_was_fed_finds_its_stdin_empty(tmp_path: Path) -> None:
    process = await started("import sys; open('read', 'w').write(repr(sys.stdin.read()))", tmp_path)
    process.detach()
    watcher = Process(process.identity)
    await asyncio.wait_for(watcher.exited, BOUND_S)
    assert (tmp_path / "read").read_text() == "''"
