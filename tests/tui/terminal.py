"""A terminal for tests: runs a program on a pseudo-terminal, writes bytes to it and reads the screen it draws."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from rich.cells import cell_len

LIMIT_S = 60.0
_SEQUENCE = re.compile(
    r"\x1b(?:\[([0-9;:<=>?]*)([ -/]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|([78=>cDEHM]))"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;:<=>? -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?)?\Z")


class Emulator:
    """What a screen shows of the bytes of a full-screen program: places of characters, modes, no colours."""

    def __init__(self, width: int, height: int) -> None:
        self.modes: set[str] = set()
        """Private modes that are switched on, such as `1049`."""
        self.replies: list[bytes] = []
        self._decode = getincrementaldecoder("utf-8")(errors="replace").decode
        self._rest = ""
        self._shown: list[str] | None = None
        """What stands on the screen while a synchronized update (mode 2026) is under way."""
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells = [[" "] * width for _ in range(height)]
        self._x = self._y = 0
        self._saved = (0, 0)

    @property
    def rows(self) -> list[str]:
        return ["".join(row) for row in self._cells] if self._shown is None else self._shown

    def feed(self, data: bytes) -> None:
        text, at = self._rest + self._decode(data), 0
        self._rest = ""
        while at < len(text):
            character = text[at]
            if character != "\x1b":
                self._put(character)
                at += 1
            elif found := _SEQUENCE.match(text, at):
                self._obey(found)
                at = found.end()
            elif _UNFINISHED.match(text, at):
                self._rest = text[at:]
                break
            else:
                at += 1

    def _put(self, character: str) -> None:
        if character == "\r":
            self._x = 0
        elif character == "\n":
            self._y = min(self._y + 1, self.height - 1)
        elif character == "\b":
            self._x = max(0, self._x - 1)
        elif character >= " ":
            self._draw(character, cell_len(character))

    def _draw(self, character: str, cells: int) -> None:
        if not cells:
            if self._x:
                self._cells[self._y][self._x - 1] += character
            return
        if self._x + cells <= self.width:
            self._cells[self._y][self._x] = character
            for spare in range(self._x + 1, self._x + cells):
                self._cells[self._y][spare] = ""
            self._x += cells

    def _obey(self, found: re.Match[str]) -> None:
        given, between, final, short = found.groups()
        if short == "7":
            self._saved = (self._x, self._y)
        elif short == "8":
            self._x, self._y = self._saved
        if final is None:
            return
        if given.startswith("?"):
            self._set_mode(given[1:], between + final)
            return
        numbers = [int(part or 0) if part.isdigit() or not part else 0 for part in given.split(";")]
        first = numbers[0] or 1
        if final in "Hf":
            second = numbers[1] if len(numbers) > 1 else 1
            self._y, self._x = min(first, self.height) - 1, min(second or 1, self.width) - 1
        elif final in "ABCD":
            dx, dy = {"A": (0, -first), "B": (0, first), "C": (first, 0), "D": (-first, 0)}[final]
            self._x = max(0, min(self.width - 1, self._x + dx))
            self._y = max(0, min(self.height - 1, self._y + dy))
        elif final == "K":
            self._cells[self._y][self._x :] = [" "] * (self.width - self._x)
        elif final == "J":
            self._cells = [[" "] * self.width for _ in range(self.height)]
        elif final == "n" and numbers[0] == 6:
            self.replies.append(f"\x1b[{self._y + 1};{self._x + 1}R".encode())

    def _set_mode(self, given: str, verb: str) -> None:
        if (given, verb) == ("2026", "$p"):
            self.replies.append(b"\x1b[?2026;2$y")
        elif given == "2026":
            self._shown = self.rows if verb == "h" else None
        elif verb == "h":
            self.modes |= set(given.split(";"))
        elif verb == "l":
            self.modes -= set(given.split(";"))


class Terminal:
    """A program on a pseudo-terminal of its own."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        size: tuple[int, int] = (80, 24),
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        controlling: bool = True,
    ) -> None:
        self.master, self.slave = pty.openpty()
        self.emulator = Emulator(*size)
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.written = b""
        self.process = subprocess.Popen(
            argv,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=_take_terminal if controlling else None,
            pass_fds=tuple(pass_fds),
            env={**os.environ, "TERM": "xterm-256color", **(env or {})},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for end in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(end)

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.emulator.resize(width, height)

    @property
    def text(self) -> str:
        return "\n".join(self.emulator.rows)

    @property
    def cooked(self) -> bool:
        """Whether the terminal's settings are as they were before the program ran."""
        return termios.tcgetattr(self.slave) == self.before

    def type(self, data: bytes | str) -> None:
        """Write what is typed, however long, reading what the program draws meanwhile."""
        rest = data.encode() if isinstance(data, str) else data
        while rest:
            readable, writable, _ = select.select([self.master], [self.master], [], LIMIT_S)
            if readable:
                self._read()
            if writable:
                rest = rest[os.write(self.master, rest[:1024]) :]

    def wait_for(self, wanted: str | Callable[[str], bool], what: str = "") -> None:
        """Read until the screen shows a text, or what it shows fulfils a condition."""
        shows = (lambda text: wanted in text) if isinstance(wanted, str) else wanted
        deadline = time.monotonic() + LIMIT_S
        while not shows(self.text):
            assert time.monotonic() < deadline, f"never shown: {what or wanted}\n{self.text}"
            if select.select([self.master], [], [], 0.1)[0] and not self._read():
                assert shows(self.text), f"ended before it showed: {what or wanted}\n{self.text}"
                return

    def drain(self, quiet_s: float = 0.2) -> None:
        """Read until nothing has been written for so long."""
        while select.select([self.master], [], [], quiet_s)[0] and self._read():
            pass

    def read_for(self, seconds: float) -> int:
        """Read for so long; return how many bytes were written meanwhile."""
        before, deadline = len(self.written), time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0] and not self._read():
                break
        return len(self.written) - before

    def wait(self) -> int:
        """Read until the program ends; return its exit code."""
        deadline = time.monotonic() + LIMIT_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end\n{self.text}"
            if select.select([self.master], [], [], 0.05)[0]:
                self._read()
        self.drain(0.05)
        return self.process.returncode

    def _read(self) -> bool:
        try:
            data = os.read(self.master, 65_536)
        except OSError:
            return False
        self.written += data
        self.emulator.feed(data)
        for reply in self.emulator.replies:
            os.write(self.master, reply)
        self.emulator.replies.clear()
        return bool(data)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
