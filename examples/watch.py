"""Follow the fleet: print each change of a specialist's state and each new error until ctrl+c.

python examples/watch.py
"""

from __future__ import annotations

import asyncio
import contextlib

from backend.client import ConnectionChanged, attach, own_home
from backend.schema.events import ErrorEntry, Snapshot, SpecialistEvent


async def main() -> None:
    client = await attach(own_home())
    states: dict[str, str] = {}
    await client.subscribe(["fleet", "errors"])
    async for batch in client.events():
        for _, event in batch:
            match event:
                case Snapshot(
                    specialists=fleet
                ):  # the first event, and what a client that was away too long gets
                    states = {row.id: row.state for row in fleet}
                    print(
                        f"{sum(state in ('ready', 'busy') for state in states.values())} answer", flush=True
                    )
                case SpecialistEvent(status=row) if states.get(row.id) != row.state:
                    states[row.id] = row.state
                    print(f"{row.id}: {row.state}", flush=True)
                case ErrorEntry(record=error):
                    print(f"{error.where}: {error.message}", flush=True)
                case ConnectionChanged():  # the client comes back by itself
                    print(f"backend: {event.state} {event.reason}".rstrip(), flush=True)
                case _:
                    pass


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
