"""Any OpenAI-compatible server through the `openai` library: vLLM, llama.cpp, LM Studio, a remote gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from backend.config import OpenAISettings, Settings
from backend.home import Home
from backend.providers.base import (
    CompletionRequest,
    Completed,
    ModelInfo,
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
from backend.schema.frames import FinishReason, Usage

WHO = "the OpenAI-compatible server"
ASK_TIMEOUT_S = 2.0
DEFAULT_WINDOW = 8192
NO_KEY = "none"
"""What is sent as the key to a server that wants none."""


class OpenAIProvider:
    """See `Provider`."""

    kind = "openai"

    def __init__(self, settings: Settings, home: Home, environment: Mapping[str, str]) -> None:
        self._own: OpenAISettings = settings.providers.openai
        self._key = find_key(self._own, home, environment)
        self._where = self._own.base_url or "api.openai.com"
        self._client: Any = None

    async def prepare(self) -> None:
        if not self._key and self._own.base_url is None:
            raise ProviderUnavailable(
                f"no key for OpenAI: set {self._own.api_key_env}, or providers.openai.base_url for another server"
            )
        library: Any = await asyncio.to_thread(__import__, "openai")
        httpx: Any = await asyncio.to_thread(__import__, "httpx2")
        timeout = httpx.Timeout(None, connect=self._own.timeouts.connect)
        self._client = library.AsyncOpenAI(
            api_key=self._key or NO_KEY, base_url=self._own.base_url, max_retries=0, timeout=timeout
        )

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        options: dict[str, Any] = {"stream_options": {"include_usage": True}}
        if request.temperature is not None:
            options["temperature"] = request.temperature
        if limit := request.max_tokens or self._own.max_tokens:
            options["max_tokens"] = limit
        messages: list[dict[str, str]] = [{"role": "system", "content": request.system}]
        messages += [{"role": m.role, "content": m.content} for m in request.messages]
        finish: FinishReason | None = None
        usage, pieces = Usage(), 0
        try:
            upstream = await self._ready().chat.completions.create(
                model=request.model or self._own.model, messages=messages, stream=True, **options
            )
            async with upstream:
                async for chunk in upstream:
                    if chunk.usage is not None:
                        usage = _usage(chunk.usage)
                    for choice in chunk.choices or ():
                        if thought := _reasoning(choice.delta):
                            yield Reasoning(thought)
                        if choice.delta is not None and choice.delta.content:
                            pieces += 1
                            yield Text(choice.delta.content)
                        if choice.finish_reason:
                            finish = "length" if choice.finish_reason == "length" else "stop"
        except Exception as error:
            raise self._failure(error, request.model) from error
        if finish is None:
            raise ProviderFault(f"{WHO} ended the stream without a last word")
        if not usage.output_tokens and pieces:
            usage = Usage(0, pieces, estimated=True)
        yield Completed(finish, usage)

    async def health(self, model: str) -> ProviderHealth:
        try:
            names = [info.name for info in await asyncio.wait_for(self.models(), ASK_TIMEOUT_S)]
        except TimeoutError:
            return ProviderHealth(False, f"{self._where} did not answer within {ASK_TIMEOUT_S:g} s")
        except ProviderError as error:
            return ProviderHealth(False, error.message)
        known = not model or model in names
        return ProviderHealth(known, f"{self._where} {'answers' if known else f'has no model {model!r}'}")

    async def models(self) -> list[ModelInfo]:
        try:
            listing = await self._ready().models.list()
        except Exception as error:
            raise self._failure(error, "") from error
        return [ModelInfo(entry.id, context_window=_window(entry)) for entry in listing.data]

    async def context_window(self, model: str) -> int:
        try:
            for info in await asyncio.wait_for(self.models(), ASK_TIMEOUT_S):
                if info.name == model and info.context_window:
                    return info.context_window
        except (ProviderError, TimeoutError):
            return DEFAULT_WINDOW
        return DEFAULT_WINDOW

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
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
            return from_status(
                WHO, response.status_code, _body(error), response.headers, model=model or self._own.model,
                key_hint=self._own.api_key_env, secret=self._key,
            )  # fmt: skip
        name = type(error).__name__
        if name == "APIError" or isinstance(error, ValueError):
            return ProviderFault(
                f"{WHO} sent an error in the middle, or something malformed", evidence=str(error)[:4000]
            )
        return from_connection(WHO, self._where, error, self._key)


def _body(error: Exception) -> str:
    body = getattr(error, "body", None)
    return str(body if body is not None else error)


def _reasoning(delta: Any) -> str:
    """Return thinking text, under either name servers give it."""
    extra: Mapping[str, Any] = getattr(delta, "model_extra", None) or {}
    return str(extra.get("reasoning_content") or extra.get("reasoning") or "")


def _usage(counts: Any) -> Usage:
    cached = getattr(getattr(counts, "prompt_tokens_details", None), "cached_tokens", 0) or 0
    thought = getattr(getattr(counts, "completion_tokens_details", None), "reasoning_tokens", 0) or 0
    prompt = counts.prompt_tokens or 0
    return Usage(prompt - cached, counts.completion_tokens or 0, cached, thought)


def _window(entry: Any) -> int:
    """Return a model's window where the server says it: vLLM and llama.cpp do, each its own way."""
    extra: Mapping[str, Any] = entry.model_extra or {}
    meta: Mapping[str, Any] = extra.get("meta") or {}
    return int(extra.get("max_model_len") or meta.get("n_ctx") or meta.get("n_ctx_train") or 0)
