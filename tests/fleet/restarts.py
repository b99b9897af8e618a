"""A backend that ends in the middle of every kind of call, again and again, under clients that live on.

Used by `test_restarts.py` for a few rounds and by `bench/restarts.py` for many.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from typing import Any

from backend.client import Client, locate
from backend.client.attach import start_backend
from backend.identity import identify
from backend.schema.errors import TektonError
from backend.specialists.process_scan import find_workers
from tests.fleet.whole import BOUND_S, Whole

NAMES = ("apollo", "athena")
LONG = "[[first 0.2]] [[repeat 4000]] [[rate 50]]"


class RestartRounds:
    """Each round asks in every way, ends the backend while all is under way, starts the next one, and counts.

    What a client was told has failed is not asked by the next backend, and what it was told has been answered was asked once.
    """

    def __init__(self, platform: Whole, seed: int) -> None:
        self._platform, self._dice = platform, random.Random(seed)
        self._marks = itertools.count(1)
        self.expected: Counter[str] = Counter()
        self.rounds: Counter[str] = Counter()
        self.failed = self.answered = 0

    def asked(self) -> Counter[str]:
        """Return how often each question was sent upstream, by its mark."""
        lines = (
            self._platform.calls_file.read_text().splitlines() if self._platform.calls_file.exists() else []
        )
        return Counter(line.partition(" ")[2] for line in lines)

    async def run(self, count: int) -> None:
        home = self._platform.home
        clients = [await Client.connect(lambda: locate(home)) for _ in range(2)]
        try:
            await clients[0].request("launch", {"ids": list(NAMES)})
            for number in range(count):
                await self._round(clients, number)
        finally:
            for client in clients:
                await client.close()

    async def _round(self, clients: list[Client], number: int) -> None:
        calls = [asyncio.create_task(work) for work in self._calls(clients)]
        await self._until(lambda: self.asked() == self.expected)
        calls.append(asyncio.create_task(clients[0].request("launch", {"ids": ["hermes"]})))
        await asyncio.sleep(self._dice.choice([0, 0.02, 0.2, 0.6]))
        if number % 2:
            calls.append(asyncio.create_task(clients[1].request("kill", {"ids": ["hermes"]})))
            await asyncio.sleep(self._dice.choice([0, 0.01, 0.05]))
        how = self._dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        await self._restart(how)
        self.rounds[how.name] += 1
        for outcome in await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), BOUND_S):
            assert not isinstance(outcome, BaseException) or isinstance(outcome, TektonError), outcome
            self.failed += isinstance(outcome, TektonError)
            self.answered += not isinstance(outcome, BaseException)
        for client in clients:
            mark = str(next(self._marks))
            self.expected[mark] = 1
            await self._until(lambda client=client: client.state == "attached")
            await client.request(
                "chat", {"ai_id": "apollo", "content": f"[[mark {mark}]] are you there?"}, timeout_s=BOUND_S
            )
        assert self.asked() == self.expected, self.asked() - self.expected
        workers = Counter(
            worker.ai_id for worker in await asyncio.to_thread(find_workers, self._platform.home)
        )
        assert set(workers.values()) == {1}, workers

    def _calls(self, clients: list[Client]) -> list[Any]:
        """Return a call of each kind; what each of them asks is expected from now on."""
        marks = [str(next(self._marks)) for _ in range(4)]
        self.expected.update({marks[0]: 1, marks[1]: len(NAMES), marks[2]: 1, marks[3]: 1})
        one, other = clients
        return [
            one.request(
                "chat", {"ai_id": "apollo", "content": f"[[mark {marks[0]}]] {LONG}", "session_id": ""}
            ),
            one.request("team_chat", {"content": f"[[mark {marks[1]}]] {LONG}", "target_ids": list(NAMES)}),
            other.request(
                "pipeline", {"pipeline": "athena | apollo", "input": f"[[mark {marks[2]}]] {LONG}"}
            ),
            other.request(
                "bulk", {"requests": [{"specialist_id": "athena", "message": f"[[mark {marks[3]}]] {LONG}"}]}
            ),
        ]

    async def _restart(self, how: signal.Signals) -> None:
        pid = self._platform.backend_pid
        os.kill(pid, how)
        await self._until(lambda: identify(pid) is None)
        await start_backend(self._platform.home)

    async def _until(self, holds: Any) -> None:
        async with asyncio.timeout(BOUND_S):
            while not holds():  # noqa: ASYNC110 - other processes, and a file
                await asyncio.sleep(0.02)
