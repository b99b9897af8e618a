"""Two gateways on one Redis server, and everything that happens to servers: what is lost, asked twice, or ended wrongly.

    python bench/outages.py [--seeds 10] [--first 1] [--only killed] [--scale 1]

In each round both gateways stream and are asked small questions all the time while one fault comes and goes: the store is
killed for 60 s or for 8 s, asleep for 30 s, full, slow, or emptied; a gateway is killed, or for 30 s asleep or cut from the
store. Each prompt must have been sent upstream once at most, each confirmed answer must lie in the store once and as it was
told, and no gateway may end but one that was killed. `--scale 0.2` makes all times shorter.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from options import parser_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.client import Client
from backend.schema.errors import TektonError
from backend.schema.frames import StreamEnd
from tests.cluster.pair import Heard, Line, Pair, stored_answers
from tests.redis_server import RedisServer

FAULTS = ("killed", "asleep", "full", "slow", "briefly", "gateway-asleep", "gateway-killed", "emptied", "cut")
CALM_S = 60.0
"""How long after the fault everything may take to be as before."""
ASK_EVERY_S = 0.4
STREAMS = 2
"""At each gateway, all the time."""


class Round:
    """One pair, one fault, and all that was told."""

    def __init__(self, pair: Pair, lines: dict[int, Line], dice: random.Random, scale: float) -> None:
        self._pair, self._lines, self._dice, self._scale = pair, lines, dice, scale
        self._clients: dict[int, Client] = {}
        self._sessions: dict[str, str] = {}
        self._marks = 0
        self.asked: dict[str, str] = {}
        """Marks by request id."""
        self.confirmed: dict[str, str] = {}
        self.unstored = set[str]()
        """Confirmed with the word that they are not stored yet."""
        self.refused = Counter[str]()
        self.killed = set[int]()
        self.wrong: list[str] = []

    async def run(self, fault: str) -> None:
        for place in (1, 2):
            await asyncio.to_thread(self._pair.start, place)
            self._clients[place] = await self._pair.client(place)
        launched = (await self._clients[1].request("launch", {"ids": ["apollo", "athena"]}))["results"]
        assert all(row["ok"] for row in launched), launched
        asking = [asyncio.create_task(self._ask_on(place)) for place in (1, 2)]
        asking += [asyncio.create_task(self._stream_on(place, n)) for place in (1, 2) for n in range(STREAMS)]
        await asyncio.sleep(2)
        await self._do(fault)
        mended = time.monotonic()
        calm = await self._calm()
        took = time.monotonic() - mended
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        if not calm:
            self.wrong.append(f"not as before within {CALM_S:g} s")
        for place in self._alive():
            await self._hear(place)
        await self._check(emptied=fault == "emptied")
        print(
            f"{fault:>14}: {len(self.asked)} prompts, {len(self.confirmed)} confirmed ({len(self.unstored)} told as not stored "
            f"yet), {sum(self.refused.values())} told as failed {dict(self.refused)}, as before {took:.1f} s after"
            + "".join(f"\n      WRONG: {text}" for text in self.wrong[:12]),
            flush=True,
        )

    # what happens

    async def _do(self, fault: str) -> None:
        server, pair = self._pair.server, self._pair
        place = self._dice.choice((1, 2))
        match fault:
            case "killed" | "briefly":
                server.kill()
                await self._wait(60 if fault == "killed" else 8)
                await asyncio.to_thread(server.start)
            case "asleep":
                assert server.process is not None
                server.process.send_signal(signal.SIGSTOP)
                await self._wait(30)
                server.process.send_signal(signal.SIGCONT)
            case "full":
                await pair.fault("full")
                await self._wait(self._dice.uniform(6, 20))
                await pair.mend("full")
            case "slow":
                delay_s = self._dice.uniform(0.2, 1.5)
                for line in self._lines.values():
                    line.delay_s = delay_s
                await self._wait(20)
                for line in self._lines.values():
                    line.delay_s = 0.0
            case "cut":
                self._lines[place].whole.clear()
                await self._wait(30)
                self._lines[place].whole.set()
            case "emptied":
                server.empty()
            case "gateway-asleep":
                pair.signal(place, signal.SIGSTOP)
                await self._wait(30)
                pair.signal(place, signal.SIGCONT)
            case _:
                self.killed.add(place)
                pair.signal(place, signal.SIGKILL)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._scale)

    # what is asked meanwhile

    async def _ask_on(self, place: int) -> None:
        while True:
            await self._ask(place, "athena", "are you there?")
            await asyncio.sleep(ASK_EVERY_S)

    async def _stream_on(self, place: int, number: int) -> None:
        while True:
            pieces = self._dice.choice((40, 200, 600))
            await self._ask(place, "apollo", f"[[repeat {pieces}]] [[rate 20]]", f"{place}-{number}")
            await asyncio.sleep(ASK_EVERY_S)

    async def _ask(self, place: int, name: str, question: str, lane: str = "") -> bool:
        self._marks += 1
        mark, request_id = str(self._marks), f"o-{self._marks}"
        self.asked[request_id] = mark
        params: dict[str, Any] = {
            "ai_id": name,
            "content": f"[[mark {mark}]] {question}",
            "request_id": request_id,
        }
        try:
            if lane:  # questions in one session wait for each other
                params["session_id"] = await self._session(place, name, lane)
            outcome = await self._clients[place].request("chat", params)
        except TektonError as error:
            self.refused[error.code] += 1
            return False
        self.confirmed[request_id] = outcome["content"]
        if any("not stored" in note for note in outcome.get("notes", [])):
            self.unstored.add(request_id)
        return True

    async def _session(self, place: int, name: str, lane: str) -> str:
        if lane not in self._sessions:
            made = await self._clients[place].request("create_session", {"owner": name})
            self._sessions[lane] = made["id"]
        return self._sessions[lane]

    # what is true afterwards

    async def _hear(self, place: int) -> None:
        """See that every gateway that lives still hears what is said at one."""
        listeners = [await Heard(await self._pair.client(other)).begin("chat") for other in self._alive()]
        await self._ask(place, "athena", "who hears this?")
        asked = f"o-{self._marks}"
        for other, heard in zip(self._alive(), listeners, strict=True):
            try:
                async with asyncio.timeout(10):
                    await heard.until(
                        lambda events: [
                            e for e in events if isinstance(e, StreamEnd) and e.request_id == asked
                        ]
                    )
            except TimeoutError:
                self.wrong.append(f"what is said at gateway {place} is not heard at {other}")

    def _alive(self) -> list[int]:
        return [place for place, process in self._pair.processes.items() if process.poll() is None]

    async def _calm(self) -> bool:
        """Wait until each gateway that lives answers, and both are seen."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALM_S):
                while True:
                    done = [await self._ask(place, "athena", "and now?") for place in self._alive()]
                    if done and all(done):
                        return True
                    await asyncio.sleep(0.2)
        return False

    async def _check(self, *, emptied: bool) -> None:
        ended = {1, 2} - set(self._alive())
        if ended - self.killed:
            codes = {place: self._pair.processes[place].poll() for place in ended}
            self.wrong.append(f"gateways ended: {codes}")
        asked = self._pair.marks()
        self.wrong += [f"prompt {mark} was asked {times} times" for mark, times in asked.items() if times > 1]
        if not self._alive():
            self.wrong.append("no gateway is left")
            return
        client = await self._pair.client(self._alive()[0])
        stored = await stored_answers(client)
        missing = [name for name in self.confirmed if name not in stored]
        deadline = time.monotonic() + 20
        while (
            missing and not emptied and time.monotonic() < deadline
        ):  # those that were told as not stored yet
            await asyncio.sleep(0.5)
            stored = await stored_answers(client)
            missing = [name for name in self.confirmed if name not in stored]
        for name, told in self.confirmed.items():
            if not asked[self.asked[name]]:
                self.wrong.append(f"{name} was confirmed and never asked")
            rows = stored.get(name, [])
            if rows != [told] and not (emptied and not rows):
                self.wrong.append(f"{name} was confirmed and is stored {len(rows)} times: {rows!r:.80}")
        self.wrong += [f"{name} has {len(rows)} answers" for name, rows in stored.items() if len(rows) > 1]
        if emptied:
            deadline = time.monotonic() + 5  # with the next renewal of a lease
            while not any(
                "was emptied" in error["message"]
                for error in (await client.request("list_errors", {}))["errors"]
            ):
                if time.monotonic() > deadline:
                    self.wrong.append("nobody was told that the store was emptied")
                    break
                await asyncio.sleep(0.1)


async def one(fault: str, seed: int, scale: float) -> int:
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder) / "redis").start()
        try:
            async with Line(server) as first, Line(server) as second:
                pair = Pair(Path(folder), server, urls={1: first.url, 2: second.url})
                this = Round(pair, {1: first, 2: second}, random.Random(seed), scale)
                try:
                    await this.run(fault)
                finally:
                    await pair.close()
        finally:
            server.kill()
    return len(this.wrong)


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--only", choices=FAULTS)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    wrong = 0
    for seed in range(options.first, options.first + options.seeds):
        fault = options.only or FAULTS[(seed - 1) % len(FAULTS)]
        print(f"seed {seed}", end=" ", flush=True)
        wrong += asyncio.run(one(fault, seed, options.scale))
    print(f"{wrong} things were wrong" if wrong else "nothing was wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
