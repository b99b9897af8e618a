"""What may go wrong in memory (Engram).

MemoryFault
├── UnknownSession     no session has this id                                       unknown_session
├── UnknownMessage     no message has this id                                       not_found
├── StoreClosed        asked after close, or before open                            internal
└── StoreFailed        the database refused: disk full, damaged, written by a newer version   internal
"""

from __future__ import annotations

import sqlite3

from backend.schema.errors import TektonError


class MemoryFault(TektonError):
    """Memory could not do what was asked."""


class UnknownSession(MemoryFault):
    code = "unknown_session"


class UnknownMessage(MemoryFault):
    code = "not_found"


class StoreClosed(MemoryFault):
    code = "internal"


class StoreFailed(MemoryFault):
    code = "internal"


def no_session(session_id: str) -> UnknownSession:
    return UnknownSession(f"There is no session {session_id!r}. `tekton sessions` lists those there are.")


def store_failed(error: sqlite3.Error) -> StoreFailed:
    """Say in words what the database refused and what mends it."""
    text = str(error)
    if "full" in text:
        advice = "Free some disk space and try again."
    elif "readonly" in text or "unable to open" in text:
        advice = "See that the folder `state` of TEKTON_HOME may be written by you."
    elif "malformed" in text or "not a database" in text:
        advice = "Stop the backend and start it again: a damaged database is set aside and kept."
    else:
        advice = "See the backend's log."
    return StoreFailed(f"The conversation store failed: {text}. {advice}", evidence=text)
