"""The numbered event stream of the backend: what a client of `/ws` receives.

Every event on the wire carries `seq` as its first key; the stream stamps it, so it is no field here.
The streamed frames of `frames.py` are events too, unchanged. Topics: `fleet` (states, services),
`metrics` (1 Hz figures), `chat` (turns and their tokens), `errors`, `logs`, `gateway` (calls and refusals),
`pipes` (pipeline stages), `tools` (tool calls and signatures of thinking: a topic of its own, because consoles of
before it know no such frames), `asks` (what waits for a person; a client that subscribes to it and may answer counts as somebody who will).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

from backend.schema import frames, records
from backend.schema.attention import AttentionItem
from backend.schema.content import Attachment
from backend.schema.history import History, Sample
from backend.schema.tools import Ask

Topic = Literal["fleet", "metrics", "chat", "errors", "logs", "gateway", "pipes", "tools", "asks"]
TOPICS: tuple[Topic, ...] = get_args(Topic)


class Hello(Struct, tag="hello"):
    """First frame on a connection. `epoch` names this life of the backend: numbers of another do not compare.

    `subscribed` says that the wish in the head of the request (`tekton-subscribe`) was understood: what it asks for comes next.
    `timestamp` is the gateway's clock, 0 from one of an older version.
    """

    epoch: str
    seq: int
    version: str
    scopes: list[str]
    subscribed: bool = False
    timestamp: float = 0.0


SUBSCRIBE_HEADER = "tekton-subscribe"
"""Header of the request for `/ws` with the values of a `subscribe` frame as JSON: it saves a way there and back."""


class Snapshot(Struct, tag="snapshot", omit_defaults=True):
    """The whole state at event `at_seq`. Sent after `subscribe`, and with `resync` true when events were missed.

    Turns that ended during a gap are in memory: a client that was away reads its sessions again. Who subscribes with
    `condensed` gets long texts behind the snapshot, as `TurnText`: on a slow line, what happens now does not wait for them.
    """

    epoch: str
    at_seq: int
    platform: records.PlatformInfo
    specialists: list[records.SpecialistStatus]
    services: list[records.ServiceStatus]
    turns: list[records.ActiveTurn]
    unacknowledged: int
    resync: bool = False
    teams: list[TeamStart] = []
    asks: list[Ask] = []
    history: History | None = None
    attention: list[AttentionItem] = []
    pipelines: list[str] | None = None
    """Request ids of the runs under way; `None` from a gateway that does not say."""


class TurnText(Struct, tag="turn_text", omit_defaults=True):
    """The next piece of what a snapshot left out of a turn, the oldest first; `left` characters are still to come.

    Sent between the events that happen meanwhile, without a number, to who subscribed with `condensed`.
    """

    request_id: str
    content: str = ""
    reasoning: str = ""
    left: int = 0


class SpecialistEvent(Struct, tag="specialist"):
    """A specialist's row changed. Must be delivered."""

    status: records.SpecialistStatus
    timestamp: float


class SpecialistGone(Struct, tag="specialist_gone"):
    """A specialist is no longer configured, and its row is gone. Must be delivered."""

    id: str
    timestamp: float


class ServiceEvent(Struct, tag="service"):
    status: records.ServiceStatus
    timestamp: float


class ProviderChanged(Struct, tag="provider_changed", omit_defaults=True):
    """What answers for specialists that name no provider, when another was taken or a better one can be.

    `offer` is a model that is there now and is not taken by itself.
    """

    provider: records.ProviderChoice
    timestamp: float
    offer: records.ModelCandidate | None = None


class Metrics(Struct, tag="metrics", omit_defaults=True):
    """Figures of all live processes, by specialist id or service name, once a second.

    `sample` continues the series of the snapshot, every other second.
    """

    timestamp: float
    host: records.HostFigures
    processes: dict[str, records.ProcessFigures]
    sample: Sample | None = None


class TurnStarted(Struct, tag="turn_started", omit_defaults=True):
    """A turn was accepted. `group` is the team or pipeline request, if any; `message_id` the stored question's number.

    `message_id` is 0 while the turn waits behind another question of its session: nothing of it is stored until then.
    """

    request_id: str
    ai_id: str
    session_id: str
    prompt: str
    timestamp: float
    group: str = ""
    message_id: int = 0
    attached: list[Attachment] = []
    """Files that go along with the question."""
    after: str = ""
    """Behind which question it stands, where that is not the newest one."""


class TurnChanged(Struct, tag="turn_changed"):
    """The question of a turn that waits in its session was changed."""

    request_id: str
    prompt: str


class MessageStored(Struct, tag="message", omit_defaults=True):
    """A message reached memory: a finished answer, a failed one with its partial text, or a user's line."""

    message: records.StoredMessage
    corrects: bool = False
    """Whether another end of its turn was told and stored before: whoever shows the conversation reads it anew."""


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


class TeamQueued(Struct, tag="team_queued"):
    """A team turn waits behind `ahead` questions of its session; with 0 its members are asked now."""

    request_id: str
    ahead: int


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
    """A failure entered the error log, or happened again."""

    record: records.ErrorRecord
    unacknowledged: int


class ErrorsAcknowledged(Struct, tag="errors_acknowledged"):
    ids: list[int]
    timestamp: float
    unacknowledged: int


class AskOpened(Struct, tag="ask"):
    """A tool call waits for a person."""

    ask: Ask


class AskClosed(Struct, tag="ask_closed"):
    """A tool call waits no more: it was allowed or denied, by somebody, or nobody in time."""

    id: str
    ai_id: str
    verdict: str
    by: str


class AttentionChanged(Struct, tag="attention"):
    """What waits for the operator changed: items that came or differ, and ids of those that are gone."""

    items: list[AttentionItem]
    gone: list[str]


class LogLines(Struct, tag="log", omit_defaults=True):
    """New lines of a process's log file; `dropped` counts lines skipped because they came too fast."""

    source: str
    lines: list[str]
    timestamp: float
    dropped: int = 0


class SessionChanged(Struct, tag="session"):
    session: records.Session


class SessionRemoved(Struct, tag="session_removed"):
    session_id: str


CallTransport = Literal["http", "sse", "ws", "mcp", "openai", "socket"]
"""How a call came; `socket` is a specialist's own port."""


class GatewayCall(Struct, tag="gateway_call", omit_defaults=True):
    """One call a client made, or one that was refused and why. `elapsed_ms` until the first byte of the answer.

    `token` is the label of the token it came with, never the token.
    """

    timestamp: float
    client: str
    transport: CallTransport
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


# one union, so that a reader decodes a line in one step, by its tag, and matches on its class
Event = (
    Hello
    | Snapshot
    | TurnText
    | SpecialistEvent
    | SpecialistGone
    | ServiceEvent
    | ProviderChanged
    | Metrics
    | TurnStarted
    | TurnChanged
    | MessageStored
    | TeamStart
    | TeamQueued
    | TeamEnd
    | PipelineStart
    | StageEvent
    | StageText
    | PipelineEnd
    | ErrorEntry
    | ErrorsAcknowledged
    | AskOpened
    | AskClosed
    | AttentionChanged
    | LogLines
    | SessionChanged
    | SessionRemoved
    | GatewayCall
    | CallProgress
    | Result
    | frames.Pong
    | frames.ErrorReply
    | frames.StreamStart
    | frames.StreamPhase
    | frames.StreamReasoning
    | frames.StreamToolCall
    | frames.StreamToolUse
    | frames.StreamToolResult
    | frames.StreamSignature
    | frames.StreamLogprobs
    | frames.StreamChunk
    | frames.StreamEnd
    | frames.StreamError
)

event_decoder = msgspec.json.Decoder(Event)
"""Decodes one event. The `seq` key is ignored here; the client reads it from the front of the line."""
