"""The link to one gateway: opened, measured while it lasts, cut when it is gone, and why in words.

Knows addresses, bytes and clocks; no call and no event.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

import backend
from backend.deadlines import loop_timeout
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.events import SUBSCRIBE_HEADER
from backend.tls import Trust, failure, is_loopback

CONNECT_TIMEOUT_S = 10.0
AT_ONCE_S, AT_ONCE_PER_DELAY = 0.5, 2.0
"""A link that is back so soon was not gone; and how many times the delay of the link is added to that."""
KNOCK_S, SILENT_S = 0.25, 10.0
"""A client that comes back asks a silent host so often to accept it, and takes the first answer; and after how long it says
that the host is silent, and looks up its address anew. The kernel would ask again after 1, 3 and 7 s: a line that was mended
meanwhile is not to wait for that."""
NEAR_PING_S, NEAR_SILENCE_S, FAR_PING_S, FAR_SILENCE_S = 20.0, 40.0, 1.0, 3.0
"""Seconds between two pings, on this machine and beyond it, and for how long no byte may come before the gateway counts as
gone. Beyond this machine that grows with what the link shows."""
LOOKS_PER_PING = 4
"""How often between two pings it is looked how long the gateway has been silent."""
MOST_SILENCE_S = 30.0
SILENCE_PER_DELAY = 4.0
"""How many times the delay of a slow link is added to the silence it is granted."""
SLOW_S = 1.0
"""A link whose answers come later than this is slow, which is shown, and is not gone."""
CLOSED = "the gateway closed the connection"


class RemoteError(TektonError):
    """What the backend answered instead of a result, or `backend_lost` when it cannot answer."""


class Pace(NamedTuple):
    """What was measured of a link: seconds from a ping to its answer, and bytes received in the last second."""

    delay_s: float = 0.0
    bytes_per_s: float = 0.0

    @property
    def slow(self) -> bool:
        return self.delay_s > SLOW_S


class Link(ClientConnection):
    """A connection that knows when the last byte came: any byte is a sign of life, a large frame needs many of them."""

    heard_at = 0.0
    received = 0

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        self.received += len(data)
        super().data_received(data)


class LinkWatch:
    """Measures the links of one client, one after another; the silence granted to the next depends on the last one."""

    def __init__(self) -> None:
        self.pace = Pace()
        self._silence_s = FAR_SILENCE_S
        self._cut_at: float | None = None

    async def run(self, link: Link, url: str) -> str:
        """Measure the link by pings, and cut it once no byte has come for longer than it is granted; return why.

        What is granted grows with the delays it showed while bytes came, not with the silence itself. A link that came back
        at once was slow, not gone: it is granted twice the silence.
        """
        loop, near = asyncio.get_running_loop(), is_near(url)
        if self._cut_at is not None:
            at_once = loop.time() - self._cut_at < AT_ONCE_S + AT_ONCE_PER_DELAY * self.pace.delay_s
            self._silence_s = min(MOST_SILENCE_S, 2 * self._silence_s) if at_once else FAR_SILENCE_S
            self._cut_at = None
        every_s = NEAR_PING_S if near else FAR_PING_S
        look_s = every_s / LOOKS_PER_PING
        asked: list[tuple[float, asyncio.Future[float]]] = []
        link.heard_at, before = loop.time(), link.received
        delay_s, granted_s = 0.0, NEAR_SILENCE_S if near else self._silence_s
        while True:
            began = loop.time()
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(every_s):
                    asked.append((loop.time(), cast("asyncio.Future[float]", await link.ping())))
            for _ in range(LOOKS_PER_PING):
                due = loop.time() + look_s
                await asyncio.sleep(look_s)
                if (late_s := loop.time() - due) > look_s:
                    # This loop stood still and heard nobody: that silence is not the link's.
                    link.heard_at = min(loop.time(), link.heard_at + late_s)
                if loop.time() - link.heard_at > granted_s:
                    break
            now = loop.time()
            answered = [
                pong.result()
                for _, pong in asked
                if pong.done() and not pong.cancelled() and not pong.exception()
            ]
            # Bounded: a link that is silent for long must not collect pings without end.
            asked = [(at, pong) for at, pong in asked if not pong.done()][-60:]
            waits_s = now - asked[0][0] - every_s if asked else 0.0
            waited_s = link.heard_at - asked[0][0] if asked else 0.0
            delay_s = max([waited_s, *(answered[-1:] or [delay_s])])
            self.pace = Pace(max(waits_s, delay_s), (link.received - before) / (now - began))
            before = link.received
            granted_s = (
                NEAR_SILENCE_S if near else min(MOST_SILENCE_S, self._silence_s + SILENCE_PER_DELAY * delay_s)
            )
            silent_s = now - link.heard_at
            if silent_s > granted_s:
                self.pace, self._cut_at = Pace(delay_s), now
                # `close` would wait for an answer from a host that gives none.
                link.transport.abort()
                return f"nothing came for {silent_s:.1f} s: host or network is gone"


async def open_link(
    url: str, token: str, trust: Trust | None, *, again: bool = False, wish: bytes = b""
) -> connect:
    """Return a connection to be entered; `again` by a client that was connected before.

    `wish` is what to subscribe to, as a frame would say it.

    Raises:
        RemoteError: It is silent (`timeout`).
        OSError: It refuses, or there is none of this name.
    """
    address = url.replace("http", "ws", 1) if url.startswith("http") else url
    secure = (trust.context if trust else True) if address.startswith("wss:") else None
    parts = urlsplit(address)
    near = is_near(url)
    accepted = None
    if again and not near:
        accepted = await _accepted(parts.hostname or "", parts.port or (443 if secure is not None else 80))
    return connect(
        f"{address.rstrip('/')}/ws",
        sock=accepted,
        create_connection=Link,
        additional_headers={
            "Authorization": f"Bearer {token}",
            **({SUBSCRIBE_HEADER: wish.decode()} if wish else {}),
        },
        compression=None if near else "deflate",
        # Otherwise the library connects through whatever proxy the environment names.
        proxy=None,
        # The library's own limit, 1 MiB, is less than a long answer or a snapshot.
        max_size=None,
        max_queue=64,
        open_timeout=CONNECT_TIMEOUT_S,
        close_timeout=1,
        user_agent_header=f"tekton/{backend.__version__}",
        # `LinkWatch` pings instead: it counts any byte as a sign of life, and its patience grows with the delay.
        ping_interval=None,
        ssl=secure,
    )


async def _accepted(host: str, port: int) -> socket.socket:
    """Return a connected socket to the first address of a host that accepts one within `SILENT_S`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    try:
        async with loop_timeout(SILENT_S):
            return await _knock([(partial(socket.socket, *kind[:3]), kind[4]) for kind in found])
    except TimeoutError as error:
        raise RemoteError(f"{host}:{port} gave no answer in {SILENT_S:g} s", code="timeout") from error


async def _knock(places: list[tuple[Callable[[], socket.socket], Any]]) -> socket.socket:
    """Return the first socket that a place accepts; while all are silent, begin another one every `KNOCK_S`, place by place.

    Raises:
        OSError: Every place, or a host on the way to it, refuses.
    """
    refused = OSError("it has no address")
    begun: dict[asyncio.Task[socket.socket], int] = {}
    silent, turn = list(range(len(places))), 0
    try:
        while silent:
            number = silent[turn % len(silent)]
            turn += 1
            begun[asyncio.create_task(_connect(*places[number]))] = number
            done, _ = await asyncio.wait(begun, timeout=KNOCK_S, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                number = begun[one]
                try:
                    accepted = one.result()
                except OSError as error:
                    refused = error
                    silent = [other for other in silent if other != number]
                else:
                    del begun[one]
                    return accepted
        raise refused
    finally:
        for one in begun:
            one.cancel()
        for left in await asyncio.gather(*begun, return_exceptions=True):
            if isinstance(left, socket.socket):
                left.close()


async def _connect(make: Callable[[], socket.socket], address: Any) -> socket.socket:
    made = make()
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def is_near(url: str) -> bool:
    """Return whether a gateway is on this machine, where bytes cost nothing."""
    return is_loopback(urlsplit(url).hostname or "")


def closing(ended: ConnectionClosed) -> str:
    """Return how the gateway closed: by itself, with its code and words, or without any."""
    if ended.rcvd is None:
        return f"{CLOSED} without a word"
    return f"{CLOSED} ({ended.rcvd.code}{f': {ended.rcvd.reason}' if ended.rcvd.reason else ''})"


_CODES: dict[int, ErrorCode] = {401: "unauthorized", 403: "unauthorized", 429: "too_many", 503: "too_many"}


_UNKNOWN_SIGNER = (18, 19, 20, 21)
"""Codes of X509_verify_cert_error_string(3): signed by itself, or by somebody who is not known here."""


def refusal(error: Exception, url: str) -> RemoteError:
    """Say in one sentence why a connection to an address could not be made."""
    if isinstance(error, TektonError):
        return error if isinstance(error, RemoteError) else RemoteError(error.message, code=error.code)
    if isinstance(error, TimeoutError):
        return RemoteError(f"{url} gave no answer in {CONNECT_TIMEOUT_S:g} s", code="timeout")
    if isinstance(error, InvalidStatus):
        code = _CODES.get(error.response.status_code, "backend_lost")
        text = f"HTTP {error.response.status_code}"
        with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError):
            text = msgspec.json.decode(error.response.body or b"")["error"]["message"]
        return RemoteError(f"the gateway at {url} refused: {text}", code=code)
    if isinstance(error, InvalidHandshake):
        return RemoteError(
            f"no gateway there, at {url}: {error} (one with TLS has an address that begins with https)",
            code="backend_lost",
        )
    if isinstance(error, ssl.SSLError):
        unknown = isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _UNKNOWN_SIGNER
        why = failure(error, urlsplit(url).hostname or url)
        hint = "; --ca-file (TEKTON_CA_FILE) names who signed it" if unknown else ""
        return RemoteError(f"the gateway is not trusted: {why} ({url}){hint}", code="unauthorized")
    handshake = isinstance(error, ConnectionResetError | ConnectionAbortedError) and url.startswith(
        ("https", "wss")
    )
    why = failure(error, url) if handshake else _why(error)
    return RemoteError(f"the gateway at {url} cannot be reached: {why}", code="backend_lost")


def _why(error: Exception) -> str:
    """Return the system's own words for a failure, without numbers and addresses."""
    if isinstance(error, socket.gaierror):  # numbered by the resolver, not by the system
        return f"{(error.strerror or 'no such name').lower()}; is its name spelt right?"
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number and number > 0 else str(error) or type(error).__name__
