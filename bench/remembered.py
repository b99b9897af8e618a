"""Memory of the backend after many long answers and some huge ones, beside the bound that is set.

    python bench/remembered.py [answers, default 2000] [--mib memory.remembered_mib] [--huge 10]

Answers of 20 kB come as words, those of 20 MB in pieces of 400 characters; a client reads them all as they come, as a
console does. The figure is the resident set of the backend's process, less what it is before the first question (the
floor), at its highest and some seconds after the last answer. SQLite's caches and what the allocator keeps are part of it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
import time
from pathlib import Path

import msgspec
import psutil
from backends import ENVIRONMENT
from options import parser_for

from backend.client import Client, attach
from backend.home import Home
from backend.schema.frames import StreamEnd, StreamError

NAMES = ("apollo", "athena")
LONG = "[[repeat 2200]]"
HUGE = "[[repeat 1700000]] [[pieces 400]]"
AT_ONCE = 8
MIB = 1024 * 1024
SETTLE_S = 12.0


class Asking:
    """Questions with so many under way at once; `chars` are those of the answers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._numbers = itertools.count()
        self._open: dict[str, asyncio.Future[None]] = {}
        self.failed = 0

    async def read(self) -> None:
        async for batch in self._client.events():
            for _, event in batch:
                if isinstance(event, StreamEnd | StreamError) and (
                    end := self._open.pop(event.request_id, None)
                ):
                    self.failed += isinstance(event, StreamError)
                    end.set_result(None)

    async def ask(self, prompt: str, times: int, at_once: int) -> None:
        places = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with places:
                number = next(self._numbers)
                end = self._open[f"q{number}"] = asyncio.get_running_loop().create_future()
                name = NAMES[number % len(NAMES)]
                session = await self._client.request("create_session", {"owner": name})
                values = {
                    "ai_id": name,
                    "content": prompt,
                    "request_id": f"q{number}",
                    "session_id": session["id"],
                }
                await self._client.request("chat", {**values, "wait": False})
                await end

        await asyncio.gather(*(one() for _ in range(times)))


async def run(home: Home, answers: int, huge: int, mib: int) -> None:
    client = await attach(home)
    backend = psutil.Process(msgspec.json.decode(home.backend_facts.read_bytes())["pid"])

    def resident() -> float:
        return backend.memory_info().rss / MIB

    reading = None
    try:
        await client.request("launch", {"ids": list(NAMES)})
        await client.subscribe(["chat", "errors"])
        asking = Asking(client)
        reading = asyncio.create_task(asking.read())
        floor = resident()
        print(f"bound {mib} MiB of remembered text · floor {floor:.0f} MiB resident", flush=True)
        for label, prompt, times, at_once in (
            (f"{answers:,} answers of 20 kB", LONG, answers, AT_ONCE),
            (f"{huge} answers of 20 MB", HUGE, huge, 2),
        ):
            began = time.monotonic()
            highest = 0.0
            under_way = asyncio.create_task(asking.ask(prompt, times, at_once))
            while not under_way.done():
                highest = max(highest, resident())
                await asyncio.wait([under_way], timeout=0.1)
            took = time.monotonic() - began
            await under_way
            await asyncio.sleep(SETTLE_S)
            now = resident()
            print(
                f"after {label:26} {now:6.0f} MiB, {now - floor:+.0f} over the floor · highest {highest - floor:+.0f} · "
                f"{asking.failed} failed · {took:.0f} s",
                flush=True,
            )
        newest = (await client.request("list_sessions", {}))["sessions"][0]["id"]
        await client.request("session_messages", {"id": newest})
        await asyncio.sleep(SETTLE_S)
        print(
            f"after one was read again         {resident():6.0f} MiB, {resident() - floor:+.0f} over the floor"
        )
        print("under the bound" if resident() - floor < mib else "OVER THE BOUND")
    finally:
        await asyncio.wait_for(client.request("shutdown", {"stop_fleet": True}), 60)
        await client.close()
        if reading is not None:
            await reading


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("answers", nargs="?", type=int, default=2_000)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--huge", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tk-", ignore_cleanup_errors=True) as folder:
        home = Home(Path(folder)).prepare()
        home.config.write_text(f"[memory]\nremembered_mib = {options.mib}\n")
        os.environ.update(ENVIRONMENT, TEKTON_HOME=folder)
        asyncio.run(run(home, options.answers, options.huge, options.mib))


if __name__ == "__main__":
    main()
