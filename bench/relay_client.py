"""A client that only counts: the same for a bare line relay and for the gateway's WebSocket. Knows no specialist.

It looks for words in the bytes as they come and decodes nothing, so that what a rate is limited by is the relay and not
a client library: `websockets` takes about 4 µs a frame, more than the gateway takes to send it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

CHUNK, ENDS = b'"type":"stream_chunk"', (b'"type":"stream_end"', b'"type":"stream_error"')
RESYNC = b'"resync":true'
_TAIL = max(map(len, (CHUNK, RESYNC, *ENDS))) - 1


class Counter:
    """Counts words in a stream that is cut anywhere."""

    def __init__(self) -> None:
        self.tokens, self.ended, self.resynced, self.began = 0, 0, False, 0.0
        self._tail = b""

    def feed(self, data: bytes) -> None:
        self.began = self.began or time.perf_counter()
        before, data = self._tail, self._tail + data
        self.tokens += data.count(CHUNK) - before.count(CHUNK)
        self.ended += sum(data.count(end) - before.count(end) for end in ENDS)
        self.resynced = self.resynced or RESYNC in data
        self._tail = data[-_TAIL:]

    @property
    def rate(self) -> float:
        """Return tokens a second since the first bytes."""
        return self.tokens / (time.perf_counter() - self.began)


async def count(reader: asyncio.StreamReader, streams: int) -> Counter:
    """Count until so many streams have ended, or the other side begins anew from a snapshot."""
    counter = Counter()
    while counter.ended < streams and not counter.resynced:
        if not (data := await reader.read(1 << 16)):
            raise ConnectionError("the connection ended before the streams did")
        counter.feed(data)
    return counter


class LeanSocket:
    """A WebSocket of which only the head is spoken: frames are written, and read as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer

    @classmethod
    async def open(cls, url: str, headers: Mapping[str, str], topics: Sequence[str]) -> LeanSocket:
        """Return a subscribed connection, a frame for each event, read up to its snapshot."""
        host = urlsplit(url).netloc
        name, _, port = host.partition(":")
        reader, writer = await asyncio.open_connection(name, int(port), limit=1 << 22)
        key = base64.b64encode(os.urandom(16)).decode()
        head = {
            "Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key, **headers,
        }  # fmt: skip
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"GET /ws HTTP/1.1\r\n{lines}\r\n".encode())
        status = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
        if b" 101 " not in status:
            raise ConnectionError(f"no WebSocket at {url}: {status.decode()}")
        socket = cls(reader, writer)
        socket.send({"type": "subscribe", "request_id": "s", "topics": list(topics), "batch": False})
        await reader.readuntil(b'"type":"snapshot"')
        return socket

    def send(self, value: Mapping[str, object]) -> None:
        """Write one text frame, masked as a client's must be (with zeros: RFC 6455 asks for any key)."""
        data = json.dumps(value).encode()
        size = (
            struct.pack("!BB", 0x81, 0x80 | len(data))
            if len(data) < 126
            else b"\x81\xfe" + struct.pack("!H", len(data))
        )
        self._writer.write(size + bytes(4) + data)

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
