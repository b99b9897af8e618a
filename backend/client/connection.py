"""One connection to a gateway that survives drops: calls, events, and the state of the connection itself.

After a drop the client comes back with the number of its last event and misses nothing. Calls under way are asked
for again under their own request id, which joins the first call. They fail with `backend_lost` when the backend is another
one, when none serves any more, and once the link has been lost for `LOST_CALLS_S`; a call that failed is not sent again.
What the gateway sends and this version does not know is skipped and counted. Starts no backend and knows no home.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from secrets import token_hex
from typing import Any, Literal, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

import backend
from backend.client.link import (
    CONNECT_TIMEOUT_S,
    Link,
    LinkWatch,
    Pace,
    RemoteError,
    closing,
    is_near,
    open_link,
    refusal,
)
from backend.deadlines import loop_timeout
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.events import (
    Event,
    Hello,
    Result,
    Snapshot,
    Topic,
    TurnText,
    event_decoder,
)
from backend.schema.frames import ErrorReply
from backend.schema.params import MAX_REQUEST_ID, AnyParams, Params, RequestId, Startable, result_types
from backend.schema.results import Started
from backend.tls import Trust
from backend.wire import encoder

R = TypeVar("R")
T = TypeVar("T")
log = logging.getLogger(__name__)

_UNKNOWN_TOPIC = re.compile(r"\$\.topics\[(\d+)\]")
"""How a gateway names a topic that it does not know."""

FIRST_DELAY_S, LONGEST_DELAY_S = 0.05, 0.5
"""Waits from one attempt to come back to the next; each attempt doubles the wait. The state is `lost` meanwhile, and shown."""
LOST_CALLS_S = 30.0
"""How long the link may be lost before the calls under way fail. The client goes on trying to come back."""
QUEUED_BATCHES = 256
"""Batches held for a slow reader; beyond, reading from the socket stops and the gateway waits."""
READER_S = 1.0
"""How long a reader that takes nothing may hold up the answers of calls, which stand behind its events."""
CLOCK_DIFFERS_S = 5.0
"""Less between two clocks may be the way of the gateway's hello over a slow link."""

OTHER_VERSION = "; is it of another version?"
ConnectionState = Literal["connecting", "attached", "lost", "closed"]
Place = tuple[str, str]
"""URL of the gateway, `http://…` or `ws://…`, and the token."""


class ConnectionChanged(Struct, tag="connection"):
    """The state of the connection changed. Made by the client, never sent by a gateway. `since` is unix seconds."""

    state: ConnectionState
    since: float
    reason: str = ""


class _Head(Struct):
    """What can be read of a frame that is not understood as a whole."""

    type: str = ""
    request_id: str = ""
    message: str = ""


UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding a frame raises when this version does not understand it."""


class Client:
    """A connection to one gateway, for a console or a program. Made by `connect`, ended by `close`."""

    def __init__(self, locate: Callable[[], Place], trust: Callable[[], Trust | None]) -> None:
        self._locate, self._trust = locate, trust
        self._socket: ClientConnection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._queue: asyncio.Queue[list[tuple[int, Event | ConnectionChanged]]] = asyncio.Queue(
            QUEUED_BATCHES
        )
        self._readers = 0
        self._behind = False
        """The reader takes nothing while calls wait: events are left out, to be asked for again from `_last_seq` on."""
        self._catching_up = ""
        """Request id of the subscription that does so."""
        self._calls: dict[str, tuple[bytes, asyncio.Future[Any]]] = {}
        self._topics: list[Topic] | None = None
        self._condensed = False
        self._left_out: dict[str, list[TurnText]] = {}
        """What came so far of the texts that the last snapshot left out, by request id, where some are still to come."""
        self._epoch: str = ""
        self._last_seq: int | None = None
        self._last_epoch: str = ""
        """The life of the backend that `_last_seq` counts in."""
        self.url = ""
        self._attached_to = ""
        self.state: ConnectionState = "connecting"
        self.since = time.time()
        self.lost_reason = ""
        self.scopes: list[str] = []
        self.gateway_version: str = ""
        """Version that the gateway reports, empty before the first connection."""
        self.ahead_s = 0.0
        """By how many seconds the gateway's clock is ahead of this machine's; 0 within what a slow link explains."""
        self._watch = LinkWatch()
        self.skipped = Counter[str]()
        """Number of frames that could not be decoded, by their type; most likely they are of a newer gateway."""
        self._giving_up: asyncio.TimerHandle | None = None

    @classmethod
    async def connect(
        cls,
        place: Place | Callable[[], Place],
        *,
        timeout_s: float = CONNECT_TIMEOUT_S,
        trust: Callable[[], Trust | None] = lambda: None,
    ) -> Client:
        """Connect to a gateway; `place` may be a function that is asked anew after each drop, as `trust` is.

        `trust` returns which certificates to accept from gateways with `https`; `None` means the system's authorities.

        Raises:
            RemoteError: `backend_lost` when nothing listens there, `timeout` when it does not answer, `unauthorized` when it
                refuses the token, `too_many` when it accepts no more connections.
        """
        client = cls(place if callable(place) else lambda: place, trust)
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        client._keeper = asyncio.create_task(client._keep(first), name="client link")
        try:
            async with loop_timeout(timeout_s):
                await asyncio.shield(first)
        except TimeoutError as error:
            await client.close()
            raise RemoteError(
                f"the gateway at {client.url} did not answer in {timeout_s:g} s", code="timeout"
            ) from error
        # Cancellation too: nobody else would close the link.
        except BaseException:
            await client.close()
            raise
        return client

    @property
    def pace(self) -> Pace:
        """Delay and throughput of the link, as last measured."""
        return self._watch.pace

    @property
    def version_note(self) -> str:
        """Say that gateway and client are of different versions; empty when they are not."""
        if self.gateway_version in ("", backend.__version__):
            return ""
        return (
            f"the gateway is version {self.gateway_version}, this program {backend.__version__}: what one of them does not "
            "know is left out"
        )

    @property
    def note(self) -> str:
        """Say in what gateway and client differ, version and clock; empty when they do not."""
        hours, minutes = divmod(round(abs(self.ahead_s) / 60), 60)
        if not hours and not minutes:
            return self.version_note
        how = "ahead of" if self.ahead_s < 0 else "behind"
        clock = (
            f"this machine's clock is {hours} h {minutes} min {how} the gateway's, by which ages are shown"
        )
        return "; ".join(filter(None, (self.version_note, clock)))

    async def call(self, params: Params[R], *, timeout_s: float | None = None) -> R:
        """Call an action of the platform and return its result: `call(Kill(ids=["apollo"]))` is a `KillResult`.

        Waits for the whole result; see `start` for what takes long. A `request_id` among the params names the call,
        so that it can be cancelled or joined. `timeout_s` is how long this program waits, at most.

        Raises:
            RemoteError: With the code and text of the backend's answer; `timeout` past `timeout_s`; `backend_lost` once the
                link has been lost for `LOST_CALLS_S` (30 s), or at once when the backend has ended.
        """
        if isinstance(params, Startable):
            params = cast(Params[R], replace(params, wait=True))
        return cast(R, await self._call(params, result_types(type(params))[0], timeout_s))

    async def start(self, params: Startable[Any], *, timeout_s: float | None = None) -> Started:
        """Start a long action and return at once; its progress and its end come as events.

        Raises:
            RemoteError: As `call`.
        """
        return await self._call(replace(params, wait=False), Started, timeout_s)

    async def request(self, action: str, values: dict[str, Any], *, timeout_s: float | None = None) -> Any:
        """Call an action by its wire name and return plain values; for programs that forward calls of others.

        Raises:
            RemoteError: As `call`.
        """
        try:  # an error about an id that the gateway refuses carries no id, so it could not be matched to this call
            call_id = msgspec.convert(values.get("request_id") or f"c-{token_hex(8)}", RequestId)
        except msgspec.ValidationError as error:
            raise InvalidRequest(
                f"{action}: request_id must be a line of at most {MAX_REQUEST_ID} characters"
            ) from error
        given = {name: value for name, value in values.items() if value is not None}
        frame = encoder.encode({**given, "type": action, "request_id": call_id})
        return await self._send(call_id, frame, timeout_s)

    async def _call(self, params: AnyParams, result: type[T], timeout_s: float | None) -> T:
        values: dict[str, Any] = msgspec.to_builtins(params)
        answer = await self.request(params.action, values, timeout_s=timeout_s)
        try:
            return msgspec.convert(answer, result)
        except msgspec.ValidationError as error:
            raise RemoteError(
                f"the backend's answer to {params.action} cannot be read: {error}{OTHER_VERSION}",
                code="internal",
            ) from error

    async def subscribe(self, topics: Iterable[Topic], *, condensed: bool = False) -> None:
        """Read these topics from now on; a `Snapshot` comes first among the events.

        With `condensed`, a gateway beyond this machine sends less while the client is behind: chunks of one turn come joined
        (`StreamChunk.pieces`), and a snapshot holds only the end of long texts. For each turn with `left_out` one `TurnText`
        follows, with all that was left out; what happens meanwhile does not wait for it. A client that comes back gets what it
        missed, or a `Snapshot` where that is shorter.

        Topics that a gateway of an older version does not know are left out.
        """
        self._topics, self._condensed = list(topics), condensed
        self._last_seq = None
        while True:
            call_id, frame = self._subscription()
            try:
                await self._send(call_id, frame, CONNECT_TIMEOUT_S)
                return
            except RemoteError as error:
                unknown = _UNKNOWN_TOPIC.search(error.message)
                if unknown is None or not self.version_note or int(unknown[1]) >= len(self._topics):
                    raise
                log.warning("%s knows no topic %r", self.url, self._topics.pop(int(unknown[1])))

    async def events(self) -> AsyncIterator[list[tuple[int, Event | ConnectionChanged]]]:
        """Yield batches of `(number, event)` in order; a `ConnectionChanged` and a `TurnText` come with number 0.

        Ends when the client is closed. To be read by one reader.
        """
        self._readers += 1
        try:
            while True:
                if self._behind and self._queue.empty():
                    await self._catch_up()
                batch = await self._queue.get()
                if batch:
                    yield batch
                if self.state == "closed" and self._queue.empty():
                    return
        finally:
            self._readers -= 1

    async def _catch_up(self) -> None:
        """Ask for the events that were left out; a `Snapshot` comes where the backend has them no more."""
        self._catching_up, frame = self._subscription()
        with contextlib.suppress(RemoteError):  # the link is lost: coming back asks for them
            await self._send(self._catching_up, frame, CONNECT_TIMEOUT_S)

    async def close(self) -> None:
        """End the link. Calls under way fail with `backend_lost`."""
        if self.state != "closed":
            self._set_state("closed", "closed by us")
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self._fail_calls("the connection was closed", subscribing=True)

    async def drop(self) -> None:
        """Cut the connection as a network would; the client comes back by itself."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def _send(self, call_id: str, frame: bytes, timeout_s: float | None) -> Any:
        if self.state == "closed":
            why = f": {self.lost_reason}" if self.lost_reason else ""
            raise RemoteError(f"the connection is closed{why}", code="backend_lost")
        if self.state == "lost":
            raise RemoteError(f"the backend is lost: {self.lost_reason}", code="backend_lost")
        try:
            async with loop_timeout(timeout_s):
                # The same id is the same call: a second caller waits for its answer instead of sending it again.
                if under_way := self._calls.get(call_id):
                    if under_way[0] != frame:
                        raise RemoteError(
                            f"the request id {call_id!r} names another call that is under way: choose a new one",
                            code="conflict",
                        )
                    return await asyncio.shield(under_way[1])
                future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                self._calls[call_id] = (frame, future)
                try:
                    if self._socket is not None:
                        with contextlib.suppress(ConnectionClosed):  # the keeper sends it again, or fails it
                            await self._socket.send(frame, text=True)
                    return await future
                finally:
                    # After a drop the id may stand for a later call.
                    if self._calls.get(call_id) == (frame, future):
                        del self._calls[call_id]
        except TimeoutError as error:
            raise RemoteError(f"no answer within {timeout_s:g} s", code="timeout") from error

    def _wish(self) -> dict[str, Any] | None:
        """Return what is to be subscribed to when the client comes back; `None` for nothing."""
        if self._topics is None or self._subscribing():
            return None
        return self._values()

    def _values(self) -> dict[str, Any]:
        wish: dict[str, Any] = {"topics": list(self._topics or ()), "batch": True}
        if self._condensed and not is_near(self.url):
            wish["condensed"] = True
        # Texts that were still to come are not in the log: only another snapshot has them.
        if self._last_seq is not None and not self._left_out:
            wish |= {"after_seq": self._last_seq, "epoch": self._last_epoch}
        return wish

    def _subscription(self) -> tuple[str, bytes]:
        call_id = f"s-{token_hex(8)}"
        return call_id, encoder.encode({"type": "subscribe", "request_id": call_id, **self._values()})

    async def _keep(self, first: asyncio.Future[None]) -> None:
        """Hold the link for the client's life; an unexpected failure closes the client and fails its calls."""
        try:
            await self._come_back_for_ever(first)
        # The boundary of the task: nobody awaits it, and whoever waits for a call must know.
        except Exception as error:
            log.exception("the link to %s cannot go on", self.url)
            self.lost_reason = f"the link cannot go on: {error or type(error).__name__}"
            self._set_state("closed", self.lost_reason)
            self._fail_calls(self.lost_reason, subscribing=True)
            if not first.done():
                first.set_exception(RemoteError(self.lost_reason, code="internal"))

    async def _come_back_for_ever(self, first: asyncio.Future[None]) -> None:
        """Connect, read to the end of the connection, come back."""
        delay = FIRST_DELAY_S
        while True:
            placed, began = False, time.monotonic()
            try:
                self.url, token = self._locate()
                placed, wish = True, self._wish()
                async with await open_link(
                    self.url,
                    token,
                    self._trust(),
                    again=first.done(),
                    wish=encoder.encode(wish) if wish else b"",
                ) as socket:
                    await self._greet(socket, wish)
                    delay = FIRST_DELAY_S
                    if not first.done():
                        first.set_result(None)
                    watch = asyncio.create_task(
                        self._watch.run(cast(Link, socket), self.url), name="watch of the link"
                    )
                    try:
                        why = await self._read(socket)
                    finally:
                        watch.cancel()
                        gone = (await asyncio.gather(watch, return_exceptions=True))[0]
                self._lost(gone if isinstance(gone, str) else why)
            except (OSError, TektonError, WebSocketException, TimeoutError) as error:
                failure = refusal(error, self.url)
                if not first.done():
                    first.set_exception(failure)
                    return
                self._lost(failure.message)
                if not placed and failure.code == "backend_lost":  # none serves: what was asked ended with it
                    self._fail_calls(failure.message)
            finally:
                self._socket = None
            # An attempt that itself took long has waited already.
            await asyncio.sleep(max(FIRST_DELAY_S, delay - (time.monotonic() - began)))
            # bounded low: it is a gateway of one's own, and a person waits for it
            delay = min(delay * 2, LONGEST_DELAY_S)

    async def _greet(self, socket: ClientConnection, wish: dict[str, Any] | None) -> None:
        """Read the gateway's hello; send the subscription and the calls under way again.

        A gateway that knows how has read the `wish` in the head of the request; an older one is sent a frame.
        """
        async with loop_timeout(CONNECT_TIMEOUT_S):
            hello = self._understood(await socket.recv(decode=False))
        if not isinstance(hello, Hello):
            raise RemoteError(f"{self.url} does not speak like a tekton gateway", code="backend_lost")
        other_life = bool(self._epoch) and hello.epoch != self._epoch
        if other_life:
            self._fail_calls("the backend was replaced by another one")
        self._epoch, self.scopes, self.gateway_version = hello.epoch, hello.scopes, hello.version
        ahead_s = hello.timestamp - time.time() if hello.timestamp else 0.0
        self.ahead_s = ahead_s if abs(ahead_s) > CLOCK_DIFFERS_S else 0.0
        self._socket = socket
        moved, self._attached_to = self._attached_to not in ("", self.url), self.url
        self._set_state(
            "attached", "another backend" if other_life else f"now at {self.url}" if moved else ""
        )
        # A subscription that is still under way is sent below, with the other calls.
        now = self._wish()
        if now is not None and not (hello.subscribed and now == wish):
            await socket.send(self._subscription()[1], text=True)
        for frame, _ in list(self._calls.values()):
            await socket.send(frame, text=True)

    def _subscribing(self) -> bool:
        return any(call_id.startswith("s-") for call_id in self._calls)

    async def _read(self, socket: ClientConnection) -> str:
        """Read frames until the connection ends, and return why it did.

        What belongs to calls goes to them, the rest to the reader.
        """
        try:
            while True:
                data = await socket.recv(decode=False)
                before = self._last_seq
                batch: list[tuple[int, Event | ConnectionChanged]] = []
                # A frame holds several events where `batch` was asked for.
                for line in data.split(b"\n"):
                    self._sort(line, batch)
                if batch:
                    await self._hand_on(batch, before)
        except ConnectionClosed as ended:
            return closing(ended)

    async def _hand_on(self, batch: list[tuple[int, Event | ConnectionChanged]], before: int | None) -> None:
        """Give a batch to the reader; wait for one that is slow. `before` is the number of the newest event before the batch.

        Who subscribed to nothing and reads nothing only calls: the events of its own calls must not hold up answers.
        """
        if self._topics is None and not self._readers and self._queue.full():
            self._queue.get_nowait()
        if not (self._behind or self._queue.full()):
            self._queue.put_nowait(batch)
            return
        while not self._behind:
            try:
                async with loop_timeout(READER_S if self._queue.full() else None):
                    await self._queue.put(batch)
                return
            except TimeoutError:
                if self._calls:  # their answers stand behind what nobody takes
                    self._behind, self._catching_up = True, ""
                    whole = batch[0][0] == 0 or any(isinstance(event, Snapshot) for _, event in batch)
                    # Not the number before the first one's: a joined chunk has the number of its last piece.
                    self._last_seq = None if whole else before

    def _sort(self, line: bytes, batch: list[tuple[int, Event | ConnectionChanged]]) -> None:
        event = self._understood(line)
        match event:
            case None:
                if (seq := _seq(line)) and not self._behind:
                    self._last_seq, self._last_epoch = seq, self._epoch
            case Result():
                if self._catching_up == event.request_id:
                    self._behind = False
                self._resolve(event.request_id, event.result)
            case ErrorReply(request_id=str(request_id)):
                self._reject(
                    request_id,
                    RemoteError(event.message, code=event.code, evidence=event.evidence, detail=event.detail),
                )
            case TurnText() if not self._behind:
                self._collect(event, batch)
            case Snapshot() if self._behind:
                self._last_seq, self._epoch = None, event.epoch
            case _ if self._behind:
                pass
            case Snapshot():
                self._left_out = {turn.request_id: [] for turn in event.turns if turn.left_out}
                self._last_seq, self._epoch, self._last_epoch = event.at_seq, event.epoch, event.epoch
                batch.append((event.at_seq, event))
            case _:
                seq = _seq(line)
                if seq:
                    self._last_seq, self._last_epoch = seq, self._epoch
                batch.append((seq, event))

    def _collect(self, piece: TurnText, batch: list[tuple[int, Event | ConnectionChanged]]) -> None:
        """Hand on what was left out of a turn once all of it has come."""
        pieces = self._left_out.get(piece.request_id)
        if pieces is None:
            return
        pieces.append(piece)
        if not piece.left:
            del self._left_out[piece.request_id]
            content = "".join(one.content for one in pieces)
            reasoning = "".join(one.reasoning for one in pieces)
            batch.append((0, TurnText(piece.request_id, content, reasoning)))

    def _understood(self, line: bytes) -> Event | None:
        """Return the event of a frame; `None` for one this version does not know, which is counted.

        A call whose answer is not understood fails, as no other one will come.

        Raises:
            ValueError: It is the state of everything, without which no other event means anything.
        """
        try:
            return event_decoder.decode(line)
        except UNREADABLE as error:
            try:
                head = msgspec.json.decode(line, type=_Head)
            except UNREADABLE:
                head = _Head()
            if head.type == "snapshot":
                raise ValueError(
                    f"the state of the backend cannot be read: {error}{OTHER_VERSION}"
                ) from error
            if head.type not in self.skipped:
                log.warning("%s sends frames of type %r that are skipped: %s", self.url, head.type, error)
            self.skipped[head.type] += 1
            if head.type in ("result", "error"):
                text = head.message or f"the backend's answer cannot be read: {error}{OTHER_VERSION}"
                self._reject(head.request_id, RemoteError(text, code="internal"))
            return None

    def _resolve(self, call_id: str, result: Any) -> None:
        if (call := self._calls.get(call_id)) and not call[1].done():
            call[1].set_result(result)

    def _reject(self, call_id: str, error: RemoteError) -> None:
        if (call := self._calls.get(call_id)) and not call[1].done():
            call[1].set_exception(error)

    def _fail_calls(self, reason: str, *, subscribing: bool = False) -> None:
        """Fail the calls under way; each is forgotten, so that none is sent again after it failed."""
        # ids of subscriptions begin with s-: those are made anew at the next connection, not lost
        for call_id in list(self._calls):
            if subscribing or not call_id.startswith("s-"):
                self._reject(call_id, RemoteError(reason, code="backend_lost"))
                del self._calls[call_id]

    def _give_up(self) -> None:
        self._fail_calls(f"the backend has been lost for {LOST_CALLS_S:g} s: {self.lost_reason}")

    def _lost(self, reason: str) -> None:
        """Publish that the link is lost, and again when a later attempt fails for another reason."""
        before, self.lost_reason = self.lost_reason, reason
        if self.state != "lost" or reason != before:
            self._set_state("lost", reason)

    def _set_state(self, state: ConnectionState, reason: str) -> None:
        if state != self.state:
            self.state, self.since = state, time.time()
            if self._giving_up is not None:
                self._giving_up.cancel()
            lost = state == "lost"
            self._giving_up = (
                asyncio.get_running_loop().call_later(LOST_CALLS_S, self._give_up) if lost else None
            )
        change = ConnectionChanged(state, self.since, reason)
        if self._queue.full():  # the reader is far behind; it will read the state itself
            return
        self._queue.put_nowait([(0, change)])


def _seq(line: bytes) -> int:
    """Read the number from the front of an event line; 0 when it has none."""
    if not line.startswith(b'{"seq":'):
        return 0
    digits = line[7 : line.find(b",", 7)]
    return int(digits) if digits.isdigit() else 0
