"""What one contending process does to a registry; run by the attack tests and by `bench/registry.py`.

    python tests/registry/attack.py <registry> <audit> <number> <operations>

Prints one JSON object: what it believes to be true, for the parent to check against the file.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import msgspec

from backend.identity import own_identity
from backend.registry import Registry
from backend.registry.ports import allocate
from backend.schema.records import RegistryEntry

SHARED = "shared-ai"


def main() -> None:
    path, audit, number, operations = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    registry = Registry(path, audit, lock_timeout_s=30)
    me = own_identity()
    dice = random.Random(number)
    mine = f"w{number}-ai"
    port, listener, increments, took = 0, None, 0, []
    sys.stdin.readline()  # all begin together
    for _ in range(operations):
        started = time.perf_counter()
        match dice.choice(["register", "update", "update", "deregister", "read", "allocate"]):
            case "register":
                entry = RegistryEntry(
                    port=port, component=mine, pid=me.pid, process_start=me.start, metadata=me.metadata()
                )
                registry.register(mine, entry)
            case "update":
                with registry.transaction() as transaction:
                    metadata = transaction.entries[SHARED].metadata
                    count = metadata["count"]
                    assert isinstance(count, int)
                    transaction.update(SHARED, metadata={**metadata, "count": count + 1})
                increments += 1
            case "deregister":
                registry.deregister(mine, expect=(me.pid, me.start), reason="test")
            case "read":
                assert SHARED in registry.read()
            case _:
                if listener is not None:
                    listener.close()
                listener = allocate(registry, "127.0.0.1", reserved=(), seed=f"{number}-{dice.random()}")
                port = listener.getsockname()[1]
        took.append(time.perf_counter() - started)
    if port:
        registry.register(mine, RegistryEntry(port=port, component=mine, pid=me.pid, process_start=me.start))
    sys.stdout.buffer.write(
        msgspec.json.encode({"increments": increments, "port": port, "took_s": took, "pid": os.getpid()})
        + b"\n"
    )
    sys.stdout.flush()
    sys.stdin.readline()  # hold the port until the parent has looked


if __name__ == "__main__":
    main()
