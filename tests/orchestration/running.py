"""A backend over real workers with the scripted provider, in this process: opened, asked, ended, opened again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from backend.events import Subscription
from backend.home import Home, write_private
from backend.orchestration.actions import ACTIONS
from backend.orchestration.opening import open_platform
from backend.orchestration.platform import Platform
from backend.schema.events import Event, event_decoder
from backend.specialists.killall import kill_all

BOUND_S = 60.0
SLOW = "[[repeat 400]] [[rate 20]]"
"""An answer that is under way for longer than any test runs, unless it is cancelled."""


async def start(
    root: Path, *, rules: str = "", config: str = "", environment: Mapping[str, str] | None = None
) -> Platform:
    """Open a backend on a home; workers that live there are adopted."""
    home = Home(root).prepare()
    if rules:
        (root / "rules.toml").write_text(rules)
        config += '\n[providers.scripted]\nscript = "rules.toml"\n'
    if config:
        write_private(home.config, config.encode())
    variables = {
        **(environment or {}),
        "PATH": "/usr/bin:/bin",
        "TEKTON_PROVIDER": "scripted",
        "TEKTON_PORT_PROFILE": "free",
        "TEKTON_SCRIPTED_COUNT": str(root / "calls"),
    }
    return await open_platform(home, variables)


@asynccontextmanager
async def running(
    root: Path, *names: str, rules: str = "", config: str = "", environment: Mapping[str, str] | None = None
) -> AsyncGenerator[Platform]:
    """Open a backend with these specialists launched, and end all of it."""
    platform = await start(root, rules=rules, config=config, environment=environment)
    try:
        results = (await do(platform, "launch", ids=list(names))).results
        assert all(row.ok for row in results), results
        yield platform
    finally:
        await platform.close(stop_fleet=True)
        await asyncio.to_thread(kill_all, platform.home, grace_s=1.0)


async def do(platform: Platform, action: str, **values: Any) -> Any:
    """Run an action as a client would have it run."""
    verb = ACTIONS[action]
    return await asyncio.wait_for(verb.run(platform, verb.read_params(values)), BOUND_S)


def upstream_calls(platform: Platform) -> int:
    """Return how often a provider was asked."""
    path = platform.home.root / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def sent(answer: str) -> list[tuple[str, str]]:
    """Return role and text of the messages a specialist was sent, from its answer to `[[messages]]`."""
    return [(message["role"], message["content"]) for message in json.loads(answer)]


class Watcher:
    """Events of some topics, as they come."""

    def __init__(self, platform: Platform, *topics: Any) -> None:
        self._subscription: Subscription = platform.events.subscribe(topics)
        self.seen: list[Event] = []

    async def until(self, kind: type[Any], **fields: Any) -> Any:
        """Return the first event of a kind with these values, among those seen or to come."""
        async with asyncio.timeout(BOUND_S):
            place = 0
            while True:
                for event in self.seen[place:]:
                    place += 1
                    if isinstance(event, kind) and all(getattr(event, k) == v for k, v in fields.items()):
                        return event
                self.seen += [event_decoder.decode(line) for line in await self._subscription.next()]

    def close(self) -> None:
        self._subscription.close()


@asynccontextmanager
async def disk_full(platform: Platform) -> AsyncGenerator[None]:
    """Let the database grow no further, as on a full disk: what needs a page more is refused by SQLite itself."""
    database: Any = platform.memory.messages._database  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]

    async def limit(pages: int) -> None:
        await database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchall())

    await limit(1)
    try:
        yield
    finally:
        await limit(1073741823)
