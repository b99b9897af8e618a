"""Talk to a specialist's socket without a backend: the library's plain functions.

    from backend.client import ai_send_sync
    print(ai_send_sync("apollo-ai", "Hello", "localhost", 45012))

Inside an event loop `await ai_send(…)`, or read an answer as it comes with `async for piece in ai_stream(…)`. Nothing is
remembered and nothing is tried twice; for conversations, pipelines and teams use `attach` and `Client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from uuid import uuid4

import msgspec

from backend import catalog, config
from backend.home import Home, read_token
from backend.schema.errors import TektonError
from backend.schema.frames import ChatResponse, ErrorReply, Request, StreamChunk, StreamEnd, StreamError
from backend.wire import MAX_LINE_BYTES, decode_reply, encode_line

TIMEOUT_S = 300.0


class SpecialistUnreachable(TektonError):
    """Nobody listens on the specialist's port."""

    code = "not_running"


async def ai_send(
    ai_id: str,
    message: str,
    host: str | None = None,
    port: int | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> str:
    """Ask a specialist one question and return its whole answer.

    Host and port are found from the registry, else from the catalogue, when they are not given.

    Raises:
        SpecialistUnreachable: Nobody listens there (`not_running`).
        TektonError: `unknown_specialist`; `too_large`; the model's own code when it failed; `timeout` past `timeout_s`;
            `worker_lost` when the specialist died before it answered.
    """
    request = _request_line(ai_id, Request(content=message, request_id=uuid4().hex))
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _open(ai_id, host, port)
            try:
                line = await _exchange(reader, writer, request, ai_id)
            finally:
                writer.close()
    except TimeoutError as error:
        raise TektonError(f"{ai_id} gave no whole answer within {timeout_s:g} s", code="timeout") from error
    reply = decode_reply(line)
    match reply:
        case ChatResponse():
            return reply.content
        case ErrorReply():
            raise TektonError(reply.message, code=reply.code, evidence=reply.evidence)
        case _:
            raise TektonError(f"{ai_id} answered a question with {type(reply).__name__}")


def ai_send_sync(
    ai_id: str,
    message: str,
    host: str | None = None,
    port: int | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> str:
    """Ask a specialist one question from plain code; see `ai_send`. Not to be called inside an event loop."""
    return asyncio.run(ai_send(ai_id, message, host, port, timeout_s=timeout_s))


async def ai_stream(
    ai_id: str, message: str, host: str | None = None, port: int | None = None
) -> AsyncGenerator[str]:
    """Ask a specialist and yield its answer as it comes. Ending the iteration ends the answer.

    Raises:
        TektonError: As `ai_send`; what had come was yielded before.
    """
    request = _request_line(ai_id, Request(content=message, stream=True, request_id=uuid4().hex))
    reader, writer = await _open(ai_id, host, port)
    try:
        line = await _exchange(reader, writer, request, ai_id)
        while True:
            match decode_reply(line):
                case StreamChunk(content=content):
                    yield content
                case StreamEnd():
                    return
                case StreamError() | ErrorReply() as failed:
                    raise TektonError(failed.message, code=failed.code, evidence=failed.evidence)
                case _:
                    pass
            line = await _line(reader, ai_id)
    finally:
        writer.close()


def _request_line(ai_id: str, request: Request) -> bytes:
    """Return a request as the line that is sent; one nobody would take is refused here, by the cap."""
    line = encode_line(request)
    if len(line) > MAX_LINE_BYTES:
        raise TektonError(
            f"the request is {len(line):,} bytes long; {ai_id} takes {MAX_LINE_BYTES:,}", code="too_large"
        )
    return line


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, ai_id: str
) -> bytes:
    """Send a request and return the first line that comes back."""
    writer.write(request)
    try:
        await writer.drain()
    except ConnectionError as error:
        raise TektonError(f"{ai_id} closed the connection: {error}", code="worker_lost") from error
    return await _line(reader, ai_id)


async def _open(
    ai_id: str, host: str | None, port: int | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port, token = (host or "localhost", port, "") if port else _place(ai_id, host)
    try:
        # the library's own limit, 64 KiB a line, is less than a long answer
        reader, writer = await asyncio.open_connection(host, port, limit=MAX_LINE_BYTES)
    except OSError as error:
        raise SpecialistUnreachable(
            f"{ai_id} does not answer on {host}:{port}; launch it with `tekton launch {ai_id.removesuffix('-ai')}`"
        ) from error
    if token:
        writer.write(encode_line(Request(type="hello", token=token)))
    return reader, writer


def _place(ai_id: str, host: str | None) -> tuple[str, int, str]:
    """Find a specialist's socket, where the registry says it runs, else where the catalogue puts it, and the token.

    The token is empty unless the sockets of this home want one and the registry names the worker: whoever else holds
    its port must not be told.
    """
    home = Home.from_environment()
    settings = config.load(home)
    component = catalog.load(settings).get(ai_id)
    try:
        registry = msgspec.json.decode(home.registry.read_bytes())
        entry = registry[component.id]
        token = read_token(home.worker_token) if settings.fleet.sockets == "token" else ""
        return host or entry.get("host", "127.0.0.1"), int(entry["port"]), token
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
        return host or "127.0.0.1", component.ai_port, ""


async def _line(reader: asyncio.StreamReader, ai_id: str) -> bytes:
    try:
        line = await reader.readline()
    except ValueError as error:
        raise TektonError(
            f"{ai_id} sent a line longer than {MAX_LINE_BYTES} bytes", code="line_too_long"
        ) from error
    except ConnectionError as error:
        raise TektonError(f"{ai_id} closed the connection: {error}", code="worker_lost") from error
    if not line:
        raise TektonError(f"{ai_id} closed the connection before it answered", code="worker_lost")
    return line
