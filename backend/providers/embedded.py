"""The embedded model: the platform's own server asked over loopback, a slot pinned to each specialist.

Where the server is stands in the home's `run/embedded.json`, read anew when it changes: the server may be another one
tomorrow. Starts nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from backend.config import Settings
from backend.home import Home
from backend.providers.base import (
    Completed,
    CompletionRequest,
    ContextOverflow,
    Loading,
    ModelInfo,
    ModelNotFound,
    ProviderAuth,
    ProviderFault,
    ProviderHealth,
    ProviderUnavailable,
    Queued,
    StreamItem,
    Text,
)
from backend.providers.weights import find
from backend.schema.frames import FinishReason, Usage

if TYPE_CHECKING:
    import httpx

START_WAIT_S = 45.0
"""How long a turn waits for a server that is being started."""
LOOK_EVERY_S = 0.05
HEALTH_TIMEOUT_S = 2.0
SAMPLING = {"min_p": 0.08, "top_p": 0.95, "repeat_penalty": 1.12, "repeat_last_n": 128}
"""What keeps a small model from rambling and from repeating itself."""
TURN_TEMPERATURE_MAX = 0.4
"""A small model loses its thread above this, whatever its specialist's temperature."""


class ServerFacts(Struct):
    """Where the server is and what it holds; `context` in tokens a slot."""

    url: str
    api_key: str
    model: str
    slots: int
    context: int


class EmbeddedProvider:
    """See `Provider`."""

    kind = "embedded"

    def __init__(self, settings: Settings, home: Home, environment: Mapping[str, str]) -> None:
        self._settings, self._home = settings, home
        self._own = settings.providers.embedded
        self._client: httpx.AsyncClient | None = None
        self._facts: ServerFacts | None = None
        self._read_at = 0

    async def prepare(self) -> None:
        await asyncio.to_thread(find, self._settings, self._home)
        httpx = await asyncio.to_thread(__import__, "httpx")
        timeout = httpx.Timeout(None, connect=self._own.timeouts.connect)
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)

    async def prewarm(self, system: str, slot: int) -> None:
        """Let the server read a persona into its slot, so that the first question starts behind it."""
        facts = await self._wait_for_server(START_WAIT_S)
        body = self._body(CompletionRequest(system, [], facts.model, max_tokens=1, slot=slot), facts)
        body["stream"] = False
        body.pop("stream_options")
        await self._http().post(f"{facts.url}/v1/chat/completions", json=body, headers=_auth(facts))

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        if self._read() is None:
            yield Loading("the embedded model server is starting")
        facts = await self._wait_for_server(START_WAIT_S)
        if ahead := await self._slot_is_busy(facts, request.slot):
            yield Queued(ahead, "its slot of the embedded model is busy")
        import httpx

        finish: FinishReason = "stop"
        usage = Usage()
        ended = False
        url = f"{facts.url}/v1/chat/completions"
        try:
            async with self._http().stream(
                "POST", url, json=self._body(request, facts), headers=_auth(facts)
            ) as answer:
                if answer.status_code != 200:
                    raise _failure(answer.status_code, (await answer.aread()).decode(errors="replace"))
                async for line in answer.aiter_lines():
                    if not line.startswith("data: "):
                        if line.startswith("error: "):
                            raise _failure(500, line[7:])
                        continue
                    if line == "data: [DONE]":
                        ended = True
                        break
                    piece = _decode(line[6:])
                    for choice in piece.get("choices") or ():
                        if text := (choice.get("delta") or {}).get("content"):
                            yield Text(text)
                        if choice.get("finish_reason") == "length":
                            finish = "length"
                    if counts := piece.get("usage"):
                        usage = _usage(counts)
        except httpx.ConnectError as error:
            raise ProviderUnavailable(
                "the embedded model server does not answer", evidence=str(error)
            ) from error
        except httpx.HTTPError as error:
            raise ProviderFault(
                "the embedded model server broke off in the middle",
                evidence=f"{type(error).__name__}: {error}",
            ) from error
        if not ended:
            raise ProviderFault("the embedded model server ended the stream without a last word")
        yield Completed(finish, usage)

    async def health(self, model: str) -> ProviderHealth:
        facts = self._read()
        if facts is None:
            return ProviderHealth(False, "the embedded model server does not run")
        import httpx

        try:
            answer = await self._http().get(f"{facts.url}/health", timeout=HEALTH_TIMEOUT_S)
        except httpx.HTTPError as error:
            return ProviderHealth(
                False, f"the embedded model server does not answer: {error or type(error).__name__}"
            )
        return ProviderHealth(answer.status_code == 200, f"{facts.model}, {facts.slots} slots")

    async def models(self) -> list[ModelInfo]:
        path = await asyncio.to_thread(find, self._settings, self._home)
        return [
            ModelInfo(
                path.name.removesuffix(".gguf"),
                size=path.stat().st_size,
                context_window=self._own.context,
                detail="a small stand-in that runs anywhere; connect Ollama or Anthropic for real work",
            )
        ]

    async def context_window(self, model: str) -> int:
        facts = self._read()
        return facts.context if facts else self._own.context

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        facts = self._read()
        if facts is None:
            return None
        import httpx

        counts: list[int] = []
        try:
            for text in texts:
                answer = await self._http().post(
                    f"{facts.url}/tokenize",
                    json={"content": text},
                    headers=_auth(facts),
                    timeout=HEALTH_TIMEOUT_S,
                )
                counts.append(len(answer.json()["tokens"]))
        except (httpx.HTTPError, ValueError, KeyError):
            return None
        return counts

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            raise ProviderUnavailable("the provider was not prepared")
        return self._client

    def _read(self) -> ServerFacts | None:
        """Return the server's facts, from memory while the file is the same."""
        try:
            stamp = self._home.embedded_facts.stat().st_mtime_ns
            if stamp != self._read_at:
                self._facts = msgspec.json.decode(self._home.embedded_facts.read_bytes(), type=ServerFacts)
                self._read_at = stamp
        except (OSError, msgspec.MsgspecError):
            self._facts, self._read_at = None, 0
        return self._facts

    async def _wait_for_server(self, seconds: float) -> ServerFacts:
        deadline = time.monotonic() + seconds
        while (facts := self._read()) is None:
            if time.monotonic() > deadline:
                raise ProviderUnavailable(
                    "the embedded model server does not run; launch a specialist from the console, or see `tekton logs embedded`"
                )
            await asyncio.sleep(LOOK_EVERY_S)
        return facts

    async def _slot_is_busy(self, facts: ServerFacts, slot: int) -> int:
        """Return the turns ahead in the same slot: 1 when it is being used, else 0."""
        import httpx

        try:
            answer = await self._http().get(
                f"{facts.url}/slots", headers=_auth(facts), timeout=HEALTH_TIMEOUT_S
            )
            rows: list[dict[str, Any]] = answer.json()
            return int(any(row["id"] == slot % facts.slots and row["is_processing"] for row in rows))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return 0

    def _body(self, request: CompletionRequest, facts: ServerFacts) -> dict[str, Any]:
        own = self._own
        temperature = own.temperature if request.temperature is None else request.temperature
        messages = [{"role": "system", "content": request.system}]
        messages += [{"role": m.role, "content": m.content} for m in request.messages]
        return {
            "model": "embedded",
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "id_slot": request.slot % facts.slots,
            "cache_prompt": True,
            "temperature": min(temperature, TURN_TEMPERATURE_MAX),
            "max_tokens": min(request.max_tokens or own.max_tokens, facts.context // 2),
            **SAMPLING,
        }


def _auth(facts: ServerFacts) -> dict[str, str]:
    return {"Authorization": f"Bearer {facts.api_key}"}


def _decode(text: str) -> dict[str, Any]:
    try:
        piece: dict[str, Any] = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ProviderFault(
            "the embedded model server sent something that is not JSON", evidence=text[:500]
        ) from error
    if "error" in piece:
        raise _failure(500, text)
    return piece


def _usage(counts: Mapping[str, Any]) -> Usage:
    cached = int((counts.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    prompt = int(counts.get("prompt_tokens") or 0)
    return Usage(prompt - cached, int(counts.get("completion_tokens") or 0), cached)


def _failure(status: int, body: str) -> Exception:
    """Map the server's answer to our errors, its own words kept."""
    if "exceed_context_size" in body:
        return ContextOverflow(
            "the prompt does not fit the embedded model's context: shorten it", evidence=body[:2000]
        )
    if status in (401, 403):
        return ProviderAuth(
            "the embedded model server refused its key: it was replaced; ask again", evidence=body[:2000]
        )
    if status == 404:
        return ModelNotFound("the embedded model server does not know this model", evidence=body[:2000])
    return ProviderFault(f"the embedded model server answered {status}", evidence=body[:2000])
