"""Fetch a server's listing of models: one GET within a deadline, and the entries of it that can be used.

Whatever a server sends is data: an odd answer is a problem in words, never an exception.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from backend.deadlines import loop_timeout
from backend.providers.http import is_this_machine
from backend.providers.lenient import as_object, as_objects

MAX_LISTING_BYTES = 4 << 20
"""More than ten thousand models take."""
MAX_NAME_CHARS = 200
_MAX_HEAD_BYTES = 32 * 1024


class Listing(NamedTuple):
    """What a server answered. `problem` says why there is nothing; `nobody` when none listens there."""

    data: object = None
    problem: str = ""
    nobody: bool = False

    def entries(self, key: str, name: str = "name") -> list[dict[str, Any]]:
        """Return the entries under a key that have a usable name."""
        found: list[dict[str, Any]] = []
        for entry in as_objects(as_object(self.data).get(key)):
            said = entry.get(name)
            if isinstance(said, str) and 0 < len(said) <= MAX_NAME_CHARS and said.isprintable():
                found.append(entry)
        return found


async def fetch_listing(url: str, authorization: str = "", *, timeout_s: float, key: str = "") -> Listing:
    """Ask for a listing once; after `timeout_s` the connection is closed. `key`: under which a list has to stand."""
    ask = _ask_here if is_this_machine(url) and url.startswith("http://") else _ask_through_proxies
    try:
        async with loop_timeout(timeout_s):
            status, body = await ask(url, authorization, timeout_s)
    except TimeoutError:
        return Listing(problem=f"did not answer within {timeout_s:g} s")
    except OSError:
        return Listing(problem="nobody listens there", nobody=True)
    except (ValueError, EOFError, asyncio.LimitOverrunError):
        return Listing(problem="answers no listing of models")
    if status != 200:
        return Listing(problem=f"answers {status}")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return Listing(problem="answers no listing of models")
    if key and not isinstance(as_object(data).get(key), list):
        return Listing(problem="answers no listing of models")
    return Listing(data)


async def _ask_here(url: str, authorization: str, timeout_s: float) -> tuple[int, bytes]:
    """Ask a server of this machine, by hand: a library for it would cost a start more than the question.

    Raises:
        OSError: Nobody listens.
        ValueError: What listens does not speak HTTP.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    # The limit bounds the head: without it a server could send lines until memory is full.
    reader, writer = await asyncio.open_connection(host, parts.port or 80, limit=_MAX_HEAD_BYTES)
    try:
        # Closed by the server behind its answer: a body without a length ends where the connection does.
        lines = [f"GET {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
        lines += ["Accept: application/json", *([f"Authorization: {authorization}"] if authorization else [])]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        protocol, _, rest = head[0].partition(" ")
        if not protocol.startswith("HTTP/1."):
            raise ValueError(f"no HTTP: {protocol!r}")
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:])
        }
        return int(rest[:3]), await _read_body(reader, fields)
    finally:
        writer.close()


async def _read_body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            if size < 0 or len(body) + size > MAX_LISTING_BYTES:
                raise ValueError("too long")
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        return body
    if length := fields.get("content-length"):
        if not 0 <= int(length) <= MAX_LISTING_BYTES:
            raise ValueError("too long")
        return await reader.readexactly(int(length))
    body = b""
    while (part := await reader.read(1 << 16)) and len(body) <= MAX_LISTING_BYTES:
        body += part
    return body


async def _ask_through_proxies(url: str, authorization: str, timeout_s: float) -> tuple[int, bytes]:
    """Ask a server elsewhere, or one with TLS, as the environment's proxies say."""
    return await asyncio.to_thread(_ask_by_library, url, authorization, timeout_s)


def _ask_by_library(url: str, authorization: str, timeout_s: float) -> tuple[int, bytes]:
    import time
    import urllib.error
    import urllib.request

    proxies = urllib.request.ProxyHandler({} if is_this_machine(url) else None)
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})
    # The time-out of `urllib` is for each read alone; a server that drips bytes would hold the thread for ever.
    ends = time.monotonic() + timeout_s
    body = b""
    try:
        with urllib.request.build_opener(proxies).open(request, timeout=timeout_s) as answer:
            while (
                len(body) <= MAX_LISTING_BYTES and time.monotonic() < ends and (part := answer.read1(1 << 16))
            ):
                body += part
            return answer.status, body
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, b""
