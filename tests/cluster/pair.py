"""Two real gateways of one home on one real Redis server, started, stopped and killed by the tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from backend.client import Client, ConnectionChanged
from backend.client.connection import Place
from backend.home import Home
from backend.schema.events import Event
from tests.redis_server import RedisServer

WAIT_S = 60.0


class Line:
    """The way from a gateway to the store. `delay_s` holds each piece up; while it is `cut` nothing comes or goes."""

    def __init__(self, server: RedisServer) -> None:
        self.server, self.delay_s, self.url = server, 0.0, ""
        self.whole = asyncio.Event()
        self.whole.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Line:
        self._listener = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.whole.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        except OSError:
            writer.transport.abort()
            return
        for source, target in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self.whole.wait()
                target.write(data)
        except OSError:
            pass
        finally:
            target.transport.abort()


class Pair:
    """Gateways by place, 1 and 2; `environment` is what each is started with, `urls` other ways of theirs to the server."""

    def __init__(self, folder: Path, server: RedisServer, *, urls: Mapping[int, str] | None = None) -> None:
        self._folder = folder
        self.server, self._urls = server, urls or {}
        self.home = Home(folder / "home").prepare()
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.environment = {
            **os.environ,
            "TEKTON_HOME": str(self.home.root),
            "TEKTON_PORT_PROFILE": "free",
            "TEKTON_GATEWAY_PORT": "0",
            "TEKTON_PROVIDER": "scripted",
            "TEKTON_SCRIPTED_COUNT": str(folder / "calls"),
        }
        self._clients: list[Client] = []

    def start(self, place: int) -> None:
        """Start a gateway as a person does, and wait until it says that it serves."""
        log = self._log_of(place)
        with open(
            log, "wb"
        ) as file:  # no pipe, which would hold up who has much to say and nobody to read it
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "backend.cli.tekton",
                    "serve",
                    "--store",
                    self._urls.get(place, self.server.address.url),
                ],
                env=self.environment,
                stderr=file,
            )
        self.processes[place] = process
        while "tekton serves" not in log.read_text():
            assert process.poll() is None, f"the gateway ended: {log.read_text()}"
            time.sleep(0.02)
        assert self.facts(place)["pid"] == process.pid

    def _log_of(self, place: int) -> Path:
        return self._folder / f"gateway-{place}.log"

    def facts(self, place: int) -> dict[str, Any]:
        return json.loads(self.home.facts_of(place).read_text())

    def place(self, *numbers: int) -> Callable[[], Place]:
        """Return what gives a client one gateway after the other, at each connection the next."""
        token = self.home.token.read_text().strip()
        places = cycle([(self.facts(number)["url"], token) for number in numbers])
        return lambda: next(places)

    async def client(self, *numbers: int) -> Client:
        client = await Client.connect(self.place(*numbers))
        self._clients.append(client)
        return client

    def signal(self, place: int, number: signal.Signals) -> None:
        self.processes[place].send_signal(number)

    def marks(self) -> Counter[str]:
        """Return how often each marked prompt was sent upstream."""
        calls = Path(self.environment["TEKTON_SCRIPTED_COUNT"])
        lines = calls.read_text().splitlines() if calls.exists() else []
        return Counter(mark for line in lines if (mark := line.partition(" ")[2]))

    async def says(self, place: int, words: str, *, times: int = 1) -> None:
        """Wait until a gateway's log has said something so often."""
        async with asyncio.timeout(WAIT_S):
            while self._log_of(place).read_text().count(words) < times:  # noqa: ASYNC110 - a file of another process
                await asyncio.sleep(0.02)

    async def fault(self, fault: str) -> None:
        """Have the store be `gone …` or `full` until `mend`."""
        if fault == "full":
            await asyncio.to_thread(self.server.command, "CONFIG SET maxmemory 1")
        else:
            await asyncio.to_thread(self.server.kill)

    async def mend(self, fault: str) -> None:
        if fault == "full":
            await asyncio.to_thread(self.server.command, "CONFIG SET maxmemory 0")
        else:
            await asyncio.to_thread(self.server.start)

    async def ended(self, place: int) -> tuple[int, str]:
        """Wait for a gateway's end; return its code and its last words."""
        process = self.processes.pop(place)
        await asyncio.to_thread(process.wait, WAIT_S)
        return process.returncode, self._log_of(place).read_text()

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        for process in self.processes.values():
            process.kill()
            process.wait(WAIT_S)
        await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-P", "-m", "backend.cli.tekton", "kill", "--all"],
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )


class Heard:
    """All a client hears of its topics, from its first snapshot on."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.events: list[tuple[int, Event | ConnectionChanged]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self, *topics: Any) -> Heard:
        self._task = asyncio.create_task(self._read())
        await self.client.subscribe(topics)
        return self

    async def until(self, wish: Callable[[list[Event]], object]) -> None:
        """Wait until what was heard satisfies a wish."""
        async with asyncio.timeout(WAIT_S):
            while not wish([event for _, event in self.events if not isinstance(event, ConnectionChanged)]):
                self._changed.clear()
                await self._changed.wait()

    def of(self, *kinds: type) -> list[Any]:
        return [event for _, event in self.events if isinstance(event, kinds)]

    async def _read(self) -> None:
        async for batch in self.client.events():
            self.events += batch
            self._changed.set()


async def stored_answers(client: Client) -> dict[str, list[str]]:
    """Return the texts of all answers in the store by request id."""
    found: dict[str, list[str]] = {}
    for session in (await client.request("list_sessions", {"limit": 500}))["sessions"]:
        before: dict[str, int] = {}
        while True:
            values = {"id": session["id"], "limit": 200, **before}
            page = (await client.request("session_messages", values))["messages"]
            for row in page:
                if row["role"] == "assistant" and row.get("request_id"):
                    found.setdefault(row["request_id"], []).append(row["content"])
            if len(page) < 200:
                break
            before = {"before_id": page[0]["id"]}
    return found
