"""Frames of the specialist socket: one JSON object a line, both ways.

Requests are read into one lenient struct (`Request`), because older clients send frames without a type and with
keys of their own. Replies are one tagged union (`Reply`), so a reader needs one decoder and one `match`.
Optional values that are unset do not appear on the wire.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from backend.schema.errors import ErrorCode

__all__ = [
    "ChatMessage",
    "ChatResponse",
    "CountTokensResponse",
    "ErrorReply",
    "FinishReason",
    "HealthResponse",
    "InfoResponse",
    "MemoryHit",
    "Phase",
    "Pong",
    "PreviousOutput",
    "Reply",
    "Request",
    "StreamChunk",
    "StreamEnd",
    "StreamError",
    "StreamMetadata",
    "StreamPhase",
    "StreamReasoning",
    "StreamReply",
    "StreamStart",
    "TurnContext",
    "Usage",
]

FinishReason = Literal["stop", "length", "cancelled"]

Phase = Literal["queued", "prefill", "streaming", "stalled"]
"""What a turn is doing. `queued`: waits for a place; `prefill`: sent upstream, no token yet;
`streaming`: tokens arrive; `stalled`: no token for longer than the specialist's stall threshold."""


class ChatMessage(Struct, omit_defaults=True):
    """One message of a conversation as a provider takes it."""

    role: Literal["system", "user", "assistant"]
    content: str


class Usage(Struct, omit_defaults=True):
    """Tokens of one turn as the provider counted them; `estimated` when it did not and we did.

    The prompt is `input_tokens` + `cached_tokens`. Of `input_tokens`, `written_tokens` were put into the upstream's
    prompt cache, and of `output_tokens`, `reasoning_tokens` were thinking.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    written_tokens: int = 0


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


class TurnContext(Struct, omit_defaults=True):
    """What a turn knows beside its prompt. All of it enters the prompt as delimited data, never as instructions.

    `memories` are filled by the backend from `memory_hints`; `facts` are live platform facts computed by code;
    `summary` tells what was pruned from the history; `notes` are visible remarks on what was cut.
    """

    session_id: str = ""
    pipeline_id: str = ""
    stage: int = 0
    previous: list[PreviousOutput] = []
    memory_hints: list[str] = []
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
    """`status` speaks of the provider as well as of the process; `detail` says why it is degraded."""

    ai_id: str
    status: Literal["healthy", "degraded"]
    component: str
    model: str
    clients: int
    detail: str | None = None
    request_id: str | UnsetType = UNSET


class InfoResponse(Struct, tag="info_response"):
    """`system_prompt` holds its first 200 characters; `context_window` and `max_tokens` count tokens."""

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


class ChatResponse(Struct, tag="chat_response"):
    ai_id: str
    content: str
    model: str
    usage: Usage
    finish_reason: FinishReason = "stop"
    request_id: str | UnsetType = UNSET


class CountTokensResponse(Struct, tag="count_tokens_response"):
    """Counts in the order of the request's `texts`; `None` where the provider has no tokenizer to ask."""

    ai_id: str
    counts: list[int] | None
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


class StreamChunk(Struct, tag="stream_chunk", gc=False):
    request_id: str
    content: str
    chunk_index: int


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


StreamReply = StreamStart | StreamPhase | StreamReasoning | StreamChunk | StreamEnd | StreamError
Reply = Pong | HealthResponse | InfoResponse | ChatResponse | CountTokensResponse | ErrorReply | StreamReply

for _union in (Reply,):
    msgspec.json.Decoder(_union)  # a clash of tags is found at import, not on the wire
