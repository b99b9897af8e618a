"""The worker: one process serving one specialist on a listening socket it inherits.

Started as `python -P -m backend.worker --listen-fd N --ready-fd M` with a `WorkerSpec` as JSON on stdin. It writes two
lines to the ready pipe: `Ready` when it serves, then `Warm` when its provider is prepared or cannot be. It goes on
running when whoever started it ends. Knows neither launcher nor registry and keeps no conversation.
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
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from backend import log as jsonlog
from backend.wire import encode_line
from backend.worker.access import Access
from backend.worker.connection import WorkerConnection
from backend.worker.direct_use import DirectUse
from backend.worker.provider_pool import ProviderFactory
from backend.worker.spec import Ready, StartLine, Warm, WorkerSpec
from backend.worker.specialist import Specialist

log = logging.getLogger("worker")

SHUTDOWN_S = 1.0
"""How long a stopping worker waits for its last frames to be written."""


async def serve_specialist(
    spec: WorkerSpec,
    listener: socket.socket,
    report: Callable[[StartLine], None],
    *,
    make_provider: ProviderFactory | None = None,
) -> int:
    """Serve until cancelled; every generation then ends with an error frame. Return how an external agent ended.

    `report` is called with `Ready` once clients are accepted, then with `Warm`. `make_provider` replaces
    `backend.providers.create`.

    Raises:
        TlsRefused: It must serve with TLS and its certificate or key cannot be used.
    """
    specialist = _specialist(spec, make_provider)
    connections: set[WorkerConnection] = set()
    access, direct = Access(spec), DirectUse(spec)

    server = await asyncio.get_running_loop().create_server(
        lambda: WorkerConnection(specialist, connections, access, direct), sock=listener, **_tls_options(spec)
    )
    log.info("%s serves on %s:%d with %s", spec.ai_id, spec.host, spec.port, specialist.model)
    report(Ready(os.getpid(), spec.port))
    starting: asyncio.Task[None] | None = None
    try:
        if specialist.tools:
            starting = asyncio.create_task(specialist.tools.start(), name="tool servers")
        problem = await specialist.prepare()
        report(Warm(problem.message, problem.code) if problem else Warm())
        if problem is None:
            await specialist.prewarm()
        return await specialist.until_ended()
    finally:
        server.close()
        text = f"{spec.ai_id} was stopped while answering"
        await asyncio.gather(*(connection.shut_down(text, SHUTDOWN_S) for connection in connections))
        if starting is not None:
            starting.cancel()
        await specialist.close()


def _specialist(spec: WorkerSpec, make_provider: ProviderFactory | None) -> Specialist:
    if spec.agent is None:
        return Specialist(spec, make_provider)
    from backend.worker.agent.specialist import AgentSpecialist

    return AgentSpecialist(spec, spec.agent)


def _tls_options(spec: WorkerSpec) -> dict[str, Any]:
    """Return the options of `create_server` for TLS; none on loopback or without a certificate."""
    if not (spec.tls_cert and spec.off_loopback):
        return {}
    from backend import tls

    return {
        "ssl": tls.serving(spec.tls_cert, spec.tls_key),
        "ssl_handshake_timeout": tls.HANDSHAKE_S,
        "ssl_shutdown_timeout": tls.SHUTDOWN_S,
    }


def main() -> None:
    """Read the specification, serve, and end by the signal that asked for it, so that the exit status names it."""
    faulthandler.enable()  # a crash inside a library then writes its stack to the log
    parser = argparse.ArgumentParser(prog="tekton worker", description=__doc__)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--id", help="for process lists only; the specification on stdin decides")
    parser.add_argument("--home", help="for process lists: the platform this worker belongs to")
    options = parser.parse_args()
    text = sys.stdin.buffer.read()
    if not text:
        sys.exit("worker: no specification on stdin: the process that started this one is gone")
    try:
        spec = msgspec.json.decode(text, type=WorkerSpec)
    except msgspec.MsgspecError as error:
        sys.exit(f"worker: the specification on stdin cannot be read: {error}")
    jsonlog.configure(spec.ai_id, os.environ)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    _end_as(_runner(spec)(_run(spec, options.listen_fd, options.ready_fd)))


def _runner(spec: WorkerSpec) -> Callable[[Coroutine[Any, Any, int]], int]:
    """Return what runs a worker: the faster loop, unless it has programs to watch, which asyncio's own does as we need it."""
    if spec.agent is not None or spec.tools.servers or sys.platform == "win32":
        return asyncio.run
    import uvloop

    return uvloop.run


def _end_as(status: int) -> None:
    """End by a signal where a status says so, as a shell writes it (128 and the signal), else with it as exit code."""
    if status <= 128:
        sys.exit(status)
    if status - 128 not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(status - 128, signal.SIG_DFL)
    os.kill(os.getpid(), status - 128)


async def _run(spec: WorkerSpec, listen_fd: int, ready_fd: int) -> int:
    """Serve; return by what it ended, as a shell writes it."""
    loop = asyncio.get_running_loop()
    listener = socket.socket(fileno=listen_fd)
    listener.setblocking(False)
    serving = asyncio.ensure_future(serve_specialist(spec, listener, _reporter(ready_fd)))
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        serving.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        return await serving
    except asyncio.CancelledError:
        log.info("%s ends: %s", spec.ai_id, received[0].name if received else "cancelled")
    return 128 + received[0] if received else 0


def _reporter(ready_fd: int) -> Callable[[StartLine], None]:
    def report(line: StartLine) -> None:
        try:
            os.write(ready_fd, encode_line(line))
        except OSError:
            log.info("nobody reads the ready pipe any more")
        if isinstance(line, Warm):
            os.close(ready_fd)

    return report


if __name__ == "__main__":
    main()
