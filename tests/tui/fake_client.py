"""A client that replays events and records calls: the seam of the console's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import msgspec

from backend.catalog import load
from backend.config import Settings
from backend.schema.errors import TektonError
from backend.schema.events import Snapshot, SpecialistEvent, TeamStart, TurnStarted
from backend.schema.frames import StreamChunk, StreamEnd, StreamMetadata, StreamStart, Usage
from backend.schema.records import ActiveTurn, PlatformInfo, ProviderChoice, ServiceStatus, SpecialistStatus

NOW = 1_795_000_000.0
STARTER = ["numa", "rhetor", "apollo", "athena"]
EMBEDDED = ProviderChoice(
    "embedded", "SmolLM2-135M-Instruct.Q4_1", "Ollama not found; no Anthropic key", "SmolLM2 135M"
)


def row(name: str, **changes: Any) -> SpecialistStatus:
    """Return a specialist's row as the catalogue has it, changed."""
    component = load(Settings()).get(name)
    status = SpecialistStatus(
        component.id,
        component.name,
        component.title,
        component.name,
        description=component.description,
        capabilities=component.capabilities,
        provider="embedded",
        model=EMBEDDED.model,
        model_display=EMBEDDED.display,
        port=component.ai_port,
    )
    return msgspec.structs.replace(status, **changes)


def live(name: str, pid: int = 21_877, **changes: Any) -> SpecialistStatus:
    return row(name, **{"state": "ready", "pid": pid, "started_at": NOW - 840, "since": NOW - 840, **changes})


def snapshot(
    *rows: SpecialistStatus,
    turns: Iterable[ActiveTurn] = (),
    services: Iterable[ServiceStatus] = (),
    unacknowledged: int = 0,
) -> Snapshot:
    """Return the state of all 19, those given as they are, the rest stopped."""
    given = {status.id: status for status in rows}
    everyone = [given.get(component.id) or row(component.name) for component in load(Settings())]
    platform = PlatformInfo(
        "0.1.0", "~/.tekton", "http://127.0.0.1:8003", 4242, NOW - 900, EMBEDDED, starter=STARTER
    )
    return Snapshot("e1", 0, platform, everyone, list(services), list(turns), unacknowledged)


def answer(
    request_id: str, ai_id: str, session: str, prompt: str, *pieces: str, group: str = ""
) -> list[Any]:
    """Return the events of a whole turn."""
    usage = Usage(20, len(pieces))
    facts = StreamMetadata(len(pieces), len(pieces), 1.9, ai_id, "m", "stop", usage, 210.0)
    return [
        TurnStarted(request_id, ai_id, session, prompt, NOW, group),
        StreamStart(request_id, ai_id),
        *(StreamChunk(request_id, piece, index) for index, piece in enumerate(pieces)),
        StreamEnd(request_id, facts),
    ]


def team(request_id: str, prompt: str, *names: str) -> TeamStart:
    return TeamStart(request_id, "s-team", prompt, {f"{n}-ai": f"{request_id}/{n}-ai" for n in names}, NOW)


GATEWAY: dict[str, Any] = {
    "address": "a", "clients": [], "streams": 0, "total_calls": 0, "refused_calls": 0, "recent": [], "refusals": [],
    "events": {"seq": 0},
}  # fmt: skip


class FakeClient:
    """Answers calls from `answers` (a value or a function of the params); `send` pushes events."""

    url = "http://127.0.0.1:8003"

    def __init__(self, first: Snapshot) -> None:
        self.first = first
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.hang: set[str] = set()
        """Actions whose answer never comes."""
        self.answers: dict[str, Any] = {
            "conversation_history": lambda p: {"conversation_id": f"s-{p['specialist_id']}", "messages": []},
            "session_messages": {"messages": []},
            "get_session": {"id": "s", "is_default": True, "title": ""},
            "specialist_logs": {"source": "", "lines": [], "path": ""},
            "list_errors": {"errors": [], "unacknowledged": 0},
            "list_pipelines": {"runs": []},
            "saved_pipelines": {"saved": []},
            "list_sessions": {"sessions": [], "count": 0},
            "gateway_info": GATEWAY,
            "get_preference": {"value": None},
            "put_preference": {},
        }
        self._queue: asyncio.Queue[list[tuple[int, Any]]] = asyncio.Queue()

    async def connect(self) -> FakeClient:
        return self

    async def call(self, action: str, *, timeout_s: float | None = None, **params: Any) -> Any:
        self.calls.append((action, params))
        if action in self.hang:
            await asyncio.Event().wait()
        answer_: Any = self.answers.get(action, {})
        found: Any = answer_(params) if isinstance(answer_, Callable) else answer_
        if isinstance(found, TektonError):
            raise found
        return found

    async def subscribe(self, topics: Iterable[str]) -> None:
        self.send(self.first)

    async def events(self) -> AsyncIterator[list[tuple[int, Any]]]:
        while True:
            yield await self._queue.get()

    async def close(self) -> None:
        return

    def send(self, *events: Any) -> None:
        self._queue.put_nowait([(number, event) for number, event in enumerate(events)])

    def changed(self, status: SpecialistStatus) -> None:
        self.send(SpecialistEvent(status, NOW))

    def called(self, action: str) -> list[dict[str, Any]]:
        return [params for name, params in self.calls if name == action]
