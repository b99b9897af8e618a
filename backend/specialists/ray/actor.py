"""A worker on another host: the actor that Ray places, and in it the same coroutine that a local worker runs.

Imported by Ray on the node where it is placed. It listens on the node's address, so every client must send the
platform's token first. Knows no gateway and no registry.
"""

from __future__ import annotations

import asyncio
import os
import socket
from importlib import import_module
from typing import Any

import msgspec
from msgspec import Struct

import backend
from backend import log as jsonlog
from backend.home import Home
from backend.identity import own_identity
from backend.tasks import end_tasks
from backend.worker.spec import Ready, StartLine, Warm, WorkerSpec


class ActorAddress(Struct):
    """Where an actor runs: what `WorkerActor.place` returns. `start` in unix seconds."""

    host: str
    port: int
    pid: int
    start: float
    node: str
    hostname: str
    version: str
    log: str = ""
    """The file on the node that holds its output; empty if unknown."""


class WorkerActor:
    """One specialist. The gateway calls `place`, then `serve`, then waits for `alive`.

    A newer gateway adopts actors that an older one started: method names and results are a protocol between versions.
    """

    def __init__(self) -> None:
        self._listener: socket.socket | None = None
        self._serving: asyncio.Task[int] | None = None
        self._warm: asyncio.Future[Warm] | None = None
        self._place = b""

    async def place(self) -> bytes:
        """Bind a port on the node's address; return an `ActorAddress` as JSON, the same for every call."""
        if not self._place:
            ray: Any = import_module("ray")
            context = ray.get_runtime_context()
            host = str(ray.util.get_node_ip_address())
            self._listener = socket.create_server((host, 0), backlog=128)
            self._listener.setblocking(False)
            me = own_identity()
            port = int(self._listener.getsockname()[1])
            node, name = context.get_node_id(), socket.gethostname()
            place = ActorAddress(host, port, me.pid, me.start, node, name, backend.__version__, _own_log())
            self._place = msgspec.json.encode(place)
        return self._place

    async def serve(self, text: bytes) -> None:
        """Serve a `WorkerSpec` given as JSON; return once clients are accepted."""
        from backend.worker.__main__ import serve_specialist

        assert self._listener is not None, "place comes first"
        place = msgspec.json.decode(self._place, type=ActorAddress)
        spec = msgspec.json.decode(text, type=WorkerSpec)
        spec.host, spec.port, spec.home = place.host, place.port, str(Home.from_environment().root)
        spec.tls_cert = os.environ.get("TEKTON_TLS_CERT", spec.tls_cert)
        spec.tls_key = os.environ.get("TEKTON_TLS_KEY", spec.tls_key)
        jsonlog.configure(spec.ai_id, os.environ)
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        self._warm = loop.create_future()
        warm = self._warm

        def report(line: StartLine) -> None:
            if isinstance(line, Ready):
                ready.set_result(None)
            elif not warm.done():
                warm.set_result(line)

        self._serving = asyncio.create_task(serve_specialist(spec, self._listener, report))
        await asyncio.wait([ready, self._serving], return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            self._serving.result()

    async def warmed(self) -> bytes:
        """Return a `Warm` as JSON once the provider is prepared or cannot be."""
        assert self._warm is not None
        return msgspec.json.encode(await asyncio.shield(self._warm))

    async def alive(self) -> None:
        """Return when serving has ended. If the actor dies, Ray raises its error in the caller."""
        if self._serving is None:
            await asyncio.get_running_loop().create_future()
        else:
            await asyncio.wait([self._serving])

    async def output(self, after: int) -> bytes:
        """Return what the own log file holds after byte `after`, a `Piece` as JSON."""
        from backend.specialists.ray.logs import read_piece

        return await asyncio.to_thread(
            read_piece, msgspec.json.decode(self._place, type=ActorAddress).log, after
        )

    async def stop(self) -> None:
        """Stop serving; every generation ends with an error frame."""
        await end_tasks(self._serving)


def _own_log() -> str:
    """Return the file that standard error is written to; empty if it is no file or unknown."""
    try:
        path = os.readlink("/proc/self/fd/2")
    except OSError:
        return ""
    return path if os.path.isfile(path) else ""
