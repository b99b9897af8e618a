"""A process of the platform by itself: fed, watched, left alone, whatever the moment in which it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from backend.specialists import process as process_module
from backend.specialists.process import Process, start

pytestmark = pytest.mark.e2e

BOUND_S = 60.0
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


async def test_a_child_left_alone_is_taken_back_with_how_it_ends(tmp_path: Path) -> None:
    process = await started("import sys; sys.stdin.read(); raise SystemExit(5)", tmp_path)
    process.detach()
    again = Process(process.identity)
    assert (await asyncio.wait_for(again.exited, BOUND_S)).code == 5
    assert not psutil.pid_exists(process.pid), "it was reaped"


async def test_many_that_end_together_are_one_look_at_all_processes_and_leave_nobody_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look = process_module.live_groups

    def counted() -> dict[int, list[int]]:
        looks.append(1)
        return look()

    monkeypatch.setattr(process_module, "live_groups", counted)
    log_fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    argv = ["/bin/sh", "-c", "sleep 600 & echo $! >> left; wait"]
    many = [
        await start(argv, environment=os.environ, log_fd=log_fd, pass_fds=(), cwd=tmp_path) for _ in range(40)
    ]
    os.close(log_fd)
    async with asyncio.timeout(BOUND_S):
        while not (tmp_path / "left").exists() or len((tmp_path / "left").read_text().split()) < len(many):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    for one in many:
        os.kill(one.pid, signal.SIGKILL)
    while any(psutil.Process(one.pid).status() != psutil.STATUS_ZOMBIE for one in many):
        time.sleep(0.01)  # noqa: ASYNC251 - the loop is to see all of them at once
    endings = await asyncio.wait_for(asyncio.gather(*(one.exited for one in many)), BOUND_S)
    assert len(looks) == 1 and all(ending.leftover for ending in endings)
    left = [int(pid) for pid in (tmp_path / "left").read_text().split()]
    async with asyncio.timeout(BOUND_S):
        while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in left):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_start_that_is_cancelled_ends_as_cancelled_and_leaves_no_process(tmp_path: Path) -> None:
    starting = asyncio.create_task(started("import time; time.sleep(611)", tmp_path))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(starting, BOUND_S)
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in living if "time.sleep(611)" in " ".join(child.cmdline())]


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_a_child_that_ended_as_told_while_we_stood_still_is_not_said_to_be_deaf(
    steps: int, tmp_path: Path
) -> None:
    process = await started("import time; time.sleep(600)", tmp_path)
    stopping = asyncio.create_task(process.stop(0.05))
    for _ in range(steps):
        await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251 - the stall
    status = await asyncio.wait_for(stopping, BOUND_S)
    assert (status.signal, status.by_us) == (signal.SIGTERM, "SIGTERM")
