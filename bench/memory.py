"""Measure memory: appends, windows out of many messages, search, retention, beside bare SQLite.

    python bench/memory.py [messages, default 500000] [--conversations 200] [--grow] [--redis]

Needs about 400 MB in the temporary folder for the default. `--grow` measures an eighth first and prints by which power of
the number of messages each figure grows: 0 does not grow, 1 is linear. `--redis` fills and searches a Redis server of its own
instead (5 KiB of memory a message).
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from options import parser_for

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.memory import MemoryStore, Retention, SqliteStore, TokenEstimator, choose_window
from backend.memory.sqlite import retention as retain
from backend.memory.sqlite.database import SqliteDatabase
from backend.memory.sqlite.executor import Work
from backend.schema.records import StoredMessage
from tests.redis_server import RedisServer

T = TypeVar("T")
APPENDED = 4_000
"""Messages of each measure of appends."""
WINDOW = 40
GOAL_WINDOW_MS = 1.0
WORDS = (
    "the a build server disk memory fails slow token window plan budget button colour risk deadline test user graph "
    "workflow pattern prompt model answer queue message socket latency deploy branch merge review terminal shell name"
).split()
RARE = ["".join(random.Random(n).choices("abcdeilmnorstu", k=9)) for n in range(20_000)]
CJK = [chr(0x4E00 + n) for n in range(2_000)]
DAY_S = 86_400.0
SECONDS_APART = 10.0
BEGAN = 1_700_000_000.0
GOAL_SEARCH_MS = 50.0


def sentence(rng: random.Random) -> str:
    """Return a message of some 60 words, mostly common ones, some that are rare; one in twenty is Chinese."""
    if rng.random() < 0.05:
        return "".join(rng.choices(CJK, k=80))
    return " ".join([*rng.choices(WORDS, k=57), *rng.choices(RARE, k=3)])


figures: dict[str, float] = {}
"""What was shown in this round, by name, where it is a time or a size."""


def show(name: str, value: float, unit: str, note: str = "") -> None:
    print(f"{name:<58}{value:>12,.3f} {unit:<6} {note}", flush=True)
    if unit != "/s":
        figures[name] = value


def exponents(small: dict[str, float], large: dict[str, float], times: float) -> None:
    """Print by which power each figure grew when the number of messages grew by `times`."""
    for name, value in large.items():
        if (before := small.get(name)) and value > 0:
            show(f"growth of: {name}", math.log(value / before, times), "", f"{before:,.3f} -> {value:,.3f}")


async def timed(call: Callable[[], Awaitable[object]], times: int) -> tuple[float, float]:
    """Return median and 99th percentile in milliseconds."""
    taken = await all_of(call, times)
    return statistics.median(taken), quantile(taken, 99)


def bare_appends(folder: Path, texts: list[str]) -> float:
    """Return rows a second of one bare connection, one commit a row, no index for search."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, session INTEGER, content TEXT)")
    began = time.perf_counter()
    for text in texts:
        connection.execute("INSERT INTO messages(session, content) VALUES (1, ?)", (text,))
    rate = len(texts) / (time.perf_counter() - began)
    connection.close()
    return rate


async def append_rates(store: SqliteStore, texts: list[str], floor: float) -> None:
    session = await store.sessions.create("apollo-ai", "rates")

    async def one(text: str) -> None:
        await store.messages.append(StoredMessage(0, session.id, "you", "user", text, time.time()))

    began = time.perf_counter()
    for text in texts:
        await one(text)
    alone = len(texts) / (time.perf_counter() - began)
    began = time.perf_counter()
    for start in range(0, len(texts), 64):
        await asyncio.gather(*(one(text) for text in texts[start : start + 64]))
    grouped = len(texts) / (time.perf_counter() - began)
    show("append, one after another (indexed, durable, async)", alone, "/s", f"{alone / floor:.2f} x bare")
    show("append, 64 at once (group commit)", grouped, "/s", f"{grouped / floor:.2f} x bare")


async def fill(store: MemoryStore, number: int, conversations: int, rng: random.Random) -> list[str]:
    sessions = [(await store.sessions.create("apollo-ai", f"s{n}")).id for n in range(conversations)]
    began = time.perf_counter()
    for start in range(0, number, 500):
        await asyncio.gather(
            *(
                store.messages.append(
                    StoredMessage(
                        0,
                        sessions[(start + n) % conversations],
                        "apollo-ai" if n % 2 else "you",
                        "assistant" if n % 2 else "user",
                        sentence(rng),
                        BEGAN + (start + n) * SECONDS_APART,
                    )
                )
                for n in range(min(500, number - start))
            )
        )
    show(
        "fill with messages",
        time.perf_counter() - began,
        "s",
        f"{number:,} in {conversations:,} conversations",
    )
    return sessions


async def reads(store: SqliteStore, sessions: list[str], rng: random.Random) -> None:
    bare = sqlite3.connect(store.path)
    plain = "SELECT * FROM messages WHERE session = (SELECT number FROM sessions WHERE id = ?) ORDER BY id DESC LIMIT ?"

    async def bare_window() -> None:
        bare.execute(plain, (rng.choice(sessions), WINDOW)).fetchall()

    floor, _ = await timed(bare_window, 2_000)
    bare.close()
    show(f"bare SQLite, {WINDOW} rows, same thread: median", floor, "ms")
    middle, worst = await timed(lambda: store.messages.read(rng.choice(sessions), limit=WINDOW), 2_000)
    verdict = "reached" if middle <= GOAL_WINDOW_MS else "MISSED"
    show(
        f"window of {WINDOW}: median",
        middle,
        "ms",
        f"goal {GOAL_WINDOW_MS} ms: {verdict}; {middle / floor:.1f} x bare",
    )
    show(f"window of {WINDOW}: p99", worst, "ms")
    middle, worst = await timed(lambda: store.messages.conversation(rng.choice(sessions), 240), 300)
    show("conversation of 240 for a turn's context: median", middle, "ms", f"p99 {worst:.3f}")
    conversation = await store.messages.conversation(sessions[0], 240)
    count = TokenEstimator().counter("m")

    async def window() -> None:
        choose_window(conversation, room=4_000, count=count)

    middle, worst = await timed(window, 200)
    show("windowing of 240 messages, estimated tokens: median", middle, "ms", f"p99 {worst:.3f}")


async def searches(store: MemoryStore, sessions: list[str], rng: random.Random) -> None:
    """Print what a search takes, at the machine's speed of the moment; the goal is for 1,000,000 messages."""
    queries: dict[str, Callable[[], Awaitable[object]]] = {
        "one rare word": lambda: store.messages.search(rng.choice(RARE)),
        "a word of most messages": lambda: store.messages.search(rng.choice(WORDS[2:])),
        "three words of most messages": lambda: store.messages.search(" ".join(rng.sample(WORDS[2:], 3))),
        "a common and a rare word": lambda: store.messages.search(f"disk {rng.choice(RARE)}"),
        "two rare words that no message has both of": lambda: store.messages.search(
            " ".join(rng.sample(RARE, 2))
        ),
        "one letter": lambda: store.messages.search(rng.choice("abcdefghijklmnopqrstuvwxyz")),
        "three letters of a word": lambda: store.messages.search(rng.choice(WORDS)[:3]),
        "five letters of a word": lambda: store.messages.search(rng.choice(WORDS)[:5]),
        "a phrase": lambda: store.messages.search(f'"{" ".join(rng.sample(WORDS[2:], 2))}"'),
        "two CJK characters": lambda: store.messages.search("".join(rng.sample(CJK, 2))),
        "one CJK character": lambda: store.messages.search(rng.choice(CJK)),
        "a common word in one session": lambda: store.messages.search(
            "disk", session_id=rng.choice(sessions)
        ),
        "sessions with a common word": lambda: store.sessions.find(query="disk", limit=300),
        "sessions with a rare word": lambda: store.sessions.find(query=rng.choice(RARE), limit=300),
        "memories for a hint": lambda: store.messages.recall([f"what of {rng.choice(RARE)} on the disk?"]),
    }
    for name, query in queries.items():
        taken = await all_of(query, 60)
        p95 = statistics.quantiles(taken, n=20)[18]
        verdict = "reached" if p95 <= GOAL_SEARCH_MS else "MISSED"
        show(
            f"search, {name}: p95",
            p95,
            "ms",
            f"median {statistics.median(taken):.2f}; goal {GOAL_SEARCH_MS}: {verdict}",
        )
    search = asyncio.gather(*(store.messages.search("disk memory token", limit=20) for _ in range(20)))
    session = await store.sessions.default("numa-ai")
    middle, worst = await timed(lambda: store.messages.read(session.id), 50)
    await search
    show("a small read while twenty searches run: median", middle, "ms", f"p99 {worst:.3f}")


async def retention(store: SqliteStore, number: int) -> None:
    """Delete nine tenths of the messages and print what is left of the file, and what an append waits with and without.

    Every other two seconds the retention pauses, so that both are measured under the same load.
    """
    newest = BEGAN + number * SECONDS_APART
    session = await store.sessions.default("numa-ai")
    waits: dict[bool, list[float]] = {True: [], False: []}
    held: list[float] = []
    goes_on = asyncio.Event()
    goes_on.set()
    real = retain._slice  # pyright: ignore[reportPrivateUsage]

    async def paused(database: SqliteDatabase, work: Work[T]) -> T:
        await goes_on.wait()

        def timed(connection: sqlite3.Connection) -> T:
            began = time.perf_counter()
            result = work(connection)
            held.append((time.perf_counter() - began) * 1000)
            return result

        return await real(database, timed)

    async def talk() -> None:
        while True:
            meanwhile, began = goes_on.is_set(), time.perf_counter()
            await store.messages.append(
                StoredMessage(0, session.id, "you", "user", "new", newest + DAY_S * 10)
            )
            if meanwhile == goes_on.is_set():
                waits[meanwhile].append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.02)

    async def pause() -> None:
        while True:
            await asyncio.sleep(2)
            goes_on.clear()
            await asyncio.sleep(2)
            goes_on.set()

    retain._slice = paused  # pyright: ignore[reportPrivateUsage]
    beside = [asyncio.create_task(talk()), asyncio.create_task(pause())]
    before, began = store.path.stat().st_size, time.perf_counter()
    report = await store.retain(Retention(messages_days=1), newest + DAY_S - number * SECONDS_APART / 10)
    took = time.perf_counter() - began
    for task in beside:
        task.cancel()
    retain._slice = real  # pyright: ignore[reportPrivateUsage]
    left = store.path.stat().st_size
    show("retention of nine tenths, pauses included", took, "s", f"{report.messages_deleted:,} messages")
    show(
        "a slice of it holds the writing thread: p99",
        quantile(held, 99),
        "ms",
        f"max {max(held):.1f}, median {quantile(held, 50):.1f}",
    )
    for meanwhile, name in ((False, "without"), (True, "with")):
        show(
            f"append {name} retention: p99",
            quantile(waits[meanwhile], 99),
            "ms",
            f"median {quantile(waits[meanwhile], 50):.2f}, {len(waits[meanwhile]):,} appends, load {os.getloadavg()[0]:.0f}",
        )
    least = await asyncio.to_thread(packed_size, store.path)
    verdict = "reached" if left <= 1.2 * least else "MISSED"
    show(
        "size on disk after",
        left / 1e6,
        "MB",
        f"before {before / 1e6:.1f}; {left / least:.2f} x a packed copy (goal 1.2: {verdict})",
    )


def packed_size(path: Path) -> int:
    """Return the bytes of a copy of a database without any free page."""
    copy = path.with_name("packed.db")
    connection = sqlite3.connect(path)
    connection.execute("VACUUM INTO ?", (str(copy),))
    connection.close()
    size = copy.stat().st_size
    copy.unlink()
    return size


def quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


async def all_of(call: Callable[[], Awaitable[object]], times: int) -> list[float]:
    """Return the milliseconds of each call."""
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


async def measure(number: int, conversations: int) -> dict[str, float]:
    """Measure a store of so many messages; return times and sizes by name."""
    figures.clear()
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        texts = [sentence(rng) for _ in range(APPENDED)]
        floor = bare_appends(Path(folder), texts)
        show("bare SQLite append, a commit a row, no search index", floor, "/s")
        store = SqliteStore(Path(folder) / "engram.sqlite3")
        await store.open()
        sessions = await fill(store, number, conversations, rng)
        show("size on disk", store.path.stat().st_size / 1e6, "MB")
        await append_rates(store, texts, floor)
        middle, worst = await timed(lambda: store.sessions.find(limit=100), 50)
        show("list of 100 conversations: median", middle, "ms", f"p99 {worst:.3f}")
        await reads(store, sessions, rng)
        await searches(store, sessions, rng)
        await restart(store, "close and open again, whole")
        await retention(store, number)
        await restart(store, "close and open again, after retention")
        await store.close()
    return dict(figures)


async def measure_redis(number: int, conversations: int) -> dict[str, float]:
    """Fill a Redis server that keeps nothing on disk and search it; return times by name."""
    figures.clear()
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), "--appendonly", "no").start()
        try:
            store = server.store("bench", volatile=True)
            await store.open()
            sessions = await fill(store, number, conversations, rng)
            await searches(store, sessions, rng)
            await store.close()
        finally:
            server.kill()
    return dict(figures)


async def restart(store: SqliteStore, name: str) -> None:
    began = time.perf_counter()
    await store.close()
    await store.open()
    await store.sessions.default("numa-ai")
    show(name, (time.perf_counter() - began) * 1000, "ms")


async def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("messages", type=int, nargs="?", default=500_000)
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--grow", action="store_true")
    parser.add_argument("--redis", action="store_true")
    options = parser.parse_args()
    measured = measure_redis if options.redis else measure
    small = await measured(options.messages // 8, options.conversations // 8) if options.grow else {}
    large = await measured(options.messages, options.conversations)
    exponents(small, large, 8)


if __name__ == "__main__":
    asyncio.run(main())
