"""Leave when the terminal is gone. Knows file descriptors only, not what the console shows.

A terminal that closes usually sends SIGHUP and that ends the process. A console that is not its terminal's session
leader (under `nohup`, some container and editor terminals) gets no signal: its input reads as empty for ever, its
output blocks, and it would spin unseen on a core.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

EXIT_HANGUP = 129
"""What a shell reports of a process that SIGHUP ended (128 + 1)."""

GRACE_S = 2.0
"""How long an orderly exit may take; writing to a dead terminal can block the whole event loop."""


def leave_on_hangup(leave: Callable[[], None], terminal: int = 0) -> None:
    """Watch `terminal` from a thread that sleeps until it hangs up; then call `leave`, and end after `GRACE_S`.

    Args:
        leave: asks the console to exit; called from the watching thread, errors in it are of no more use to anyone.
        terminal: the descriptor of the terminal. One that is no terminal is not watched.
    """
    if os.isatty(terminal):
        threading.Thread(target=_watch, args=(terminal, leave), name="hangup", daemon=True).start()


def _watch(terminal: int, leave: Callable[[], None]) -> None:
    poll = select.poll()
    poll.register(
        terminal, 0
    )  # asks for nothing: only hang-up and error are reported, so it sleeps till then
    if not any(what & (select.POLLHUP | select.POLLERR) for _, what in poll.poll()):
        return  # a system that cannot watch a terminal says so at once
    threading.Timer(GRACE_S, os._exit, (EXIT_HANGUP,)).start()
    leave()
