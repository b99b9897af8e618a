"""Rounds of `kill -9` at random victims while chats run; used by the suite (few) and by `bench/attack.py` (many).

A victim is a worker, the whole backend, a holder of the registry's lock or the model server. After each round the
states must be right within a second, nothing may be left over, and nothing may have been restarted.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from backend.home import Home
from backend.identity import identify
from backend.schema.frames import StreamEnd, StreamError
from backend.specialists.process_scan import find_workers
from tests.specialists.fleets import Answer, Platform, make_platform

IDS = ["apollo-ai", "athena-ai", "numa-ai"]
EMBEDDED = "metis-ai"
"""Launched beside the others when the model server is among the victims."""
MODEL = "model server"
PROMPT = "[[repeat 100000]] [[rate 200]]"

HOLDER = """
import sys
from pathlib import Path
from backend.registry import Registry
with Registry(Path(sys.argv[1]), Path(sys.argv[2])).transaction():
    print("held", flush=True)
    sys.stdin.read()
"""
BACKEND = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.specialists.fleets import make_platform

async def main():
    platform = make_platform(Path(sys.argv[1]))
    await platform.supervisor.start()
    await platform.launch(*sys.argv[3:])
    for ai_id in sys.argv[3:]:
        answer = platform.ask(ai_id, "[[repeat 100000]] [[rate 200]]", f"backend-{ai_id}")
        await answer.begun.wait()
    print(*(platform.pid(ai_id) for ai_id in sys.argv[3:]), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Rounds:
    """One home under attack. `counts` says how often each victim was hit, `slowest_s` its slowest truth."""

    def __init__(self, root: Path, seed: int, victims: list[str] | None = None) -> None:
        self.home = Home(root).prepare()
        self.dice = random.Random(seed)
        self.victims = victims or ["worker", "worker", "backend", "lock holder"]
        self.ids = list(IDS)
        if MODEL in self.victims:
            self.ids.append(EMBEDDED)
            self.home.config.write_text(
                '[specialists.metis]\nprovider = "embedded"\n[providers.embedded]\nslots = 2\n'
            )
        self.counts: Counter[str] = Counter()
        self.slowest_s: dict[str, float] = {}
        self.calls = root / "calls"
        self.asked = 0
        os.environ["TEKTON_SCRIPTED_COUNT"] = str(self.calls)
        self.platform: Platform | None = None

    async def run(self, count: int) -> None:
        await self._backend_of_ours()
        for _ in range(count):
            victim = self.dice.choice(self.victims)
            self.counts[victim] += 1
            await self._rounds()[victim]()
            await self._check(victim)
        await self.close()

    def _rounds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "worker": self._worker,
            "backend": self._backend,
            "lock holder": self._lock_holder,
            MODEL: self._model_server,
        }

    async def close(self) -> None:
        if self.platform is not None:
            await self.platform.supervisor.close(stop_fleet=True)
            self.platform = None

    async def _backend_of_ours(self) -> Platform:
        """Start a backend in this process; it adopts what lives, and what does not is launched by hand."""
        self.platform = make_platform(self.home.root)
        await self.platform.supervisor.start()
        await self.platform.launch(*self.ids)
        return self.platform

    async def _chats(self) -> dict[str, Answer]:
        assert self.platform is not None
        answers = {ai_id: self.platform.ask(ai_id, PROMPT, f"r{self.asked}-{ai_id}") for ai_id in IDS}
        self.asked += len(IDS)
        for answer in answers.values():
            await asyncio.wait_for(answer.begun.wait(), 60)
        return answers

    async def _worker(self) -> None:
        fleet = self.platform
        assert fleet is not None
        answers = await self._chats()
        victim = self.dice.choice(IDS)
        pid = fleet.pid(victim)
        assert pid > 0, fleet.supervisor.status(victim)
        started = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        row = await fleet.until_state(victim, "killed", "exited")
        end = await answers.pop(victim).end()
        self._truth_took("worker", started)
        assert isinstance(end, StreamError) and end.code == "worker_lost", end
        assert row.adopted or row.signal == 9, row
        for ai_id, answer in answers.items():
            assert not answer.ended.is_set(), "one worker's death ended another's turn"
            assert await fleet.supervisor.channel(ai_id).cancel(answer.request_id, timeout_s=20)
            assert isinstance(await answer.end(), StreamEnd)
        assert fleet.supervisor.status(victim).state in ("killed", "exited"), "it was restarted by itself"
        assert {ai_id for ai_id, _ in await self._living()} == set(self.ids) - {victim}
        await fleet.launch(victim)

    async def _backend(self) -> None:
        """Hand the fleet to a backend of its own process, kill that, and adopt what it left."""
        assert self.platform is not None
        # one that still starts is nobody's yet, and ends with who starts it
        await self.platform.until(lambda: self._server_state() in ("", "ready", "exited", "killed"), 60)
        before = {ai_id: self.platform.pid(ai_id) for ai_id in self.ids}
        server = self._server_pid()
        await self.platform.supervisor.close(stop_fleet=False)
        backend = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BACKEND, str(self.home.root), str(Path(__file__).parents[2]), *IDS,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert backend.stdout is not None
        pids = [int(word) for word in (await asyncio.wait_for(backend.stdout.readline(), 60)).split()]
        self.asked += len(IDS)
        assert pids == [before[ai_id] for ai_id in IDS], "the other backend did not adopt these workers"
        backend.kill()
        await backend.wait()
        started = time.monotonic()
        self.platform = make_platform(self.home.root)
        await self.platform.supervisor.start()
        self._truth_took("backend", started)
        assert {ai_id: self.platform.pid(ai_id) for ai_id in self.ids} == before, "a wrong or no adoption"
        assert self._server_pid() == server

    async def _lock_holder(self) -> None:
        assert self.platform is not None
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLDER, str(self.home.registry), str(self.home.audit),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert holder.stdout is not None
        assert await asyncio.wait_for(holder.stdout.readline(), 60) == b"held\n"
        victim = self.dice.choice(IDS)
        launching = asyncio.create_task(self.platform.supervisor.restart([victim]))
        holder.kill()
        await holder.wait()
        started = time.monotonic()
        [result] = await launching
        self._truth_took("lock holder", started)
        assert result.ok, result

    async def _model_server(self) -> None:
        fleet = self.platform
        assert fleet is not None
        await fleet.until(lambda: self._server_state() in ("ready", "exited"), 60)
        answer = fleet.ask(EMBEDDED, "Tell a long story about the sea.", f"m{self.counts[MODEL]}")
        await asyncio.wait_for(answer.begun.wait(), 30)
        pid = self._server_pid()
        assert pid > 0
        started = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        await fleet.until(lambda: self._server_state() in ("killed", "exited"))
        end = await answer.end()
        self._truth_took(MODEL, started)
        assert isinstance(end, StreamError), end
        assert self._server_pid() == 0
        await fleet.launch(EMBEDDED)  # asked for by hand, it starts what it needs
        await fleet.until(lambda: self._server_state() == "ready", 60)

    def _server_state(self) -> str:
        assert self.platform is not None
        return next((service.state for service in self.platform.supervisor.services()), "")

    def _server_pid(self) -> int:
        assert self.platform is not None
        return next((service.pid for service in self.platform.supervisor.services()), 0)

    async def _check(self, victim: str) -> None:
        """After every round: one worker each, rows and registry as the processes are, one upstream call a prompt."""
        assert self.platform is not None
        supervisor = self.platform.supervisor
        living = dict(await self._living())
        assert living == {ai_id: self.platform.pid(ai_id) for ai_id in self.ids}, victim
        assert len(await self._living()) == len(self.ids), f"{victim}: a worker runs twice"
        for ai_id in self.ids:
            assert supervisor.status(ai_id).state in ("ready", "busy"), supervisor.status(ai_id)
        await supervisor._context.registry.flush()
        entries = await asyncio.to_thread(supervisor._context.registry.registry.read)
        assert {ai_id: entry.pid for ai_id, entry in entries.items()} == living, victim
        calls = self.calls.read_text().count("call") if self.calls.exists() else 0
        assert calls == self.asked, f"{victim}: {self.asked} prompts, {calls} upstream calls"

    async def _living(self) -> list[tuple[str, int]]:
        workers = await asyncio.to_thread(find_workers, self.home)
        assert all(identify(worker.identity.pid) for worker in workers)
        return [(worker.ai_id, worker.identity.pid) for worker in workers]

    def _truth_took(self, victim: str, started: float) -> None:
        self.slowest_s[victim] = max(self.slowest_s.get(victim, 0.0), time.monotonic() - started)
