"""Frames of the specialist socket: one JSON object a line, both ways.

Requests are read into one lenient struct (`Request`), because older clients send frames without a type and with
keys of their own. Replies are one tagged union (`Reply`), so a reader needs one decoder and one `match`.
Optional values that are unset do not appear on the wire.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from backend.schema.agents import AgentState
from backend.schema.content import Abilities, AnswerOptions, ChatMessage, Part, TokenLogprob, ToolResult
from backend.schema.errors import ErrorCode
from backend.schema.tools import AskField, AskOption, ToolState

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "refusal", "other", "cancelled"]
"""How an answer ended. `stop` is the one that is complete; `other` is an ending we do not know, which a note names."""

Phase = Literal["queued", "prefill", "streaming", "stalled", "waiting", "tool"]
"""What a turn is doing. `queued`: waits for a place; `prefill`: sent upstream, no token yet;
`streaming`: tokens arrive; `stalled`: no token for longer than the specialist's stall threshold; `waiting`: a person has
to say whether a tool may run; `tool`: one runs."""


class Usage(Struct, omit_defaults=True):
    """Tokens of one turn as the provider counted them; `estimated` when the backend had to.

    The prompt is `input_tokens` + `cached_tokens`. Of `input_tokens`, `written_tokens` were put into the upstream's
    prompt cache, and of `output_tokens`, `reasoning_tokens` were thinking.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    written_tokens: int = 0

    @property
    def prompt(self) -> int:
        """Tokens of the prompt, read from the upstream's cache or not."""
        return self.input_tokens + self.cached_tokens

    @property
    def total(self) -> int:
        """Tokens of its model's context that prompt and answer took."""
        return self.prompt + self.output_tokens


def summed(usages: list[Usage]) -> Usage:
    """Add up the usage of several calls."""
    return Usage(
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        sum(usage.cached_tokens for usage in usages),
        sum(usage.reasoning_tokens for usage in usages),
        any(usage.estimated for usage in usages),
        sum(usage.written_tokens for usage in usages),
    )


class PreviousOutput(Struct):
    """An answer of another specialist, handed on as attributed data."""

    specialist_id: str
    content: str


class MemoryHit(Struct, omit_defaults=True):
    """A message found in memory for a hint; `who` wrote it at `timestamp` (unix seconds)."""

    who: str
    content: str
    timestamp: float = 0.0
    session_id: str = ""


Hints = Annotated[list[Annotated[str, Meta(max_length=1_000)]], Meta(max_length=20)]
"""What memories are looked for; each is a search in all conversations of the specialist."""


class TurnContext(Struct, omit_defaults=True):
    """What a turn knows beside its prompt. All of it enters the prompt as delimited data, never as instructions.

    `memories` are filled by the backend from `memory_hints`; `facts` are live platform facts computed by code;
    `summary` tells what was pruned from the history; `notes` are visible remarks on what was cut.
    """

    session_id: str = ""
    pipeline_id: str = ""
    stage: int = 0
    previous: list[PreviousOutput] = []
    memory_hints: Hints = []
    original_input: str = ""
    memories: list[MemoryHit] = []
    facts: str = ""
    summary: str = ""
    notes: list[str] = []
    trail: list[str] = []
    """Specialists whose outputs led here, oldest first: the loop guard reads it."""


class Request(Struct, omit_defaults=True):
    """A request line. No `type` means chat; `message` is an older name of both the type chat and of `content`.

    `phases` asks for `stream_phase` and `stream_reasoning` frames, which older clients do not know.
    `provider` and `model` override the specialist's own for this turn. `texts` belongs to `count_tokens`.
    `lent` belongs to `configure`: keys by variable name that the worker's provider needs and its environment lacks.
    `max_tokens` caps the answer; `stall_after_s` overrides the specialist's stall threshold, in seconds.
    `platform` belongs to `hello`: a backend says that it is one. It answers a `direct_ask` with a `verdict`, whose
    `content` is why not, and a `direct_turn` with `counted`.

    `parts` are the prompt where it is more than text. `system` is the caller's own system prompt, which comes behind
    the persona; `persona` false leaves the persona out. `prefill` is how the answer is to begin.

    `index`, `allow`, `content` and `result` belong to `tool_verdict`: whether call `index` of the turn may run, why not,
    and what came of it where the platform itself ran it; `option` is the answer chosen of those an agent offered.

    `session` is the conversation that an external agent keeps itself; without one it is asked in a conversation that ends
    with the turn.
    """

    type: str = "chat"
    content: str | None = None
    message: str | None = None
    stream: bool = False
    request_id: str | None = None
    messages: list[ChatMessage] | None = None
    context: TurnContext | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    phases: bool = False
    instruction: str | None = None
    provider: str | None = None
    model: str | None = None
    stall_after_s: float | None = None
    texts: list[str] | None = None
    token: str | None = None
    lent: dict[str, str] | None = None
    platform: bool = False
    parts: list[Part] | None = None
    options: AnswerOptions | None = None
    system: str | None = None
    persona: bool = True
    prefill: str | None = None
    index: int = 0
    allow: bool = False
    result: ToolResult | None = None
    tools: bool = True
    """Whether the model may call the specialist's own tools."""
    option: str = ""
    session: str = ""
    settings: dict[str, str | bool] | None = None
    """Of `configure`: options of an external agent, by name, for all its conversations from now on."""

    @property
    def prompt(self) -> str:
        """Return the text to answer, under whichever name it came; empty when there is none."""
        if self.content is not None:
            return self.content
        return self.message or ""


class Pong(Struct, tag="pong", omit_defaults=True):
    ai_id: str
    timestamp: float
    request_id: str | UnsetType = UNSET


class HealthResponse(Struct, tag="health_response"):
    """`status` covers the provider as well as the process; `detail` says why it is degraded."""

    ai_id: str
    status: Literal["healthy", "degraded"]
    component: str
    model: str
    clients: int
    detail: str | None = None
    request_id: str | UnsetType = UNSET


class InfoResponse(Struct, tag="info_response"):
    """`system_prompt` holds its first 200 characters; `context_window` and `max_tokens` count tokens.

    `abilities` and the whole `persona` are only said to those who ask with `phases`: older clients do not know them.
    """

    ai_id: str
    component: str
    description: str
    title: str
    model_provider: str
    model_name: str
    model: str
    system_prompt: str
    port: int
    capabilities: list[str]
    context_window: int
    max_tokens: int
    request_id: str | UnsetType = UNSET
    abilities: Abilities | UnsetType = UNSET
    persona: str | UnsetType = UNSET
    version: str | UnsetType = UNSET
    """Version of the code that the worker runs; said to those who ask with `phases`."""


class ChatResponse(Struct, tag="chat_response"):
    """`parts` are set where the answer is more than text."""

    ai_id: str
    content: str
    model: str
    usage: Usage
    finish_reason: FinishReason = "stop"
    request_id: str | UnsetType = UNSET
    parts: list[Part] | UnsetType = UNSET


class CountTokensResponse(Struct, tag="count_tokens_response"):
    """Counts in the order of the request's `texts`; `None` where the provider has no tokenizer to ask."""

    ai_id: str
    counts: list[int] | None
    request_id: str | UnsetType = UNSET


class EmbedResponse(Struct, tag="embed_response"):
    """Vectors in the order of the request's `texts`; `model` is `provider:model`."""

    ai_id: str
    vectors: list[list[float]]
    model: str
    usage: Usage
    request_id: str | UnsetType = UNSET


class StreamStart(Struct, tag="stream_start"):
    request_id: str
    ai_id: str


class StreamPhase(Struct, tag="stream_phase", omit_defaults=True):
    """Only sent when asked for. `position` is the place in the queue (1 = next); `detail` a few words."""

    request_id: str
    ai_id: str
    phase: Phase
    position: int = 0
    detail: str = ""


class StreamReasoning(Struct, tag="stream_reasoning"):
    """Thinking text, kept apart from the answer. Only sent when asked for."""

    request_id: str
    content: str


# gc=False: frames that come by the thousand hold no references that could form a cycle, so the collector skips them.
class StreamToolCall(Struct, tag="stream_tool_call", omit_defaults=True, gc=False):
    """The beginning of a tool call, with `id` and `name`, or more of its arguments. Calls may interleave.

    Only comes where tools were offered.
    """

    request_id: str
    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class StreamSignature(Struct, tag="stream_signature", omit_defaults=True, gc=False):
    """Ends a block of thinking: all that came since the signature before. Only sent when `phases` are asked for.

    `redacted`: the signature stands for thinking that is not shown.
    """

    request_id: str
    signature: str = ""
    id: str = ""
    redacted: bool = False


class StreamLogprobs(Struct, tag="stream_logprobs", gc=False):
    """Log probabilities of the tokens of the next piece of text. Only sent when `phases` and they are asked for."""

    request_id: str
    tokens: list[TokenLogprob]


class StreamToolUse(Struct, tag="stream_tool_use", omit_defaults=True):
    """The worker wants to run the tool `tool` (`SERVER:TOOL`) and waits for a `tool_verdict` on call `index`.

    Only sent to the platform. `read_only` is what the tool's server says of it, a hint. `options` are the answers that an
    external agent offers itself, `diff` what it wants to change. With `form` nothing is to run: a tool that runs already
    asks a person to fill it, and the verdict's `content` holds the values. `used` is what the turn's calls of its model took
    up to now, where that is known.
    """

    request_id: str
    ai_id: str
    index: int
    tool: str
    arguments: str
    read_only: bool | None = None
    options: list[AskOption] = []
    diff: str = ""
    form: list[AskField] | None = None
    used: Usage | None = None


class StreamToolResult(Struct, tag="stream_tool_result", omit_defaults=True):
    """What came of call `index`: `content` as the model gets it, of `size` bytes; `took_ms` without any waiting."""

    request_id: str
    index: int
    tool: str
    content: str
    is_error: bool = False
    size: int = 0
    took_ms: float = 0.0


class ToolsReport(Struct, tag="tools_report"):
    """How the tool servers of a worker are; sent to the platform at its `hello` and at every change."""

    ai_id: str
    servers: list[ToolState]


class AgentReport(Struct, tag="agent_report"):
    """How an external agent is; sent to the platform at its `hello` and at changes, a few times a second at most."""

    ai_id: str
    agent: AgentState


class StreamChunk(Struct, tag="stream_chunk", omit_defaults=True, gc=False):
    """A piece of an answer, or several joined for a client that is behind: `chunk_index` is that of the first."""

    request_id: str
    content: str
    chunk_index: int
    pieces: int = 1


class StreamMetadata(Struct, omit_defaults=True):
    """`total_time` in seconds, `first_token_ms` in milliseconds from the request's arrival at the worker."""

    total_chunks: int
    total_tokens: int
    total_time: float
    ai_id: str
    model: str
    finish_reason: FinishReason
    usage: Usage
    first_token_ms: float | None = None
    notes: list[str] = []
    stored: bool = True
    """False when the backend could not store the answer yet; `notes` say why."""
    stop: str = ""
    """The stop text that ended the answer, where the upstream says which."""
    context_tokens: int = 0
    """Tokens of the newest prompt and answer, where tool calls made it several; `usage` sums them up."""
    changes: str = ""
    """What an external agent changed in files, as one diff."""
    cost: float | None = None
    """What the turn cost as an external agent says, in `currency`."""
    currency: str = "USD"


class StreamEnd(Struct, tag="stream_end"):
    request_id: str
    metadata: StreamMetadata


class StreamError(Struct, tag="stream_error", omit_defaults=True):
    """A stream that failed. `error` and `message` carry the same text; `evidence` the other side's words."""

    request_id: str
    ai_id: str
    code: ErrorCode
    error: str
    message: str
    evidence: str = ""
    detail: dict[str, object] = {}


class ErrorReply(Struct, tag="error", omit_defaults=True):
    ai_id: str
    code: ErrorCode
    error: str
    message: str
    request_id: str | UnsetType = UNSET
    evidence: str = ""
    detail: dict[str, object] = {}


class DirectAsk(Struct, tag="direct_ask"):
    """To a backend: may this question, which came to the worker's own port, be asked? `client` is who asks."""

    request_id: str
    ai_id: str
    client: str


class DirectTurn(Struct, tag="direct_turn", omit_defaults=True):
    """To a backend: what a question used that came to the worker's own port, or why it failed or was refused.

    `at` in unix seconds when it ended, `total_time` in seconds. No `usage`: nothing reached the model.
    """

    request_id: str
    ai_id: str
    client: str
    model: str
    at: float
    total_time: float
    usage: Usage | None = None
    code: ErrorCode | None = None
    error: str = ""
    evidence: str = ""


StreamReply = (
    StreamStart
    | StreamPhase
    | StreamReasoning
    | StreamToolCall
    | StreamToolUse
    | StreamToolResult
    | StreamSignature
    | StreamLogprobs
    | StreamChunk
    | StreamEnd
    | StreamError
)
DirectReply = DirectAsk | DirectTurn
Reply = (
    Pong
    | HealthResponse
    | InfoResponse
    | ChatResponse
    | CountTokensResponse
    | EmbedResponse
    | ErrorReply
    | DirectReply
    | ToolsReport
    | AgentReport
    | StreamReply
)
