"""Anthropic through its own library. The library takes no temperature: a specialist's is noted, not sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from backend.config import AnthropicSettings, Settings
from backend.home import Home
from backend.providers.base import (
    CompletionRequest,
    Completed,
    ModelInfo,
    ModelNotFound,
    ProviderError,
    ProviderFault,
    ProviderHealth,
    ProviderUnavailable,
    Reasoning,
    StreamItem,
    Text,
)
from backend.providers.http_errors import from_connection, from_status
from backend.providers.keys import find_key
from backend.providers.names import display_name
from backend.schema.frames import FinishReason, Usage

WHO = "Anthropic"
ASK_TIMEOUT_S = 2.0
DEFAULT_WINDOW = 200_000
NO_TEMPERATURE = "this provider takes no temperature; the specialist's was not sent"


class AnthropicProvider:
    """See `Provider`."""

    kind = "anthropic"

    def __init__(self, settings: Settings, home: Home, environment: Mapping[str, str]) -> None:
        self._own: AnthropicSettings = settings.providers.anthropic
        self._key = find_key(self._own, home, environment)
        self._where = self._own.base_url or "api.anthropic.com"
        self._client: Any = None

    async def prepare(self) -> None:
        if not self._key:
            raise ProviderUnavailable(
                f"no key for Anthropic: set {self._own.api_key_env}, or providers.anthropic.api_key_file"
            )
        library: Any = await asyncio.to_thread(__import__, "anthropic")
        httpx: Any = await asyncio.to_thread(__import__, "httpx2")
        timeout = httpx.Timeout(None, connect=self._own.timeouts.connect)
        self._client = library.AsyncAnthropic(
            api_key=self._key, base_url=self._own.base_url, max_retries=0, timeout=timeout
        )

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        messages = [{"role": m.role, "content": m.content} for m in request.messages if m.role != "system"]
        model = request.model or self._own.model
        finish: FinishReason | None = None
        usage = Usage()
        try:
            upstream = await self._ready().messages.create(
                model=model, system=request.system, messages=messages,
                max_tokens=request.max_tokens or self._own.max_tokens, stream=True,
            )  # fmt: skip
            async with upstream:
                async for event in upstream:
                    match event.type:
                        case "message_start":
                            usage = _started(event.message.usage)
                        case "content_block_delta":
                            if item := _piece(event.delta):
                                yield item
                        case "message_delta":
                            finish = "length" if event.delta.stop_reason == "max_tokens" else "stop"
                            usage.output_tokens = event.usage.output_tokens or 0
                        case _:
                            pass
        except Exception as error:
            raise self._failure(error, model) from error
        if finish is None:
            raise ProviderFault(f"{WHO} ended the stream without a last word")
        yield Completed(finish, usage, [NO_TEMPERATURE] if request.temperature is not None else [])

    async def health(self, model: str) -> ProviderHealth:
        try:
            names = [info.name for info in await asyncio.wait_for(self.models(), ASK_TIMEOUT_S)]
        except TimeoutError:
            return ProviderHealth(False, f"{self._where} did not answer within {ASK_TIMEOUT_S:g} s")
        except ProviderError as error:
            return ProviderHealth(False, error.message)
        if model and names and model not in names:
            return ProviderHealth(
                False, f"Anthropic offers no {model!r} now; it offers {', '.join(names[:6])}"
            )
        return ProviderHealth(True, f"{self._where} answers")

    async def models(self) -> list[ModelInfo]:
        try:
            listing = await self._ready().models.list(limit=100)
        except Exception as error:
            raise self._failure(error, "") from error
        return [
            ModelInfo(
                entry.id,
                entry.display_name or display_name("anthropic", entry.id),
                context_window=DEFAULT_WINDOW,
            )
            for entry in listing.data
        ]

    async def context_window(self, model: str) -> int:
        return DEFAULT_WINDOW

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        """Ask the server for each text; a call a text, so only short lists come here."""
        try:
            counted = [
                self._ready().messages.count_tokens(
                    model=model, messages=[{"role": "user", "content": text or " "}]
                )
                for text in texts
            ]
            return [answer.input_tokens for answer in await asyncio.gather(*counted)]
        except Exception:  # a count is a convenience: the estimate serves instead
            return None

    async def aclose(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    def _ready(self) -> Any:
        if self._client is None:
            raise ProviderUnavailable("the provider was not prepared")
        return self._client

    def _failure(self, error: Exception, model: str) -> ProviderError:
        if isinstance(error, ProviderError):
            return error
        response = getattr(error, "response", None)
        if response is not None and hasattr(error, "status_code"):
            status, body = _true_status(error, response.status_code)
            found = from_status(
                WHO,
                status,
                body,
                response.headers,
                model=model,
                key_hint=self._own.api_key_env,
                secret=self._key,
            )
            if isinstance(found, ModelNotFound):
                return ModelNotFound(
                    f"{found.message}: retired or misspelt. Current names: {', '.join(current_models())}",
                    evidence=found.evidence,
                )
            return found
        if isinstance(error, ValueError):
            return ProviderFault(f"{WHO} sent something malformed", evidence=str(error)[:4000])
        return from_connection(WHO, self._where, error, self._key)


def current_models() -> list[str]:
    """Return the model names the installed library knows, without those it calls deprecated; newest first."""
    from typing import get_args

    from anthropic.resources.messages.messages import DEPRECATED_MODELS
    from anthropic.types import model_param

    names: list[str] = []
    for part in get_args(model_param.ModelParam):
        names += [name for name in get_args(part) if isinstance(name, str)]
    return [name for name in names if name not in DEPRECATED_MODELS][:8]


def _true_status(error: Any, status: int) -> tuple[int, str]:
    """Return the status of an error; one sent inside a stream comes with the stream's own 200."""
    body: Any = getattr(error, "body", None)
    kind = ""
    if isinstance(body, dict):
        inner: Any = body.get("error")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        kind = str(inner.get("type", "")) if isinstance(inner, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    if status == 200:
        status = {"overloaded_error": 529, "rate_limit_error": 429, "authentication_error": 401}.get(
            kind, 500
        )
    return status, str(body if body is not None else error)


def _started(counts: Any) -> Usage:
    cached = (counts.cache_read_input_tokens or 0) if hasattr(counts, "cache_read_input_tokens") else 0
    written = getattr(counts, "cache_creation_input_tokens", 0) or 0
    return Usage((counts.input_tokens or 0) + written, 0, cached)


def _piece(delta: Any) -> StreamItem | None:
    match delta.type:
        case "text_delta" if delta.text:
            return Text(delta.text)
        case "thinking_delta" if delta.thinking:
            return Reasoning(delta.thinking)
        case _:
            return None
