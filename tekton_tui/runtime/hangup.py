"""Exit when the terminal is gone. Knows file descriptors only.

A terminal that closes usually sends SIGHUP, and that ends the process. A console that is not the session leader of its
terminal (under `nohup`, in some container and editor terminals) gets no signal: its input reads as empty for ever, its
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
"""How long an orderly exit may take: a write to a dead terminal can block the whole event loop."""


def leave_on_hangup(leave: Callable[[], None], terminal: int = 0) -> None:
    """Watch `terminal` from a thread until it hangs up; then call `leave`, and end the process after `GRACE_S`.

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
    threading.Timer(GRACE_S, os._exit, (EXIT_HANGUP,)).start()
    leave()
