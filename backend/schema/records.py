"""What is stored, listed or shown: registry entries, specialists, sessions, messages, errors.

Times are unix seconds (float), durations seconds unless the name says `_ms`, sizes bytes.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from backend.schema.errors import ErrorCode
from backend.schema.frames import FinishReason, Phase, Usage

__all__ = [
    "ActiveTurn",
    "AuditLine",
    "ErrorRecord",
    "FleetPlan",
    "HostFigures",
    "LaunchPlanItem",
    "LaunchResult",
    "PlatformInfo",
    "ProcessFigures",
    "ProviderChoice",
    "RegistryEntry",
    "SearchHit",
    "ServiceStatus",
    "Session",
    "SpecialistState",
    "SpecialistStatus",
    "StoredMessage",
    "Transport",
    "TurnOutcome",
]

SpecialistState = Literal[
    "stopped", "starting", "ready", "busy", "stopping", "exited", "killed", "lost", "foreign-port"
]
Transport = Literal["socket", "api"]


class RegistryEntry(Struct, omit_defaults=True):
    """One line of the registry file. Identity is `pid` together with `process_start`, never the pid alone."""

    port: int
    component: str
    host: str = "127.0.0.1"
    pid: int = 0
    process_start: float = 0.0
    model: str = ""
    provider: str = ""
    state: str = "starting"
    transport: Transport = "socket"
    capabilities: list[str] = []
    registered_at: float = 0.0
    launcher: str = "local"
    metadata: dict[str, object] = {}


class AuditLine(Struct):
    """One line of the registry's audit log."""

    timestamp: float
    ai_id: str
    event: str
    previous_state: str | None
    detail: str


class ProviderChoice(Struct, omit_defaults=True):
    """Which provider and model a specialist uses, and why in words for the operator."""

    provider: str
    model: str
    reason: str = ""
    display: str = ""


class SpecialistStatus(Struct, omit_defaults=True):
    """One row of the grid: everything the platform knows of a specialist now.

    `id` is the long form (`apollo-ai`), `name` the short one. `phase` is set while `state` is busy.
    `since` is when the state began, `phase_since` when the phase did. `cause` tells in words how the last run ended.
    `exit_code` and `signal` are `None` when unknown: an adopted process that died has neither.
    `first_token_ms` and `tokens_per_second` are of the newest turn; `avg_response_s` is over this backend's life.
    `queue` counts turns waiting or running. `costs` is what was spent today by currency,
    `cost` their figure in `currency`, that of the newest priced turn; `None` where no price is known.
    `warming` is true between ready and the provider's first readiness.
    """

    id: str
    name: str
    title: str
    component: str
    state: SpecialistState = "stopped"
    since: float = 0.0
    phase: Phase | None = None
    phase_since: float = 0.0
    detail: str = ""
    warming: bool = False
    adopted: bool = False
    groups: list[str] = []
    description: str = ""
    capabilities: list[str] = []
    roles: list[str] = []
    provider: str = ""
    model: str = ""
    model_display: str = ""
    provider_reason: str = ""
    temperature: float | None = None
    transport: Transport = "socket"
    host: str = "127.0.0.1"
    port: int = 0
    pid: int = 0
    process_start: float = 0.0
    launcher: str = "local"
    started_at: float = 0.0
    exit_code: int | None = None
    signal: int | None = None
    cause: str = ""
    queue: int = 0
    first_token_ms: float | None = None
    tokens_per_second: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None
    currency: str = "USD"
    costs: dict[str, float] = {}
    turns: int = 0
    failures: int = 0
    avg_response_s: float | None = None
    last_activity: float = 0.0
    last_error: str = ""
    last_error_code: ErrorCode | None = None


class ServiceStatus(Struct, omit_defaults=True):
    """A process of the platform that is no specialist: the embedded model server, the gateway."""

    name: str
    title: str
    state: SpecialistState = "stopped"
    since: float = 0.0
    pid: int = 0
    port: int = 0
    detail: str = ""
    cause: str = ""
    started_at: float = 0.0


class ProcessFigures(Struct, omit_defaults=True):
    """One process at one moment: `cpu` in percent of one core, `rss` in bytes, `fds` open descriptors."""

    cpu: float = 0.0
    rss: int = 0
    fds: int = 0


class HostFigures(Struct, omit_defaults=True):
    """The machine at one moment: `cpu` in percent of all cores, memory in bytes, load over one minute."""

    cpu: float = 0.0
    cores: int = 1
    memory_total: int = 0
    memory_available: int = 0
    load: float = 0.0


class PlatformInfo(Struct, omit_defaults=True):
    """What the header shows: who serves, where, with which provider and why."""

    version: str
    home: str
    gateway: str
    pid: int
    started_at: float
    provider: ProviderChoice
    lifecycle_on: bool = True
    starter: list[str] = []
    port_profile: str = "default"
    store: str = ""


class LaunchPlanItem(Struct, omit_defaults=True):
    """What would happen to one specialist. `ok` false: `problem` says why and `code` classifies it."""

    id: str
    name: str
    ok: bool
    port: int = 0
    host: str = "127.0.0.1"
    provider: str = ""
    model: str = ""
    reason: str = ""
    memory_estimate: int = 0
    environment: list[str] = []
    """Names of the environment keys the worker will see, never values."""
    state: SpecialistState = "stopped"
    problem: str = ""
    code: ErrorCode | None = None


class FleetPlan(Struct, omit_defaults=True):
    """A launch plan: per specialist and in sum. Memory in bytes."""

    items: list[LaunchPlanItem]
    memory_estimate: int = 0
    memory_available: int = 0
    running: int = 0
    cap: int = 0
    notes: list[str] = []


class LaunchResult(Struct, omit_defaults=True):
    """What a launch, kill or restart did to one specialist."""

    id: str
    ok: bool
    state: SpecialistState = "stopped"
    pid: int = 0
    port: int = 0
    message: str = ""
    code: ErrorCode | None = None
    elapsed_s: float = 0.0


class Session(Struct, omit_defaults=True):
    """A conversation. `owner` is a specialist id or `team`; `pinned` messages always stay in the context."""

    id: str
    title: str
    owner: str
    created_at: float
    updated_at: float
    messages: int = 0
    is_default: bool = False
    archived: bool = False
    preview: str = ""
    provider: str = ""
    model: str = ""


class StoredMessage(Struct, omit_defaults=True):
    """One message of a session. `author` is `you`, a specialist id or `system`; `lane` groups one team turn.

    `error_code` marks an answer that failed: `content` then holds the partial text, `error` the reason.
    """

    id: int
    session_id: str
    author: str
    role: Literal["user", "assistant", "system"]
    content: str
    created_at: float
    request_id: str = ""
    lane: str = ""
    model: str = ""
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    error_code: ErrorCode | None = None
    error: str = ""
    first_token_ms: float | None = None
    total_time: float | None = None
    reasoning: str = ""
    pinned: bool = False


class SearchHit(Struct, omit_defaults=True):
    """A message found by full-text search; `snippet` marks the hit words with U+0002 … U+0003."""

    message: StoredMessage
    session_title: str
    snippet: str
    score: float = 0.0


class ErrorRecord(Struct, omit_defaults=True):
    """A failure in the ledger. Equal failures of one worker share a record: `count`, `first`, `last`.

    `where` is a specialist id or a part of the platform; `phase` what it was doing; `evidence` the last lines of
    its stderr or the upstream's own words. `acknowledged` is when a person did so, 0 while nobody has.
    """

    id: int
    where: str
    code: str
    message: str
    first: float
    last: float
    count: int = 1
    phase: str = ""
    evidence: str = ""
    request_id: str = ""
    acknowledged: float = 0.0


class ActiveTurn(Struct, omit_defaults=True):
    """A turn under way, as a snapshot shows it: `content` is all text so far."""

    request_id: str
    ai_id: str
    session_id: str
    prompt: str
    started_at: float
    phase: Phase = "queued"
    phase_since: float = 0.0
    content: str = ""
    reasoning: str = ""
    chunks: int = 0
    group: str = ""
    """Request id of the team turn or pipeline this turn belongs to; empty for a plain turn."""
    first_token_ms: float | None = None


class TurnOutcome(Struct, omit_defaults=True):
    """How a buffered turn ended: an answer, or an error with the partial text."""

    request_id: str
    ai_id: str
    content: str
    model: str = ""
    session_id: str = ""
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    code: ErrorCode | None = None
    error: str = ""
    evidence: str = ""
    detail: dict[str, object] = {}
    first_token_ms: float | None = None
    total_time: float = 0.0
    chunks: int = 0
    message_id: int = 0
    notes: list[str] = []
