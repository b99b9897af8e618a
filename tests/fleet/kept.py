"""Rounds in which many short answers come and something is killed: what was announced as finished must be kept.

Used by the suite (few rounds) and by `bench/attack.py --kept` (many).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from typing import Any

from backend.client import attach
from backend.schema.frames import StreamEnd
from tests.fleet.whole import Whole

NAMES = ["apollo", "athena", "numa"]
PROMPTS = 12
"""Of one round and specialist."""
HOLDER = """
import sys
from pathlib import Path
from backend.registry import Registry
with Registry(Path(sys.argv[1]), Path(sys.argv[2])).transaction():
    print("held", flush=True)
    sys.stdin.read()
"""


class KeptRounds:
    """One platform under attack. `announced` are the turns whose end a client has seen, all rounds together."""

    def __init__(self, platform: Whole, seed: int) -> None:
        self.platform = platform
        self.dice = random.Random(seed)
        self.announced: set[str] = set()
        self.asked = 0
        self.counts: Counter[str] = Counter()

    async def run(self, victims: list[str]) -> None:
        for number, victim in enumerate(victims):
            self.counts[victim] += 1
            await self.platform.launch(*NAMES)
            seen = await self._answers_until_kill(number, victim)
            if victim == "backend":
                await self.platform.reattach()
            await self._check(number, seen)

    async def _answers_until_kill(self, number: int, victim: str) -> set[str]:
        """Ask all at once; after some ends were seen, kill; return whose ends were seen."""
        listener = await attach(self.platform.home, start=False)
        await listener.subscribe(["chat"])
        names = [f"k{number}-{name}-{index}" for name in NAMES for index in range(PROMPTS)]
        for request_id in names:
            prompt = f"[[say all of {request_id} is here]] [[rate 200]]"
            await self.platform.client.request(
                "chat",
                {
                    "ai_id": request_id.split("-")[1],
                    "content": prompt,
                    "request_id": request_id,
                    "wait": False,
                },
            )
        self.asked += len(names)
        after = self.dice.randrange(1, len(names))
        seen: set[str] = set()
        async with asyncio.timeout(30):
            async for batch in listener.events():
                ended = {event.request_id for _, event in batch if isinstance(event, StreamEnd)}
                seen |= ended & set(names)
                if len(seen) >= after:
                    break
        await listener.close()
        await getattr(self, f"_kill_{victim.replace(' ', '_')}")()
        return seen

    async def _kill_backend(self) -> None:
        await self.platform.kill_backend()

    async def _kill_worker(self) -> None:
        victim = self.dice.choice(NAMES)
        os.kill((await self.platform.row(victim))["pid"], signal.SIGKILL)
        await self.platform.until_row(victim, lambda row: row.get("state") in ("killed", "exited"))

    async def _kill_lock_holder(self) -> None:
        """Kill a worker while somebody holds the registry's lock, then the holder."""
        home = self.platform.home
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLDER, str(home.registry), str(home.audit),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert holder.stdout is not None and await asyncio.wait_for(holder.stdout.readline(), 60)
        await self._kill_worker()
        holder.kill()
        await holder.wait()

    async def _check(self, number: int, seen: set[str]) -> None:
        """Each announced answer is there, whole; each other one is whole or a visible error; none was asked twice."""
        self.announced |= seen
        stored = await self._stored(number)
        for request_id in seen:
            assert stored[request_id]["content"] == f"all of {request_id} is here", stored[request_id]
            assert not stored[request_id].get("error_code"), stored[request_id]
        for request_id, message in stored.items():
            whole = message["content"] == f"all of {request_id} is here"
            # `not_running`: a question that waited behind one whose worker was killed is told that nobody is there
            told = message.get("error_code") in ("backend_lost", "worker_lost", "not_running")
            assert whole or told, message
        assert len(stored) == len(NAMES) * PROMPTS, "an answer is neither kept nor an error"
        assert self.platform.calls <= self.asked, (
            f"{self.asked} prompts, {self.platform.calls} upstream calls"
        )
        assert self._booked() == self._with_usage() > 0, "budgets and answers tell of different turns"

    def _booked(self) -> int:
        return self._count("SELECT coalesce(sum(turns), 0) FROM usage")

    def _with_usage(self) -> int:
        return self._count("SELECT count(*) FROM messages WHERE usage IS NOT NULL")

    def _count(self, query: str) -> int:
        with contextlib.closing(
            sqlite3.connect(f"file:{self.platform.home.database}?mode=ro", uri=True)
        ) as file:
            return int(file.execute(query).fetchone()[0])

    async def _stored(self, number: int) -> dict[str, dict[str, Any]]:
        """Return this round's answers by request id, once no turn is under way any more."""
        found: dict[str, dict[str, Any]] = {}
        async with asyncio.timeout(30):
            while (await self.platform.client.request("snapshot", {})).get("turns"):
                pass
        for name in NAMES:
            history = await self.platform.client.request(
                "conversation_history", {"specialist_id": name, "limit": 200}
            )
            for message in history["messages"]:
                request_id = message.get("request_id", "")
                if message["role"] == "assistant" and request_id.startswith(f"k{number}-"):
                    assert request_id not in found, f"{request_id} was answered twice"
                    found[request_id] = message
        return found
