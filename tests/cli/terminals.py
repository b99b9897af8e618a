"""A program on a terminal of its own: what it writes there, typed into, with bounds on every wait."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType

from tests.cli.commandline import Line

BOUND_S = 60.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>78]|\x1b\][^\x07]*\x07")


class Terminal:
    """Runs one command of the line on a pty; a context manager that ends it."""

    def __init__(
        self,
        line: Line,
        program: str,
        *words: str,
        columns: int = 80,
        cwd: Path | None = None,
        **changes: str,
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.raw = b""
        self.process = subprocess.Popen(
            line.argv(program, *words),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**line.environment, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **changes},
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(BOUND_S)
        os.close(self._master)

    @property
    def text(self) -> str:
        """What was written so far, without what steers the terminal."""
        return _ESCAPES.sub("", self.raw.decode(errors="replace")).replace("\r", "")

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def until(self, wanted: str, *, times: int = 1) -> str:
        """Read until a text stands there so many times; return all of it."""
        deadline = time.monotonic() + BOUND_S
        while self.text.count(wanted) < times:
            assert self._read(deadline), f"{wanted!r} never came; there is {self.text!r}"
        return self.text

    def ended(self) -> int:
        """Read to the end; return the exit code."""
        deadline = time.monotonic() + BOUND_S
        while self._read(deadline):
            pass
        return self.process.wait(BOUND_S)

    def _read(self, deadline: float) -> bool:
        if not select.select([self._master], [], [], max(0, deadline - time.monotonic()))[0]:
            return False
        with contextlib.suppress(OSError):
            data = os.read(self._master, 65_536)
            self.raw += data
            return bool(data)
        return False
