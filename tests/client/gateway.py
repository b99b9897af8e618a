"""A gateway that says what a test wants: frames of other versions, silence, another life."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve

from backend.schema.events import SUBSCRIBE_HEADER, Hello
from backend.schema.frames import ErrorReply
from backend.wire import encoder


class Gateway:
    """`async with` listens on a free port. Each subscription is confirmed; calls are kept in `asked` and left open."""

    def __init__(self) -> None:
        self.epoch = "first"
        self.clock: Callable[[], float] = lambda: 0.0
        """What it says the time is; 0 as one of an older version."""
        self.asked: list[dict[str, Any]] = []
        self.reads_heads = False
        """Whether it takes subscriptions from the head of a request; an older one does not."""
        self.wishes: list[dict[str, Any]] = []
        """What was subscribed to, in heads and in frames; those of heads have no `request_id`."""
        self.answers = list[bytes]()
        """Frames sent after each call, `ID` in them replaced by the call's id."""
        self.topics: frozenset[str] | None = None
        """The topics it knows, where it is of a version that knows fewer; `subscribed` are those it took at last."""
        self.subscribed: list[str] = []
        self.log: dict[int, bytes] = {}
        """Events by number, sent again to who resumes."""
        self._server: Server | None = None
        self.url = ""

    async def __aenter__(self) -> Gateway:
        await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    async def begin(self) -> None:
        port = int(self.url.rpartition(":")[2]) if self.url else 0
        self._server = await serve(self._talk, "127.0.0.1", port, close_timeout=0.1)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def end(self) -> None:
        """Close all connections and listen no more, as a backend that ends."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def send(self, *frames: bytes) -> None:
        """Send frames to every client that is connected."""
        assert self._server is not None
        for connection in self._server.connections:
            for frame in frames:
                await connection.send(frame, text=True)

    async def _talk(self, connection: ServerConnection) -> None:
        head = connection.request.headers.get(SUBSCRIBE_HEADER) if connection.request else None
        taken = self.reads_heads and head is not None
        if taken:
            self.wishes.append(msgspec.json.decode(head or ""))
        await connection.send(
            encoder.encode(Hello(self.epoch, 0, "9.9", ["control"], taken, self.clock())), text=True
        )
        async for data in connection:
            call: dict[str, Any] = msgspec.json.decode(data)
            if call["type"] == "subscribe":
                self.wishes.append(call)
                self.subscribed = call["topics"]
                for place, topic in enumerate(self.subscribed):
                    if self.topics is not None and topic not in self.topics:
                        words = f"subscribe: Invalid enum value {topic!r} - at `$.topics[{place}]`"
                        refusal = ErrorReply(
                            "gateway", "invalid_request", words, words, request_id=call["request_id"]
                        )
                        await connection.send(encoder.encode(refusal), text=True)
                        break
                else:
                    await self._confirm(connection, call)
                continue
            self.asked.append(call)
            for frame in self.answers:
                await connection.send(frame.replace(b"ID", call["request_id"].encode()), text=True)

    async def _confirm(self, connection: ServerConnection, call: dict[str, Any]) -> None:
        frame = b'{"type":"result","request_id":"%s","result":{}}' % call["request_id"].encode()
        await connection.send(frame, text=True)
        for number, event in self.log.items():
            if number > call.get("after_seq", max(self.log)):
                await connection.send(event, text=True)
