"""A console whose terminal vanished ends, with or without a signal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

LIMIT_S = 60.0


def open_console(home: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A console on a terminal that is not its controlling one: closing it sends no signal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tekton_tui", "--connect", "http://127.0.0.1:9", "--home", str(home)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "TEKTON_HOME": str(home)},
    )
    os.close(slave)
    return process, master


def read_until(master: int, wanted: bytes) -> None:
    seen, deadline = b"", time.monotonic() + LIMIT_S
    while wanted not in seen:
        assert select.select([master], [], [], max(0.0, deadline - time.monotonic()))[0], seen[-500:]
        seen += os.read(master, 65_536)


@pytest.mark.parametrize("painted", [True, False], ids=["after-the-first-frame", "while-starting"])
def test_a_console_ends_when_its_terminal_is_gone_without_a_signal(tmp_path: Path, painted: bool) -> None:
    process, master = open_console(tmp_path)
    try:
        read_until(master, b"tekton" if painted else b"\x1b[?1049h")
        os.close(master)
        assert process.wait(LIMIT_S) == 129
    finally:
        process.kill()
        process.wait()


def test_what_was_being_written_is_kept_to_the_last_key_when_the_terminal_is_gone(tmp_path: Path) -> None:
    process, master = open_console(tmp_path)
    try:
        read_until(master, b"no backend")
        os.write(master, b"3")
        read_until(master, b"No backend is attached")
        os.write(master, b"half a thought")
        read_until(master, b"thought")
        os.close(master)
        assert process.wait(LIMIT_S) == 129
    finally:
        process.kill()
        process.wait()
    assert json.loads((tmp_path / "state" / "drafts.json").read_text()) == {"team": "half a thought"}
