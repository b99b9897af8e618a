"""How specialists are placed and ended, whatever places them: the interface and its values.

A launcher knows processes (or actors on other hosts); it knows no rows, no links and no turns.

LaunchFailed    it never came to serve; `evidence` holds its last log lines    launch_failed
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from socket import socket
from typing import Literal, Protocol

from msgspec import Struct

from backend.registry.identity import Identity
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.records import RegistryEntry
from backend.specialists.nodes import Node
from backend.specialists.process import Ending
from backend.specialists.spec import WorkerSpec


class LaunchFailed(TektonError):
    code = "launch_failed"

    def __init__(self, message: str, *, evidence: str = "", ending: Ending | None = None) -> None:
        super().__init__(message, evidence=evidence)
        self.ending = ending


class Placement(Struct, frozen=True):
    """Where a specialist runs. `identity` names its process on `host`."""

    ai_id: str
    host: str
    port: int
    identity: Identity
    launcher: str
    adopted: bool = False


class Happening(Struct, frozen=True):
    """What a launcher saw. `ready`: it serves. `warm`: its provider is prepared, or `problem` says why not.
    `exited`: it ended. `unresponsive`: it lives and does not answer. `lost`: nothing is known of it any more."""

    ai_id: str
    kind: Literal["ready", "warm", "exited", "unresponsive", "lost"]
    placement: Placement
    ending: Ending | None = None
    problem: str = ""
    code: ErrorCode | None = None


Enrol = Callable[[Placement], Awaitable[None]]
"""Awaited once the process exists and before it may serve; if it raises, the process is ended."""


class Launcher(Protocol):
    """Places, adopts and ends. All times in seconds."""

    name: str
    remote: bool
    """Whether it places beyond this machine and binds ports itself."""

    def outlook(self, spec: WorkerSpec) -> tuple[str, str]:
        """Return on which host a specialist would run, and what stands against it. May block for a moment."""
        ...

    async def nodes(self) -> list[Node]:
        """Return the hosts there are, with their resources and who runs there."""
        ...

    async def living(self) -> list[str]:
        """Return whom a launcher beyond this machine runs, whatever the registry says."""
        ...

    def plan(self, spec: WorkerSpec) -> list[str]:
        """Return the names of the environment keys the specialist will see, never values."""
        ...

    async def launch(self, spec: WorkerSpec, listener: socket | None, enrol: Enrol) -> Placement:
        """Start a specialist on a bound, listening socket, which is taken over, and wait until it serves.

        A launcher that is `remote` is given none.

        Raises:
            LaunchFailed: It ended or was not ready in time; nothing of it is left.
        """
        ...

    async def adopt(self, ai_id: str, entry: RegistryEntry) -> Placement | None:
        """Watch a specialist that runs already; `None` when its process is not the one recorded."""
        ...

    async def stop(self, ai_id: str, *, grace_s: float, force: bool = False) -> Ending:
        """End a specialist that this launcher started or adopted, and everything of its group."""
        ...

    def logs(self, ai_id: str, *, previous: bool = False) -> Path:
        """Return where a specialist's output lies."""
        ...

    async def fetch_logs(self, ai_id: str) -> None:
        """See that the file of `logs` holds what was written up to now, wherever that was."""
        ...

    def watch(self) -> AsyncIterator[Happening]:
        """Yield what happens, to all specialists, in order, for ever."""
        ...

    def close(self) -> None:
        """Stop watching; what runs goes on running."""
        ...
