"""One connection to a gateway that outlives drops: calls, events, and the truth about the link itself.

After a drop the client comes back with the number of its last event and misses nothing. Calls under way are asked
for again under their own request id, which joins the first call; when the backend is another one, they fail.
Starts no backend and knows no home.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from secrets import token_hex
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

from backend.schema.errors import ErrorCode, TektonError
from backend.schema.events import Event, Hello, Result, Snapshot, Topic, event_decoder
from backend.schema.frames import ErrorReply
from backend.tls import Trust, failure, is_loopback
from backend.wire import encoder

CONNECT_TIMEOUT_S = 10.0
FIRST_DELAY_S, LONGEST_DELAY_S = 0.05, 2.0
"""Waits between attempts to come back; each attempt doubles the wait. The state is `lost` meanwhile, and shown."""
NEAR_PING_S, FAR_PING_S, FAR_SILENCE_S = 20.0, 1.5, 3.0
"""Seconds between two pings, on this machine and beyond it, and how long one may stay unanswered beyond it."""
QUEUED_BATCHES = 256
"""Batches held for a slow reader; beyond, reading from the socket stops and the gateway waits."""

CLOSED = "the gateway closed the connection"
ConnectionState = Literal["connecting", "attached", "lost", "closed"]
Place = tuple[str, str]
"""URL of the gateway, `http://…` or `ws://…`, and the token."""


class RemoteError(TektonError):
    """What the backend answered instead of a result, or `backend_lost` when it cannot answer."""


class ConnectionChanged(Struct, tag="connection"):
    """The link itself changed. Made here, never on the wire. `since` is unix seconds."""

    state: ConnectionState
    since: float
    reason: str = ""


class Client:
    """A console's or a program's link to one gateway. Use `connect`, and `close` it."""

    def __init__(self, locate: Callable[[], Place], trust: Callable[[], Trust | None]) -> None:
        self._locate, self._trust = locate, trust
        self._socket: ClientConnection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._queue: asyncio.Queue[list[tuple[int, Event | ConnectionChanged]]] = asyncio.Queue(
            QUEUED_BATCHES
        )
        self._readers = 0
        self._calls: dict[str, tuple[bytes, asyncio.Future[Any]]] = {}
        self._topics: list[Topic] | None = None
        self._epoch = ""
        self._last_seq: int | None = None
        self.url = ""
        self._attached_to = ""
        self.state: ConnectionState = "connecting"
        self.since = time.time()
        self.lost_reason = ""
        self.scopes: list[str] = []

    @classmethod
    async def connect(
        cls,
        place: Place | Callable[[], Place],
        *,
        timeout_s: float = CONNECT_TIMEOUT_S,
        trust: Callable[[], Trust | None] = lambda: None,
    ) -> Client:
        """Connect to a gateway; `place` may be a function that is asked anew after each drop, as `trust` is.

        `trust` says whom to believe of gateways with `https`; without one, the system's authorities.

        Raises:
            RemoteError: Nobody serves there (`backend_lost`), or the token is refused (`unauthorized`).
        """
        client = cls(place if callable(place) else lambda: place, trust)
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        client._keeper = asyncio.create_task(client._keep(first), name="client link")
        try:
            await asyncio.wait_for(asyncio.shield(first), timeout_s)
        except TimeoutError as error:
            await client.close()
            raise RemoteError(
                f"the gateway at {client.url} did not answer in {timeout_s:g} s", code="backend_lost"
            ) from error
        except RemoteError:
            await client.close()
            raise
        return client

    async def call(self, action: str, *, timeout_s: float | None = None, **params: Any) -> Any:
        """Call an action of the platform and return its result as plain values.

        A `request_id` among the params names the call, so that it can be cancelled or joined.

        Raises:
            RemoteError: With the code and text of the backend's answer; `timeout` past `timeout_s`.
        """
        call_id = f"c-{token_hex(8)}"
        if action == "cancel":
            params["target"] = params.pop("request_id")
        elif params.get("request_id"):
            call_id = params.pop("request_id")
        params.pop("request_id", None)
        frame = encoder.encode({"type": action, "request_id": call_id, **_given(params)})
        return await self._ask(call_id, frame, timeout_s)

    async def subscribe(self, topics: Iterable[Topic]) -> None:
        """Read these topics from now on; a `Snapshot` comes first among the events."""
        self._topics = list(topics)
        self._last_seq = None
        call_id, frame = self._subscription()
        await self._ask(call_id, frame, CONNECT_TIMEOUT_S)

    async def events(self) -> AsyncIterator[list[tuple[int, Event | ConnectionChanged]]]:
        """Yield batches of numbered events; changes of the link come among them with number 0.

        Ends when the client is closed. To be read by one reader.
        """
        self._readers += 1
        try:
            while True:
                batch = await self._queue.get()
                if batch:
                    yield batch
                if self.state == "closed" and self._queue.empty():
                    return
        finally:
            self._readers -= 1

    async def close(self) -> None:
        """End the link. Calls under way fail with `backend_lost`."""
        self._set_state("closed", "closed by us")
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self._fail_calls("the connection was closed")

    async def drop(self) -> None:
        """Cut the connection as a network would; the client comes back by itself."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def _ask(self, call_id: str, frame: bytes, timeout_s: float | None) -> Any:
        if self.state == "closed":
            raise RemoteError("the connection is closed", code="backend_lost")
        if self.state == "lost":
            raise RemoteError(f"the backend is lost: {self.lost_reason}", code="backend_lost")
        if under_way := self._calls.get(call_id):
            return await asyncio.wait_for(asyncio.shield(under_way[1]), timeout_s)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = (frame, future)
        try:
            if self._socket is not None:
                with contextlib.suppress(ConnectionClosed):  # the keeper sends it again, or fails it
                    await self._socket.send(frame, text=True)
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError as error:
            raise RemoteError(f"no answer within {timeout_s:g} s", code="timeout") from error
        finally:
            self._calls.pop(call_id, None)

    def _subscription(self) -> tuple[str, bytes]:
        call_id = f"s-{token_hex(8)}"
        wish: dict[str, Any] = {
            "type": "subscribe",
            "request_id": call_id,
            "topics": self._topics,
            "batch": True,
        }
        if self._last_seq is not None:
            wish |= {"after_seq": self._last_seq, "epoch": self._epoch}
        return call_id, encoder.encode(wish)

    async def _keep(self, first: asyncio.Future[None]) -> None:
        """Connect, read to the end of the connection, come back: for the client's life."""
        delay = FIRST_DELAY_S
        while True:
            try:
                self.url, token = self._locate()
                async with _open(self.url, token, self._trust()) as socket:
                    await self._greet(socket)
                    delay = FIRST_DELAY_S
                    if not first.done():
                        first.set_result(None)
                    why = await self._read(socket)
                self._lost(why)
            except (OSError, TektonError, WebSocketException, TimeoutError) as error:
                failure = _refusal(error)
                if not first.done():
                    first.set_exception(failure)
                    return
                self._lost(failure.message)
            finally:
                self._socket = None
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_S)

    async def _greet(self, socket: ClientConnection) -> None:
        """Take the gateway's hello; put the subscription and the calls under way back in place."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            hello = event_decoder.decode(await socket.recv(decode=False))
        if not isinstance(hello, Hello):
            raise RemoteError(f"{self.url} does not speak like a tekton gateway", code="backend_lost")
        other_life = bool(self._epoch) and hello.epoch != self._epoch
        if other_life:
            self._fail_calls("the backend was replaced by another one")
        self._epoch, self.scopes = hello.epoch, hello.scopes
        self._socket = socket
        moved, self._attached_to = self._attached_to not in ("", self.url), self.url
        self._set_state(
            "attached", "another backend" if other_life else f"now at {self.url}" if moved else ""
        )
        if self._topics is not None and not self._subscribing():
            await socket.send(self._subscription()[1], text=True)
        for frame, _ in list(self._calls.values()):
            await socket.send(frame, text=True)

    def _subscribing(self) -> bool:
        return any(call_id.startswith("s-") for call_id in self._calls)

    async def _read(self, socket: ClientConnection) -> str:
        """Take frames until the connection ends, and return why it did.

        What belongs to calls goes to them, the rest to the reader.
        """
        try:
            while True:
                data = await socket.recv(decode=False)
                batch: list[tuple[int, Event | ConnectionChanged]] = []
                for line in data.split(b"\n"):
                    self._sort(line, batch)
                if batch:
                    await self._hand_on(batch)
        except ConnectionClosed as ended:
            silent = ended.sent is not None and "ping timeout" in ended.sent.reason
            return "the gateway did not answer: host or network is gone" if silent else _closing(ended)

    async def _hand_on(self, batch: list[tuple[int, Event | ConnectionChanged]]) -> None:
        """Give a batch to the reader; wait for one that is slow.

        Who subscribed to nothing and reads nothing only calls: the events of its own calls must not hold up answers.
        """
        if self._topics is None and not self._readers and self._queue.full():
            self._queue.get_nowait()
        await self._queue.put(batch)

    def _sort(self, line: bytes, batch: list[tuple[int, Event | ConnectionChanged]]) -> None:
        event = event_decoder.decode(line)
        match event:
            case Result():
                self._resolve(event.request_id, event.result)
            case ErrorReply(request_id=str(request_id)):
                self._reject(
                    request_id,
                    RemoteError(event.message, code=event.code, evidence=event.evidence, detail=event.detail),
                )
            case Snapshot():
                self._last_seq, self._epoch = event.at_seq, event.epoch
                batch.append((event.at_seq, event))
            case _:
                seq = _seq(line)
                if seq:
                    self._last_seq = seq
                batch.append((seq, event))

    def _resolve(self, call_id: str, result: Any) -> None:
        if (call := self._calls.get(call_id)) and not call[1].done():
            call[1].set_result(result)

    def _reject(self, call_id: str, error: RemoteError) -> None:
        if (call := self._calls.get(call_id)) and not call[1].done():
            call[1].set_exception(error)

    def _fail_calls(self, reason: str) -> None:
        for call_id in list(self._calls):
            if not call_id.startswith("s-"):
                self._reject(call_id, RemoteError(reason, code="backend_lost"))

    def _lost(self, reason: str) -> None:
        """Tell that the link is lost, and again when another attempt meets another reason."""
        before, self.lost_reason = self.lost_reason, reason
        if self.state != "lost" or reason != before:
            self._set_state("lost", reason)

    def _set_state(self, state: ConnectionState, reason: str) -> None:
        if state != self.state:
            self.state, self.since = state, time.time()
        change = ConnectionChanged(state, self.since, reason)
        if self._queue.full():  # the reader is far behind; it will read the state itself
            return
        self._queue.put_nowait([(0, change)])


def _closing(ended: ConnectionClosed) -> str:
    """Return how the gateway closed: by itself, with its code and words, or without any."""
    if ended.rcvd is None:
        return f"{CLOSED} without a word"
    return f"{CLOSED} ({ended.rcvd.code}{f': {ended.rcvd.reason}' if ended.rcvd.reason else ''})"


def _open(url: str, token: str, trust: Trust | None) -> connect:
    address = url.replace("http", "ws", 1) if url.startswith("http") else url
    secure = (trust.context if trust else True) if address.startswith("wss:") else None
    near = is_loopback(urlsplit(url).hostname or "")
    return connect(
        f"{address.rstrip('/')}/ws",
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        proxy=None,
        max_size=None,
        max_queue=64,
        open_timeout=CONNECT_TIMEOUT_S,
        close_timeout=1,
        user_agent_header=None,
        ping_interval=NEAR_PING_S if near else FAR_PING_S,
        ping_timeout=NEAR_PING_S if near else FAR_SILENCE_S,
        ssl=secure,
    )


def _refusal(error: Exception) -> RemoteError:
    """Say in one sentence why a connection could not be made."""
    if isinstance(error, RemoteError):
        return error
    if isinstance(error, InvalidStatus):
        code: ErrorCode = "unauthorized" if error.response.status_code in (401, 403) else "backend_lost"
        text = f"HTTP {error.response.status_code}"
        with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError):
            text = msgspec.json.decode(error.response.body or b"")["error"]["message"]
        return RemoteError(f"the gateway refused: {text}", code=code)
    if isinstance(error, InvalidHandshake):
        return RemoteError(
            f"no gateway there: {error} (one with TLS has an address that begins with https)",
            code="backend_lost",
        )
    if isinstance(error, ssl.SSLError):
        return RemoteError(
            f"the gateway is not believed: {failure(error, 'this address')}", code="unauthorized"
        )
    return RemoteError(f"the gateway cannot be reached: {error or type(error).__name__}", code="backend_lost")


def _seq(line: bytes) -> int:
    """Read the number from the front of an event line; 0 when it has none."""
    if not line.startswith(b'{"seq":'):
        return 0
    return int(line[7 : line.index(b",", 7)])


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
