"""Allocate ports, and find out which program holds one that is taken.

A port is allocated by binding it: what is returned is the listening socket, so nobody can take the port between check
and use. Starts and kills nothing.

PortTaken    another program holds the port; `holder` says which      foreign_port
NoFreePort   the whole range is taken                                 launch_refused
"""

from __future__ import annotations

import errno
import os
import socket
import zlib
from collections.abc import Collection

import psutil
from msgspec import Struct

from backend.registry.store import Registry
from backend.schema.errors import TektonError

OWN_PORT_FIRST, OWN_PORT_LAST = 45000, 50000
"""Range of the ports of specialists that the catalogue gives none, both ends included."""
BACKLOG = 128
WORKER_WORDS, GATEWAY_MODULE = frozenset({"-m", "--home", "--id"}), "backend.gateway.serve"
"""What the command lines of workers and of gateways that were started by others name."""


OTHER_PORTS = (
    'two homes of one machine share these ports: set TEKTON_PORT_PROFILE=free for one of them (`profile = "free"` in '
    "[ports] of its config.toml), or end the other one's fleet"
)
"""What to do when the holder is another home's."""


class PortHolder(Struct, frozen=True):
    """Who uses a port. `pid` is 0 and `program` empty if the system does not tell this user.

    Of a process of this platform, `part` says what it is ("apollo", "the gateway") and `home` the folder it works for.
    """

    port: int
    pid: int = 0
    program: str = ""
    state: str = ""
    part: str = ""
    home: str = ""

    @property
    def advice(self) -> str:
        """What to do about it, "" where only stopping it helps."""
        return OTHER_PORTS if self.home else ""

    def __str__(self) -> str:
        if self.home:
            return f"{self.part} of the home {self.home} (pid {self.pid})"
        if self.pid:
            return f"{self.program or 'a program'} (pid {self.pid})"
        if self.state == psutil.CONN_TIME_WAIT:
            return "a connection that is closing (it goes within a minute)"
        return "another user's program"


class PortTaken(TektonError):
    """The port cannot be bound because another program uses it."""

    code = "foreign_port"

    def __init__(self, port: int, holder: PortHolder) -> None:
        advice = holder.advice or "stop that program or give the specialist another port"
        super().__init__(
            f"port {port} is held by {holder}; {advice}",
            detail={"port": port, "pid": holder.pid, "program": holder.program},
        )
        self.holder = holder


class NoFreePort(TektonError):
    code = "launch_refused"


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket on `host`:`port` (port 0: the system chooses).

    Raises:
        PortTaken: Another program uses the port; the error names it.
        OSError: The address cannot be used for another reason.
    """
    try:
        return _listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(port, find_holder(port)) from error
        raise


def allocate(registry: Registry, host: str, *, reserved: Collection[int], seed: str) -> socket.socket:
    """Return a listening socket on a free port of the range that is neither reserved nor registered.

    Runs under the registry's lock. The search begins at a port given by `seed`, so that a specialist tends to get the
    port it had.

    Raises:
        NoFreePort: Every port of the range is taken.
        RegistryBusy: The lock stayed held until the time-out.
    """
    # Held until the port is bound: two backends would otherwise find the same one free.
    with registry.transaction() as transaction:
        taken = {entry.port for entry in transaction.entries.values()} | set(reserved)
        count = OWN_PORT_LAST - OWN_PORT_FIRST + 1
        # Not `hash`, which differs in every process.
        start = zlib.crc32(seed.encode()) % count
        for step in range(count):
            port = OWN_PORT_FIRST + (start + step) % count
            if port in taken:
                continue
            try:
                return _listen(host, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
    raise NoFreePort(
        f"no port between {OWN_PORT_FIRST} and {OWN_PORT_LAST} is free: kill specialists, or stop the programs that "
        "hold them"
    )


def find_holder(port: int) -> PortHolder:
    """Return which program uses a local TCP port, as far as the system tells this user."""
    found = PortHolder(port)
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return found
    for connection in connections:
        if not connection.laddr or connection.laddr.port != port:
            continue
        part, home = _ours(connection.pid)
        holder = PortHolder(
            port, connection.pid or 0, _program(connection.pid), connection.status, part, home
        )
        if connection.status == psutil.CONN_LISTEN:
            return holder
        found = holder if holder.pid or not found.state else found
    return found


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _program(pid: int | None) -> str:
    if not pid:
        return ""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""


def _ours(pid: int | None) -> tuple[str, str]:
    """Return what a process is of this platform and for which home; nothing of any other."""
    if not pid:
        return "", ""
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        if WORKER_WORDS.issubset(words):
            home, ai_id = (words[words.index(word) + 1] for word in ("--home", "--id"))
            return ai_id.removesuffix("-ai"), home
        if GATEWAY_MODULE in words or (
            words[2:3] == ["serve"] and os.path.basename(words[1]) in ("tekton", "__main__.py")
        ):
            environment = process.environ()
            default = os.path.join(environment.get("HOME", "~"), ".tekton")
            return "the gateway", environment.get("TEKTON_HOME") or default
    except (psutil.Error, OSError, IndexError):
        pass
    return "", ""
