"""A stream that ended, or whose client went away, leaves nothing behind: no task, no reader of events, no count."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocket

from backend.gateway.app import build_gateway
from backend.gateway.context import Gateway
from backend.gateway.protocols import FRAMES
from backend.gateway.sse import FrameResponse, chat_frames
from backend.gateway.websocket import serve_websocket
from backend.schema.frames import StreamChunk
from backend.schema.params import Chat
from tests.orchestration.running import BOUND_S, SLOW, running

SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": [], "asgi": {"spec_version": "2.4"}}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path / "home", "apollo") as platform:
        yield build_gateway(platform, "127.0.0.1", "http://127.0.0.1:1")


def left(gateway: Gateway) -> tuple[int, int, list[str]]:
    """Return open readers of events, counted streams, and tasks of streams."""
    tasks = [task.get_name() for task in asyncio.all_tasks() if "comment" in task.get_name()]
    return len(gateway.platform.events.open), gateway.streams, tasks


@pytest.mark.parametrize("leaves", [False, True], ids=["it ends", "its client leaves"])
async def test_nothing_of_a_stream_goes_on_after_it(gateway: Gateway, leaves: bool) -> None:
    readers = len(gateway.platform.events.open)
    sent, began, gone = list[bytes](), asyncio.Event(), asyncio.Event()

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        if b"token" in sent[-1]:
            began.set()
        if leaves and gone.is_set():
            raise OSError("the client has gone")

    question = Chat(ai_id="apollo", content=SLOW if leaves else "[[repeat 3]] go")
    response = FrameResponse(gateway, chat_frames(gateway, question, False, False))
    serving = asyncio.create_task(response(SCOPE, receive, send))
    await asyncio.wait_for(began.wait(), BOUND_S)
    if leaves:
        assert left(gateway) == (readers + 1, 1, ["keep-alive comments"])
        gone.set()
    await asyncio.wait_for(asyncio.gather(serving, return_exceptions=True), BOUND_S)
    await asyncio.sleep(0)
    assert left(gateway) == (readers, 0, [])
    async with asyncio.timeout(BOUND_S):
        while gateway.platform.turns.active:  # noqa: ASYNC110 - the cancel of who left is confirmed
            await asyncio.sleep(0.01)


async def test_a_client_that_fell_off_the_log_reads_on_from_one_place_and_leaves_none(
    gateway: Gateway,
) -> None:
    events = gateway.platform.events
    readers = len(events.open)
    came: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    said: asyncio.Queue[Any] = asyncio.Queue()
    stuck, reads = asyncio.Event(), asyncio.Event()

    async def write(texts: Sequence[bytes]) -> None:
        frames = [json.loads(line) for text in texts for line in text.split(b"\n")]
        if any(frame["type"] == "stream_chunk" for frame in frames):
            stuck.set()
            await reads.wait()
        for frame in frames:
            came.put_nowait(frame)

    async def until_snapshot() -> dict[str, Any]:
        async with asyncio.timeout(BOUND_S):
            while (frame := await came.get())["type"] != "snapshot":
                pass
            return frame

    async def send(message: Any) -> None:
        """The handshake's answer."""

    token = gateway.platform.home.token.read_text().strip()
    headers = [(b"host", b"127.0.0.1:1"), (b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "websocket", "path": "/ws", "headers": headers, "extensions": {FRAMES: write}}
    said.put_nowait({"type": "websocket.connect"})
    said.put_nowait(
        {"type": "websocket.receive", "text": '{"type":"subscribe","topics":["chat"],"batch":true}'}
    )
    serving = asyncio.create_task(serve_websocket(gateway, WebSocket(scope, said.get, send)))
    assert "resync" not in await until_snapshot()
    events.publish("chat", StreamChunk("r-1", "the client stops reading here", 0))
    await asyncio.wait_for(stuck.wait(), BOUND_S)
    for number in range(1, 4):
        events.publish("chat", StreamChunk("r-1", "x" * 20_000_000, number))
    reads.set()
    assert (await until_snapshot())["resync"] is True
    assert len(events.open) == readers + 1
    said.put_nowait({"type": "websocket.disconnect"})
    await asyncio.wait_for(serving, BOUND_S)
    assert len(events.open) == readers
