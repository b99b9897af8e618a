"""`/ws`: everything on one connection, both ways.

A client subscribes to topics and gets a snapshot, or, coming back with the number of its last event, exactly what
it missed. Who says so in the head of its request gets it right behind the hello. What a snapshot left out for a client behind a
slow line comes whenever nothing newer is to be sent. Every action may be called; a call sent again with its `request_id` joins
the first.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct
from starlette.websockets import WebSocket, WebSocketDisconnect

import backend
from backend import log as jsonlog
from backend.events import ReplayLost, Subscription
from backend.gateway.auth import Principal, Refused
from backend.gateway.condensing import join_chunks, split
from backend.gateway.context import Gateway
from backend.gateway.protocols import FRAMES
from backend.gateway.responses import error_reply, not_json
from backend.gateway.routes import client_name
from backend.orchestration.actions import ACTIONS
from backend.orchestration.caller import caller
from backend.schema.errors import InvalidRequest, TektonError
from backend.schema.events import SUBSCRIBE_HEADER, Hello, Result, Topic, TurnText
from backend.schema.frames import ErrorReply, Pong
from backend.schema.params import (
    MAX_REQUEST_ID,
    AnswerAsk,
    Cancel,
    RequestId,
    Shutdown,
    explain,
    unknown_parameter,
)
from backend.schema.results import GatewayClient
from backend.suggest import meant, nearest
from backend.text import safe_line
from backend.wire import encoder

log = logging.getLogger(__name__)

MAX_CALLS_AT_ONCE = 256
"""Calls one connection may have under way."""
FRAME_BYTES = 16 * 1024
"""Events that go together are cut into frames of this size: a client reads a frame once all of it is there, which over a slow
line takes long for what was missed during a cut."""
FLIGHT_BYTES = 8 * 1024
"""What a new connection surely carries in its first round trip, packed: ten segments, less what is said before and happens
meanwhile."""
HEAD_START_S = 0.1
"""How long the texts behind a snapshot wait for the next event: a new connection carries little in its first round trip."""
MAX_PROGRAM_CHARS = 60
LIKENESS = 0.75
"""How alike a name nobody knows must be to one of ours to count as misspelt."""
GATEWAY_ID = "gateway"
GONE = (WebSocketDisconnect, RuntimeError, ConnectionResetError)
"""What a send or a receive raises once the client has left."""
_numbers = itertools.count(1)
F = TypeVar("F", bound=Struct)


class Attend(Struct):
    """The questions of one conversation, a call's request id, are answered by this connection, or with `on` false no more."""

    conversation: RequestId
    on: bool = True


class Subscribe(Struct, forbid_unknown_fields=False):
    """`after_seq` with its `epoch` resumes; `batch` allows several JSON objects a frame, newline between.

    With `condensed` chunks of a turn that wait together come as one, and long texts of a snapshot behind it, as `TurnText`.
    """

    topics: list[Topic]
    after_seq: int | None = None
    epoch: str = ""
    batch: bool = False
    condensed: bool = False


def _read(name: str, values: dict[str, Any], kind: type[F]) -> F:
    """Read a frame. What a newer client may send beside what we know is passed over, unless it is nearly a name of ours.

    Raises:
        InvalidRequest: A value is wrong or missing, or a name misspelt; the message names it.
    """
    known = kind.__struct_fields__
    for key in values:
        if key not in known and nearest(key, known, likeness=LIKENESS):
            raise unknown_parameter(name, key, known)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(explain(name, str(error), values, kind)) from error


async def serve_websocket(gateway: Gateway, socket: WebSocket) -> None:
    """Serve one connection to its end. Authentication comes before the handshake is answered."""
    began = time.monotonic()
    client = client_name(socket)
    try:
        principal = gateway.guard.check(socket, "read")
        limit = gateway.platform.settings.gateway.max_connections
        if len(gateway.clients) >= limit:
            raise Refused(429, f"{limit} clients are connected already (gateway.max_connections)")
    except Refused as refused:
        gateway.log.note(client, "ws", "connect", refused.status, began=began, refusal=refused.message)
        await socket.send_denial_response(error_reply(refused))
        return
    await socket.accept()
    gateway.log.note(client, "ws", "connect", 101, began=began)
    await _Connection(gateway, socket, principal, client).run()


def _frames(blocks: Sequence[bytes]) -> list[bytes]:
    """Return blocks of events in frames of about `FRAME_BYTES`, in order."""
    frames: list[bytes] = []
    first = size = 0
    for number, block in enumerate(blocks):
        if size and size + len(block) > FRAME_BYTES:
            frames.append(b"\n".join(blocks[first:number]))
            first, size = number, 0
        size += len(block)
    return [*frames, b"\n".join(blocks[first:])]


def _packed(text: bytes) -> int:
    return len(zlib.compress(text, 1))


def _program(socket: WebSocket) -> str:
    return safe_line(socket.headers.get("user-agent", ""))[:MAX_PROGRAM_CHARS]


class _Connection:
    """One client: its place in the event log and its calls under way."""

    def __init__(self, gateway: Gateway, socket: WebSocket, principal: Principal, client: str) -> None:
        self._gateway, self._socket, self._principal, self._client = gateway, socket, principal, client
        self._events = gateway.platform.events
        self._acts = principal.may(ACTIONS[AnswerAsk.action].scope)
        self._subscription: Subscription = self._events.subscribe()
        self._batch = self._condensed = False
        self._left_out: Iterator[TurnText] = iter(())
        self._head_start = False
        self._attended: set[str] = set()
        self._sender: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._number = next(_numbers)
        self._sending, self._sent, self._gone = False, asyncio.Event(), False
        self._write: Callable[[Sequence[bytes]], Awaitable[None]] = socket.scope["extensions"][FRAMES]

    async def run(self) -> None:
        self._gateway.clients[self._number] = GatewayClient(
            self._client,
            self._principal.label,
            self._principal.scope,
            time.time(),
            [],
            _program(self._socket),
        )
        try:
            await self._greet()
            while True:
                await self._handle_frame(await self._socket.receive())
        except GONE:
            pass  # clients leave; a call under way runs on for whoever comes back for it
        finally:
            self._gone = True
            self._notify_sent()
            if self._sender is not None:
                self._sender.cancel()
            self._subscription.close()
            for conversation in self._attended:
                self._events.leave(conversation)
            del self._gateway.clients[self._number]

    async def _greet(self) -> None:
        """Send the hello, and what the head of the request subscribes to."""
        wish, wrong = None, None
        if head := self._socket.headers.get(SUBSCRIBE_HEADER):
            try:
                wish = _read(
                    SUBSCRIBE_HEADER,
                    msgspec.json.decode(head.encode("latin-1"), type=dict[str, Any]),
                    Subscribe,
                )
            except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                wrong = InvalidRequest(f"{SUBSCRIBE_HEADER}: {error}")
            except InvalidRequest as error:
                wrong = error
        await self._send(
            Hello(
                self._events.epoch,
                self._events.seq,
                backend.__version__,
                [self._principal.scope],
                wish is not None,
                time.time(),
            )
        )
        if wish is not None:
            await self._subscribe("", wish)
            return
        if wrong is not None:
            await self._send_error("", wrong)
        self._sender = asyncio.create_task(self._forward())

    async def _handle_frame(self, message: Any) -> None:
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        text = message.get("text") or message.get("bytes") or b""
        request_id = ""
        try:
            try:
                value = msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise not_json("the frame", text, error) from error
            if not isinstance(value, dict):
                raise InvalidRequest("a frame must be a JSON object")
            frame = cast(dict[str, Any], value)
            request_id = frame.pop("request_id", "")
            try:
                request_id = msgspec.convert(request_id, RequestId)
            except msgspec.ValidationError as error:
                request_id = ""
                raise InvalidRequest(
                    f"request_id must be one line of at most {MAX_REQUEST_ID} characters"
                ) from error
            await self._dispatch(frame.pop("type", None), request_id, frame)
        except TektonError as error:
            await self._send_error(request_id, error)

    async def _dispatch(self, kind: Any, request_id: str, values: dict[str, Any]) -> None:
        if kind == "ping":
            await self._send(Pong(GATEWAY_ID, time.time(), request_id or msgspec.UNSET))
        elif kind == "subscribe":
            await self._subscribe(request_id, _read("subscribe", values, Subscribe))
        elif kind == "attend":
            await self._attend(request_id, values)
        elif isinstance(kind, str) and kind in ACTIONS:
            # a full connection can still cancel
            most = MAX_CALLS_AT_ONCE * (2 if ACTIONS[kind].params is Cancel else 1)
            if len(self._calls) >= most:
                raise TektonError(
                    f"{MAX_CALLS_AT_ONCE} calls are under way on this connection", code="too_many"
                )
            task = asyncio.create_task(self._call(kind, request_id, values))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            if ACTIONS[kind].params is Shutdown:
                self._gateway.ending_calls.add(task)
                task.add_done_callback(self._gateway.ending_calls.discard)
        else:
            raise TektonError(
                f"unknown type {kind!r}; {meant(str(kind), sorted(ACTIONS))}", code="unknown_type"
            )

    async def _subscribe(self, request_id: str, wish: Subscribe) -> None:
        if wish.after_seq is not None and wish.epoch == self._events.epoch:
            await self._events.reached(wish.after_seq)
        resync = False
        try:
            if wish.after_seq is not None and wish.epoch != self._events.epoch:
                raise ReplayLost("that number belongs to another life of the backend")
            fresh = self._events.subscribe(wish.topics, after=wish.after_seq, acts=self._acts)
            resumed = wish.after_seq is not None
            if resumed and wish.condensed and self._is_shorter_anew(fresh):
                fresh.close()
                raise ReplayLost("to send the state is shorter")
        except ReplayLost:
            fresh = self._events.subscribe(wish.topics, acts=self._acts)
            resumed, resync = False, True
        self._go_on_with(fresh)
        self._batch, self._condensed, self._left_out = wish.batch, wish.condensed, iter(())
        self._gateway.clients[self._number].topics = list(wish.topics)
        if self._sender is not None:
            self._sender.cancel()
        # The answer before the snapshot: by it a client knows whether one follows.
        await self._send(Result(request_id, {"resumed": resumed, "seq": fresh.cursor}))
        if not resumed:
            await self._send_snapshot(resync=resync)
        self._sender = asyncio.create_task(self._forward())

    def _is_shorter_anew(self, missed: Subscription) -> bool:
        """Return whether the state of everything takes less to send than what a client behind a slow line missed.

        What happens now waits for either, and a conversation of its own calls is read to the end: no state holds it. What
        goes out in one round trip is sent as it was.
        """
        if self._subscription.keys:
            return False
        begin, end = missed.cursor, self._events.seq
        read, blocks = self._events.read(begin, missed.topics, missed.keys)
        if sum(map(len, blocks)) <= FLIGHT_BYTES:
            return False
        packed = _packed(b"".join(join_chunks(blocks, FRAME_BYTES))) * (end - begin) // (read - begin)
        if packed <= FLIGHT_BYTES:
            return False
        snapshot, _ = split(self._gateway.platform.snapshot(resync=True))
        return _packed(encoder.encode(snapshot)) < packed

    def _go_on_with(self, fresh: Subscription) -> None:
        """Read on at another place of the log; the conversations that are followed go along."""
        for key in self._subscription.keys:
            fresh.follow(key)
        self._subscription.close()
        self._subscription = fresh

    async def _attend(self, request_id: str, values: dict[str, Any]) -> None:
        wish = _read("attend", values, Attend)
        if wish.on and not self._acts:
            raise Refused(403, f"the token {self._principal.label!r} may not answer what is asked")
        if wish.on and wish.conversation not in self._attended:
            if len(self._attended) >= MAX_CALLS_AT_ONCE:
                raise TektonError(
                    f"{MAX_CALLS_AT_ONCE} conversations are attended to on this connection", code="too_many"
                )
            self._attended.add(wish.conversation)
            self._events.attend(wish.conversation)
        elif not wish.on and wish.conversation in self._attended:
            self._attended.remove(wish.conversation)
            self._events.leave(wish.conversation)
        await self._send(Result(request_id, {"attends": wish.on}))

    async def _send_snapshot(self, *, resync: bool) -> None:
        """Send the whole state as it is now; reading goes on behind it, so that nothing comes twice."""
        snapshot = self._gateway.platform.snapshot(resync=resync)
        self._subscription.cursor = snapshot.at_seq
        if self._condensed:
            snapshot, self._left_out = split(snapshot)
            self._head_start = any(turn.left_out for turn in snapshot.turns)
        await self._send(snapshot)

    async def _call(self, kind: str, request_id: str, values: dict[str, Any]) -> None:
        action = ACTIONS[kind]
        jsonlog.request_id.set(request_id)
        caller.set(f"{self._principal.label} over WebSocket")
        began, status, refusal = time.monotonic(), 200, ""
        try:
            if not self._principal.may(action.scope):
                raise Refused(
                    403,
                    f"the token {self._principal.label!r} has scope {self._principal.scope}; "
                    f"{kind} needs {action.scope}",
                )
            # the frame's id names the turn that a call begins; to `cancel` older clients give the turn's id only so
            own = action.aliases.get("request_id", "request_id")
            if request_id and own in action.params.__struct_fields__ and own not in values:
                values["request_id"] = request_id
                if own == "request_id":
                    self._subscription.follow(request_id)
            params = action.read_params(values)
            run = partial(action.run, self._gateway.platform, params)
            # The id of an older client's `cancel` is the turn's: such a cancel must not join the call that began the turn.
            names_this_call = request_id and (own == "request_id" or own in values)
            result = await (
                self._gateway.calls.run(request_id, kind, params, run) if names_this_call else run()
            )
            await self._until_sent()
            await self._send(Result(request_id, result))
        except TektonError as error:
            status, refusal = getattr(error, "status", 400), error.message
            await self._until_sent()
            await self._send_error(request_id, error)
        except GONE:
            pass
        except Exception:  # the boundary of a call: it ends as an error frame, with the traceback in the log
            log.exception("%s failed", kind)
            status = 503
            await self._send_error(
                request_id, TektonError(f"{kind} failed inside the backend; its log has the traceback")
            )
        finally:
            self._gateway.log.note(
                self._client,
                "ws",
                kind,
                status,
                began=began,
                refusal=refusal,
                request_id=request_id,
                scope=action.scope,
                token=self._principal.label,
            )

    async def _forward(self) -> None:
        """Send events as they come, in one write: in one frame where the client allows it, else in a frame each."""
        try:
            while True:
                try:
                    blocks = self._subscription.pending_blocks()
                    if not blocks and self._head_start:
                        self._head_start = False
                        with suppress(TimeoutError):
                            async with asyncio.timeout(HEAD_START_S):
                                blocks = await self._subscription.next_blocks()
                    if not blocks and (late := next(self._left_out, None)) is not None:
                        await self._send(late)
                        await asyncio.sleep(0)  # a fast line takes them all at once; the loop is others' too
                        self._notify_sent()  # last: who waits looks again once what is pending has been read
                        continue
                    blocks = blocks or await self._subscription.next_blocks()
                except ReplayLost:
                    self._go_on_with(self._events.subscribe(self._subscription.topics, acts=self._acts))
                    await self._send_snapshot(resync=True)
                    self._notify_sent()  # an answer may wait for what the snapshot holds
                    continue
                self._sending = True
                await self._write(self._framed(blocks))
                # Not to be held until the next event comes: an answer may be many megabytes.
                del blocks
                self._notify_sent()
        except GONE:
            return  # the reader of this connection sees the end too, and cleans up
        finally:
            self._notify_sent()

    def _framed(self, blocks: Sequence[bytes]) -> list[bytes]:
        """Return blocks of events in the frames that the client asked for."""
        if not self._batch:
            return b"\n".join(blocks).split(b"\n")
        # Less than a frame is what happens now: there is little to join.
        if self._condensed and sum(map(len, blocks)) > FRAME_BYTES:
            return join_chunks(blocks, FRAME_BYTES)
        return _frames(blocks)

    def _notify_sent(self) -> None:
        self._sending = False
        # Set and cleared at once: it wakes those who wait now, and each looks again whether its events are out.
        self._sent.set()
        self._sent.clear()

    async def _until_sent(self) -> None:
        """Wait until what happened up to now is sent: whoever reads the answer to a call has read all that led to it."""
        if self._events.settle is not None:
            await self._events.settle()
        now = self._events.seq
        while not self._gone and (
            self._sending or (self._subscription.lag and self._subscription.cursor < now)
        ):
            await self._sent.wait()

    async def _send(self, value: Struct) -> None:
        await self._write((encoder.encode(value),))

    async def _send_error(self, request_id: str, error: TektonError) -> None:
        frame = ErrorReply(
            GATEWAY_ID,
            error.code,
            error.message,
            error.message,
            request_id or msgspec.UNSET,
            error.evidence,
            error.detail,
        )
        try:
            await self._send(frame)
        except GONE:
            log.debug("a client left before its error reached it: %s", error.message)
