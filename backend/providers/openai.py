"""Any OpenAI-compatible server through the `openai` library: vLLM, llama.cpp, LM Studio, a remote gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from backend.config import OpenAISettings, Settings
from backend.home import Home
from backend.providers.base import (
    Completed,
    CompletionRequest,
    ModelInfo,
    ProviderError,
    ProviderFault,
    ProviderHealth,
    ProviderUnavailable,
    Reasoning,
    StreamItem,
    Text,
)
from backend.providers.http_errors import Upstream, from_connection, from_status
from backend.providers.keys import OPENAI_API as API
from backend.providers.keys import key_for
from backend.providers.sdk import Whole, quiet_libraries, reaching, split_user
from backend.schema.frames import FinishReason, Usage

WHO = "the OpenAI-compatible server"
ASK_TIMEOUT_S = 2.0
NO_KEY = "none"
"""What is sent as the key to a server that wants none."""
NO_TEMPERATURE = "no temperature was sent: providers.openai.send_temperature is off"
TEMPERATURE_HINT = "if the model refuses the temperature, set providers.openai.send_temperature = false"
STREAMED_STATUS = {
    "rate_limit_exceeded": 429, "insufficient_quota": 429, "rate_limit_error": 429, "overloaded_error": 529,
    "context_length_exceeded": 400, "exceed_context_size_error": 400, "invalid_request_error": 400,
    "authentication_error": 401, "permission_error": 403, "model_not_found": 404, "not_found_error": 404,
}  # fmt: skip
"""Status of an error that comes inside a stream, by its code or type."""


class OpenAIProvider:
    """See `Provider`."""

    kind = "openai"

    def __init__(self, settings: Settings, home: Home, environment: Mapping[str, str]) -> None:
        self._own: OpenAISettings = settings.providers.openai
        self._settings, self._home, self._environment = settings, home, environment
        self._key = ""
        self._address = self._own.base_url or API
        self._where, _ = split_user(self._address)
        self._client: Any = None

    async def prepare(self) -> None:
        self._key = key_for(self.kind, self._settings, self._home, self._environment)
        self._client = await asyncio.to_thread(self._open)

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        messages: list[dict[str, str]] = [{"role": "system", "content": request.system}]
        messages += [{"role": m.role, "content": m.content} for m in request.messages]
        model = request.model or self._own.model
        options, notes = self._options(request)
        finish: FinishReason | None = None
        usage, pieces, whole = Usage(), 0, Whole()
        try:
            upstream = await self._ready().chat.completions.create(
                model=model, messages=messages, stream=True, **options
            )
            async with upstream:
                async for chunk in upstream:
                    if chunk.usage is not None:
                        usage = _usage(chunk.usage)
                    for choice in chunk.choices or ():
                        pieces += choice.delta is not None
                        for item in _pieces(choice.delta, whole):
                            yield item
                        if choice.finish_reason:
                            finish = "length" if choice.finish_reason == "length" else "stop"
                        if choice.finish_reason == "content_filter":
                            notes.append("the server's content filter cut the answer")
        except Exception as error:
            raise self._failure(error, model) from error
        if finish is None:
            raise ProviderFault(f"{WHO} ended the stream without a last word: ask again")
        if rest := whole.rest():
            yield Text(rest)
        if not usage.output_tokens and pieces:
            usage = Usage(0, pieces, estimated=True)
        yield Completed(finish, usage, notes)

    async def health(self, model: str) -> ProviderHealth:
        try:
            names = [info.name for info in await asyncio.wait_for(self.models(), ASK_TIMEOUT_S)]
        except TimeoutError:
            return ProviderHealth(False, f"{self._where} did not answer within {ASK_TIMEOUT_S:g} s")
        except ProviderError as error:
            return ProviderHealth(False, error.message)
        if not model:
            return ProviderHealth(
                False,
                f"no model is named: set providers.openai.model; {self._where} has {', '.join(names[:8])}",
            )
        if model in names:
            return ProviderHealth(True, f"{self._where} answers")
        has = f"; it has {', '.join(names[:8])}" if names else ""
        return ProviderHealth(False, f"{self._where} has no model {model!r}{has}", model_missing=bool(names))

    async def models(self) -> list[ModelInfo]:
        try:
            listing = await self._ready().models.list()
            return [ModelInfo(entry.id, context_window=_window(entry)) for entry in listing.data]
        except Exception as error:
            raise self._failure(error, "") from error

    async def context_window(self, model: str) -> int:
        try:
            for info in await asyncio.wait_for(self.models(), ASK_TIMEOUT_S):
                if info.name == model and info.context_window:
                    return info.context_window
        except (ProviderError, TimeoutError):
            pass
        return self._own.context

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        return None

    async def aclose(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    def _options(self, request: CompletionRequest) -> tuple[dict[str, Any], list[str]]:
        """Return what is sent beside the messages, and what the operator should know of it."""
        options: dict[str, Any] = {"stream_options": {"include_usage": True}}
        notes: list[str] = []
        if request.temperature is not None and self._own.send_temperature:
            options["temperature"] = request.temperature
        elif request.wished_temperature is not None:
            notes.append(NO_TEMPERATURE)
        if limit := request.max_tokens or self._own.max_tokens:
            options["max_completion_tokens" if self._where == API else "max_tokens"] = limit
        return options, notes

    def _open(self) -> Any:
        """Import the library and make the client; a second or so, so it runs in a thread."""
        import httpx2
        import openai

        quiet_libraries()
        timeout = httpx2.Timeout(None, connect=self._own.timeouts.connect)
        client: Any = openai.AsyncOpenAI(
            api_key=self._key or NO_KEY,
            base_url=self._address,
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(timeout=timeout, **reaching(httpx2, self._address)),
        )
        _ = client.chat.completions, client.models  # they import the rest
        return client

    def _ready(self) -> Any:
        if self._client is None:
            raise ProviderUnavailable("the provider was not prepared")
        return self._client

    def _failure(self, error: Exception, model: str) -> ProviderError:
        if isinstance(error, ProviderError):
            return error
        upstream = Upstream(
            WHO, self._where, model, self._own.api_key_env, "providers.openai.base_url", (self._key,)
        )
        body: Any = getattr(error, "body", None)
        response = getattr(error, "response", None)
        if response is not None and hasattr(error, "status_code"):
            found = from_status(
                upstream, response.status_code, str(body if body is not None else error), response.headers
            )
            if isinstance(found, ProviderFault) and "temperature" in found.evidence:
                return ProviderFault(f"{found.message}: {TEMPERATURE_HINT}", evidence=found.evidence)
            return found
        if body is not None:  # an error that came inside the stream
            return from_status(upstream, _streamed_status(body), str(body), {})
        return from_connection(upstream, error)


def _streamed_status(body: Any) -> int:
    words: Mapping[str, Any] = body if isinstance(body, dict) else {}
    code = words.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return next((STREAMED_STATUS[w] for w in (code, words.get("type")) if w in STREAMED_STATUS), 500)


def _pieces(delta: Any, whole: Whole) -> list[StreamItem]:
    """Return the thinking and the text of a delta; servers give thinking one of two names."""
    if delta is None:
        return []
    items: list[StreamItem] = []
    extra: Mapping[str, Any] = getattr(delta, "model_extra", None) or {}
    if thought := extra.get("reasoning_content") or extra.get("reasoning"):
        items.append(Reasoning(Whole().feed(str(thought))))
    if delta.content and (text := whole.feed(delta.content)):
        items.append(Text(text))
    return items


def _usage(counts: Any) -> Usage:
    cached = getattr(getattr(counts, "prompt_tokens_details", None), "cached_tokens", 0) or 0
    thought = getattr(getattr(counts, "completion_tokens_details", None), "reasoning_tokens", 0) or 0
    prompt = counts.prompt_tokens or 0
    return Usage(prompt - cached, counts.completion_tokens or 0, cached, thought)


def _window(entry: Any) -> int:
    """Return a model's window where the server says it: vLLM and llama.cpp do, each its own way."""
    extra: Mapping[str, Any] = getattr(entry, "model_extra", None) or {}
    meta: Mapping[str, Any] = extra.get("meta") or {}
    return int(extra.get("max_model_len") or meta.get("n_ctx") or meta.get("n_ctx_train") or 0)
