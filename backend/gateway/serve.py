"""The backend process: one per home, by a lock held for life.

`python -m backend.gateway.serve [--ready-fd N]`. Says over the ready pipe where it serves, or why it cannot. Ended by
TERM or INT it leaves the fleet running; the next backend adopts it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import select
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
import uvloop
from filelock import FileLock, Timeout

from backend import catalog, config, tls
from backend import log as jsonlog
from backend.config import Settings
from backend.gateway.app import build_app, build_gateway
from backend.gateway.auth import check_bind, read_or_make_token
from backend.gateway.context import Gateway
from backend.gateway.protocols import WebSocketProtocol, http_protocol
from backend.home import Home, write_private
from backend.identity import own_identity
from backend.memory import StoreFailed
from backend.orchestration.opening import open_platform
from backend.orchestration.platform import Held, Platform
from backend.registry.ports import find_holder
from backend.schema.errors import ErrorCode, TektonError
from backend.wire import MAX_LINE_BYTES, encode_line

log = logging.getLogger("backend")

GRACE_S = 2
"""Seconds open connections get when the backend ends."""
EXIT_CODES: dict[ErrorCode, int] = {
    "config_invalid": 2,
    "conflict": 6,
    "foreign_port": 6,
    "forbidden": 6,
    "unauthorized": 6,
}
"""As of the whole command line; the rest is 1."""
PLAIN = "{host} can be reached from other machines, without TLS: the token and all that is said can be read on the way"
PLAIN_REFUSED = (
    PLAIN
    + ". Set tls.cert and tls.key (docs/cluster.md), or say twice that this is meant: --without-tls, or "
    "gateway.without_tls = true"
)
BEGAN_ANEW = (
    "this gateway was silent for longer than its lease; another one declared it dead, and ended its turns. It began anew, and "
    "stores now what it had confirmed: {count} answers"
)
COME_BACK_S = 2.0
"""How long a gateway that was declared dead waits before it asks again for a store that is away once more."""
LET_IN_S = 0.5
"""For how long a backend that ends still accepts who has connected already."""
MOST_GATEWAYS = 8
"""Gateways of one home on a store they share."""
GC_THRESHOLDS = (20_000, 20, 50)
"""The collector looks rarely: tokens make no cycles, and the log of events is large."""


class GatewayPortTaken(TektonError):
    """The gateway's port is held by another program."""

    code = "foreign_port"


class _Loop(uvloop.Loop):
    async def create_server(self, *arguments: Any, **options: Any) -> Any:
        """Bound what the server's library leaves at a minute: a handshake that never ends."""
        if options.get("ssl") is not None:
            options |= {"ssl_handshake_timeout": tls.HANDSHAKE_S, "ssl_shutdown_timeout": tls.SHUTDOWN_S}
        return await super().create_server(*arguments, **options)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to us: the platform closes before the process ends."""
        yield


def main() -> int:
    """Run the backend for a process that waits for it on `--ready-fd`; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m backend.gateway.serve")
    parser.add_argument("--ready-fd", type=int)
    return serve(ready_fd=parser.parse_args().ready_fd)


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    store: str | None = None,
    cluster: str | None = None,
    without_tls: bool = False,
    ready_fd: int | None = None,
) -> int:
    """Run the backend of the home until it is asked to end; return the exit code.

    `host`, `port`, `store`, `cluster` and `without_tls` override `gateway.host`, `gateway.port`, `memory.store`,
    `cluster.address`, `gateway.without_tls`.
    """
    environment = {**os.environ}
    plain = "true" if without_tls else None
    for name, value in (
        ("TEKTON_STORE", store),
        ("TEKTON_CLUSTER", cluster),
        ("TEKTON_GATEWAY_WITHOUT_TLS", plain),
    ):
        if value:
            environment[name] = value
    ready = _Ready(ready_fd)
    # its own lines name every connection; what matters of them stands in the call log
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    gc.set_threshold(*GC_THRESHOLDS)
    _allow_many_files()
    try:
        home = Home.from_environment().prepare()
        jsonlog.configure("gateway", {**config.read_env_file(home), **os.environ})
        lock, place = _take_place(home, environment, alone=ready_fd is not None)
        with lock, asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(_serve(home, ready, host, port, environment, place))
        return 0
    except TektonError as error:
        return ready.fail(error)
    # The boundary of the process: whoever waits for it gets a sentence; the log has the traceback.
    except Exception as error:
        log.exception("the backend cannot go on")
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError) and error.strerror:
            reason = f"{error.filename or os.environ.get('TEKTON_HOME') or '~/.tekton'}: {error.strerror}"
        return ready.fail(TektonError(f"the backend cannot go on: {reason}"))


def _take_place(home: Home, environment: Mapping[str, str], *, alone: bool) -> tuple[FileLock, int]:
    """Take the lock of the home's only gateway, or, on a store gateways share, the first lock that is free.

    `alone` is one that is started because none answers: it never joins others.

    Raises:
        TektonError: `conflict`, every place is taken.
    """
    shared = bool(config.load(home, {**config.read_env_file(home), **environment}).memory.store)
    for place in range(1, 1 + (MOST_GATEWAYS if shared and not alone else 1)):
        lock = FileLock(home.lock_of(place), timeout=0, fallback_to_soft=False)
        with contextlib.suppress(Timeout):
            lock.acquire()
            return lock, place
    facts = home.backend_facts.read_text(encoding="utf-8") if home.backend_facts.exists() else "starting"
    raise TektonError(f"a backend serves {home.root} already: {facts.strip()}", code="conflict")


def _allow_many_files() -> None:
    """Take as many open files as the system grants: a specialist takes two, and the usual 1,024 are few."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a lower limit is reported when files run out
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Ready:
    """The pipe on which whoever started us waits; on a terminal, the terminal."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def serving(self, url: str) -> None:
        self._report({"url": url})
        if jsonlog.structured:
            log.info("serves %s", url)
        else:
            print(f"tekton serves {url}", file=sys.stderr, flush=True)

    def fail(self, error: TektonError) -> int:
        """Say why there is no backend; return the exit code."""
        self._report({"error": error.message, "code": error.code})
        print(f"tekton: {error.message}", file=sys.stderr, flush=True)
        return EXIT_CODES.get(error.code, 1)

    def _report(self, value: dict[str, str]) -> None:
        if self._descriptor is not None:
            # who started us may have given up meanwhile
            with contextlib.suppress(BrokenPipeError):
                os.write(self._descriptor, encode_line(value))
            os.close(self._descriptor)
            self._descriptor = None


async def _serve(
    home: Home,
    ready: _Ready,
    host: str | None,
    port: int | None,
    environment: Mapping[str, str],
    place: int,
) -> None:
    """Serve until asked to end. Declared dead by another gateway meanwhile, begin anew with what the store did not take.

    Raises:
        TektonError: It cannot serve; `conflict` when another gateway has come under its name.
    """
    ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    opened = await _open(home, host, port, environment, place)
    _on_signals(ended)
    port = opened.listener.getsockname()[1]  # the same again, whichever it was
    held: Held | None = None
    try:
        while opened is not None:
            before, held = held, None
            held = await _serve_one(opened, home, ready, place, ended, before)
            if held is None:
                return
            opened = None
            while opened is None and not ended.done():
                try:
                    opened = await _open(home, host, port, environment, place)
                except StoreFailed as error:
                    log.error("this gateway cannot come back yet: %s", error.message)
                    await asyncio.wait([ended], timeout=COME_BACK_S)
    finally:
        # Not between two incarnations: who looks for this backend finds that it lives.
        home.facts_of(place).unlink(missing_ok=True)
        if held is not None:
            _tell_lost(held)


class _Opened(NamedTuple):
    """A gateway that can serve: its platform is open, its port bound."""

    listener: socket.socket
    platform: Platform
    gateway: Gateway
    url: str
    cert: str
    """The certificate it serves with, empty without TLS."""


async def _open(
    home: Home, host: str | None, port: int | None, environment: Mapping[str, str], place: int
) -> _Opened:
    settings = config.load(home, {**config.read_env_file(home), **environment})
    host = host or settings.gateway.host
    own = settings.gateway.port if port is None else port
    port = catalog.gateway_port(settings, catalog.load(settings)) if own is None else own
    check_bind(host, read_or_make_token(home))
    await asyncio.to_thread(tls.check, settings.tls.cert, settings.tls.key, settings.tls.ca)
    secured = bool(settings.tls.cert) and not tls.is_loopback(host)
    if not secured and not tls.is_loopback(host):
        if not settings.gateway.without_tls:
            raise TektonError(PLAIN_REFUSED.format(host=host), code="config_invalid")
        print(f"tekton: {PLAIN.format(host=host)}", file=sys.stderr, flush=True)
    # Before the platform opens: a backend that cannot serve must neither open the store nor adopt workers.
    listener = _bind(host, port, own=own is not None)
    url = _url(listener, "https" if secured else "http")
    async with contextlib.AsyncExitStack() as undo:
        undo.callback(listener.close)
        platform = await open_platform(home, environment, place=place)
        undo.push_async_callback(platform.close, stop_fleet=False)
        gateway = build_gateway(platform, host, url)
        platform.in_clear = not secured and not tls.is_loopback(host)
        if platform.cluster is not None:
            await platform.cluster.publish_address(url)
        undo.pop_all()
    return _Opened(listener, platform, gateway, url, settings.tls.cert if secured else "")


async def _serve_one(
    opened: _Opened,
    home: Home,
    ready: _Ready,
    place: int,
    ended: asyncio.Future[bool],
    held: Held | None,
) -> Held | None:
    """Serve as one incarnation of this gateway, which first stores what the one before it `held`.

    Return what it holds itself when another gateway declared it dead, `None` after any other end.

    Raises:
        TektonError: `conflict`, another gateway has come under its name.
    """
    listener, platform, gateway, url, cert = opened
    cluster = platform.cluster
    stop: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    platform.stop_asked = stop

    def end(_: asyncio.Future[bool]) -> None:
        if not stop.done():
            stop.set_result(False)

    ended.add_done_callback(end)
    server = _http_server(gateway, platform.settings, secured=bool(cert))
    if held is not None:
        platform.error_log.record("cluster", "backend_lost", BEGAN_ANEW.format(count=len(held.answers)))
        await platform.take(held)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="gateway")
    fence = asyncio.create_task(platform.declared_dead.wait(), name="fence")
    begins_anew = False
    try:
        _write_facts(home.facts_of(place), platform, url, listener, cert)
        ready.serving(url)
        await asyncio.wait([serving, stop, fence], return_when=asyncio.FIRST_COMPLETED)
        begins_anew = cluster is not None and bool(cluster.fenced) and not cluster.replaced
    finally:
        # only a `Shutdown` that says so stops the fleet; a signal, or a server that failed, leaves it to the next backend
        stop_fleet = bool(stop.done() and stop.result())
        await gateway.answer_ending_calls()
        # No new requests from here. Then what is asked ends as visible errors, so that open streams and sockets can end, for
        # which the server waits last.
        ending = asyncio.create_task(platform.end_questions(), name="end questions")
        await _let_in(listener)
        server.should_exit = True
        await ending
        await gateway.close()
        await platform.close(stop_fleet=stop_fleet)
        if gateway.tracing is not None:
            await asyncio.to_thread(gateway.tracing.close)
        await serving
        fence.cancel()
        ended.remove_done_callback(end)
        # Who asks it to end while it closes is answered, and means all of it.
        begins_anew = begins_anew and not stop.done() and not ended.done()
        if not begins_anew:
            log.info("ended; the fleet was %s", "stopped" if stop_fleet else "left running")
    if begins_anew:
        return platform.held()
    _tell_lost(platform.held())
    if cluster is not None and cluster.fenced and cluster.replaced:
        raise TektonError(cluster.fenced, code="conflict")
    return None


def _tell_lost(held: Held) -> None:
    """Name the answers that end with this process, in its log: there is nothing else left to tell it."""
    if held.answers:
        log.error("answers that were confirmed and never stored are lost: %s", ", ".join(held.answers))


async def _let_in(listener: socket.socket) -> None:
    """Accept who has connected already, one in each turn of the loop: closed unread, they would not hear that we end."""
    loop = asyncio.get_running_loop()
    until = loop.time() + LET_IN_S
    while loop.time() < until and select.select([listener], [], [], 0)[0]:  # noqa: ASYNC110 - no event exists for this
        await asyncio.sleep(0)


def _http_server(gateway: Gateway, settings: Settings, *, secured: bool) -> _Server:
    """Return the server of a gateway's application, which listens on sockets it is given."""
    return _Server(
        uvicorn.Config(
            build_app(gateway),
            http=http_protocol(settings.gateway),
            ws=WebSocketProtocol,
            ws_per_message_deflate=True,
            ws_ping_interval=20.0,
            ws_ping_timeout=30.0,
            ws_max_size=MAX_LINE_BYTES,
            lifespan="on",
            log_config=None,
            access_log=False,
            # Whoever calls could write them, and the call log names who is at the other end.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            ssl_context_factory=_certificates(settings) if secured else None,
        )
    )


def _bind(host: str, port: int, *, own: bool) -> socket.socket:
    """Bind the gateway's port; a program that already holds it is named. `own`: the port is not of the table of ports.

    Raises:
        GatewayPortTaken: Somebody holds the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    # connections of the backend before this one may linger for a minute (TIME_WAIT)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # after a drop all clients come back at once, while this loop still starts up
        listener.listen(256)
    except OSError as error:
        listener.close()
        owner = find_holder(port)
        held = f"held by {owner}" if error.errno == errno.EADDRINUSE else f"not available ({error.strerror})"
        advice = "" if own else owner.advice  # another table does not move a port of its own
        advice = advice or "set gateway.port in config.toml or TEKTON_GATEWAY_PORT to another"
        raise GatewayPortTaken(f"the gateway's port {port} is {held}; {advice}") from error
    listener.setblocking(False)
    return listener


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    host = str(host)
    # "every address" is none that a client can connect to
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _write_facts(path: Path, platform: Platform, url: str, listener: socket.socket, cert: str) -> None:
    own = own_identity()
    facts = {
        "home": str(
            platform.home.root
        ),  # so that a copy of this folder does not take this backend for its own
        "certificate": tls.first_of(cert) if cert else "",
        "url": url,
        "pid": os.getpid(),
        "process_start": own.start,
        **own.metadata(),
        "port": listener.getsockname()[1],
        "epoch": platform.events.epoch,
        "started_at": platform.started_at,
    }
    write_private(path, encode_line(facts))


def _on_signals(stop: asyncio.Future[bool]) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        if not stop.done():
            stop.set_result(False)

    # HUP comes when the terminal that it was started from is closed
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, end)


def _certificates(settings: Settings) -> Callable[..., ssl.SSLContext]:
    """Return what makes the listener's TLS context; it is called with the server's settings and its own default."""

    def make(*_: object) -> ssl.SSLContext:
        return tls.serving(settings.tls.cert, settings.tls.key)

    return make


if __name__ == "__main__":
    sys.exit(main())
