"""How soon a tool call is on a console's desk, eighteen specialists asking in the same moment.

A real backend, eighteen workers, a vendor on loopback that holds every answer until all have asked, then lets all go. Prints
milliseconds from the last byte of the model's call to the ask at a client of the WebSocket, and to the row of what waits.
The floor is of the same run: from the last byte of a plain answer to its end at the same client.
Run: `python -m bench.asks [--rounds 20]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.catalog import load
from backend.client import Client, attach
from backend.config import Settings
from backend.home import Home, write_private
from backend.schema.events import AskOpened, AttentionChanged
from backend.schema.frames import StreamEnd
from tests.approvals.vendors import DONE, spoken
from tests.providers.dialects import OpenAIWords
from tests.providers.rigs import ServerRig
from tests.providers.upstreams import Call

MANY = 18
GOAL_MS = 100.0
_MARK = re.compile(r"M(\d+-\d+)M")
Times = dict[str, float]


class Vendor:
    """Answers when `MANY` have asked: each with a tool call, and once that is denied, with a text."""

    def __init__(self) -> None:
        self.sent: dict[str, Times] = {"call": {}, "text": {}}
        self._gates: dict[tuple[str, str], asyncio.Barrier] = defaultdict(lambda: asyncio.Barrier(MANY))

    async def answer(self, rig: ServerRig, call: Call) -> None:
        asked: dict[str, Any] = json.loads(call.body)
        mark = _MARK.findall(json.dumps(asked["messages"]))[-1]
        kind = "text" if asked["messages"][-1]["role"] == "tool" else "call"
        calls = [("tekton__facts", json.dumps({"mark": f"M{mark}M"}))]
        stream = spoken("openai", "" if kind == "call" else "done", calls if kind == "call" else [])
        await call.begin(rig.dialect.media)
        await self._gates[mark.partition("-")[0], kind].wait()
        await call.send(stream.removesuffix(DONE))
        self.sent[kind][mark] = time.monotonic()
        await call.send(DONE)
        await call.end()


async def measure(home: Home, names: list[str], vendor: Vendor, rounds: int) -> dict[str, list[float]]:
    """Return milliseconds by what was waited for."""
    client, answers = await attach(home), await attach(home, start=False)
    came: dict[str, Times] = defaultdict(dict)
    turns: dict[str, str] = {}
    ended = asyncio.Semaphore(0)

    async def read() -> None:
        async for batch in client.events():
            for _, event in batch:
                now = time.monotonic()
                if isinstance(event, AskOpened):
                    mark = _MARK.findall(event.ask.arguments)[0]
                    came["ask"][mark] = now
                    turns[event.ask.request_id] = mark
                    task = asyncio.create_task(deny(event.ask.id))
                    denying.add(task)
                    task.add_done_callback(denying.discard)
                elif isinstance(event, AttentionChanged):
                    for item in event.items:
                        if item.kind == "asks" and (marks := _MARK.findall(item.why)):
                            came["row"].setdefault(marks[0], now)
                elif isinstance(event, StreamEnd) and event.request_id in turns:
                    came["end"][turns[event.request_id]] = now
                    ended.release()

    denying: set[asyncio.Task[None]] = set()

    async def deny(ask_id: str) -> None:
        await asyncio.sleep(0.5)  # the operator reads
        await answers.request("answer_ask", {"id": ask_id, "answer": "deny"})

    await client.subscribe(["chat", "asks", "errors"])
    reading = asyncio.create_task(read())
    for number in range(rounds):
        await asyncio.gather(
            *(
                answers.request("chat", {"ai_id": name, "content": f"M{number}-{place}M", "wait": False})
                for place, name in enumerate(names)
            )
        )
        for _ in names:
            await asyncio.wait_for(ended.acquire(), 60)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await close(client, answers)
    return {
        "floor: a text's last byte to its end at the client": _ms(vendor.sent["text"], came["end"]),
        "the model's call to the ask at the client": _ms(vendor.sent["call"], came["ask"]),
        "the model's call to the row of what waits": _ms(vendor.sent["call"], came["row"]),
    }


async def close(client: Client, other: Client) -> None:
    """End the backend with its fleet."""
    await other.request("shutdown", {"stop_fleet": True})
    await client.close()
    await other.close()


def _ms(began: Times, ended: Times) -> list[float]:
    assert began.keys() == ended.keys(), (len(began), len(ended))
    return sorted((ended[mark] - at) * 1000 for mark, at in began.items())


async def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="tekton-") as folder:
        home = Home(Path(folder) / "home").prepare()
        vendor = Vendor()
        rig = ServerRig("openai", home, dialect=OpenAIWords())
        rig.handler = lambda call: vendor.answer(rig, call)
        await rig.serve()
        names = [row.name for row in load(Settings())][:MANY]
        text = f'[rules]\nask = ["tekton:*"]\n[providers.openai]\nbase_url = "{rig.upstream.url}/v1"\nmodel = "test-model"\n'
        text += "".join(f'[specialists.{name}]\ntools = ["tekton"]\n' for name in names)
        write_private(home.config, text.encode())
        os.environ |= {
            "TEKTON_HOME": str(home.root),
            "TEKTON_PORT_PROFILE": "free",
            "TEKTON_GATEWAY_PORT": "0",
            "TEKTON_PROVIDER": "openai",
            "OPENAI_API_KEY": "sk-test",
        }
        starter = await attach(home)
        report = await starter.request("launch", {"ids": names}, timeout_s=120)
        assert all(row["ok"] for row in report["results"]), report
        await starter.close()
        rows = await measure(home, names, vendor, rounds)
        await rig.upstream.stop()
    load_now = os.getloadavg()[0]
    print(f"{MANY} at once, {rounds} rounds; load {load_now:.1f} on {os.cpu_count()} cores")
    print(f"{'':52}{'p50 ms':>9}{'p95 ms':>9}{'top ms':>9}")
    for name, times in rows.items():
        p95 = times[int(len(times) * 0.95)]
        verdict = (
            ""
            if name.startswith("floor")
            else f"   goal ≤ {GOAL_MS:g} ms: {'met' if p95 <= GOAL_MS else 'missed'}"
        )
        print(f"{name:52}{times[len(times) // 2]:9.1f}{p95:9.1f}{times[-1]:9.1f}{verdict}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    asyncio.run(main(parser.parse_args().rounds))
