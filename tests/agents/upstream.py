"""A fake of a model server, `/v1/chat/completions` alone: the words of the last question say what the model wants."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class Upstream:
    """Answers on a port of loopback: `bash COMMAND` and `write PATH TEXT` ask for that tool, once; all else is echoed."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[dict[str, Any]] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(
                    line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line
                )
                body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
                asked = json.loads(body) if body else {}
                self.seen.append(asked)
                chunks = [f"data: {json.dumps(one)}\n\n" for one in self._chunks(asked)]
                text = "".join([*chunks, "data: [DONE]\n\n"]).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    + f"Content-Length: {len(text)}\r\n\r\n".encode()
                    + text
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _chunks(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        messages = asked.get("messages", [])
        last = messages[-1] if messages else {"role": "user", "content": ""}
        words = _text(last["content"]).strip()
        delta: dict[str, Any] = {"role": "assistant", "content": f"You said: {words}"}
        reason = "stop"
        if last["role"] == "tool":
            delta["content"] = f"The tool said: {words}"
        elif asked.get("tools"):
            verb, _, rest = words.partition(" ")
            arguments: dict[str, Any] | None = None
            if verb == "bash":
                arguments = {"command": rest, "description": "as asked"}
            elif verb == "write":
                path, _, content = rest.partition(" ")
                arguments = {"filePath": path, "content": content}
            if arguments is not None:
                call = {
                    "index": 0,
                    "id": f"call_{len(self.seen)}",
                    "type": "function",
                    "function": {"name": verb, "arguments": json.dumps(arguments)},
                }
                delta, reason = {"role": "assistant", "tool_calls": [call]}, "tool_calls"
        base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        usage = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
        return [
            {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": usage},
        ]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content if part.get("type") == "text")
