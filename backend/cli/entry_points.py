"""The first thing a command imports: ctrl-c while it imports the rest ends it quietly, with 130.

Knows the commands by name only, and no room of the platform. What comes before its first line is the interpreter's own
start, in which ctrl-c cannot be caught.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as type checkers know it: `typing` is imported later
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any
else:
    # the module below `signal`: that one imports a dozen others before a handler could be set
    import _signal

CANCELLED = 130
"""What a shell reports of a command ended by ctrl-c."""


def tekton() -> int:
    """Run `tekton`."""
    return _run("backend.cli.tekton")


def aish() -> int:
    """Run `aish`."""
    return _run("backend.cli.aish")


def tekton_tui() -> int:
    """Run the console."""
    return _run("tekton_tui.__main__", before_run=raise_keyboard_interrupt)


def raise_keyboard_interrupt() -> None:
    """Let ctrl-c raise `KeyboardInterrupt` again: whoever calls this has what can be interrupted in order."""
    _handle(_leave, _signal.default_int_handler)


def _run(module: str, **given: Any) -> int:
    """Import a command and run it; before and after there is nothing to tidy up, so ctrl-c ends the process at once."""
    _handle(_signal.default_int_handler, _leave)
    from importlib import import_module

    try:
        code: int = import_module(module).main(**given)
    except KeyboardInterrupt:
        code = CANCELLED
    _handle(_signal.default_int_handler, _leave)
    return code


def _handle(now: Any, then: Any) -> None:
    """Replace a handler that is in force; another one is left alone, such as the ignoring of a shell's `&`."""
    if _signal.getsignal(_signal.SIGINT) is now:
        _signal.signal(_signal.SIGINT, then)


def _leave(number: int, frame: object) -> None:
    """End now: an exception would be shown with the lines it was raised in, and some imports swallow it."""
    from select import select

    os.write(2, b"\n" if os.isatty(2) else b"")
    if select([], [1], [], 0)[1]:  # else nobody reads, and a flush would wait for ever
        sys.stdout.flush()
    os._exit(CANCELLED)
