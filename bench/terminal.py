"""A pseudo-terminal with a program on it: keys go in, what it draws is kept as bytes and as a screen of characters.

Knows the sequences Textual writes and no others; knows nothing of the program.
"""

from __future__ import annotations

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
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.cells import cell_len, split_graphemes

ANSWERS = (
    (b"\x1b[c", b"\x1b[?62;22c"),
    (b"\x1b[?2026$p", b"\x1b[?2026;2$y"),
    (b"\x1b[?2048$p", b"\x1b[?2048;0$y"),
)
"""What a terminal answers when it is asked what it can do."""
CURSOR_QUESTION = b"\x1b[6n"
_PIECE = re.compile(
    r"\x1b\[(?P<args>[?<>=0-9;$]*)(?P<verb>[@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1bP[^\x1b]*\x1b\\|\x1b[^\[\]P]"
    r"|[\r\n]|[^\x1b\r\n]+",
)
_UNFINISHED = re.compile(r"\x1b(?:\[[?<>=0-9;$]*|\][^\x07\x1b]*|P[^\x1b]*)?\Z")


class Screen:
    """The characters a terminal would show. A wide one takes its cell and an empty one after it.

    Args:
        clusters: Give each grapheme cluster the width that Rich counts, as new terminals do; else add up the widths
            of its characters, as old ones do.
        on_answer: Called with what the terminal answers when it is asked where the cursor is.
    """

    def __init__(
        self,
        columns: int,
        rows: int,
        *,
        clusters: bool = False,
        on_answer: Callable[[str], None] | None = None,
    ) -> None:
        self.columns, self.rows = columns, rows
        self._clusters = clusters
        self._on_answer = on_answer
        self._cells = [[" "] * columns for _ in range(rows)]
        self._x = self._y = 0
        self._rest = ""
        self._shown: str | None = None
        """What stands on the screen while a synchronized update (mode 2026) is under way."""

    def text(self) -> str:
        if self._shown is not None:
            return self._shown
        return "\n".join("".join(row).rstrip() for row in self._cells)

    def feed(self, data: str) -> None:
        data = self._rest + data
        cut = _UNFINISHED.search(data)
        pieces = [*_PIECE.finditer(data[: cut.start()] if cut else data)]
        self._rest = data[cut.start() :] if cut else ""
        for number, piece in enumerate(pieces, 1):
            if piece["verb"]:
                self._control(piece["verb"], piece["args"])
            elif piece[0] == "\r":
                self._x = 0
            elif piece[0] == "\n":
                self._y = min(self._y + 1, self.rows - 1)
            elif piece[0][0] != "\x1b":
                text = piece[0]
                if self._clusters and number == len(pieces) and not cut:
                    # what is read next may go on with the last character: it is put once that is known
                    last = split_graphemes(text)[0][-1][0]
                    text, self._rest = text[:last], text[last:]
                self._put(text)

    def _put(self, text: str) -> None:
        row = self._cells[self._y]
        parts = (
            [text[start:end] for start, end, _cells in split_graphemes(text)[0]] if self._clusters else text
        )
        for character in parts:
            width = 1 if character.isascii() else cell_len(character)
            if width == 0:
                continue
            if self._x < self.columns:
                row[self._x] = character
            if width == 2 and self._x + 1 < self.columns:
                row[self._x + 1] = ""
            self._x += width

    def _control(self, verb: str, args: str) -> None:
        if args == "?2026" and verb in "hl":
            self._shown = self.text() if verb == "h" else None
        if args[:1] in ("?", "<", ">", "="):
            return
        numbers = [int(number or 0) for number in args.split(";")] if args else []
        first = numbers[0] if numbers else 0
        match verb:
            case "H":
                self._y = min(max(first, 1), self.rows) - 1
                self._x = min(max(numbers[1] if len(numbers) > 1 else 1, 1), self.columns) - 1
            case "A" | "B":
                step = max(first, 1) * (-1 if verb == "A" else 1)
                self._y = min(max(self._y + step, 0), self.rows - 1)
            case "C" | "D":
                step = max(first, 1) * (-1 if verb == "D" else 1)
                self._x = min(max(self._x + step, 0), self.columns - 1)
            case "J":
                self._cells = [[" "] * self.columns for _ in range(self.rows)]
            case "n" if first == 6 and self._on_answer is not None:
                self._on_answer(f"\x1b[{self._y + 1};{self._x + 1}R")
            case "K":
                self._cells[self._y][self._x :] = [" "] * (self.columns - self._x)
            case _:
                pass


class Terminal:
    """Runs a command on a terminal of its own; a context manager that ends the command by its pid."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int,
        rows: int,
        environment: Mapping[str, str] | None = None,
        clusters: bool = False,
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        given = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(environment or {})}
        given.pop("NO_COLOR", None)
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=given, start_new_session=True
        )
        os.close(slave)
        self.written = bytearray()
        self.open = True
        self._screen, self._fed = Screen(columns, rows, clusters=clusters, on_answer=self.send), 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def send(self, keys: str) -> None:
        """Type on the keyboard."""
        os.write(self._master, keys.encode())

    def pump(self, limit_s: float) -> bytes:
        """Wait for output at most so long and return what came; empty when nothing did."""
        if not self.open or not select.select([self._master], [], [], limit_s)[0]:
            return b""
        try:
            data = os.read(self._master, 65_536)
        except OSError:
            data = b""
        if not data:
            self.open = False
        self.written += data
        for question, answer in ANSWERS:
            if question in data:
                os.write(self._master, answer)
        if CURSOR_QUESTION in data:
            self.screen()
        return data

    def pump_for(self, seconds: float) -> int:
        """Take output for so long; return the number of bytes."""
        before, end = len(self.written), time.monotonic() + seconds
        while self.open and (left := end - time.monotonic()) > 0:
            self.pump(left)
        return len(self.written) - before

    def until(self, seen: str | Callable[[Terminal], bool], limit_s: float = 30.0) -> float:
        """Take output until a text is on the screen, or a condition holds; return the monotonic second.

        Raises:
            AssertionError: It did not come; the message shows the screen.
        """
        end = time.monotonic() + limit_s
        while True:
            if seen(self) if callable(seen) else seen in self.screen():
                return time.monotonic()
            left = end - time.monotonic()
            if left <= 0 or not self.open:
                raise AssertionError(f"not seen: {seen}\n{self.screen()}")
            self.pump(min(left, 0.5))

    def until_bytes(self, mark: bytes, limit_s: float = 30.0, *, since: int = 0) -> float:
        """Take output until some bytes were written, however they stand on the screen; return when they came."""
        end = time.monotonic() + limit_s
        while self.written.find(mark, since) < 0:
            left = end - time.monotonic()
            if left <= 0 or not self.open:
                raise AssertionError(f"not written: {mark!r}\n{self.screen()}")
            since = max(since, len(self.written) - len(mark))
            self.pump(min(left, 0.5))
        return time.monotonic()

    def screen(self) -> str:
        """Return what stands on the screen, row by row."""
        new = bytes(self.written[self._fed :])
        whole = len(new)
        while whole and whole > len(new) - 3 and not _decodes(new[:whole]):
            whole -= 1
        self._screen.feed(new[:whole].decode("utf-8", "replace"))
        self._fed += whole
        return self._screen.text()

    def wait(self, limit_s: float = 20.0) -> int:
        """Take output until the program has ended; return its exit code."""
        end = time.monotonic() + limit_s
        while self.open and time.monotonic() < end:
            self.pump(0.2)
        return self.process.wait(timeout=max(0.1, end - time.monotonic()))

    def end(self) -> None:
        """End the program, if it still runs, and close the terminal."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self._master >= 0:
            os.close(self._master)
            self._master, self.open = -1, False


def _decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason != "unexpected end of data"
    return True
