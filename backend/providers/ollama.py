"""Ollama through its own client library. One prompt is one chat call; a model that is loading says so."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import Struct

from backend.config import Settings
from backend.home import Home
from backend.providers.base import (
    Completed,
    CompletionRequest,
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
from backend.providers.http_errors import Upstream, from_connection, from_status
from backend.providers.keys import key_for
from backend.providers.names import display_name
from backend.providers.sdk import Whole, quiet_libraries, reaching, split_user
from backend.schema.frames import FinishReason, Usage

if TYPE_CHECKING:
    import ollama

WHO = "Ollama"
ASK_TIMEOUT_S = 2.0
LOADING_AFTER_S = 0.4
"""After so long without a first token it is worth asking whether the model is being loaded."""
SHOW_TIMEOUT_S = 10.0
"""For a model's facts before its first chat: without its window, Ollama would cut the prompt in silence."""
DEFAULT_WINDOW = 4096
"""Tokens Ollama gives a model when nobody asks for more."""
IN_STREAM = -1
"""Status the library gives an error that came inside a stream."""
_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)", re.MULTILINE)


class _Window(Struct, frozen=True):
    """Tokens a chat may take, and whether Ollama must be asked for them."""

    tokens: int
    asked: bool


class OllamaProvider:
    """See `Provider`."""

    kind = "ollama"

    def __init__(self, settings: Settings, home: Home, environment: Mapping[str, str]) -> None:
        self._own = settings.providers.ollama
        self._settings, self._home, self._environment = settings, home, environment
        self._key = ""
        self._where, self._user = split_user(self._own.host)
        self._client: ollama.AsyncClient | None = None
        self._windows: dict[str, _Window] = {}

    async def prepare(self) -> None:
        self._key = key_for(self.kind, self._settings, self._home, self._environment)
        self._client = await asyncio.to_thread(self._open)

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        client, model = self._ready(), request.model or self._own.model
        messages = [{"role": "system", "content": request.system}]
        messages += [{"role": m.role, "content": m.content} for m in request.messages]
        completed, whole = None, Whole()
        try:
            options = await self._options(request, model)
            parts: Any = await client.chat(model=model, messages=messages, stream=True, options=options)
            first = asyncio.ensure_future(anext(parts))
            try:
                await asyncio.wait({first}, timeout=LOADING_AFTER_S)
                if not first.done() and not await self._loaded(model):
                    yield Loading(f"loading {display_name('ollama', model)}")
                async for part in _joined(first, parts):
                    for item in _pieces(part.message, whole):
                        yield item
                    if part.done:
                        finish: FinishReason = "length" if part.done_reason == "length" else "stop"
                        completed = Completed(
                            finish, Usage(part.prompt_eval_count or 0, part.eval_count or 0)
                        )
            finally:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
                await parts.aclose()
        except Exception as error:
            raise self._failure(error, model) from error
        if completed is None:
            raise ProviderFault(f"{WHO} ended the stream without a last word: ask again")
        if rest := whole.rest():
            yield Text(rest)
        yield completed

    async def health(self, model: str) -> ProviderHealth:
        try:
            names = [info.name for info in await self._listed(ASK_TIMEOUT_S)]
        except ProviderError as error:
            return ProviderHealth(False, error.message)
        if _is_among(model, names):
            return ProviderHealth(True, f"{self._where} has {model}")
        return ProviderHealth(False, _not_pulled(model), model_missing=True)

    async def models(self) -> list[ModelInfo]:
        return await self._listed(ASK_TIMEOUT_S * 2)

    async def context_window(self, model: str) -> int:
        """Return what a chat may take: the model file's own `num_ctx`, else what we ask of Ollama."""
        try:
            return (await self._window(model)).tokens
        except Exception as error:
            raise self._failure(error, model) from error

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        return None

    async def pull(self, model: str) -> AsyncIterator[Loading]:
        """Have Ollama fetch a model; yields its progress in words and bytes.

        Closing the iterator ends the fetch; Ollama keeps what it has and goes on from there another time.
        """
        try:
            steps: Any = await self._ready().pull(model, stream=True)
            try:
                async for step in steps:
                    yield _progress(step)
            finally:
                await steps.aclose()
        except Exception as error:
            raise self._failure(error, model) from error

    async def aclose(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    def _open(self) -> ollama.AsyncClient:
        import httpx
        import ollama

        quiet_libraries()
        return ollama.AsyncClient(
            host=self._where,
            timeout=httpx.Timeout(None, connect=self._own.timeouts.connect),
            headers={"authorization": said} if (said := self._authorization()) else None,
            **reaching(httpx, self._where),
        )

    def _authorization(self) -> str:
        return f"Bearer {self._key}" if self._key else self._user

    def _ready(self) -> ollama.AsyncClient:
        if self._client is None:
            raise ProviderUnavailable("the provider was not prepared")
        return self._client

    async def _options(self, request: CompletionRequest, model: str) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if request.temperature is not None:
            options["temperature"] = request.temperature
        if limit := request.max_tokens or self._own.max_tokens:
            options["num_predict"] = limit
        window = await self._window(model)
        if window.asked:
            options["num_ctx"] = window.tokens
        return options

    async def _window(self, model: str) -> _Window:
        """Find out a model's window, once; what cannot be found out now is tried again with the next turn."""
        if model not in self._windows:
            shown = await asyncio.wait_for(self._ready().show(model), SHOW_TIMEOUT_S)
            facts: Mapping[str, Any] = shown.modelinfo or {}
            largest = next((int(v) for k, v in facts.items() if k.endswith(".context_length")), 0)
            if named := _NUM_CTX.search(shown.parameters or ""):
                self._windows[model] = _Window(int(named[1]), asked=False)
            elif self._own.context:
                wanted = min(self._own.context, largest or self._own.context)
                self._windows[model] = _Window(wanted, asked=True)
            else:
                self._windows[model] = _Window(min(DEFAULT_WINDOW, largest or DEFAULT_WINDOW), asked=False)
        return self._windows[model]

    async def _loaded(self, model: str) -> bool:
        """Return whether the model is in memory now; unknown counts as yes."""
        try:
            running = await asyncio.wait_for(self._ready().ps(), ASK_TIMEOUT_S)
        except Exception:  # only a courtesy: the chat itself will say what is wrong
            return True
        return _is_among(model, [entry.model or "" for entry in running.models])

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
        if isinstance(error, ProviderError):
            return error
        secrets = (self._key, self._user, urlsplit(self._own.host).password or "")
        upstream = Upstream(WHO, self._where, model, self._own.api_key_env, "providers.ollama.host", secrets)
        status = getattr(error, "status_code", None)
        text = str(getattr(error, "error", error))
        if status == 404 or (status == IN_STREAM and "not found" in text):
            return ModelNotFound(_not_pulled(model), evidence=upstream.evidence(text))
        if status == IN_STREAM and "context" not in text:
            said = upstream.evidence(text)
            return ProviderFault(f"{WHO} broke off: {said[:200]}", evidence=said)
        if isinstance(status, int):
            return from_status(upstream, 400 if status == IN_STREAM else status, text, {})
        return from_connection(upstream, error)


async def _joined(first: asyncio.Future[Any], rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield the part that was awaited ahead, then the others."""
    try:
        yield await first
    except StopAsyncIteration:
        return
    async for part in rest:
        yield part


def _pieces(message: Any, whole: Whole) -> list[StreamItem]:
    items: list[StreamItem] = []
    if message.thinking:
        items.append(Reasoning(Whole().feed(message.thinking)))
    if message.content and (text := whole.feed(message.content)):
        items.append(Text(text))
    return items


def _progress(step: Any) -> Loading:
    done, total = step.completed or 0, step.total or 0
    share = f" {100 * done // total} % of {total / 1e9:.1f} GB" if total else ""
    return Loading(f"{step.status or ''}{share}", done, total)


def _is_among(model: str, names: list[str]) -> bool:
    return model in names or f"{model}:latest" in names


def _not_pulled(model: str) -> str:
    return f"Ollama has no model {model!r}: run `ollama pull {model}`, or `tekton models pull {model}`"
