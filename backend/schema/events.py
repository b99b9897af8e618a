"""The numbered event stream of the backend: what a client of `/ws` receives.

Every event on the wire carries `seq` as its first key; the stream stamps it, so it is no field here.
The streamed frames of `frames.py` are events too, unchanged. Topics: `fleet` (states, services),
`metrics` (1 Hz figures), `chat` (turns and their tokens), `errors`, `logs`, `gateway` (calls and refusals),
`pipes` (pipeline stages).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from backend.schema.frames import (
    ErrorReply,
    Pong,
    StreamChunk,
    StreamEnd,
    StreamError,
    StreamPhase,
    StreamReasoning,
    StreamStart,
)
from backend.schema.records import (
    ActiveTurn,
    ErrorRecord,
    HostFigures,
    PlatformInfo,
    ProcessFigures,
    ServiceStatus,
    Session,
    SpecialistStatus,
    StoredMessage,
)

__all__ = [
    "TOPICS",
    "CallProgress",
    "ErrorEntry",
    "ErrorsAcknowledged",
    "Event",
    "GatewayCall",
    "Hello",
    "LogLines",
    "MessageStored",
    "Metrics",
    "PipelineEnd",
    "PipelineStart",
    "Result",
    "ServiceEvent",
    "SessionChanged",
    "SessionRemoved",
    "Snapshot",
    "SpecialistEvent",
    "StageEvent",
    "StageText",
    "TeamEnd",
    "TeamStart",
    "Topic",
    "TurnStarted",
    "event_decoder",
]

Topic = Literal["fleet", "metrics", "chat", "errors", "logs", "gateway", "pipes"]
TOPICS: tuple[Topic, ...] = ("fleet", "metrics", "chat", "errors", "logs", "gateway", "pipes")


class Hello(Struct, tag="hello"):
    """First frame on a connection. `epoch` names this life of the backend: numbers of another do not compare."""

    epoch: str
    seq: int
    version: str
    scopes: list[str]


class Snapshot(Struct, tag="snapshot", omit_defaults=True):
    """The whole state at `at_seq`. Sent after `subscribe`; with `resync` true when the replay buffer was passed.

    Turns that ended during a gap are in memory: a client that was away reads its sessions again.
    """

    epoch: str
    at_seq: int
    platform: PlatformInfo
    specialists: list[SpecialistStatus]
    services: list[ServiceStatus]
    turns: list[ActiveTurn]
    unacknowledged: int
    resync: bool = False
    teams: list[TeamStart] = []


class SpecialistEvent(Struct, tag="specialist"):
    """A specialist's row changed. Must be delivered."""

    status: SpecialistStatus
    timestamp: float


class ServiceEvent(Struct, tag="service"):
    status: ServiceStatus
    timestamp: float


class Metrics(Struct, tag="metrics"):
    """Figures of all live processes, by specialist id or service name, once a second."""

    timestamp: float
    host: HostFigures
    processes: dict[str, ProcessFigures]


class TurnStarted(Struct, tag="turn_started", omit_defaults=True):
    """A turn was accepted and the user's message stored. `group` is the team or pipeline request, if any."""

    request_id: str
    ai_id: str
    session_id: str
    prompt: str
    timestamp: float
    group: str = ""
    message_id: int = 0


class MessageStored(Struct, tag="message"):
    """A message reached memory: a finished answer, a failed one with its partial text, or a user's line."""

    message: StoredMessage


class TeamStart(Struct, tag="team_start", omit_defaults=True):
    """A team turn began; `lanes` maps specialist id to that lane's request id."""

    request_id: str
    session_id: str
    prompt: str
    lanes: dict[str, str]
    timestamp: float
    mode: str = "pass_through"
    refused: dict[str, str] = {}
    """Members that could not be asked at all, with the reason."""
    round: int = 1


class TeamEnd(Struct, tag="team_end", omit_defaults=True):
    request_id: str
    answered: int
    failed: int
    cancelled: int
    total_time: float
    synthesis: str = ""
    consensus: str = ""


class PipelineStart(Struct, tag="pipeline_start", omit_defaults=True):
    """A pipeline run began; `stages` are the stage texts, left to right."""

    request_id: str
    pipeline: str
    stages: list[str]
    timestamp: float
    session_id: str = ""
    input: str = ""


class StageEvent(Struct, tag="stage", omit_defaults=True):
    """A stage changed: sizes in bytes, times in seconds, `request_ids` of the turns it runs."""

    request_id: str
    stage: int
    state: Literal["waiting", "running", "done", "failed", "cancelled", "not run"]
    label: str = ""
    input_bytes: int = 0
    output_bytes: int = 0
    first_token_ms: float | None = None
    elapsed_s: float | None = None
    started_at: float = 0.0
    code: str = ""
    error: str = ""
    request_ids: list[str] = []


class StageText(Struct, tag="stage_text"):
    """Text of the last stage as it comes: the pipeline's output."""

    request_id: str
    stage: int
    content: str


class PipelineEnd(Struct, tag="pipeline_end", omit_defaults=True):
    request_id: str
    ok: bool
    output: str
    total_time: float
    failed_stage: int = 0
    code: str = ""
    error: str = ""


class ErrorEntry(Struct, tag="error_entry"):
    """A failure entered the ledger, or happened again."""

    record: ErrorRecord
    unacknowledged: int


class ErrorsAcknowledged(Struct, tag="errors_acknowledged"):
    ids: list[int]
    timestamp: float
    unacknowledged: int


class LogLines(Struct, tag="log", omit_defaults=True):
    """New lines of a process's log file; `dropped` counts lines skipped because they came too fast."""

    source: str
    lines: list[str]
    timestamp: float
    dropped: int = 0


class SessionChanged(Struct, tag="session"):
    session: Session


class SessionRemoved(Struct, tag="session_removed"):
    session_id: str


class GatewayCall(Struct, tag="gateway_call", omit_defaults=True):
    """One call a client made, or one that was refused and why. `elapsed_ms` until the first byte of the answer.

    `token` is the label of the token it came with, never the token.
    """

    timestamp: float
    client: str
    transport: Literal["http", "sse", "ws", "mcp", "openai"]
    action: str
    status: int
    elapsed_ms: float = 0.0
    refusal: str = ""
    request_id: str = ""
    scope: str = ""
    token: str = ""


class CallProgress(Struct, tag="call_progress"):
    """How far a long call has come that is no turn: the fetching of a model."""

    request_id: str
    text: str


class Result(Struct, tag="result"):
    """The answer to a call made over the WebSocket; carries no `seq`."""

    request_id: str
    result: Any = None


Event = (
    Hello
    | Snapshot
    | SpecialistEvent
    | ServiceEvent
    | Metrics
    | TurnStarted
    | MessageStored
    | TeamStart
    | TeamEnd
    | PipelineStart
    | StageEvent
    | StageText
    | PipelineEnd
    | ErrorEntry
    | ErrorsAcknowledged
    | LogLines
    | SessionChanged
    | SessionRemoved
    | GatewayCall
    | CallProgress
    | Result
    | Pong
    | ErrorReply
    | StreamStart
    | StreamPhase
    | StreamReasoning
    | StreamChunk
    | StreamEnd
    | StreamError
)

event_decoder = msgspec.json.Decoder(Event)
"""Decodes one event. The `seq` key is ignored here; the client reads it from the front of the line."""
