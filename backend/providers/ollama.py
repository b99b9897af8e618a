"""Ollama through its own client library. One prompt is one call; a model that is loading says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from backend.config import Settings
from backend.home import Home
from backend.providers.base import (
    CompletionRequest,
    Completed,
    ContextOverflow,
    Loading,
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
from backend.providers.names import display_name
from backend.schema.frames import FinishReason, Usage

if TYPE_CHECKING:
    import ollama

WHO = "Ollama"
ASK_TIMEOUT_S = 2.0
DEFAULT_WINDOW = 4096
"""What Ollama gives a model that does not say."""


class OllamaProvider:
    """See `Provider`."""

    kind = "ollama"

    def __init__(self, settings: Settings, home: Home, environment: Mapping[str, str]) -> None:
        self._own = settings.providers.ollama
        self._client: ollama.AsyncClient | None = None
        self._windows: dict[str, int] = {}

    async def prepare(self) -> None:
        library: Any = await asyncio.to_thread(__import__, "ollama")
        httpx: Any = await asyncio.to_thread(__import__, "httpx")
        timeout = httpx.Timeout(None, connect=self._own.timeouts.connect)
        self._client = library.AsyncClient(host=self._own.host, timeout=timeout, trust_env=False)

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        client = self._ready()
        if not await self._loaded(request.model):
            yield Loading(f"loading {display_name('ollama', request.model)}")
        options: dict[str, Any] = {}
        if request.temperature is not None:
            options["temperature"] = request.temperature
        if limit := request.max_tokens or self._own.max_tokens:
            options["num_predict"] = limit
        messages = [{"role": "system", "content": request.system}]
        messages += [{"role": m.role, "content": m.content} for m in request.messages]
        ended = False
        try:
            parts: Any = await client.chat(
                model=request.model, messages=messages, stream=True, options=options
            )
            try:
                async for part in parts:
                    if part.message.thinking:
                        yield Reasoning(part.message.thinking)
                    if part.message.content:
                        yield Text(part.message.content)
                    if part.done:
                        ended = True
                        finish: FinishReason = "length" if part.done_reason == "length" else "stop"
                        usage = Usage(part.prompt_eval_count or 0, part.eval_count or 0)
                        yield Completed(finish, usage)
            finally:
                await parts.aclose()
        except ProviderError:
            raise
        except Exception as error:
            raise self._failure(error, request.model) from error
        if not ended:
            raise ProviderFault(f"{WHO} ended the stream without a last word")

    async def health(self, model: str) -> ProviderHealth:
        try:
            names = [info.name for info in await self._listed(ASK_TIMEOUT_S)]
        except ProviderError as error:
            return ProviderHealth(False, error.message)
        if model in names or f"{model}:latest" in names:
            return ProviderHealth(True, f"{self._own.host} has {model}")
        return ProviderHealth(False, _not_pulled(model))

    async def models(self) -> list[ModelInfo]:
        return await self._listed(ASK_TIMEOUT_S * 2)

    async def context_window(self, model: str) -> int:
        if model not in self._windows:
            try:
                shown = await asyncio.wait_for(self._ready().show(model), ASK_TIMEOUT_S)
            except Exception as error:
                raise self._failure(error, model) from error
            facts: Mapping[str, Any] = shown.modelinfo or {}
            sizes = [int(value) for name, value in facts.items() if name.endswith(".context_length")]
            self._windows[model] = sizes[0] if sizes else DEFAULT_WINDOW
        return self._windows[model]

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        return None

    async def pull(self, model: str) -> AsyncIterator[Loading]:
        """Have Ollama fetch a model; yields its progress in words."""
        try:
            async for step in await self._ready().pull(model, stream=True):
                share = f" {100 * step.completed // step.total} %" if step.total and step.completed else ""
                yield Loading(f"{step.status}{share}")
        except Exception as error:
            raise self._failure(error, model) from error

    async def aclose(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    def _ready(self) -> ollama.AsyncClient:
        if self._client is None:
            raise ProviderUnavailable("the provider was not prepared")
        return self._client

    async def _loaded(self, model: str) -> bool:
        """Return whether the model is in memory now; unknown counts as yes."""
        try:
            running = await asyncio.wait_for(self._ready().ps(), ASK_TIMEOUT_S)
        except Exception:  # only a courtesy: the chat itself will say what is wrong
            return True
        return any(entry.model in (model, f"{model}:latest") for entry in running.models)

    async def _listed(self, timeout_s: float) -> list[ModelInfo]:
        try:
            listing = await asyncio.wait_for(self._ready().list(), timeout_s)
        except Exception as error:
            raise self._failure(error, "") from error
        return [
            ModelInfo(entry.model or "", display_name("ollama", entry.model or ""), int(entry.size or 0))
            for entry in listing.models
        ]

    def _failure(self, error: Exception, model: str) -> ProviderError:
        """Map the library's errors; one inside a stream carries the status -1."""
        status = getattr(error, "status_code", None)
        text = str(getattr(error, "error", error))
        if status == 404:
            return ModelNotFound(_not_pulled(model), evidence=text)
        if status == -1 and "not found" in text:
            return ModelNotFound(_not_pulled(model), evidence=text)
        if status == -1 and "context" in text:
            return ContextOverflow(f"the prompt does not fit the context of {model}", evidence=text)
        if status == -1:
            return ProviderFault(f"{WHO} broke off: {text}", evidence=text)
        if isinstance(status, int):
            return from_status(WHO, status, text, {}, model=model, key_hint="its configuration")
        if isinstance(error, ValueError):
            return ProviderFault(f"{WHO} sent something that is not its format", evidence=text)
        return from_connection(WHO, self._own.host, error)


def _not_pulled(model: str) -> str:
    return f"Ollama has no model {model!r}: run `ollama pull {model}`, or `tekton models pull {model}`"
