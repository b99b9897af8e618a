"""The provider protocol: how a specialist asks a model, whatever the vendor.

A provider owns one client of one upstream. It never retries, never falls back to another model and never turns a
failure into answer text. It knows nothing of sockets, sessions or specialists.

ProviderError
├── ProviderUnavailable     refused, DNS, TLS, 5xx, time-out before the first token     provider_unavailable
├── ProviderAuth            401, 403                                                   provider_auth
├── ProviderRateLimited     429; `detail["retry_after_s"]` where the upstream says      provider_rate_limited
├── ModelNotFound           unknown or retired model, model not pulled                 model_not_found
├── ContextOverflow         the prompt does not fit the model's window                 context_overflow
├── Unable                  the model takes no tools, images or the like               invalid_request
└── ProviderFault           cut stream, malformed chunk, anything else upstream        internal
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
from msgspec import Struct

from backend.schema.content import Abilities, AnswerOptions, ChatMessage, TokenLogprob
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.frames import FinishReason, Usage


class ProviderError(TektonError):
    """A model did not answer. The message says what to do; `evidence` holds the upstream's own words."""

    code: ErrorCode = "provider_unavailable"


class ProviderUnavailable(ProviderError):
    code = "provider_unavailable"


class ProviderAuth(ProviderError):
    code = "provider_auth"


class ProviderRateLimited(ProviderError):
    code = "provider_rate_limited"


class ModelNotFound(ProviderError):
    code = "model_not_found"


class ContextOverflow(ProviderError):
    code = "context_overflow"


class ProviderFault(ProviderError):
    code = "internal"


class Unable(ProviderError):
    """The model lacks what the request needs; nobody was asked."""

    code = "invalid_request"


class CompletionRequest(Struct):
    """One upstream call. `system` stays byte-equal between turns of a specialist, so that prompt caches hold.

    `slot` is a small stable number of the specialist, for servers that pin a cache to it. `temperature_by_role` says
    that nobody asked for the temperature: it is the role's suggestion, and a provider that cannot send it need not say so.
    """

    system: str
    messages: list[ChatMessage]
    model: str
    temperature: float | None = None
    max_tokens: int | None = None
    slot: int = 0
    temperature_by_role: bool = False
    options: AnswerOptions = msgspec.field(default_factory=AnswerOptions)

    @property
    def wished_temperature(self) -> float | None:
        """The temperature somebody asked for, in the request or the settings; `None` for a role's suggestion."""
        return None if self.temperature_by_role else self.temperature


class Queued(Struct, tag=True):
    """The upstream has no free place; `position` 1 is next."""

    position: int
    detail: str = ""


class Loading(Struct, tag=True, omit_defaults=True):
    """The upstream is loading the model, or otherwise says it works though no token came yet.

    `done` of `total` (bytes of a model, tokens of a prompt) where the upstream says how far it is; 0 when unknown.
    """

    detail: str
    done: int = 0
    total: int = 0


class Text(Struct, tag=True):
    """A piece of the answer, in order, never empty."""

    content: str


class Reasoning(Struct, tag=True):
    """A piece of thinking text, never empty."""

    content: str


class Signature(Struct, tag=True):
    """Ends a block of thinking, which is all since the one before; `redacted` where it stands for hidden thinking."""

    signature: str
    id: str = ""
    redacted: bool = False


class Logprobs(Struct, tag=True):
    """Log probabilities of the tokens of the text that comes next; only where they were asked for."""

    tokens: list[TokenLogprob]


class ToolPiece(Struct, tag=True):
    """The beginning of a tool call, with `id` and `name`, or more of its arguments. Calls may interleave."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Completed(Struct, tag=True):
    """The last item of a stream that succeeded. `stop` is the stop text that ended it, where the upstream says."""

    finish_reason: FinishReason
    usage: Usage
    notes: list[str] = []
    stop: str = ""


StreamItem = Queued | Loading | Text | Logprobs | Reasoning | Signature | ToolPiece | Completed


class ProviderHealth(Struct):
    """`ok` when a chat would probably be answered; `detail` says what was found, for the operator.

    `model_missing` when the upstream answers and does not have the model.
    """

    ok: bool
    detail: str = ""
    model_missing: bool = False


class ModelInfo(Struct, omit_defaults=True):
    """A model an upstream offers. `size` in bytes, `context_window` in tokens, 0 when unknown."""

    name: str
    display: str = ""
    size: int = 0
    context_window: int = 0
    detail: str = ""
    abilities: Abilities = msgspec.field(default_factory=Abilities)


class Provider(Protocol):
    """One upstream. Built by `backend.providers.create`, closed by its owner."""

    kind: str

    async def prepare(self) -> None:
        """Import the SDK and open the client. Runs after the worker is ready; may take seconds.

        Heavy imports happen in a thread. Raises `ProviderError` when the provider can never work as configured.
        """
        ...

    def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        """Ask once and yield items as they arrive; ends with exactly one `Completed`.

        Closing the iterator (`aclose`, or cancelling the task that iterates) closes the upstream connection.

        Raises:
            ProviderError: The call failed; items already yielded stand.
        """
        ...

    async def health(self, model: str) -> ProviderHealth:
        """Ask the upstream, for at most 2 s, whether it answers and has `model`. Never raises `ProviderError`."""
        ...

    async def models(self) -> list[ModelInfo]:
        """Return what the upstream offers now. Raises `ProviderError`."""
        ...

    async def context_window(self, model: str) -> int:
        """Return the tokens the model takes, prompt and answer together."""
        ...

    async def abilities(self, model: str) -> Abilities:
        """Return what a model takes beside text. Never raises; what cannot be known is `None`."""
        ...

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        """Return the tokens of each text by the upstream's own tokenizer, `None` where there is none to ask."""
        ...

    async def aclose(self) -> None:
        """Close the client. Safe to call twice."""
        ...
