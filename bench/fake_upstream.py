"""A server of OpenAI's chat completions that answers at once and as fast as it is read, and a bare relay in front of it.

    python bench/fake_upstream.py [--relay PORT]

Prints its port. A prompt that holds `N tokens` is answered by N tokens that are all different; see `words`. With `--relay`
it is the relay: bytes to and from the other port, nothing read of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re

import uvloop

TOGETHER = 16
"""Chunks that leave in one write, as they come from a server that writes faster than it is read."""

PAUSE_S = 0.01
"""Between the first token and the others, so that what is measured of it is its own way."""


def words(count: int, seed: int = 0) -> list[str]:
    """Return the tokens of an answer; some hold characters of several bytes, quotes and line breaks."""
    odd = {3: ' "é"', 7: "\n", 11: " 思", 13: " \\"}
    return [f" {seed}.{number}{odd.get(number % 17, '')}" for number in range(count)]


def chunk(choices: list[dict[str, object]], **more: object) -> bytes:
    value = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}
    return b"data: " + json.dumps(value | more, ensure_ascii=False).encode() + b"\n\n"


def blocks(count: int, seed: int) -> list[bytes]:
    rows = [
        chunk([{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}])
        for text in words(count, seed)
    ]
    rows.append(chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    used = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": count + 9}
    rows += [chunk([], usage=used), b"data: [DONE]\n\n"]
    return [rows[0], *(b"".join(rows[n : n + TOGETHER]) for n in range(1, len(rows), TOGETHER))]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    made: dict[tuple[int, int], list[bytes]] = {}
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).lower():
            length = int((re.search(rb"content-length: (\d+)", head) or [b"", b"0"])[1])
            body = await reader.readexactly(length)
            if not head.startswith(b"post"):
                said = json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                    % (len(said), said)
                )
                continue
            wanted = re.findall(rb"(\d+) tokens of (\d+)", body)[-1]
            key = (int(wanted[0]), int(wanted[1]))
            made.setdefault(key, blocks(*key))
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            for number, block in enumerate(made[key]):
                writer.write(b"%x\r\n%b\r\n" % (len(block), block))
                await writer.drain()
                if not number:
                    await asyncio.sleep(PAUSE_S)
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(relay: int) -> None:
    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far, out = await asyncio.open_connection("127.0.0.1", relay)
        await asyncio.gather(pump(reader, out), pump(far, writer))

    server = await asyncio.start_server(through if relay else answer, "127.0.0.1", 0, limit=1 << 22)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--relay", type=int, default=0)
    uvloop.run(serve(parser.parse_args().relay))
