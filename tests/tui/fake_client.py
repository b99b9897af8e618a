"""A client that replays events and records calls: the seam of the console's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from math import cos, exp, sin
from typing import Any, NamedTuple, TypeVar

import msgspec

from backend.catalog import load
from backend.config import Settings
from backend.schema.attention import AttentionItem
from backend.schema.errors import TektonError
from backend.schema.events import AttentionChanged, Snapshot, SpecialistEvent, TeamStart, TurnStarted
from backend.schema.frames import StreamChunk, StreamEnd, StreamMetadata, StreamStart, Usage
from backend.schema.history import History as FleetHistory
from backend.schema.history import Sample
from backend.schema.orchestration import OrchestrationSettings
from backend.schema.params import (
    AcknowledgeErrors,
    AnyParams,
    AskMember,
    Chat,
    Discuss,
    GetGateway,
    GetHistory,
    GetLogs,
    GetOrchestration,
    GetPreference,
    GetSession,
    GetUsage,
    Launch,
    ListErrors,
    ListMessages,
    ListPipelines,
    ListSavedPipelines,
    ListSessions,
    ListTurns,
    MarkSeen,
    PutPreference,
    RunPipeline,
    Startable,
    TeamChat,
    result_types,
)
from backend.schema.records import (
    ActiveTurn,
    Budget,
    FleetPlan,
    PlatformInfo,
    ProviderChoice,
    ServiceStatus,
    Session,
    SpecialistStatus,
    StoredMessage,
    Used,
)
from backend.schema.results import (
    AttentionList,
    Connection,
    ErrorList,
    EventFigures,
    GatewayReport,
    History,
    LaunchReport,
    LogText,
    MessageList,
    Performance,
    PipelineRuns,
    Preference,
    PreferenceKey,
    SavedPipelineList,
    SessionList,
    SpecialistDetail,
    Started,
    TurnList,
    Unacknowledged,
    UsageReport,
)

P = TypeVar("P", bound=AnyParams)

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
        short=component.short,
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
    history: FleetHistory | None = None,
) -> Snapshot:
    """Return the state of all 19, those given as they are, the rest stopped."""
    given = {status.id: status for status in rows}
    everyone = [given.get(component.id) or row(component.name) for component in load(Settings())]
    platform = PlatformInfo(
        "0.2.0", "~/.tekton", "http://127.0.0.1:8003", 4242, NOW - 900, EMBEDDED, starter=STARTER
    )
    return Snapshot("e1", 0, platform, everyone, list(services), list(turns), unacknowledged, history=history)


def ten_minutes() -> FleetHistory:
    """Return ten minutes of a fleet that works in waves."""
    samples = [
        Sample(
            NOW - 2 * (299 - at),
            round(48 + 40 * sin(at / 15 + 1) * cos(at / 37), 1),
            round(180 + 480 * exp(-(((at - 240) / 8) ** 2)), 1),
            round(34 + 22 * sin(at / 18 + 1) * cos(at / 46), 1),
            41.0,
            round(at / 300 * 0.42, 4),
            "USD",
            at * 393,
        )
        for at in range(300)
    ]
    return FleetHistory(2.0, samples)


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


def unseen(request_id: str, who: str) -> AttentionChanged:
    """Return the event by which the backend says that nobody has seen an answer."""
    item = AttentionItem(f"done:{request_id}", "done", who, NOW, "answered", "Yes.", 1, request_id)
    return AttentionChanged([item], [])


def team(request_id: str, prompt: str, *names: str) -> TeamStart:
    return TeamStart(request_id, "s-team", prompt, {f"{n}-ai": f"{request_id}/{n}-ai" for n in names}, NOW)


Answers = dict[type[AnyParams], Any]
"""By type of the parameters: the result, an error, or a function of the parameters that returns either."""

GATEWAY = GatewayReport("a", [], 0, 0, 0, [], [], EventFigures(0, 0, 0, 0.0))
USAGE = UsageReport("2026-11-19", [], Used(), Budget(), {}, [], "")


def session(session_id: str, owner: str = "apollo-ai", title: str = "", **facts: Any) -> Session:
    return Session(session_id, title, owner, NOW, **{"updated_at": NOW, **facts})


def message(number: int, author: str, content: str, **facts: Any) -> StoredMessage:
    """Return a stored message; `you` ask, everybody else answers."""
    role = "user" if author == "you" else "assistant"
    session_id = facts.pop("session_id", "s")
    return StoredMessage(number, session_id, author, role, content, **{"created_at": NOW, **facts})


def detail(status: SpecialistStatus, persona: str = "", aliases: Iterable[str] = ()) -> SpecialistDetail:
    """Return what `get_specialist` answers of a row."""
    return SpecialistDetail(
        status.id, status.name, "ai", status.title, status.component, "active", status.state, status.model_display,
        status.capabilities, status.roles, Connection(status.host, status.port, status.transport),
        Performance(None, None, 0, None, None), status, persona, list(aliases),
    )  # fmt: skip


def usual_answers() -> Answers:
    """Return answers to what the console asks for by itself, and to what it starts."""
    started: Answers = {
        kind: lambda params: Started(params.request_id)
        for kind in (Chat, TeamChat, Discuss, AskMember, RunPipeline)
    }
    return started | {
        GetHistory: lambda params: History(params.specialist_id, f"s-{params.specialist_id}", []),
        ListMessages: MessageList([]),
        GetSession: lambda params: session(params.id, is_default=True),
        GetLogs: lambda params: LogText(params.id, "", []),
        ListErrors: ErrorList([], 0),
        ListTurns: TurnList([], NOW - 900),
        AcknowledgeErrors: Unacknowledged(0),
        MarkSeen: AttentionList([]),
        ListPipelines: PipelineRuns([]),
        ListSavedPipelines: SavedPipelineList([]),
        ListSessions: SessionList(0, []),
        GetGateway: GATEWAY,
        Launch: lambda params: LaunchReport(FleetPlan([]) if params.dry_run else None),
        GetUsage: USAGE,
        GetOrchestration: OrchestrationSettings(),
        GetPreference: lambda params: Preference(params.key, None),
        PutPreference: lambda params: PreferenceKey(params.key),
    }


def answer_of(answers: Answers, params: AnyParams) -> Any:
    """Return the result of a call, checked against its declared type.

    Raises:
        TektonError: The answer is this error.
        AssertionError: There is no answer to this call, or it is of another type.
    """
    assert type(params) in answers, f"the test has no answer to {params}"
    found = answers[type(params)]
    found = found(params) if isinstance(found, Callable) else found
    if isinstance(found, TektonError):
        raise found
    expected = result_types(type(params))
    assert isinstance(found, expected), f"{type(params).__name__} does not return {found!r}"
    return msgspec.convert(msgspec.to_builtins(found), type(found))


class Held(NamedTuple):
    """A call that was answered, and the answer kept back until it is `released`."""

    params: AnyParams
    released: asyncio.Event


class FakeClient:
    """Answers calls from `answers`, and refuses those it has no answer to; `send` pushes events."""

    url = "http://127.0.0.1:8003"
    pace = (0.0, 0.0)
    note = ""
    ahead_s = 0.0

    def __init__(self, first: Snapshot) -> None:
        self.first = first
        self.scopes: list[str] = []
        self.calls: list[AnyParams] = []
        self.hang: set[type[AnyParams]] = set()
        """Parameters of calls whose answer never comes."""
        self.hold: set[type[AnyParams]] = set()
        """Parameters of calls whose answer is made at once and waits in `held` to be released."""
        self.held: list[Held] = []
        self.answers = usual_answers()
        self.late = False
        """Whether the first snapshot is left to the test to send."""
        self._subscribed = False
        self._queue: asyncio.Queue[list[tuple[int, Any]]] = asyncio.Queue()

    async def connect(self) -> FakeClient:
        return self

    async def call(self, params: AnyParams, /) -> Any:
        self.calls.append(params)
        if type(params) in self.hang:
            await asyncio.Event().wait()
        if type(params) not in self.hold:
            return answer_of(self.answers, params)
        self.held.append(held := Held(params, asyncio.Event()))
        try:
            result: Any = answer_of(self.answers, params)
        except TektonError as error:
            result = error
        await held.released.wait()
        if isinstance(result, TektonError):
            raise result
        return result

    async def start(self, params: Startable[Any], /) -> Any:
        return await self.call(params)

    async def subscribe(self, topics: Iterable[str], *, condensed: bool = False) -> None:
        """Send the snapshot the first time: what has changed since would be undone by it."""
        if not self._subscribed:
            self._subscribed = True
            if not self.late:
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

    def called(self, kind: type[P]) -> list[P]:
        """Return the parameters of all calls of a kind, in order."""
        return [params for params in self.calls if isinstance(params, kind)]
