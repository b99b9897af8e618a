"""The conversation store on Redis beside the embedded one: appends, windows, search, memory a message.

Floor: SET of the same text over the same client. Starts a server of its own; says so where none is installed.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from backend.memory import MemoryStore, SqliteStore
from backend.schema.records import StoredMessage

WORDS = (Path(__file__).parent / "matching_requests.toml").read_text(encoding="utf-8").split()
MESSAGES, LONE = 10_000, 500


def text(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(20, 120)))


async def say(store: MemoryStore, session_id: str, content: str) -> None:
    await store.messages.append(StoredMessage(0, session_id, "you", "user", content, time.time()))


async def measure(name: str, store: MemoryStore) -> None:
    """Fill a store and print what each thing costs."""
    rng = random.Random(7)
    await store.open()
    sessions = [(await store.sessions.create(f"s{n}-ai", f"session {n}")).id for n in range(50)]
    began = time.perf_counter()
    for number in range(LONE):
        await say(store, sessions[number % 50], text(rng))
    lone = (time.perf_counter() - began) / LONE
    began = time.perf_counter()
    for _ in range(MESSAGES // 100):
        await asyncio.gather(*(say(store, rng.choice(sessions), text(rng)) for _ in range(100)))
    rate = MESSAGES / (time.perf_counter() - began)
    window = await timed(lambda: store.messages.conversation(rng.choice(sessions), 240), 100)
    one = await timed(lambda: store.messages.search(rng.choice(WORDS)), 30)
    three = await timed(lambda: store.messages.search(" ".join(rng.choices(WORDS, k=3))), 30)
    listing = await timed(lambda: store.sessions.find(), 50)
    await store.close()
    print(
        f"{name:8} append {lone * 1e3:6.2f} ms alone, {rate:6.0f}/s by the hundred · conversation of 240 {window:5.1f} ms"
        f" · search 1 word {one:6.1f} ms, 3 words {three:6.1f} ms · list 50 sessions {listing:5.1f} ms"
    )


async def timed(call: Callable[[], Awaitable[object]], times: int) -> float:
    """Return the median of a call in milliseconds."""
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[times // 2] * 1e3


def with_server(folder: Path, fsync: str) -> None:
    """Measure against a server of our own, ended after."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    folder.mkdir()
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    server = subprocess.Popen(
        [*words, "--appendonly", "yes", "--appendfsync", fsync], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        next(line for line in server.stdout if "Ready to accept" in line)
        asyncio.run(on_redis(port, fsync))
    finally:
        server.kill()
        server.communicate()


async def on_redis(port: int, fsync: str) -> None:
    from backend.memory.redis.connection import Address, connect
    from backend.memory.redis.store import RedisStore

    address = Address(f"redis://127.0.0.1:{port}/0")
    client = connect(address)
    floor = await timed(lambda: client.set("floor", "x" * 500), 200)
    print(f"floor    one SET with appendfsync {fsync}: {floor:.2f} ms")
    await measure(f"redis {fsync[:2]}", RedisStore(address, "bench"))
    facts = bytes(await client.execute_command("INFO", "memory") or b"").decode().splitlines()
    used = int(next(line.split(":")[1] for line in facts if line.startswith("used_memory:")))
    await client.aclose()
    print(f"         {(used - 1_000_000) / (MESSAGES + LONE) / 1024:.1f} KiB of server memory a message")


def main() -> int:
    if shutil.which("redis-server") is None:
        print("redis-server is not installed: nothing measured")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure("sqlite", SqliteStore(Path(folder) / "engram.sqlite3")))
        for fsync in ("always", "everysec"):
            with_server(Path(folder) / fsync, fsync)
    return 0


if __name__ == "__main__":
    sys.exit(main())
