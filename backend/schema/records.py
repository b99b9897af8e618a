"""What is stored, listed or shown: registry entries, specialists, sessions, messages, errors.

Times are unix seconds (float), durations seconds unless the name says `_ms`, sizes bytes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from backend.schema import money
from backend.schema.agents import AgentState
from backend.schema.content import Attachment, Part, ToolCall
from backend.schema.errors import ErrorCode
from backend.schema.frames import FinishReason, Phase, Usage
from backend.schema.states import SpecialistState
from backend.schema.tools import ToolState

Transport = Literal["socket", "api", "acp"]
"""How a specialist is reached: a worker of ours, an endpoint elsewhere, a worker that speaks to an external agent."""
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
"""Three capital letters, as in ISO 4217."""

MAX_INTEGER = 2**63 - 1
"""Largest id, number or limit that a conversation store can hold; whatever reads one from outside refuses more."""


# a field that is added gets a default: entries that older versions wrote lack it
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


STAND_IN = (
    "The embedded model is a small stand-in and its answers are often wrong: for real work start Ollama with a model "
    "(`ollama pull qwen3:8b`), then run `tekton models use auto`."
)
"""Shown once to whoever uses the embedded model: what it is, and how to get a better one."""
FIRST_QUESTIONS = (
    ("numa", "Who runs?"),
    ("athena", "What is Python used for?"),
    ("athena", "Is the earth flat?"),
)
"""Specialists and questions for the first run, which the embedded model answers well (`bench/answers.py --set newcomers`)."""


class ProviderChoice(Struct, omit_defaults=True):
    """Which provider and model a specialist uses; `reason` says why, for the operator."""

    provider: str
    model: str
    reason: str = ""
    display: str = ""
    address: str = ""
    """Of the server, where it is not the one the configuration names."""
    stand_in: bool = False
    """Whether it is the small embedded model, see `STAND_IN`."""

    def means(self, one: ModelCandidate) -> bool:
        """Return whether it is this model of this server; one without an address is of whichever is configured."""
        there = not self.address or not one.address or self.address == one.address
        return (self.provider, self.model) == (one.provider, one.model) and there


class ModelCandidate(Struct, omit_defaults=True):
    """A model that could answer on this machine. `size` in bytes, 0 where unknown; `why` says what was found.

    `usable`: it would be asked with good hope. `paid`: each question costs, so it is only taken when chosen.
    """

    provider: str
    model: str
    address: str
    display: str
    size: int
    why: str
    usable: bool = False
    paid: bool = False
    stand_in: bool = False
    rank: int = 0
    """Preference among the models of one server, larger first."""
    fits: bool | None = None
    """Whether this machine's memory takes it well; `None` where it runs elsewhere or its size is not known."""
    abilities: list[str] = []
    """What its server says that it does beside answering: `tools`, `pictures`, `thinking`."""

    @property
    def chosen_by_address(self) -> str:
        """The address that a choice of it has to name: of servers that speak one protocol there may be several."""
        return self.address if self.provider == "openai" and not self.paid else ""


class LookedAt(Struct, omit_defaults=True):
    """A place where models were looked for: what it is, what it said, how many usable models it offers."""

    where: str
    said: str
    usable: int = 0


class SpecialistStatus(Struct, omit_defaults=True):
    """One row of the grid: everything the platform knows of a specialist now.

    `id` is the long form (`apollo-ai`), `name` the short one. `phase` is set while `state` is busy.
    `since` is when the state began, `phase_since` when the phase did. `cause` is a sentence on how the last run ended.
    `exit_code` and `signal` are `None` when unknown: an adopted process that died has neither.
    `first_token_ms` and `tokens_per_second` are of the newest turn; `avg_response_s` is over this backend's life.
    `queue` counts turns waiting or running. `costs` is what was spent today by currency,
    `cost` their figure in `currency`, that of the newest priced turn; `None` where no price is known.
    `warming` is true between ready and the provider's first readiness. `short` is the role in one word.
    `context_used` are the tokens of the newest turn, prompt and answer, of the `context_window` its model has; 0 unknown.
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
    restarting: bool = False
    """Whether somebody asked for a restart that is under way: it comes back, whatever its state is."""
    adopted: bool = False
    groups: list[str] = []
    description: str = ""
    short: str = ""
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
    context_used: int = 0
    context_window: int = 0
    version: str = ""
    """Version of the code its process runs; empty while none runs, or where it is not known."""
    cost: float | None = None
    currency: str = "USD"
    costs: dict[str, float] = {}
    turns: int = 0
    failures: int = 0
    avg_response_s: float | None = None
    last_activity: float = 0.0
    last_error: str = ""
    last_error_code: ErrorCode | None = None
    tools: list[ToolState] = []
    """Its tool servers; none where it has no tools."""
    agent: AgentState | None = None
    """Of an external agent, what it says of itself."""


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
    in_clear: bool = False
    """Whether it can be reached from other machines without TLS."""
    offer: ModelCandidate | None = None
    """A model that came up since the start and is better than the one in use; taken only by hand."""


class JobGroup(Struct, omit_defaults=True):
    """Specialists that suit a job together: `title` is the job in plain words, `members` are names in launch order.

    `name` is a group as any: it can be launched, asked and named wherever a group can.
    """

    name: str
    title: str
    description: str
    members: list[str]


class LaunchPlanItem(Struct, omit_defaults=True):
    """What would happen to one specialist. `ok` false: `problem` says why and `code` classifies it.

    `title` and `short` are its role, in full and in a word. `model_problem` says why its model would not answer now:
    it starts all the same, and answers nothing until that is fixed.
    """

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
    title: str = ""
    short: str = ""
    model_problem: str = ""


class FleetPlan(Struct, omit_defaults=True):
    """A launch plan: per specialist and in sum. Memory in bytes.

    `provider` answers for specialists that name no other, `candidates` are all that could, the best first; taking
    another is `UseModel`. `jobs` are the groups that can be launched instead. `missing_weights` names the embedded model
    where its weights are not here: `PullModel` of the provider `embedded` fetches them.
    """

    items: list[LaunchPlanItem]
    memory_estimate: int = 0
    memory_available: int = 0
    running: int = 0
    cap: int = 0
    notes: list[str] = []
    provider: ProviderChoice | None = None
    candidates: list[ModelCandidate] = []
    jobs: list[JobGroup] = []
    missing_weights: str = ""


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
    parts: list[Part] = []
    """All of it in order, where it is more than text; empty for a plain message."""


class SearchHit(Struct, omit_defaults=True):
    """A message found by full-text search; `snippet` marks the hit words with U+0002 … U+0003."""

    message: StoredMessage
    session_title: str
    snippet: str
    score: float = 0.0


class SearchPage(Struct):
    """What a search found: messages with all the words, newest first, then, where they are few, those with some.

    `more` says that there are others. With `before_id` the same search goes on where this page ended, towards older
    messages; it is `None` where no older one has all the words.
    """

    hits: list[SearchHit]
    more: bool = False
    before_id: int | None = None


class ErrorRecord(Struct, omit_defaults=True):
    """A failure in the error log. Equal failures of one worker share a record: `count`, `first`, `last`.

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


class UsageRow(Struct):
    """What one specialist used of one model on one day (`YYYY-MM-DD`), paid in one currency.

    `turns` counts calls, `unpriced` those of them whose price is unknown and not in `cost`; their `currency` is empty.
    """

    day: str
    ai_id: str
    provider: str
    model: str
    currency: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    turns: int = 0
    unpriced: int = 0


class Export(Struct):
    """A session written out as text; `filename` is safe on every file system."""

    filename: str
    content: str


class ActiveTurn(Struct, omit_defaults=True):
    """A turn under way, as a snapshot shows it: `content` is all text so far, or its end where `left_out` says so."""

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
    detail: str = ""
    """What the phase means in words, such as `behind your question`."""
    position: int = 0
    """Place in the queue the turn waits in, 1 being the next; 0 when it waits in none."""
    calls: list[ToolCall] = []
    """Tools the model asked for so far."""
    parts: list[Part] = []
    """Where tools were asked for: all of the answer so far, in order, with what came of them."""
    attached: list[Attachment] = []
    """Files that went along with the question."""
    left_out: int = 0
    """Characters of content and reasoning before these, which come behind the snapshot as `TurnText`."""


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
    parts: list[Part] = []
    """The answer in order, where it is more than text: thinking with its signatures, tool calls."""
    stop: str = ""
    context_tokens: int = 0
    """Tokens of the newest prompt and answer, where tool calls made it several."""
    changes: str = ""
    """What an external agent changed in files, as a diff."""
    cost: float | None = None
    """As an external agent says, in `currency`."""
    currency: str = "USD"

    @property
    def handed_on(self) -> str:
        """The answer as other specialists get it: with what was changed."""
        if not self.changes:
            return self.content
        return f"{self.content}\n\nChanged files:\n\n```diff\n{self.changes}\n```".strip()


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits a day; 0 is no limit. Over the limit a turn is refused before the call.

    `cost_per_day` is in `currency`; what is spent in another one is shown, and does not count.
    """

    tokens_per_day: Annotated[int, Meta(ge=0)] = 0
    cost_per_day: Annotated[float, Meta(ge=0)] = 0.0
    currency: Currency = "USD"


class Used(Struct, frozen=True):
    """What was used in a day; `costs` by currency, `unpriced` turns have none."""

    tokens_in: int = 0
    tokens_out: int = 0
    costs: dict[str, float] = {}
    unpriced: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    def plus(self, tokens_in: int, tokens_out: int, cost: float, currency: str, unpriced: int = 0) -> Used:
        """Return the sum with one more use."""
        return Used(
            self.tokens_in + tokens_in,
            self.tokens_out + tokens_out,
            money.added(self.costs, currency, cost),
            self.unpriced + unpriced,
        )


class Node(Struct, omit_defaults=True):
    """One host specialists may run on. `resources` in total, `labels` as whoever started it gave them."""

    id: str
    host: str
    address: str
    alive: bool = True
    resources: dict[str, float] = {}
    labels: dict[str, str] = {}
    specialists: list[str] = []


class LaneRecord(Struct, omit_defaults=True):
    """What one member of a pipeline's stage gave. `notes` say what its model was not shown.

    `label` is set where one specialist is asked in several lanes: `apollo[model=a]`.
    """

    ai_id: str
    request_id: str
    output: str = ""
    code: ErrorCode | None = None
    error: str = ""
    first_token_ms: float | None = None
    total_time: float = 0.0
    model: str = ""
    notes: list[str] = []
    label: str = ""

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.label or self.ai_id.removesuffix("-ai")

    @property
    def source(self) -> str:
        """What another specialist is shown about who said it."""
        return self.label or self.ai_id


class StageRecord(Struct, omit_defaults=True):
    """What one stage of a pipeline was given and gave.

    Times in seconds, `first_token_ms` in milliseconds since the stage's start.
    """

    label: str
    state: str = "waiting"
    input: str = ""
    output: str = ""
    lanes: list[LaneRecord] = []
    first_token_ms: float | None = None
    elapsed_s: float = 0.0
    started_at: float = 0.0
    code: ErrorCode | None = None
    error: str = ""


class RunRecord(Struct, omit_defaults=True):
    """A pipeline run as it is kept. `failed_stage` counts from 1, 0 when none failed.

    `session_id` is the conversation in which its turns are stored; with that it is forgotten.
    """

    request_id: str
    pipeline: str
    stages: list[StageRecord]
    started_at: float
    input: str = ""
    output: str = ""
    ok: bool = False
    total_time: float = 0.0
    failed_stage: int = 0
    code: ErrorCode | None = None
    error: str = ""
    session_id: str = ""


class SavedPipeline(Struct):
    """A pipeline's text as it was written, under its name."""

    name: str
    pipeline: str
