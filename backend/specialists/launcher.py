"""The launcher interface: how specialists are started, adopted and ended, on this machine or on others.

A launcher knows processes, or actors on other hosts; it knows no rows, no connections and no turns.

LaunchFailed    the worker never served; `evidence` holds its last log lines    launch_failed
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from socket import socket
from typing import Literal, Protocol

from msgspec import Struct

from backend.identity import Identity
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.records import Node, RegistryEntry
from backend.specialists.process import ExitStatus
from backend.worker.spec import WorkerSpec


class LaunchFailed(TektonError):
    code = "launch_failed"

    def __init__(self, message: str, *, evidence: str = "", exit_status: ExitStatus | None = None) -> None:
        super().__init__(message, evidence=evidence)
        self.exit_status = exit_status


class Placement(Struct, frozen=True):
    """Where a specialist runs. `identity` names its process on `host`."""

    ai_id: str
    host: str
    port: int
    identity: Identity
    launcher: str
    adopted: bool = False


class LauncherEvent(Struct, frozen=True):
    """What happened to a specialist, by `kind`:

    `ready`   it serves
    `warm`    its provider is prepared, or `problem` and `code` say why it cannot be
    `exited`  its process ended; `exit_status` says how
    `lost`    its host is gone, and nothing is known of it any more; `problem` says so
    """

    ai_id: str
    kind: Literal["ready", "warm", "exited", "lost"]
    placement: Placement
    exit_status: ExitStatus | None = None
    problem: str = ""
    code: ErrorCode | None = None


OnStarted = Callable[[Placement], Awaitable[None]]
"""Awaited when the process exists and before it serves; if it raises, the process is ended."""


class Launcher(Protocol):
    """Starts, adopts and ends specialists, for one event loop. All times in seconds."""

    name: str
    remote: bool
    """Whether it runs specialists on other hosts, where it binds their ports itself."""

    def preflight(self, spec: WorkerSpec) -> tuple[str, str]:
        """Return the host a specialist would run on, and why it cannot; one of them is empty.

        Starts nothing. Blocks, for some milliseconds.
        """
        ...

    async def nodes(self) -> list[Node]:
        """Return the hosts there are, with their resources and the specialists on them."""
        ...

    async def running_ids(self) -> list[str]:
        """Return the specialists that run on other hosts, whatever the registry says; none for a local launcher."""
        ...

    def environment_names(self, spec: WorkerSpec) -> list[str]:
        """Return the names of the environment variables the specialist will see, never their values."""
        ...

    async def launch(self, spec: WorkerSpec, listener: socket | None, on_started: OnStarted) -> Placement:
        """Start a specialist on a listening socket and wait until it serves. The socket is closed here.

        A `remote` launcher gets no socket.

        Raises:
            LaunchFailed: It ended or was not ready in time; no process of it is left.
        """
        ...

    async def adopt(self, ai_id: str, entry: RegistryEntry) -> Placement | None:
        """Watch a specialist that runs already; return `None` when the process of the entry does not live."""
        ...

    async def stop(self, ai_id: str, *, grace_s: float, force: bool = False) -> ExitStatus:
        """End a specialist that this launcher started or adopted, with its whole process group.

        SIGTERM first, SIGKILL after `grace_s`; `force` begins with SIGKILL.
        """
        ...

    def logs(self, ai_id: str, *, previous: bool = False) -> Path:
        """Return the file that holds a specialist's output; of the run before with `previous`."""
        ...

    async def fetch_logs(self, ai_id: str) -> None:
        """Bring the file that `logs` names up to date, if the specialist writes on another host."""
        ...

    async def last_lines(self, ai_id: str) -> str:
        """Return the last log lines of a specialist that has ended, without keys and tokens.

        Of one on another host they are fetched first, which can take seconds.
        """
        ...

    def events(self) -> AsyncIterator[LauncherEvent]:
        """Yield what happens to all specialists, in order, for ever."""
        ...

    def close(self) -> None:
        """Stop watching; running specialists go on running."""
        ...
