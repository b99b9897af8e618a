"""A client that is cut off comes back and misses nothing; `bench/drops.py` does it a thousand times."""

from __future__ import annotations

from collections.abc import Callable

from tests.gateway.dropping import Dropping
from tests.gateway.serving import Backend

NAMES = ("apollo", "athena", "numa", "hermes")


async def test_no_event_is_lost_or_doubled_by_forced_drops(new_backend: Callable[..., Backend]) -> None:
    dropping = Dropping(new_backend(launch=NAMES), NAMES)
    await dropping.run(25)
    assert dropping.drops == 25
    assert dropping.events > 250
    assert (dropping.lost, dropping.doubled, dropping.resyncs) == (0, 0, 0)
