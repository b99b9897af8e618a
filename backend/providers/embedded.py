"""The embedded model: the platform's own server asked over loopback, a slot pinned to each specialist.

Where the server is stands in the home's `run/embedded.json`: it may be another one tomorrow. Starts nothing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from backend.config import EmbeddedSettings, Settings
from backend.home import Home
from backend.providers import small_model
from backend.providers.base import (
    Completed,
    CompletionRequest,
    Loading,
    ModelInfo,
    ProviderError,
    ProviderFault,
    ProviderHealth,
    ProviderUnavailable,
    Queued,
    Reasoning,
    StreamItem,
    Text,
)
from backend.providers.embedded_link import AGAIN, FactsFile, ServerFacts, ServerLink, refused
from backend.providers.names import display_name
from backend.providers.weights import MODEL_NAME, find
from backend.schema.frames import FinishReason, Usage

START_WAIT_S = 45.0
"""How long a turn waits for a server that is being started."""
LOOK_EVERY_S = 0.05
QUEUE_LOOK_S = 0.4
"""After so long without a beginning the turn is queued: a free slot begins within milliseconds."""
ASK_TIMEOUT_S = 2.0
PREWARM_TIMEOUT_S = 120.0
"""Nineteen personas on two slow cores."""
SHOWN_PREFILL = 64
"""A prompt of fewer new tokens is read before anyone could see that it is."""
CHAT = "/v1/chat/completions"
STAND_IN = "a small stand-in that runs anywhere; connect Ollama or Anthropic for real work"
_DEFERRED = re.compile(rb"^llamacpp:requests_deferred (\d+)", re.MULTILINE)


class EmbeddedProvider:
    """See `Provider`."""

    kind = "embedded"

    def __init__(self, settings: Settings, home: Home, environment: Mapping[str, str]) -> None:
        self._settings, self._home = settings, home
        self._own = settings.providers.embedded
        self._file = FactsFile(home.embedded_facts, home.embedded_ending)
        self._link: ServerLink | None = None

    async def prepare(self) -> None:
        await asyncio.to_thread(find, self._settings, self._home)
        self._link = await asyncio.to_thread(ServerLink, self._own.timeouts.connect)

    async def prewarm(self, system: str, slot: int) -> None:
        """Let the server read a persona into its slot, so that the first question starts behind it.

        Raises:
            ProviderError: The server is not there or refused.
        """
        link, facts = self._ready(), await self._wait_for_server(START_WAIT_S)
        body = self._body(CompletionRequest(system, [], facts.model, max_tokens=1, slot=slot), facts)
        body = {name: value for name, value in body.items() if not name.startswith(("stream", "return"))}
        await link.ask(facts, CHAT, body, timeout_s=PREWARM_TIMEOUT_S)

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        link = self._ready()
        if self._file.read() is None and not self._file.gone():
            yield Loading("the embedded model server is starting")
        facts = await self._wait_for_server(START_WAIT_S)
        finish: FinishReason = "stop"
        usage: Usage | None = None
        queued = 0
        lines = link.lines(facts, CHAT, self._body(request, facts), look_every_s=QUEUE_LOOK_S)
        try:
            async for line in lines:
                if line is None:
                    position = await self._position(facts)
                    if not queued or position < queued:  # who came after does not push anybody back
                        queued = position
                        yield Queued(queued, "the embedded model server is busy")
                    continue
                if (piece := _decode(line)) is None:
                    continue
                for item in _items(piece):
                    yield item
                if any(choice.get("finish_reason") == "length" for choice in piece.get("choices") or ()):
                    finish = "length"
                if counts := piece.get("usage"):
                    usage = _usage(counts)
        finally:
            await lines.aclose()
        if usage is None:
            raise ProviderFault("the embedded model server ended the stream without a last word: ask again")
        yield Completed(finish, usage, self._notes(request, facts))

    async def health(self, model: str) -> ProviderHealth:
        facts = self._file.read()
        if facts is None:
            return ProviderHealth(False, self._file.gone() or "the embedded model server does not run")
        try:
            await self._ready().ask(facts, "/health", timeout_s=ASK_TIMEOUT_S)
        except ProviderError as error:
            return ProviderHealth(False, error.message)
        if model not in ("", "embedded", facts.model):
            text = f"the embedded model server has {facts.model}, not {model!r}: providers.embedded.gguf names another"
            return ProviderHealth(False, text, model_missing=True)
        return ProviderHealth(True, f"{facts.model}, {facts.slots} slots of {facts.context:,} tokens")

    async def models(self) -> list[ModelInfo]:
        path = await asyncio.to_thread(find, self._settings, self._home)
        name = path.name.removesuffix(".gguf")
        return [
            ModelInfo(
                name,
                display_name(self.kind, name),
                size=path.stat().st_size,
                context_window=self._own.context,
                detail=STAND_IN if name == MODEL_NAME else "named in config.toml",
            )
        ]

    async def context_window(self, model: str) -> int:
        facts = self._file.read()
        window = facts.context if facts else self._own.context
        return window - small_model.EXCHANGE_TOKENS if model == MODEL_NAME else window

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        facts = self._file.read()
        if facts is None:
            return None
        try:
            answers = [
                await self._ready().ask(facts, "/tokenize", {"content": text}, timeout_s=ASK_TIMEOUT_S)
                for text in texts
            ]
            return [len(msgspec.json.decode(answer)["tokens"]) for answer in answers]
        except (ProviderError, msgspec.DecodeError, KeyError, TypeError):
            return None

    async def aclose(self) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            await link.aclose()

    def _ready(self) -> ServerLink:
        if self._link is None:
            raise ProviderUnavailable("the provider was not prepared")
        return self._link

    async def _wait_for_server(self, seconds: float) -> ServerFacts:
        deadline = time.monotonic() + seconds
        while (facts := self._file.read()) is None:
            if gone := self._file.gone():
                raise ProviderUnavailable(gone)
            if time.monotonic() > deadline:
                raise ProviderUnavailable(
                    f"the embedded model server does not run: none began to serve within {seconds:g} s; {AGAIN}"
                )
            await asyncio.sleep(LOOK_EVERY_S)
        return facts

    async def _position(self, facts: ServerFacts) -> int:
        """Return the place in the server's queue, at most: how many requests have no slot yet, this one among them."""
        try:
            text = await self._ready().ask(facts, "/metrics", timeout_s=ASK_TIMEOUT_S)
        except ProviderError:
            return 1  # only a courtesy: the request itself will say what is wrong
        found = _DEFERRED.search(text)
        return max(1, int(found[1])) if found else 1

    def _temperature(self, request: CompletionRequest, facts: ServerFacts) -> float:
        wanted = self._own.temperature if request.temperature is None else request.temperature
        return min(wanted, small_model.TEMPERATURE) if facts.model == MODEL_NAME else wanted

    def _notes(self, request: CompletionRequest, facts: ServerFacts) -> list[str]:
        used, wished = self._temperature(request, facts), request.wished_temperature
        if request.temperature is None and self._own.temperature != EmbeddedSettings().temperature:
            wished = self._own.temperature
        if wished is None or wished <= used:
            return []
        return [f"temperature {used:g} was used instead of {wished:g}: this model loses its thread above"]

    def _body(self, request: CompletionRequest, facts: ServerFacts) -> dict[str, Any]:
        small = facts.model == MODEL_NAME
        talk = request.messages
        if small:
            talk = [*small_model.exchange(request.system), *small_model.with_facts(talk)]
        messages = [{"role": "system", "content": request.system}]
        messages += [{"role": m.role, "content": m.content} for m in talk]
        return {
            "model": "embedded",
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
            "id_slot": request.slot % facts.slots,
            "cache_prompt": True,
            "temperature": self._temperature(request, facts),
            "max_tokens": min(request.max_tokens or self._own.max_tokens, facts.context // 2),
            **(small_model.SAMPLING if small else {}),
        }


def _decode(line: bytes) -> dict[str, Any] | None:
    """Return what a line of the stream carries, `None` for lines that carry nothing."""
    if line.startswith(b"error: "):
        raise refused(500, line[7:].decode(errors="replace"))
    if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
        return None
    try:
        piece = msgspec.json.decode(line[6:], type=dict[str, Any])
        if "error" in piece:
            raise refused(int(piece["error"].get("code", 500)), line[6:].decode(errors="replace"))
    except (msgspec.DecodeError, TypeError, AttributeError, ValueError) as error:
        raise ProviderFault(
            "the embedded model server sent something that is not its format: ask again",
            evidence=line[:500].decode(errors="replace"),
        ) from error
    return piece


def _items(piece: dict[str, Any]) -> list[StreamItem]:
    """Return the thinking, the text and the progress of a line; the shipped model does not think, a larger may."""
    items: list[StreamItem] = []
    for choice in piece.get("choices") or ():
        delta = choice.get("delta") or {}
        if thought := delta.get("reasoning_content"):
            items.append(Reasoning(thought))
        if text := delta.get("content"):
            items.append(Text(text))
    if (loading := _prefill(piece.get("prompt_progress"))) is not None:
        items.append(loading)
    return items


def _prefill(progress: dict[str, Any] | None) -> Loading | None:
    """Return how far the prompt is read, when that takes long enough to be seen."""
    if progress is None or progress["total"] - progress["cache"] < SHOWN_PREFILL:
        return None
    done, total = progress["processed"], progress["total"]
    return Loading(f"reading the prompt, {done} of {total} tokens", done, total)


def _usage(counts: Mapping[str, Any]) -> Usage:
    cached = int((counts.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    prompt = int(counts.get("prompt_tokens") or 0)
    return Usage(prompt - cached, int(counts.get("completion_tokens") or 0), cached)
