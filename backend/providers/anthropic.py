"""Anthropic through its own library. The library takes no temperature: a specialist's is noted, not sent."""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import AsyncIterator, Mapping
from typing import Any

from backend.config import AnthropicSettings, Settings
from backend.home import Home
from backend.providers.anthropic_models import RETIRED, current_models, retirement
from backend.providers.base import (
    Completed,
    CompletionRequest,
    ContextOverflow,
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
from backend.providers.http_errors import Upstream, from_connection, from_status
from backend.providers.keys import key_for
from backend.providers.names import display_name
from backend.providers.sdk import Whole, quiet_libraries, reaching, split_user
from backend.schema.frames import ChatMessage, FinishReason, Usage

WHO = "Anthropic"
API = "https://api.anthropic.com"
ASK_TIMEOUT_S = 2.0
DEFAULT_WINDOW = 200_000
"""Tokens, of a model the server says nothing about."""
COUNTED_TEXTS = 24
"""More texts than this are not counted by the server: a call each would run into its rate limit."""
NO_TEMPERATURE = "this provider takes no temperature; the specialist's was not sent"
ENDINGS = {
    "refusal": "the model declined to answer further",
    "model_context_window_exceeded": "the model's context is full: the answer is cut",
    "pause_turn": "the model paused: the answer is cut",
}
"""Reasons of stopping the operator should read; `max_tokens` is the finish reason `length`."""
STREAMED_STATUS = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "timeout_error": 504,
    "overloaded_error": 529,
}  # fmt: skip
"""Status of an error that comes inside a stream, whose own status was 200."""


class AnthropicProvider:
    """See `Provider`."""

    kind = "anthropic"

    def __init__(self, settings: Settings, home: Home, environment: Mapping[str, str]) -> None:
        self._own: AnthropicSettings = settings.providers.anthropic
        self._settings, self._home, self._environment = settings, home, environment
        self._key = ""
        self._address = self._own.base_url or API
        self._where, _ = split_user(self._address)
        self._client: Any = None
        self._windows: dict[str, int] = {}

    async def prepare(self) -> None:
        self._key = key_for(self.kind, self._settings, self._home, self._environment)
        self._client = await asyncio.to_thread(self._open)

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        model = request.model or self._own.model
        finish: FinishReason | None = None
        usage, whole = Usage(), Whole()
        notes = [NO_TEMPERATURE] if request.wished_temperature is not None else []
        if retires := self._refused_if_retired(model):
            notes.append(f"{model} {retires}")
        try:
            upstream = await self._ready().messages.create(
                model=model, system=request.system, messages=_messages(request.messages), stream=True,
                max_tokens=request.max_tokens or self._own.max_tokens, cache_control={"type": "ephemeral"},
            )  # fmt: skip
            async with upstream:
                async for event in upstream:
                    match event.type:
                        case "message_start":
                            usage = _started(event.message.usage)
                        case "content_block_delta":
                            if item := _piece(event.delta, whole):
                                yield item
                        case "message_delta":
                            reason = event.delta.stop_reason
                            finish = "length" if reason in ("max_tokens", *_CUT) else "stop"
                            if reason in ENDINGS:
                                notes.append(_ending(event.delta))
                            usage = _ended(usage, event.usage)
                        case _:
                            pass
        except Exception as error:
            raise self._failure(error, model) from error
        if finish is None:
            raise ProviderFault(f"{WHO} ended the stream without a last word: ask again")
        if rest := whole.rest():
            yield Text(rest)
        yield Completed(finish, usage, notes)

    async def health(self, model: str) -> ProviderHealth:
        try:
            self._refused_if_retired(model)
            infos = await asyncio.wait_for(self.models(), ASK_TIMEOUT_S)
        except TimeoutError:
            return ProviderHealth(False, f"{self._where} did not answer within {ASK_TIMEOUT_S:g} s")
        except ProviderError as error:
            return ProviderHealth(False, error.message, model_missing=isinstance(error, ModelNotFound))
        found = next((info for info in infos if _DAY.sub("", info.name) == _DAY.sub("", model)), None)
        if found is not None or not model or not infos:
            detail = f"{self._where} answers"
            return ProviderHealth(True, f"{detail}; {found.detail}" if found and found.detail else detail)
        return ProviderHealth(False, _unknown(model, [info.name for info in infos]), model_missing=True)

    async def models(self) -> list[ModelInfo]:
        try:
            listing = await self._ready().models.list(limit=100)
            return [_info(entry) for entry in listing.data if getattr(entry, "lifecycle", "") != "retired"]
        except Exception as error:
            raise self._failure(error, "") from error

    async def context_window(self, model: str) -> int:
        if model not in self._windows:
            try:
                infos = await asyncio.wait_for(self.models(), ASK_TIMEOUT_S)
            except (ProviderError, TimeoutError):
                return DEFAULT_WINDOW
            self._windows.update({info.name: info.context_window for info in infos if info.context_window})
            self._windows.setdefault(model, DEFAULT_WINDOW)
        return self._windows[model]

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        """Ask the server for each text; a call a text, so only a short list is counted."""
        if len(texts) > COUNTED_TEXTS:
            return None
        try:
            counted = [
                self._ready().messages.count_tokens(
                    model=model, messages=[{"role": "user", "content": text if text.strip() else "."}]
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

    def _open(self) -> Any:
        """Import the library and make the client; seconds, so it runs in a thread."""
        import anthropic
        import httpx2

        quiet_libraries()
        warnings.filterwarnings("ignore", message="The model '", category=DeprecationWarning)  # noted instead
        timeout = httpx2.Timeout(None, connect=self._own.timeouts.connect)
        client: Any = anthropic.AsyncAnthropic(
            api_key=self._key,
            base_url=self._address,
            max_retries=0,
            timeout=timeout,
            http_client=anthropic.DefaultAsyncHttpxClient(timeout=timeout, **reaching(httpx2, self._address)),
        )
        _ = client.messages, client.models  # they import the rest
        return client

    def _ready(self) -> Any:
        if self._client is None:
            raise ProviderUnavailable("the provider was not prepared")
        return self._client

    def _refused_if_retired(self, model: str) -> str:
        """Return when a model ends, empty for a current one. Another server than Anthropic's may still have it.

        Raises:
            ModelNotFound: Anthropic has retired it; the message names current ones.
        """
        ends = retirement(model)
        if ends.startswith(RETIRED) and self._where == API:
            raise ModelNotFound(_unknown(model, current_models()))
        return ends

    def _failure(self, error: Exception, model: str) -> ProviderError:
        if isinstance(error, ProviderError):
            return error
        upstream = Upstream(
            WHO, self._where, model, self._own.api_key_env, "providers.anthropic.base_url", (self._key,)
        )
        response = getattr(error, "response", None)
        if response is None or not hasattr(error, "status_code"):
            return from_connection(upstream, error)
        status, body = _true_status(error, response.status_code)
        found = from_status(upstream, status, body, response.headers)
        if isinstance(found, ModelNotFound) and self._where == API:
            return ModelNotFound(_unknown(model, current_models()), evidence=found.evidence)
        if isinstance(found, ContextOverflow):
            found.detail["window"] = self._windows.get(model, DEFAULT_WINDOW)
        return found


_DAY = re.compile(r"-(?:\d{8}|latest)$")
"""What a listed name may have behind the one in the settings, and the other way round."""
_CUT = ("model_context_window_exceeded", "pause_turn")


def _messages(messages: list[ChatMessage]) -> list[dict[str, str]]:
    """Return messages as the API takes them: none empty, a question first."""
    told = [{"role": m.role, "content": m.content} for m in messages if m.content.strip()]
    if told and told[0]["role"] == "assistant":
        told.insert(0, {"role": "user", "content": "(earlier messages are not shown)"})
    return told


def _unknown(model: str, names: list[str]) -> str:
    retires = retirement(model)
    why = f"{model!r} {retires}" if retires else f"Anthropic offers no {model!r}"
    return f"{why}. Current names: {', '.join(names[:8])}"


def _info(entry: Any) -> ModelInfo:
    detail = ""
    if getattr(entry, "lifecycle", "") == "deprecated":
        ends = getattr(entry, "retires_at", None)
        detail = f"deprecated, ends {ends:%Y-%m-%d}" if ends else "deprecated"
    return ModelInfo(
        entry.id,
        getattr(entry, "display_name", "") or display_name("anthropic", entry.id),
        context_window=getattr(entry, "max_input_tokens", None) or 0,
        detail=detail,
    )


def _ending(delta: Any) -> str:
    """Return why the model stopped, in words, with its own explanation where it gives one."""
    explained = getattr(getattr(delta, "stop_details", None), "explanation", None)
    words = ENDINGS[delta.stop_reason]
    return f"{words}: {explained}" if explained else words


def _true_status(error: Any, status: int) -> tuple[int, str]:
    """Return the status of an error; one sent inside a stream comes with the stream's own 200."""
    body: Any = getattr(error, "body", None)
    if status < 400:
        status = STREAMED_STATUS.get(str(getattr(error, "type", "")), 500)
    return status, str(body if body is not None else error)


def _started(counts: Any) -> Usage:
    written = getattr(counts, "cache_creation_input_tokens", None) or 0
    cached = getattr(counts, "cache_read_input_tokens", None) or 0
    return Usage((counts.input_tokens or 0) + written, 0, cached, written_tokens=written)


def _ended(usage: Usage, counts: Any) -> Usage:
    details = getattr(counts, "output_tokens_details", None)
    usage.output_tokens = counts.output_tokens or 0
    usage.reasoning_tokens = getattr(details, "thinking_tokens", None) or 0
    return usage


def _piece(delta: Any, whole: Whole) -> StreamItem | None:
    match delta.type:
        case "text_delta":
            text = whole.feed(delta.text or "")
            return Text(text) if text else None
        case "thinking_delta" if delta.thinking:
            return Reasoning(Whole().feed(delta.thinking))
        case _:
            return None
