"""What actions answer, as shapes for the OpenAPI document and for the MCP tools. Nothing is built from these: tests hold
them to the truth.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from backend.config import Budget
from backend.memory import Export
from backend.memory.store import UsageRow
from backend.orchestration.bulk import BulkReport
from backend.orchestration.matching import Match
from backend.orchestration.pipeline_records import RunRecord
from backend.orchestration.saved_pipelines import SavedPipeline
from backend.orchestration.settings import OrchestrationSettings
from backend.providers.budget import Used
from backend.schema.errors import ErrorCode
from backend.schema.events import GatewayCall, Snapshot
from backend.schema.frames import HealthResponse
from backend.schema.records import (
    ErrorRecord,
    FleetPlan,
    LaunchResult,
    PlatformInfo,
    SearchHit,
    Session,
    SpecialistState,
    SpecialistStatus,
    StoredMessage,
    TurnOutcome,
)
from backend.specialists.nodes import Node

ANYTHING = {"description": "any JSON value"}
"""The schema of a value of no fixed kind."""


class ErrorText(Struct, omit_defaults=True):
    code: ErrorCode
    message: str
    type: str
    param: str | None
    evidence: str = ""
    detail: dict[str, Any] = {}


class ErrorAnswer(Struct):
    error: ErrorText


class Connection(Struct):
    host: str
    port: int
    transport: str


class Performance(Struct):
    avg_response_time: float | None
    success_rate: float | None
    total_requests: int
    first_token_ms: float | None
    tokens_per_second: float | None


class Specialist(Struct):
    id: str
    name: str
    type: str
    title: str
    component_id: str
    status: str
    state: SpecialistState
    model: str
    capabilities: list[str]
    roles: list[str]
    connection: Connection
    performance: Performance


class Described(Specialist):
    status_row: SpecialistStatus
    persona: str
    aliases: list[str]


class Specialists(Struct):
    count: int
    specialists: list[Specialist]


class Started(Struct, omit_defaults=True):
    """The answer of a call with `wait` false."""

    request_id: str
    session_id: str = ""
    ai_id: str = ""
    lanes: dict[str, str] = {}
    stages: list[str] = []


class TeamAnswer(Struct):
    socket_id: str
    content: str
    timestamp: float
    metadata: dict[str, Any]


class TeamFailure(Struct):
    socket_id: str
    code: str
    error: str
    partial: str


class TeamRound(Struct):
    round: int
    responses: list[TeamAnswer]
    failures: list[TeamFailure]


class Team(Struct, omit_defaults=True):
    """`rounds` when more than one was asked for; the rest is then of the last one."""

    request_id: str
    session_id: str
    responses: list[TeamAnswer]
    failures: list[TeamFailure]
    moderation_mode: str
    synthesis: str
    consensus: str
    timestamp: float
    elapsed_time: float
    rounds: list[TeamRound] = []


class Cancelled(Struct):
    request_id: str
    confirmed: bool
    chunks: int
    elapsed_ms: float


class Results(Struct):
    results: list[LaunchResult]


class LaunchAnswer(Struct, omit_defaults=True):
    """`plan` for a dry run, otherwise `results`."""

    plan: FleetPlan | None = None
    results: list[LaunchResult] = []


class Matches(Struct):
    matches: list[Match]
    fallback: list[str]


class Errors(Struct):
    errors: list[ErrorRecord]
    unacknowledged: int


class Sessions(Struct):
    count: int
    sessions: list[Session]


class Messages(Struct):
    messages: list[StoredMessage]


class History(Struct):
    specialist_id: str
    conversation_id: str
    messages: list[StoredMessage]


class Hits(Struct):
    hits: list[SearchHit]


class Runs(Struct):
    runs: list[RunRecord]


class Saved(Struct):
    saved: list[SavedPipeline]


class Applied(Struct):
    settings: OrchestrationSettings
    applied: bool


class Deleted(Struct):
    deleted: str


class LogText(Struct):
    source: str
    path: str
    lines: list[str]
    remote: bool = False


class Model(Struct):
    name: str
    display: str
    size: int
    context_window: int
    detail: str


class ProviderModels(Struct, omit_defaults=True):
    """`detail` and `code` say why a provider does not answer."""

    provider: str
    ok: bool
    detail: str
    models: list[Model]
    code: ErrorCode | None = None


class Providers(Struct):
    providers: list[ProviderModels]


class Pulled(Struct):
    model: str
    provider: str
    pulled: bool


class LimitRow(Struct):
    id: str
    name: str
    tokens: int
    tokens_per_day: int
    cost: float
    cost_per_day: float
    over: str


class UsageReport(Struct):
    day: str
    specialists: list[UsageRow]
    total: Used
    budget: Budget
    budgets: dict[str, Budget]
    limits: list[LimitRow]
    prices_of: str


class Cluster(Struct):
    address: str
    store: str
    nodes: list[Node]
    gateways: list[dict[str, Any]] = []


class GatewayClient(Struct):
    client: str
    token: str
    scope: str
    since: float
    topics: list[str]


class EventFigures(Struct):
    seq: int
    unwanted: int
    resyncs: int
    held_s: float


class GatewayReport(Struct):
    address: str
    clients: list[GatewayClient]
    streams: int
    total_calls: int
    refused_calls: int
    recent: list[GatewayCall]
    refusals: list[GatewayCall]
    events: EventFigures


class Stopping(Struct):
    stopping: bool
    results: list[LaunchResult]


class Preference(Struct):
    key: str
    value: Any


class PreferenceKey(Struct):
    key: str


class Unacknowledged(Struct):
    unacknowledged: int


class Member(Struct):
    socket_id: str
    name: str
    state: SpecialistState
    model: str


class Members(Struct):
    count: int
    sockets: list[Member]


ANSWERS: dict[str, tuple[type[Struct], ...]] = {
    "list_specialists": (Specialists,),
    "get_specialist": (Described,),
    "specialist_health": (HealthResponse,),
    "specialist_logs": (LogText,),
    "launch": (LaunchAnswer,),
    "launch_one": (LaunchAnswer,),
    "kill": (Results,),
    "kill_one": (Results,),
    "restart": (Results,),
    "set_model": (Results,),
    "list_models": (Providers,),
    "pull_model": (Pulled,),
    "usage": (UsageReport,),
    "match": (Matches,),
    "chat": (TurnOutcome, Started),
    "team_chat": (Team, Started),
    "discuss": (Team, Started),
    "ask_member": (TurnOutcome, Started),
    "cancel": (Cancelled,),
    "bulk": (BulkReport,),
    "pipeline": (RunRecord, Started),
    "list_pipelines": (Runs,),
    "saved_pipelines": (Saved,),
    "save_pipeline": (SavedPipeline,),
    "remove_pipeline": (SavedPipeline,),
    "list_errors": (Errors,),
    "acknowledge_errors": (Unacknowledged,),
    "platform": (PlatformInfo,),
    "cluster_status": (Cluster,),
    "gateway_info": (GatewayReport,),
    "shutdown": (Stopping,),
    "get_preference": (Preference,),
    "put_preference": (PreferenceKey,),
    "snapshot": (Snapshot,),
    "get_orchestration": (OrchestrationSettings,),
    "configure_orchestration": (Applied,),
    "team_members": (Members,),
    "list_sessions": (Sessions,),
    "create_session": (Session,),
    "get_session": (Session,),
    "patch_session": (Session,),
    "reset_member": (Session,),
    "delete_session": (Deleted,),
    "session_messages": (Messages,),
    "conversation_history": (History,),
    "pin_message": (StoredMessage,),
    "export_session": (Export,),
    "search_memory": (Hits,),
}
"""By action, each answer it may give."""
