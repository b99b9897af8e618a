"""Runs a command on a pseudo-terminal that answers like a real one, and keeps what it wrote with times."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

ANSWERS = (
    (b"\x1b[c", b"\x1b[?62;22c"),
    (b"\x1b[?2026$p", b"\x1b[?2026;2$y"),
    (b"\x1b[?2048$p", b"\x1b[?2048;0$y"),
)
MARKER_KEPT = 4096


@dataclass
class PtyRun:
    """What a finished run left: exit code, bytes written, result lines, first sight of each marker."""

    code: int = 0
    written: int = 0
    results: bytes = b""
    seen: dict[bytes, float] = field(default_factory=dict[bytes, float])


def run(
    command: Sequence[str], *, columns: int, rows: int, markers: Sequence[bytes] = (), limit_s: float = 120.0
) -> PtyRun:
    """Run a command on a terminal of the given size until it ends.

    The command finds a file descriptor to write its results to in `BENCH_FD`. `markers` are looked for in
    what it draws; `seen` has the monotonic second at which each was first read.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    read_end, write_end = os.pipe()
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "BENCH_FD": str(write_end),
    }
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        pass_fds=(write_end,),
        start_new_session=True,
    )
    os.close(slave)
    os.close(write_end)
    result, tail, deadline = PtyRun(), b"", time.monotonic() + limit_s
    waiting = set(markers)
    open_ends = {master, read_end}
    while open_ends and time.monotonic() < deadline:
        for end in select.select(list(open_ends), [], [], 0.5)[0]:
            try:
                data = os.read(end, 65_536)
            except OSError:
                data = b""
            if not data:
                open_ends.discard(end)
            elif end == read_end:
                result.results += data
            else:
                now = time.monotonic()
                result.written += len(data)
                tail = tail[-MARKER_KEPT:] + data
                for question, answer in ANSWERS:
                    if question in data:
                        os.write(master, answer)
                for marker in [marker for marker in waiting if marker in tail]:
                    result.seen[marker] = now
                    waiting.discard(marker)
    if process.poll() is None and time.monotonic() >= deadline:
        process.kill()
    result.code = process.wait()
    os.close(master)
    os.close(read_end)
    return result
