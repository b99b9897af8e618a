"""The worker: one process serving one specialist on a socket it was given.

It knows neither who launched it nor the registry; it holds no conversation. Started as
`python -m backend.specialists.worker --listen-fd N --ready-fd M` with its specification as JSON on stdin; it says
on the ready pipe that it serves, then that its provider is warm. It outlives whoever started it.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from backend import jsonlog
from backend.specialists.connection import Connection
from backend.specialists.desk import MakeProvider
from backend.specialists.spec import Ready, StartLine, Warm, WorkerSpec
from backend.specialists.specialist import Specialist
from backend.wire import encode_line

log = logging.getLogger("worker")

FAREWELL_S = 1.0
"""How long a stopping worker gives its last frames to leave."""


async def serve_specialist(
    spec: WorkerSpec,
    listener: socket.socket,
    ready: Callable[[StartLine], None],
    *,
    make_provider: MakeProvider | None = None,
) -> None:
    """Serve until cancelled. `ready` hears that it serves, then that the provider is warm or why it is not.

    `make_provider` replaces `backend.providers.create`. On cancellation every turn ends as an error frame first.

    Raises:
        TlsRefused: It is to serve by TLS and its certificate or key cannot be used.
    """
    specialist = Specialist(spec, make_provider)
    connections: set[Connection] = set()

    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(specialist, connections), sock=listener, **_secured(spec)
    )
    log.info("%s serves on %s:%d with %s", spec.ai_id, spec.host, spec.port, specialist.model)
    ready(Ready(os.getpid(), spec.port))
    try:
        problem = await specialist.warm()
        ready(Warm(problem.message, problem.code) if problem else Warm())
        if problem is None:
            await specialist.prewarm()
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()
        text = f"{spec.ai_id} was stopped while answering"
        await asyncio.gather(*(connection.farewell(text, FAREWELL_S) for connection in connections))
        await specialist.desk.aclose()


def _secured(spec: WorkerSpec) -> dict[str, Any]:
    """Return what makes a server one by TLS; nothing on this machine, or where no certificate is named."""
    if not (spec.tls_cert and spec.off_loopback):
        return {}
    from backend import tls

    return {
        "ssl": tls.serving(spec.tls_cert, spec.tls_key),
        "ssl_handshake_timeout": tls.HANDSHAKE_S,
        "ssl_shutdown_timeout": tls.SHUTDOWN_S,
    }


def main() -> None:
    """Read the specification, serve, and end as the signal that asked for it would have it."""
    faulthandler.enable()  # a crash in a library then leaves its stack in the log, and so in the ledger
    parser = argparse.ArgumentParser(prog="tekton worker", description=__doc__)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--id", help="shown in process lists; the specification on stdin decides")
    parser.add_argument("--home", help="shown in process lists; tells which platform the worker belongs to")
    options = parser.parse_args()
    text = sys.stdin.buffer.read()
    if not text:
        sys.exit("worker: no specification on stdin: whoever started it is gone")
    try:
        spec = msgspec.json.decode(text, type=WorkerSpec)
    except msgspec.MsgspecError as error:
        sys.exit(f"worker: the specification on stdin cannot be read: {error}")
    jsonlog.configure(spec.ai_id, os.environ)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    ended_by = asyncio.run(_run(spec, options.listen_fd, options.ready_fd))
    if ended_by is not None:
        signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)


async def _run(spec: WorkerSpec, listen_fd: int, ready_fd: int) -> signal.Signals | None:
    loop = asyncio.get_running_loop()
    listener = socket.socket(fileno=listen_fd)
    listener.setblocking(False)
    serving = asyncio.ensure_future(serve_specialist(spec, listener, _teller(ready_fd)))
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        serving.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        await serving
    except asyncio.CancelledError:
        log.info("%s ends: %s", spec.ai_id, received[0].name if received else "cancelled")
    return received[0] if received else None


def _teller(ready_fd: int) -> Callable[[StartLine], None]:
    def tell(line: StartLine) -> None:
        try:
            os.write(ready_fd, encode_line(line))
        except OSError:
            log.info("nobody listens on the ready pipe any more")
        if isinstance(line, Warm):
            os.close(ready_fd)

    return tell


if __name__ == "__main__":
    main()
