"""The terminal the console runs on: whether it can, what to do when it is gone, and its state restored whatever ends the
console. Knows no widgets."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

LEAST_COLUMNS, LEAST_ROWS = 40, 10
PLAIN: Final = "`tekton-tui --plain` works line by line, `aish` asks without a console"
NO_SCREEN: Final = ("", "dumb", "unknown")
"""Names of terminals that cannot put the cursor anywhere."""
GRACE_S: Final = 3.0
"""How long an orderly exit may take after a signal."""
EXIT_HANGUP: Final = 129
"""What a shell reports of a process that SIGHUP ended (128 + 1)."""
HANGUP_GRACE_S: Final = 2.0
"""The same after the terminal is gone: a write to a dead terminal can block the whole event loop."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# 2004 bracketed paste · 1000, 1002, 1003, 1006, 1015, 1016 mouse · 1004 focus · 2048 size in band · <u kitty's keyboard
# 7 wrapping · 1049 alternate screen · 25 cursor
RESET: Final = (
    b"\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?1004l\x1b[?2048l"
    b"\x1b[<u\x1b[?7h\x1b[?1049l\x1b[?25h\x1b[0m"
)
"""Switches off every mode that the console or Textual switches on, and leaves the alternate screen."""


def why_it_cannot_start(home: Path, *, remote: bool) -> str:
    """Return in a sentence why the console cannot start here; empty if it can.

    Args:
        home: The platform's folder.
        remote: Whether the backend is another machine's: then nothing has to be written at home.
    """
    return _wrong_terminal() or ("" if remote else _wrong_home(home))


def _wrong_terminal() -> str:
    source, output, screen = sys.__stdin__, sys.__stdout__, sys.__stderr__
    if source is None or not source.isatty():
        return f"there is no terminal to read keys from: standard input is something else. {PLAIN}"
    if output is None or not output.isatty():
        return f"standard output is no terminal but a pipe or a file. {PLAIN}"
    if screen is None or not screen.isatty():
        return "the console draws on standard error, and that is no terminal: leave out the redirection `2>`"
    if os.environ.get("TERM", "") in NO_SCREEN:
        return f"the terminal does not say that it can draw (TERM is {os.environ.get('TERM') or 'not set'}). {PLAIN}"
    encoding = (screen.encoding or "").lower().replace("_", "-")
    if encoding not in ("utf-8", "utf8"):
        return f"the terminal's encoding is {encoding or 'unknown'}, not UTF-8: set LC_ALL=C.UTF-8, unset PYTHONIOENCODING"
    try:
        columns, rows = os.get_terminal_size(source.fileno())
    except OSError:
        return ""
    if 0 < columns < LEAST_COLUMNS or 0 < rows < LEAST_ROWS:
        return (
            f"the terminal is {columns}×{rows}, and the console needs {LEAST_COLUMNS}×{LEAST_ROWS}. {PLAIN}"
        )
    return ""


def _wrong_home(home: Path) -> str:
    """Look at the folder, or at the nearest one above it that is there."""
    try:
        nearest = next(path for path in (home, *home.parents) if path.exists())
        if not nearest.is_dir():
            return f"{nearest} is no folder, and everything is kept in {home}: name another with --home or TEKTON_HOME"
        if os.access(nearest, os.W_OK | os.X_OK):
            return ""
    except OSError as error:
        return f"{home} cannot be used: {error.strerror}; name another folder with --home or TEKTON_HOME"
    return f"{nearest} cannot be written, and everything is kept in {home}: name another with --home or TEKTON_HOME"


def measure_the_terminal() -> None:
    """Let the terminal say its size, not a shell that exported `COLUMNS` and `LINES` of another time."""
    try:
        known = all(os.get_terminal_size(0))
    except OSError:
        return
    if known:
        for name in ("COLUMNS", "LINES"):
            os.environ.pop(name, None)


class TerminalState:
    """Remembers how the terminal was, and puts it back when something else than the console's own exit ends it."""

    def __init__(self, terminal: int = 0, screen: int = 2) -> None:
        self._terminal, self._screen = terminal, screen
        self._before = _settings(terminal)

    def restore(self) -> None:
        """Put the terminal back, if it is another than before."""
        # as before: an orderly exit has restored it, and the sequences would only clear what stands there now
        if self._before is None or _settings(self._terminal) in (None, self._before):
            return
        try:
            termios.tcsetattr(self._terminal, termios.TCSANOW, self._before)
            os.write(self._screen, RESET)
        except (OSError, termios.error):
            return

    def leave_on_signals(self, leave: Callable[[int], None]) -> None:
        """Have `leave` called with the exit code when a signal asks the console to end.

        What does not end within `GRACE_S`, or is asked twice, is ended here, with the terminal restored.
        """
        asked: list[int] = []

        def asked_to_end(number: int, frame: object) -> None:
            code = 128 + number
            if asked:
                self._end(code)
            asked.append(number)
            timer = threading.Timer(GRACE_S, self._end, (code,))
            # a console that ends in time must not be kept alive by its own deadline
            timer.daemon = True
            timer.start()
            leave(code)

        for number in SIGNALS:
            signal.signal(number, asked_to_end)

    def _end(self, code: int) -> None:
        self.restore()
        os._exit(code)


def _settings(terminal: int) -> list[Any] | None:
    try:
        return termios.tcgetattr(terminal)
    except termios.error:
        return None


def leave_on_hangup(leave: Callable[[], None], terminal: int = 0) -> None:
    """Watch `terminal` from a thread until it hangs up; then call `leave`, and end the process after `HANGUP_GRACE_S`.

    A terminal that closes usually sends SIGHUP, and that ends the process. A console that is not the session leader of its
    terminal (under `nohup`, in some container and editor terminals) gets no signal: its input reads as empty for ever, its
    output blocks, and it would spin unseen on a core.

    Args:
        leave: Asks the console to exit. Called from the watching thread.
        terminal: Descriptor of the terminal; one that is no terminal is not watched.
    """
    if os.isatty(terminal):
        threading.Thread(target=_watch, args=(terminal, leave), name="hangup", daemon=True).start()


def _watch(terminal: int, leave: Callable[[], None]) -> None:
    poll = select.poll()
    # An empty mask: only hang-up and error are reported, so the thread sleeps until then.
    poll.register(terminal, 0)
    if not any(what & (select.POLLHUP | select.POLLERR) for _, what in poll.poll()):
        # A system that cannot watch a terminal answers at once with something else.
        return
    # a terminal that is gone may block the writes of an orderly end
    threading.Timer(HANGUP_GRACE_S, os._exit, (EXIT_HANGUP,)).start()
    leave()
