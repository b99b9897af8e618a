from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backend.registry.ports import bind
from backend.specialists.killall import kill_all
from backend.worker.__main__ import serve_specialist
from backend.worker.spec import StartLine, Warm, WorkerSpec
from tests.specialists.fleets import Platform, make_platform
from tests.specialists.tiny import TinyProvider, spec_with

BOUND_S = 60.0
"""How long anything in these tests may take before it counts as never."""


@dataclass
class Client:
    """A raw client of the socket: lines of JSON, nothing else."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, **frame: Any) -> None:
        self.writer.write(json.dumps(frame).encode() + b"\n")

    def send_raw(self, data: bytes) -> None:
        self.writer.write(data)

    async def line(self) -> bytes:
        return await asyncio.wait_for(self.reader.readline(), BOUND_S)

    async def frame(self) -> dict[str, Any]:
        return json.loads(await self.line())

    async def until(self, kind: str) -> list[dict[str, Any]]:
        frames = [await self.frame()]
        while frames[-1]["type"] != kind:
            frames.append(await self.frame())
        return frames

    async def close(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(2):
                await self.writer.wait_closed()
        except (ConnectionError, TimeoutError):  # cut by the worker, or full of what the worker does not read
            self.writer.transport.abort()


@dataclass
class Served:
    """A specialist served in this process, on a real socket."""

    spec: WorkerSpec
    provider: TinyProvider
    task: asyncio.Task[None]
    reported: list[StartLine] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.spec.port, limit=16 * 1024 * 1024)
        self.clients.append(Client(reader, writer))
        return self.clients[-1]

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
async def serve() -> AsyncIterator[Any]:
    """Return a function that serves a specialist; everything is ended after the test."""
    running: list[Served] = []

    async def start(provider: TinyProvider | None = None, **changes: Any) -> Served:
        tiny = provider or TinyProvider()
        listener = bind("127.0.0.1", 0)
        spec = spec_with(port=listener.getsockname()[1], **changes)
        reported: list[StartLine] = []
        ready = asyncio.Event()

        def report(line: StartLine) -> None:
            reported.append(line)
            if isinstance(line, Warm) or not tiny.prepared.is_set():  # a provider held back warms in the test
                ready.set()

        task = asyncio.create_task(serve_specialist(spec, listener, report, make_provider=lambda kind: tiny))
        running.append(Served(spec, tiny, task, reported))
        await asyncio.wait_for(ready.wait(), BOUND_S)
        return running[-1]

    yield start
    for served in running:
        for client in served.clients:
            await client.close()
        await served.stop()


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Any]:
    """Return a function that starts a platform in this test's home; every process is ended after the test."""
    started: list[Platform] = []

    async def start(options: dict[str, Any] | None = None, **environment: str) -> Platform:
        started.append(make_platform(tmp_path / "home", environment, **(options or {})))
        await started[-1].supervisor.start()
        return started[-1]

    yield start
    for one in started:
        await one.supervisor.close(stop_fleet=False)
    if started:
        await asyncio.to_thread(kill_all, started[0].home, grace_s=1.0)
