"""A gateway that replays: it greets, answers calls from a table and sends the events it is given, as the real one would.

For benchmarks and tests that need every byte under their hand. Knows no specialists and keeps no state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from backend.schema.errors import TektonError
from backend.schema.events import Hello, Result, Snapshot
from backend.schema.frames import ErrorReply

_encode = msgspec.json.Encoder().encode
Answer = Callable[[dict[str, Any]], Any] | Any


class ReplayGateway:
    """`async with` serves it on a free port of loopback; `url` is where. Any token is taken."""

    def __init__(self, first: Snapshot, answers: dict[str, Answer]) -> None:
        self.url = ""
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.subscribed = asyncio.Event()
        self.called = asyncio.Event()
        self._first, self._answers = first, answers
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

    async def send(self, *events: msgspec.Struct) -> None:
        """Send events as one frame, each with its number, to all who have subscribed."""
        frame = b"\n".join(self._numbered(event) for event in events)
        for socket in list(self._sockets):
            try:
                await socket.send(frame, text=True)
            except ConnectionClosed:
                self._sockets.discard(socket)

    async def until_called(self, action: str, limit_s: float = 20.0) -> dict[str, Any]:
        """Wait for a call and return its params; the newest, if there were several."""
        async with asyncio.timeout(limit_s):
            while True:
                self.called.clear()
                for name, params in reversed(self.calls):
                    if name == action:
                        return params
                await self.called.wait()

    def _numbered(self, event: msgspec.Struct) -> bytes:
        self._seq += 1
        return b'{"seq":%d,' % self._seq + _encode(event)[1:]

    async def _take(self, socket: ServerConnection) -> None:
        await socket.send(_encode(Hello("replay", self._seq, "0", ["control"])), text=True)
        try:
            async for text in socket:
                frame: dict[str, Any] = msgspec.json.decode(text)
                kind, call_id = frame.pop("type"), frame.pop("request_id", "")
                for reply in self._replies(kind, call_id, frame):
                    await socket.send(_encode(reply), text=True)
                if kind == "subscribe":
                    self._sockets.add(socket)
                    self.subscribed.set()
        except ConnectionClosed:
            pass
        finally:
            self._sockets.discard(socket)

    def _replies(self, kind: str, call_id: str, params: dict[str, Any]) -> Iterable[msgspec.Struct]:
        if kind == "subscribe":
            yield Result(call_id, {"resumed": False, "seq": self._seq})
            yield msgspec.structs.replace(self._first, at_seq=self._seq)
            return
        self.calls.append((kind, {"request_id": call_id, **params}))
        self.called.set()
        answer = self._answers.get(kind, {})
        value = answer(params) if callable(answer) else answer
        if isinstance(value, TektonError):
            yield ErrorReply("gateway", value.code, value.message, value.message, call_id)
        else:
            yield Result(call_id, value)
