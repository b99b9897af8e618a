"""An OpenAI-compatible server on loopback that fails as it is told, and counts: a real upstream for real SDKs.

The last message of a chat says how to fail, as a bare word: see `Upstream.FAULTS`; any other is answered well.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

WORDS = ["All", " is", " well", "."]
STATUS = {"401": "Unauthorized", "429": "Too Many Requests", "500": "Internal Server Error"}


class Upstream:
    """`calls` counts chats by their prompt; `models` what `/v1/models` offers."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.sent_away = asyncio.Event()
        """A chat that hangs was given up by its client."""
        self.healthy = True
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: nobody listens any more, and who was connected is cut off."""
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path, body = await _rest(head, reader)
                await self._answer(path, body, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(
        self, path: str, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if path.endswith("/models"):
            status = "200 OK" if self.healthy else "503 Service Unavailable"
            _reply(writer, status, {"object": "list", "data": [{"id": "m1", "object": "model"}]})
            return
        prompt = str(body["messages"][-1]["content"])
        self.calls[prompt] = self.calls.get(prompt, 0) + 1
        if prompt in STATUS:
            _reply(writer, f"{prompt} {STATUS[prompt]}", {"error": {"message": f"told to fail: {prompt}"}})
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number, word in enumerate(WORDS):
            _event(writer, json.dumps(_chunk(word)))
            if number == 1:
                await self._in_the_middle(prompt, reader, writer)
        _event(writer, json.dumps(_chunk(None, "stop")))
        _event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")

    async def _in_the_middle(
        self, prompt: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await writer.drain()
        if prompt == "bad json":
            _event(writer, '{"choices": [{"delta": ')
        elif prompt == "cut":
            writer.transport.abort()
            raise ConnectionResetError
        elif prompt in ("stall", "hang"):
            await reader.read(1)
            self.sent_away.set()
            raise ConnectionResetError


async def _rest(head: bytes, reader: asyncio.StreamReader) -> tuple[str, dict[str, Any]]:
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    data = await reader.readexactly(int(headers.get("content-length", "0")))
    return lines[0].split()[1], json.loads(data) if data else {}


def _reply(writer: asyncio.StreamWriter, status: str, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)


def _event(writer: asyncio.StreamWriter, data: str) -> None:
    line = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(line), line))


def _chunk(text: str | None, finish: str | None = None) -> dict[str, Any]:
    delta = {"content": text} if text is not None else {}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 0, "model": "m1", "choices": [choice]}
