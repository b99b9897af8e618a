"""A platform in a home of its own, with real workers on the scripted provider."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from backend import catalog, config
from backend.home import Home
from backend.schema.events import SpecialistEvent
from backend.schema.frames import Request, StreamChunk, StreamEnd, StreamError, StreamPhase, StreamReply
from backend.schema.records import ProviderChoice, SpecialistStatus
from backend.specialists.supervisor import Supervisor
from backend.specialists.worker_client import Frames

BOUND_S = 60.0


@dataclass
class Platform:
    """A supervisor with its ears: every event and every ledger entry it gave."""

    home: Home
    supervisor: Supervisor
    events: list[Any] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, what: Callable[[], object], bound_s: float = BOUND_S) -> None:
        """Wait for something to become true; looks again after every event."""
        async with asyncio.timeout(bound_s):
            while not what():
                self.changed.clear()
                await self.changed.wait()

    async def until_state(self, ai_id: str, *states: str) -> SpecialistStatus:
        await self.until(lambda: self.supervisor.status(ai_id).state in states)
        return self.supervisor.status(ai_id)

    async def launch(self, *ids: str) -> None:
        for result in await self.supervisor.launch(list(ids)):
            assert result.ok, result

    def states_of(self, ai_id: str) -> list[str]:
        """Return the states a row went through, as told, each once in a row."""
        told = [
            e.status.state for e in self.events if isinstance(e, SpecialistEvent) and e.status.id == ai_id
        ]
        return [state for number, state in enumerate(told) if not number or told[number - 1] != state]

    def pid(self, ai_id: str) -> int:
        return self.supervisor.status(ai_id).pid

    def ask(self, ai_id: str, prompt: str, request_id: str = "r1", *, phases: bool = False) -> Answer:
        answer = Answer(request_id)
        request = Request(content=prompt, request_id=request_id, phases=phases)
        self.supervisor.channel(ai_id).start_turn(request, answer.take)
        return answer


class Answer:
    """The frames of one turn. `begun` is set with the first text, `waiting` when its model was told to be busy."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.frames: list[StreamReply] = []
        self.begun = asyncio.Event()
        self.waiting = asyncio.Event()
        self.ended = asyncio.Event()

    def take(self, batch: Frames) -> None:
        frames = batch.frames
        self.frames += frames
        for line in batch.block.split(b"\n"):
            msgspec.json.decode(line)
        if any(isinstance(frame, StreamChunk) for frame in frames):
            self.begun.set()
        if any(isinstance(frame, StreamPhase) and "is busy" in frame.detail for frame in frames):
            self.waiting.set()
        if isinstance(self.frames[-1], StreamEnd | StreamError):
            self.ended.set()

    async def end(self) -> StreamEnd | StreamError:
        await asyncio.wait_for(self.ended.wait(), BOUND_S)
        last = self.frames[-1]
        assert isinstance(last, StreamEnd | StreamError)
        return last


def make_platform(root: Path, environment: dict[str, str] | None = None, **options: Any) -> Platform:
    """Put a supervisor together, not yet started. Ports are the system's choice unless the environment says."""
    home = Home(root).prepare()
    env = {
        **os.environ,
        "TEKTON_HOME": str(root),
        "TEKTON_PORT_PROFILE": "free",
        "TEKTON_PROVIDER": "scripted",
    }
    env |= environment or {}
    settings = config.load(home, env)

    def publish(event: Any, topic: str) -> None:
        platform.events.append(event)
        platform.changed.set()

    def record(where: str, code: str, message: str, **more: str) -> None:
        platform.errors.append({"where": where, "code": code, "message": message, **more})
        platform.changed.set()

    supervisor = Supervisor(
        home,
        settings,
        catalog.load(settings),
        environment=env,
        choice=ProviderChoice("scripted", "scripted", "for a test", "scripted"),
        publish=publish,
        record_error=record,
        **options,
    )
    platform = Platform(home, supervisor)
    return platform
