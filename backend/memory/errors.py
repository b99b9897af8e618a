"""What may go wrong in memory.

MemoryFault
├── UnknownSession     no session has this id                                       unknown_session
├── UnknownMessage     no message has this id                                       not_found
├── OutOfRange         an id or a limit that no store can hold                      invalid_request
├── StoreClosed        asked after close, or before open                            backend_lost
└── StoreFailed        the database refused: disk full, damaged, written by a newer version   internal
"""

from __future__ import annotations

from backend.schema.errors import TektonError


class MemoryFault(TektonError):
    """Memory could not do what was asked."""


class UnknownSession(MemoryFault):
    code = "unknown_session"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no session {session_id!r}. `tekton sessions` lists those there are.")


class UnknownMessage(MemoryFault):
    code = "not_found"

    def __init__(self, message_id: int) -> None:
        super().__init__(f"There is no message {message_id}.")


class OutOfRange(MemoryFault):
    code = "invalid_request"


class StoreClosed(MemoryFault):
    """The platform is ending: it closes its store last."""

    code = "backend_lost"

    def __init__(self) -> None:
        super().__init__("the backend is ending: its conversation store is closed already")


class StoreFailed(MemoryFault):
    code = "internal"
