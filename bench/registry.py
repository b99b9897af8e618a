"""Registry under contention: operations a second, waiting times and fairness, beside a floor and beside SQLite.

    python bench/registry.py [--processes 20] [--seconds 2] [--attack 50x200]

One operation reads the table of 19 entries, changes one and makes it durable. The floor does the same file work in
each process for itself, without a lock; SQLite does it in one WAL database with full synchronisation. The attack is
the mixed one of the test suite in full size; it checks that nothing was lost, corrupted or promised twice.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from multiprocessing import Barrier, Process, Queue
from pathlib import Path

from options import parser_for

from backend.home import write_private
from backend.registry import Registry
from backend.registry.store import decode
from backend.schema.records import RegistryEntry
from backend.wire import encoder

ENTRIES = 19
ATTACK = Path(__file__).resolve().parent.parent / "tests" / "registry" / "attack.py"


def table() -> dict[str, RegistryEntry]:
    words = ["reasoning", "planning", "knowledge graph", "code analysis"]
    return {
        f"ai{number}-ai": RegistryEntry(
            port=45000 + number,
            component=f"ai{number}",
            pid=1000 + number,
            process_start=1.0,
            capabilities=words,
        )
        for number in range(ENTRIES)
    }


def with_registry(folder: Path, number: int):
    registry = Registry(folder / "registry.json", folder / "audit.log", lock_timeout_s=60)
    name = f"ai{number % ENTRIES}-ai"

    def operation(step: int) -> None:
        with registry.transaction() as transaction:
            count = int(transaction.entries["ai0-ai"].metadata.get("count", 0))  # type: ignore[call-overload]
            transaction.update("ai0-ai", metadata={"count": count + 1})
            transaction.update(name, state=f"s{step}")

    return operation


def with_files_alone(folder: Path, number: int):
    path = folder / f"alone-{number}.json"
    write_private(path, encoder.encode(table()))

    def operation(step: int) -> None:
        entries = decode(path.read_bytes())
        entries[f"ai{number % ENTRIES}-ai"].state = f"s{step}"
        write_private(path, encoder.encode(entries))

    return operation


def with_sqlite(folder: Path, number: int):
    database = sqlite3.connect(folder / "registry.sqlite3", timeout=60, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS entries (id TEXT PRIMARY KEY, state TEXT, count INTEGER)")
    for name in table():
        database.execute("INSERT OR IGNORE INTO entries VALUES (?, '', 0)", (name,))

    def operation(step: int) -> None:
        database.execute("BEGIN IMMEDIATE")
        database.execute("SELECT * FROM entries").fetchall()
        database.execute("UPDATE entries SET count = count + 1 WHERE id = 'ai0-ai'")
        database.execute(
            "UPDATE entries SET state = ? WHERE id = ?", (f"s{step}", f"ai{number % ENTRIES}-ai")
        )
        database.execute("COMMIT")

    return operation


def contend(make, folder: Path, number: int, seconds: float, barrier, results) -> None:
    operation = make(folder, number)
    barrier.wait()
    end, took = time.perf_counter() + seconds, []
    while (started := time.perf_counter()) < end:
        operation(len(took))
        took.append(time.perf_counter() - started)
    results.put(took)


def measure(name: str, make, folder: Path, processes: int, seconds: float) -> float:
    barrier, results = Barrier(processes), Queue()
    workers = [
        Process(target=contend, args=(make, folder, number, seconds, barrier, results))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    turns = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    times = sorted(second for own in turns for second in own)
    rate = len(times) / seconds
    counts = sorted(len(own) for own in turns)
    print(
        f"{name:<28} {processes:>3} processes {rate:>9,.0f} op/s   p50 {pick(times, 0.5):>7.1f} ms   "
        f"p99 {pick(times, 0.99):>7.1f} ms   max {times[-1] * 1000:>7.1f} ms   turns {counts[0]}-{counts[-1]}"
    )
    if make is with_registry:
        registry = Registry(folder / "registry.json", folder / "audit.log")
        lost = len(times) - int(registry.read()["ai0-ai"].metadata["count"])  # type: ignore[call-overload]
        print(f"{'':<28} lost updates: {lost}")
        registry.update("ai0-ai", metadata={"count": 0})
    return rate


def pick(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))] * 1000


def attack(folder: Path, processes: int, operations: int) -> None:
    path, audit = folder / "attack.json", folder / "attack.log"
    registry = Registry(path, audit)
    registry.register("shared-ai", RegistryEntry(port=0, component="shared", metadata={"count": 0}))
    arguments = [sys.executable, str(ATTACK), str(path), str(audit)]
    contenders = [
        subprocess.Popen(
            [*arguments, str(number), str(operations)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    time.sleep(0.1 * processes / (os.cpu_count() or 1))
    started = time.perf_counter()
    for contender in contenders:
        contender.stdin.write("go\n")  # type: ignore[union-attr]
        contender.stdin.flush()  # type: ignore[union-attr]
    reports = [json.loads(contender.stdout.readline()) for contender in contenders]  # type: ignore[union-attr]
    elapsed = time.perf_counter() - started
    entries = registry.read()
    ports = [report["port"] for report in reports if report["port"]]
    lost = sum(report["increments"] for report in reports) - int(entries["shared-ai"].metadata["count"])  # type: ignore[call-overload]
    corrupt = len(list(folder.glob("*.corrupt-*")))
    times = sorted(second for report in reports for second in report["took_s"])
    print(
        f"attack {processes} x {operations} mixed operations: {len(times) / elapsed:,.0f} op/s, p50 "
        f"{pick(times, 0.5):.1f} ms, p99 {pick(times, 0.99):.0f} ms; corrupt reads {corrupt}, lost updates {lost}, "
        f"duplicate ports {len(ports) - len(set(ports))} of {len(ports)}"
    )
    for contender in contenders:
        contender.communicate("done\n")


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--attack", default="50x200")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        registry = Registry(folder / "registry.json", folder / "audit.log")
        for ai_id, entry in table().items():
            registry.register(ai_id, entry)
        started, reads = time.perf_counter(), 20_000
        for _ in range(reads):
            registry.read()
        print(f"reading, nothing changed: {(time.perf_counter() - started) / reads * 1e6:.1f} us")
        for processes in (1, options.processes):
            floor = measure("floor: files, no lock", with_files_alone, folder, processes, options.seconds)
            ours = measure("registry", with_registry, folder, processes, options.seconds)
            base = measure("SQLite WAL, full sync", with_sqlite, folder, processes, options.seconds)
            print(f"{'':<28} registry / floor {ours / floor:.2f}   registry / SQLite {ours / base:.2f}")
        attack(folder, *map(int, options.attack.split("x")))


if __name__ == "__main__":
    main()
