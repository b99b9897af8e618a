"""What actions return, one struct each. Handlers build them, clients get them back, and the OpenAPI document and the MCP
schemas are made from them. A result that is stored or listed elsewhere too is in `records`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from backend.schema import records
from backend.schema.attention import AttentionItem
from backend.schema.content import Abilities
from backend.schema.errors import ErrorCode
from backend.schema.events import GatewayCall
from backend.schema.frames import Usage
from backend.schema.history import TurnRecord
from backend.schema.orchestration import OrchestrationSettings
from backend.schema.states import SpecialistState
from backend.schema.tools import Answer, Ask, Rule, ToolRecord


class Started(Struct, omit_defaults=True):
    """The result of a call with `wait` false; the rest arrives as events.

    `lanes` of a team turn maps specialist ids to the request ids of their turns, `stages` are those of a pipeline.
    """

    request_id: str
    session_id: str = ""
    ai_id: str = ""
    lanes: dict[str, str] = {}
    stages: list[str] = []


# specialists


class Connection(Struct):
    """Where a specialist listens."""

    host: str
    port: int
    transport: str


class Performance(Struct):
    """Figures of a specialist over this backend's life; `None` where nothing was measured yet.

    `avg_response_time` in seconds, `success_rate` from 0 to 1, `first_token_ms` of the newest turn.
    """

    avg_response_time: float | None
    success_rate: float | None
    total_requests: int
    first_token_ms: float | None
    tokens_per_second: float | None


class Specialist(Struct):
    """One specialist as discovery shows it; `status` is `active` while it can be asked."""

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


class SpecialistDetail(Specialist):
    """A specialist with its whole row, its persona and its other names."""

    status_row: records.SpecialistStatus
    persona: str
    aliases: list[str]


class SpecialistList(Struct):
    count: int
    specialists: list[Specialist]


class DraftProblem(Struct):
    """What keeps a specialist from being created: the field it lies in, and a sentence."""

    field: str
    message: str


class SpecialistDraft(Struct):
    """A specialist that could be created: the file `where` with its `text`, and the `prompt` its model would be sent.

    `name` is as files are called. `where` is a path at the gateway that was asked. Without `problems` it can be created.
    """

    name: str
    where: str
    text: str
    prompt: str
    problems: list[DraftProblem]


class SpecialistCreated(Struct):
    """A specialist whose file was written, and where: a path at the gateway that was asked."""

    id: str
    name: str
    where: str


class LogText(Struct, omit_defaults=True):
    """The newest lines of a log file; `remote` when it lies on another host, which sent them."""

    source: str
    path: str
    lines: list[str]
    remote: bool = False


class LaunchReport(Struct, omit_defaults=True):
    """`plan` for a dry run, otherwise `results`, one for each specialist."""

    plan: records.FleetPlan | None = None
    results: list[records.LaunchResult] = []


class KillResult(Struct):
    """What ending each specialist did."""

    results: list[records.LaunchResult]


class RestartResult(Struct):
    """What restarting each specialist did."""

    results: list[records.LaunchResult]


class SetModelResult(Struct):
    """What changing each specialist's model did."""

    results: list[records.LaunchResult]


class AgentOptionSet(Struct):
    """An option of an external agent, as it is now."""

    id: str
    option: str
    value: str | bool


class MatchedSpecialist(Struct):
    """A specialist for a request. `score` is relative; `why` the words that decided; `available` whether it runs."""

    id: str
    score: float
    why: list[str]
    available: bool


class MatchList(Struct):
    """The best first; `fallback` are the ids of the others, in the order in which they would be asked."""

    matches: list[MatchedSpecialist]
    fallback: list[str]


# asking


class AnswerMetadata(Struct):
    """How a member's answer came; `total_time` in seconds."""

    model: str
    first_token_ms: float | None
    total_time: float
    usage: Usage | None
    request_id: str


class TeamAnswer(Struct):
    """A member's answer; `socket_id` is the specialist's id."""

    socket_id: str
    content: str
    timestamp: float
    metadata: AnswerMetadata


class TeamFailure(Struct):
    """A member that gave no answer, why, and the text that had come."""

    socket_id: str
    code: ErrorCode
    error: str
    partial: str


class TeamRound(Struct):
    """One round of several, counted from 1."""

    round: int
    responses: list[TeamAnswer]
    failures: list[TeamFailure]


class TeamResult(Struct, omit_defaults=True):
    """All answers of a team turn in the order of arrival; `elapsed_time` in seconds.

    With several rounds, `rounds` holds each and the rest is of the last one.
    """

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


class CancelResult(Struct):
    """What was cancelled, and how many pieces of text had come by then."""

    request_id: str
    confirmed: bool
    chunks: int
    elapsed_ms: float


class TurnEdited(Struct):
    """A question that waits, as it will be asked."""

    request_id: str
    content: str


class BulkResult(Struct):
    """One result of a bulk: `index` is the request's place; `outcome.code` is set when it failed."""

    index: int
    ok: bool
    outcome: records.TurnOutcome


class BulkReport(Struct):
    """All results of a bulk in request order; `wall_time` and `sum_of_times` in seconds."""

    request_id: str
    results: list[BulkResult]
    ok: int
    failed: int
    wall_time: float
    sum_of_times: float


class TurnList(Struct):
    """Turns that ran in a range of time, in the order they began.

    `recorded_since` is when this backend began to keep them: what was before is not known. `more` says that older ones
    of the range were left out.
    """

    turns: list[TurnRecord]
    recorded_since: float
    more: bool = False


class PipelineRuns(Struct):
    runs: list[records.RunRecord]


class SavedPipelineList(Struct):
    saved: list[records.SavedPipeline]


# sessions and memory


class SessionList(Struct):
    """Sessions, newest use first. `more` says that there are others, or may be."""

    count: int
    sessions: list[records.Session]
    more: bool = False


class SessionDeleted(Struct):
    """The id of what was deleted."""

    deleted: str


class MessageList(Struct):
    """Messages of one session, oldest first."""

    messages: list[records.StoredMessage]


class History(Struct):
    """The newest messages with one specialist, oldest first; `conversation_id` is their session's id."""

    specialist_id: str
    conversation_id: str
    messages: list[records.StoredMessage]


class TeamMember(Struct):
    """A specialist that a team turn would ask; `socket_id` is its id."""

    socket_id: str
    name: str
    state: SpecialistState
    model: str


class TeamMembers(Struct):
    count: int
    sockets: list[TeamMember]


# models and usage


class Model(Struct):
    """A model of a provider. `size` in bytes and `context_window` in tokens, 0 where unknown.

    `abilities` are what it takes beside text; those nobody can say are left out.
    """

    name: str
    display: str
    size: int
    context_window: int
    detail: str
    abilities: Abilities = field(default_factory=Abilities)


class ProviderModels(Struct, omit_defaults=True):
    """One provider and what it offers; `detail` and `code` say why it does not answer."""

    provider: str
    ok: bool
    detail: str
    models: list[Model]
    code: ErrorCode | None = None


class ProviderList(Struct):
    providers: list[ProviderModels]


class CandidateList(Struct, omit_defaults=True):
    """What could answer on this machine, the best first, and what does; `looked` is every place that was looked at."""

    candidates: list[records.ModelCandidate]
    current: records.ProviderChoice
    looked: list[records.LookedAt] = []


class PullResult(Struct):
    model: str
    provider: str
    pulled: bool


class LimitRow(Struct):
    """A budget and what was used of it today. `uncounted` says what it does not see, `over` why no turn fits."""

    id: str
    name: str
    tokens: int
    tokens_per_day: int
    cost: float
    cost_per_day: float
    currency: str
    uncounted: str
    over: str

    def used(self, count: Callable[[int], str] = "{:,}".format, unit: str = "tokens") -> str:
        """Return how much was used of each of its limits: `120 of 1,000 tokens, 0.10 of 2.00 USD`."""
        parts: list[str] = []
        if self.tokens_per_day:
            parts.append(f"{count(self.tokens)} of {count(self.tokens_per_day)} {unit}")
        if self.cost_per_day:
            parts.append(f"{self.cost:.2f} of {self.cost_per_day:.2f} {self.currency}")
        return ", ".join(parts)


class UsageReport(Struct):
    """Tokens and cost of one day by specialist and model, with the budgets; `prices_of` dates the price table."""

    day: str
    specialists: list[records.UsageRow]
    total: records.Used
    budget: records.Budget
    budgets: dict[str, records.Budget]
    limits: list[LimitRow]
    prices_of: str


# errors


class ErrorList(Struct):
    """Failures, newest first; `unacknowledged` counts all that nobody has seen."""

    errors: list[records.ErrorRecord]
    unacknowledged: int


class AttentionList(Struct):
    """What waits for the operator, the most urgent first; snoozed items too."""

    items: list[AttentionItem]


class Unacknowledged(Struct):
    """How many failures nobody has seen yet."""

    unacknowledged: int


# the platform


class GatewayPeer(Struct):
    """One of several gateways that serve the same fleet: whether it leads, is the one asked, and lives."""

    name: str
    url: str = ""
    host: str = ""
    pid: int = 0
    since: float = 0.0
    leads: bool = False
    here: bool = False
    alive: bool = False


class ClusterReport(Struct, omit_defaults=True):
    """The hosts specialists may run on, the store, and the gateways that share it."""

    address: str
    store: str
    nodes: list[records.Node]
    gateways: list[GatewayPeer] = []


class AppliedSettings(Struct):
    """The settings as stored; `applied` false when they take effect at the next start."""

    settings: OrchestrationSettings
    applied: bool


class GatewayClient(Struct):
    """A WebSocket client connected now; `token` is the label of its token."""

    client: str
    token: str
    scope: str
    since: float
    topics: list[str]
    program: str = ""
    """Name and version it gives itself."""


class EventFigures(Struct):
    """The event log: its newest number, events nobody wanted, readers sent back to a snapshot, seconds held up."""

    seq: int
    unwanted: int
    resyncs: int
    held_s: float


class GatewayReport(Struct):
    """Who is connected and what was asked lately, newest first."""

    address: str
    clients: list[GatewayClient]
    streams: int
    total_calls: int
    refused_calls: int
    recent: list[GatewayCall]
    refusals: list[GatewayCall]
    events: EventFigures


class AskList(Struct):
    """Tool calls that wait for a person, the oldest first."""

    asks: list[Ask]


class AskAnswered(Struct):
    """An answer that counted; `by` is who gave it."""

    id: str
    ai_id: str
    tool: str
    answer: Answer
    by: str


class RuleList(Struct):
    """Rules over tool calls: those of the configuration, then those that were added, by `id`."""

    rules: list[Rule]


class ToolCallList(Struct):
    """Tool calls, newest first."""

    calls: list[ToolRecord]


class ShutdownResult(Struct):
    """`results` of stopping the fleet, if that was asked for; `left`: how many specialists go on running."""

    stopping: bool
    results: list[records.LaunchResult]
    left: int = 0


class Preference(Struct):
    """A value a client stored under a key; `None` when there is none."""

    key: str
    value: Any


class PreferenceKey(Struct):
    key: str


class ErrorText(Struct, omit_defaults=True):
    """What an HTTP error says: OpenAI's shape with our code, and the other side's words where there are any."""

    code: ErrorCode
    message: str
    type: str
    param: str | None
    evidence: str = ""
    detail: dict[str, Any] = {}


class ErrorAnswer(Struct):
    """The body of every HTTP error."""

    error: ErrorText
