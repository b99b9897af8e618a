"""The registry for an event loop: who waits for it finds on disk what was asked before."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from backend.registry import Registry
from backend.registry.store import Transaction
from backend.registry.writer import RegistryWriter
from backend.schema.records import RegistryEntry

BOUND_S = 60.0


async def test_a_flush_ends_when_all_that_was_asked_before_is_on_disk(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry.json", tmp_path / "audit.log")
    writer = RegistryWriter(registry)
    begun, go_on = threading.Event(), threading.Event()

    def slowly(change: Transaction) -> None:
        begun.set()
        assert go_on.wait(BOUND_S)
        change.register("apollo-ai", RegistryEntry(port=1, component="apollo"))

    def at_once(change: Transaction) -> None:
        change.register("athena-ai", RegistryEntry(port=2, component="athena"))

    first = asyncio.create_task(writer.apply(slowly))
    await asyncio.to_thread(begun.wait, BOUND_S)
    second = asyncio.create_task(writer.apply(at_once))  # in the next write, not in the one under way
    flush = asyncio.create_task(writer.flush())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not flush.done()
    go_on.set()
    await asyncio.wait_for(flush, BOUND_S)
    assert set(registry.read()) == {"apollo-ai", "athena-ai"}
    await asyncio.gather(first, second)
    await writer.flush()  # nothing is under way: returns
