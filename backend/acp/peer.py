"""One end of a JSON-RPC connection: sends requests, serves those of the other side, and ends both when it breaks.

Knows no process and no socket: bytes come by `feed` and leave by `send`. Every request of the other side gets exactly
one answer. Nothing is asked twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import count
from typing import NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Struct

from backend.acp import wire
from backend.acp.messages import Empty
from backend.acp.wire import BadLine, Frame, Id

log = logging.getLogger(__name__)

MAX_ASKED = 256
"""Requests of the other side that are answered at a time; further ones are refused."""
# of our own, in the range that JSON-RPC leaves to servers, after HTTP's 429
TOO_MANY = -32029

Answer = TypeVar("Answer", bound=Struct)
Params = TypeVar("Params", bound=Struct)


class RpcFailure(Exception):
    """A request failed: the error that the other side answered, or, raised by a handler, the one it is sent."""

    def __init__(self, code: int, message: str, data: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class PeerClosed(Exception):
    """The connection is gone; the text says why."""


class Handler(Protocol):
    """What serves the other side."""

    async def on_request(self, method: str, params: msgspec.Raw) -> Struct:
        """Answer a request. Cancelled when the other side takes it back, or the connection is gone.

        Raises:
            RpcFailure: Sent to the other side as the error of its request.
        """
        ...

    def on_notification(self, method: str, params: msgspec.Raw) -> None:
        """Take a notification; unknown ones are to be ignored. May raise `msgspec.MsgspecError`."""
        ...

    def on_bad_line(self, line: BadLine) -> None:
        """Note a line that could not be used."""
        ...


def read_params(params: msgspec.Raw, kind: type[Params]) -> Params:
    """Return parameters as a value.

    Raises:
        RpcFailure: They are none (`INVALID_PARAMS`).
    """
    try:
        return msgspec.json.decode(params, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RpcFailure(wire.INVALID_PARAMS, f"wrong parameters: {error}") from error


class _Call(NamedTuple):
    """A question that waits for its answer."""

    waiting: asyncio.Future[msgspec.Raw]
    answered: Callable[[], None]


class Peer:
    """One connection. `send` takes a whole line and must not raise."""

    def __init__(self, send: Callable[[bytes], None], handler: Handler) -> None:
        self._send, self._handler = send, handler
        self._reader = wire.FrameReader()
        self._numbers = count(1)
        self._calls: dict[Id, _Call] = {}
        self._asked: dict[Id, asyncio.Task[None]] = {}
        self.closed = ""
        """Why the connection is gone; empty while it is there."""

    async def call(
        self,
        method: str,
        params: Struct,
        answer: type[Answer],
        *,
        timeout_s: float | None = None,
        answered: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Send a request and return its answer; without `timeout_s` wait as long as the connection is there.

        `answered` is called as soon as the answer is read, before any frame behind it.

        Raises:
            RpcFailure: The other side refuses, or its answer cannot be read.
            TimeoutError: Nothing came in time. An answer that comes later is thrown away.
            PeerClosed: The connection is gone.
        """
        if self.closed:
            raise PeerClosed(self.closed)
        number = next(self._numbers)
        waiting: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._calls[number] = _Call(waiting, answered)
        try:
            self._send(wire.request(number, method, params))
            async with asyncio.timeout(timeout_s):
                raw = await waiting
        finally:
            del self._calls[number]
        try:
            return msgspec.json.decode(raw if raw and raw != b"null" else b"{}", type=answer)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise RpcFailure(
                wire.INTERNAL_ERROR, f"the answer to {method} cannot be read: {error}"
            ) from error

    def notify(self, method: str, params: Struct) -> None:
        """Send a notification, which gets no answer."""
        if not self.closed:
            self._send(wire.notification(method, params))

    def feed(self, data: bytes) -> int:
        """Take bytes of the other side; return how many frames they completed."""
        frames = self._reader.feed(data)
        for frame in frames:
            if self.closed:
                break
            if isinstance(frame, BadLine):
                self._handler.on_bad_line(frame)
            elif frame.method is UNSET:
                self._on_response(frame)
            elif frame.id is UNSET or frame.id is None:
                self._on_notification(frame.method, frame.params)
            else:
                self._on_request(frame.id, frame.method, frame.params)
        return len(frames)

    def close(self, why: str) -> None:
        """End every call with `PeerClosed` and every request that is being answered. Safe to call twice."""
        if self.closed:
            return
        self.closed = why or "the connection was closed"
        for call in self._calls.values():
            if not call.waiting.done():
                call.waiting.set_exception(PeerClosed(self.closed))
        for task in self._asked.values():
            task.cancel()

    async def settled(self) -> None:
        """Wait until nothing is being answered any more."""
        while self._asked:
            await asyncio.wait(list(self._asked.values()))

    def _on_response(self, frame: Frame) -> None:
        call = self._calls.get(frame.id) if isinstance(frame.id, int | str) else None
        if call is None or call.waiting.done():
            log.warning("an answer to no question of ours (id %r) was thrown away", frame.id)
            return
        waiting = call.waiting
        # Before the future is resolved: frames behind the answer are handled before its waiter runs.
        call.answered()
        if isinstance(frame.error, wire.RpcError):
            error = frame.error
            waiting.set_exception(
                RpcFailure(error.code, error.message, bytes(error.data).decode(errors="replace"))
            )
        else:
            waiting.set_result(frame.result)

    def _on_notification(self, method: str, params: msgspec.Raw) -> None:
        try:
            if method == wire.CANCEL_REQUEST:
                number = msgspec.json.decode(params, type=wire.CancelRequest).request_id
                if (task := self._asked.get(number)) is not None:
                    # Behind the task's first step: cancelled before that, it would never answer.
                    asyncio.get_running_loop().call_soon(task.cancel)
            else:
                self._handler.on_notification(method, params)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            self._handler.on_bad_line(BadLine(f"{method}: {error}"))

    def _on_request(self, number: Id, method: str, params: msgspec.Raw) -> None:
        if number in self._asked:
            self._handler.on_bad_line(BadLine(f"two requests of the id {number!r} at a time"))
        elif len(self._asked) >= MAX_ASKED:
            self._send(wire.failure(number, TOO_MANY, f"{MAX_ASKED} requests are being answered: wait"))
        else:
            task = asyncio.create_task(self._answer(number, method, params), name=f"answer {method}")
            self._asked[number] = task
            task.add_done_callback(lambda _: self._asked.pop(number, None))

    async def _answer(self, number: Id, method: str, params: msgspec.Raw) -> None:
        try:
            line = wire.result(number, await self._handler.on_request(method, params))
        except asyncio.CancelledError:
            line = wire.failure(number, wire.REQUEST_CANCELLED, "cancelled")
        except RpcFailure as refusal:
            line = wire.failure(number, refusal.code, refusal.message)
        except Exception as error:  # one request must not cost the connection
            log.exception("request %r", number)
            line = wire.failure(number, wire.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        if not self.closed:
            self._send(line)


def unknown(method: str) -> RpcFailure:
    """Return the refusal of a method that is not served."""
    return RpcFailure(wire.METHOD_NOT_FOUND, f"there is no method {method!r} here")


__all__ = ["Empty", "Handler", "Peer", "PeerClosed", "RpcFailure", "read_params", "unknown"]
