"""A gateway that replays: it greets, answers calls from a table and sends the events it is given, as the real one would.

For benchmarks and tests that need every byte under their hand. Knows no specialists and keeps no state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from backend import __version__
from backend.schema.errors import TektonError
from backend.schema.events import Hello, Result, Snapshot
from backend.schema.frames import ErrorReply
from backend.schema.params import AnyParams, Params, read_params

_encode = msgspec.json.Encoder().encode
P = TypeVar("P", bound=AnyParams)


class ReplayGateway:
    """`async with` serves it on a free port of loopback; `url` is where. Any token is taken.

    Args:
        first: What a client gets that subscribes.
        respond: Returns the result of a call, or raises a `TektonError`. Any other exception is raised on leaving.
    """

    def __init__(self, first: Snapshot, respond: Callable[[AnyParams], msgspec.Struct]) -> None:
        self.url = ""
        self.calls: list[AnyParams] = []
        self.subscribed = asyncio.Event()
        self.called = asyncio.Event()
        self._first, self._respond = first, respond
        self._failure: Exception | None = None
        self._sockets: set[ServerConnection] = set()
        self._server: Server | None = None
        self._seq = 0

    async def __aenter__(self) -> ReplayGateway:
        self._server = await serve(self._take, "127.0.0.1", 0, compression=None, max_size=None)
        self.url = f"http://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close(close_connections=True)
            await self._server.wait_closed()
        if kind is None and self._failure is not None:
            raise self._failure

    async def send(self, *events: msgspec.Struct) -> None:
        """Send events as one frame, each with its number, to all who have subscribed."""
        frame = b"\n".join(self._numbered(event) for event in events)
        for socket in list(self._sockets):
            try:
                await socket.send(frame, text=True)
            except ConnectionClosed:
                self._sockets.discard(socket)

    async def until_called(self, kind: type[P], limit_s: float = 20.0) -> P:
        """Wait for a call and return its parameters; the newest, if there were several."""
        async with asyncio.timeout(limit_s):
            while True:
                self.called.clear()
                for params in reversed(self.calls):
                    if isinstance(params, kind):
                        return params
                await self.called.wait()

    def _numbered(self, event: msgspec.Struct) -> bytes:
        self._seq += 1
        return b'{"seq":%d,' % self._seq + _encode(event)[1:]

    async def _take(self, socket: ServerConnection) -> None:
        await socket.send(_encode(Hello("replay", self._seq, __version__, ["control"])), text=True)
        try:
            async for text in socket:
                frame: dict[str, Any] = msgspec.json.decode(text)
                kind, call_id = frame.pop("type"), frame.pop("request_id", "")
                for reply in self._replies(kind, call_id, frame, again=socket in self._sockets):
                    await socket.send(_encode(reply), text=True)
                if kind == "subscribe":
                    self._sockets.add(socket)
                    self.subscribed.set()
        except ConnectionClosed:
            pass
        finally:
            self._sockets.discard(socket)

    def _replies(
        self, kind: str, call_id: str, params: dict[str, Any], *, again: bool
    ) -> Iterable[msgspec.Struct]:
        if kind == "subscribe" and again:  # other topics from now on: what there is is known
            yield Result(call_id, {"resumed": True, "seq": self._seq})
            return
        if kind == "subscribe":
            yield Result(call_id, {"resumed": False, "seq": self._seq})
            yield msgspec.structs.replace(self._first, at_seq=self._seq)
            return
        try:
            call = self._read(kind, call_id, params)
            self.calls.append(call)
            self.called.set()
            yield Result(call_id, self._respond(call))
        except TektonError as error:
            yield ErrorReply("gateway", error.code, error.message, error.message, call_id)
        except Exception as error:
            self._failure = self._failure or error
            yield ErrorReply("gateway", "internal", str(error), str(error), call_id)

    def _read(self, kind: str, call_id: str, values: dict[str, Any]) -> AnyParams:
        known = _ACTIONS[kind]
        named = {"request_id": call_id} if "request_id" in known.__struct_fields__ else {}
        return read_params(known, values | named)


def _kinds(of: type[AnyParams]) -> Iterable[type[AnyParams]]:
    for kind in of.__subclasses__():
        yield kind
        yield from _kinds(kind)


_ACTIONS = {kind.action: kind for kind in _kinds(Params) if kind.action}
