"""Measure memory (Engram): appends, windows out of many messages, search, retention, beside bare SQLite.

Run: python bench/memory.py [messages, default 500000]. Needs about 400 MB in the temporary folder for the default.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from backend.memory import SqliteStore, TokenEstimator, choose_window

SESSIONS = 200
WINDOW = 40
GOAL_WINDOW_MS = 1.0
WORDS = (
    "the a build server disk memory fails slow token window plan budget button colour risk deadline test user graph "
    "workflow pattern prompt model answer queue message socket latency deploy branch merge review terminal shell name"
).split()
RARE = [f"rare{number}" for number in range(5_000)]


def sentence(rng: random.Random) -> str:
    """Return a message of some 60 words: mostly common ones, some that are rare."""
    return " ".join([*rng.choices(WORDS, k=57), *rng.choices(RARE, k=3)])


def show(name: str, value: float, unit: str, note: str = "") -> None:
    print(f"{name:<58}{value:>12,.3f} {unit:<6} {note}")


async def timed(call: Callable[[], Awaitable[object]], times: int) -> tuple[float, float]:
    """Return median and 99th percentile in milliseconds."""
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=100)[98]


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
    session = await store.create_session("apollo-ai", "rates")

    async def one(text: str) -> None:
        await store.append(session.id, author="you", role="user", content=text)

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


async def fill(store: SqliteStore, number: int, rng: random.Random) -> list[str]:
    sessions = [(await store.create_session("apollo-ai", f"s{n}")).id for n in range(SESSIONS)]
    began = time.perf_counter()
    for start in range(0, number, 500):
        await asyncio.gather(
            *(
                store.append(
                    sessions[(start + n) % SESSIONS],
                    author="apollo-ai" if n % 2 else "you",
                    role="assistant" if n % 2 else "user",
                    content=sentence(rng),
                )
                for n in range(min(500, number - start))
            )
        )
    show(f"fill with {number:,} messages", time.perf_counter() - began, "s")
    return sessions


async def reads(store: SqliteStore, sessions: list[str], rng: random.Random) -> None:
    bare = sqlite3.connect(store.path)
    plain = "SELECT * FROM messages WHERE session = (SELECT number FROM sessions WHERE id = ?) ORDER BY id DESC LIMIT ?"

    async def bare_window() -> None:
        bare.execute(plain, (rng.choice(sessions), WINDOW)).fetchall()

    floor, _ = await timed(bare_window, 2_000)
    bare.close()
    show(f"bare SQLite, {WINDOW} rows, same thread: median", floor, "ms")
    middle, worst = await timed(lambda: store.messages(rng.choice(sessions), limit=WINDOW), 2_000)
    verdict = "reached" if middle <= GOAL_WINDOW_MS else "MISSED"
    show(
        f"window of {WINDOW}: median",
        middle,
        "ms",
        f"goal {GOAL_WINDOW_MS} ms: {verdict}; {middle / floor:.1f} x bare",
    )
    show(f"window of {WINDOW}: p99", worst, "ms")
    middle, worst = await timed(lambda: store.conversation(rng.choice(sessions), 240), 300)
    show("conversation of 240 for a turn's context: median", middle, "ms", f"p99 {worst:.3f}")
    conversation = await store.conversation(sessions[0], 240)
    count = TokenEstimator().counter("m")

    async def window() -> None:
        choose_window(conversation, room=4_000, count=count)

    middle, worst = await timed(window, 200)
    show("windowing of 240 messages, estimated tokens: median", middle, "ms", f"p99 {worst:.3f}")


async def searches(store: SqliteStore, rng: random.Random) -> None:
    for name, query in (
        ("one rare word", lambda: rng.choice(RARE)),
        ("two rare words", lambda: " ".join(rng.sample(RARE, 2))),
        ("a common and a rare word", lambda: f"disk {rng.choice(RARE)}"),
        ("common words, in most messages", lambda: " ".join(rng.sample(WORDS[2:], 3))),
    ):
        middle, worst = await timed(lambda query=query: store.search(query(), limit=20), 15)
        show(f"search, {name}: median", middle, "ms", f"worst {worst:.1f}")
    middle, worst = await timed(lambda: store.recall([f"what of {rng.choice(RARE)}?"], limit=3), 30)
    show("memories for a hint: median", middle, "ms", f"worst {worst:.1f}")
    began = time.perf_counter()
    search = asyncio.create_task(store.search("disk memory token", limit=20))
    session = await store.default_session("numa-ai")
    middle, worst = await timed(lambda: store.messages(session.id), 50)
    await search
    show(
        "a small read while a heavy search runs: median",
        middle,
        "ms",
        f"search {time.perf_counter() - began:.2f} s",
    )


async def main(number: int) -> None:
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        texts = [sentence(rng) for _ in range(4_000)]
        floor = bare_appends(Path(folder), texts)
        show("bare SQLite append, a commit a row, no search index", floor, "/s")
        store = SqliteStore(Path(folder) / "engram.sqlite3")
        await store.open()
        await append_rates(store, texts, floor)
        sessions = await fill(store, number, rng)
        show("size on disk", store.path.stat().st_size / 1e6, "MB")
        await reads(store, sessions, rng)
        await searches(store, rng)
        began = time.perf_counter()
        await store.close()
        again = SqliteStore(store.path)
        await again.open()
        await again.default_session("numa-ai")
        show("close and open again", (time.perf_counter() - began) * 1000, "ms")
        await again.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 500_000))
