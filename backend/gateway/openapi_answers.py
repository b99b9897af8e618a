"""What actions answer, as shapes for the OpenAPI document. Nothing is built from these: tests hold them to the truth."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from backend.memory import Export
from backend.orchestration.bulk import BulkReport
from backend.orchestration.matching import Match
from backend.orchestration.pipeline_records import RunRecord
from backend.orchestration.settings import OrchestrationSettings
from backend.schema.errors import ErrorCode
from backend.schema.events import Snapshot
from backend.schema.frames import HealthResponse
from backend.schema.records import (
    ErrorRecord,
    FleetPlan,
    LaunchResult,
    PlatformInfo,
    SearchHit,
    Session,
    SpecialistState,
    StoredMessage,
    TurnOutcome,
)


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


class Team(Struct):
    request_id: str
    session_id: str
    responses: list[TeamAnswer]
    failures: list[TeamFailure]
    moderation_mode: str
    synthesis: str
    consensus: str
    timestamp: float
    elapsed_time: float


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


class Applied(Struct):
    settings: OrchestrationSettings
    applied: bool


class Deleted(Struct):
    deleted: str


ANSWERS: dict[str, tuple[type[Struct], ...]] = {
    "list_specialists": (Specialists,),
    "specialist_health": (HealthResponse,),
    "launch": (LaunchAnswer,),
    "launch_one": (LaunchAnswer,),
    "kill": (Results,),
    "kill_one": (Results,),
    "restart": (Results,),
    "set_model": (Results,),
    "match": (Matches,),
    "chat": (TurnOutcome, Started),
    "team_chat": (Team, Started),
    "discuss": (Team, Started),
    "ask_member": (TurnOutcome, Started),
    "cancel": (Cancelled,),
    "bulk": (BulkReport,),
    "pipeline": (RunRecord, Started),
    "list_pipelines": (Runs,),
    "list_errors": (Errors,),
    "platform": (PlatformInfo,),
    "snapshot": (Snapshot,),
    "get_orchestration": (OrchestrationSettings,),
    "configure_orchestration": (Applied,),
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
"""By action, each answer it may give; what is not here is a JSON object of its own making."""
