"""The embedded model: the platform's own server asked over loopback, a slot pinned to each specialist.

Where the server is stands in the home's `run/embedded.json`: it may be another one tomorrow. Starts nothing.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from backend.home import Home
from backend.providers import base
from backend.providers.chat_messages import chat_messages, chat_options
from backend.providers.choice import display_name
from backend.providers.embedded import platform_answers, small_model
from backend.providers.embedded.connection import AGAIN, UPSTREAM, FactsFile, ServerFacts, ServerLink
from backend.providers.embedded.settings import EmbeddedSettings
from backend.providers.embedded.weights import MODEL_NAME, PROGRESS, find, model_name
from backend.providers.streams import ServerSentEvents, StreamReader, read
from backend.providers.streams.openai import take
from backend.schema.content import Abilities
from backend.schema.frames import Usage

START_WAIT_S = 45.0
"""How long a turn waits for a server that is being started."""
LOOK_EVERY_S = 0.05
QUEUE_LOOK_S = 0.4
"""After so long without a beginning the turn is queued: a free slot begins within milliseconds."""
ASK_TIMEOUT_S = 2.0
PREWARM_TIMEOUT_S = 120.0
"""Nineteen personas on two slow cores."""
END_GRACE_S = 3.0
CHAT = "/v1/chat/completions"
STAND_IN = "a small stand-in that runs anywhere; connect Ollama or Anthropic for real work"
_DEFERRED = re.compile(rb"^llamacpp:requests_deferred (\d+)", re.MULTILINE)

ABILITIES = Abilities(False, False, False, False, schema=True)
"""The server takes tools and drops them without a word, so they are refused."""


class EmbeddedProvider:
    """See `Provider`."""

    kind = "embedded"

    def __init__(self, own: EmbeddedSettings, home: Home) -> None:
        self._own, self._home = own, home
        self._file = FactsFile(home.embedded_facts, home.embedded_ending)
        self._link: ServerLink | None = None

    async def prepare(self) -> None:
        await asyncio.to_thread(find, self._own, self._home)
        self._link = await asyncio.to_thread(ServerLink, self._own.timeouts.connect)

    async def prewarm(self, system: str, slot: int) -> None:
        """Let the server read a persona into its slot, so that the first question starts behind it.

        Raises:
            ProviderError: The server is not there or refused.
        """
        link, facts = self._ready(), await self._wait_for_server(START_WAIT_S)
        body = self._body(base.CompletionRequest(system, [], facts.model, max_tokens=1, slot=slot), facts)
        body = {name: value for name, value in body.items() if not name.startswith(("stream", "return"))}
        await link.ask(facts, CHAT, body, timeout_s=PREWARM_TIMEOUT_S)

    async def stream(self, request: base.CompletionRequest) -> AsyncIterator[base.StreamItem]:
        link = self._ready()
        if model_name(self._own) == MODEL_NAME and (counted := small_model.counted_answer(request.messages)):
            yield base.Text(counted)
            yield base.Completed("stop", Usage(), [platform_answers.NOTE])
            return
        if self._file.read() is None and not self._file.gone():
            yield base.Loading("the embedded model server is starting")
        facts = await self._wait_for_server(START_WAIT_S)
        reader = StreamReader(UPSTREAM, take, ServerSentEvents())
        body, queued = self._body(request, facts), 0
        async with aclosing(link.chunks(facts, CHAT, body, look_every_s=QUEUE_LOOK_S)) as chunks:
            while (first := await anext(chunks, b"")) is None:
                position = await self._position(facts)
                if not queued or position < queued:  # who came after does not push anybody back
                    queued = position
                    yield base.Queued(queued, "the embedded model server is busy")
            async with aclosing(read(_joined(first, chunks), reader)) as items:
                async for item in items:
                    if isinstance(item, base.Completed):
                        item.notes += self._notes(request, facts)
                    yield item

    async def health(self, model: str) -> base.ProviderHealth:
        facts = self._file.read()
        if facts is None:
            return base.ProviderHealth(False, self._file.gone() or "the embedded model server does not run")
        try:
            await self._ready().ask(facts, "/health", timeout_s=ASK_TIMEOUT_S)
        except base.ProviderError as error:
            return base.ProviderHealth(False, error.message)
        if model not in ("", "embedded", facts.model):
            text = f"the embedded model server has {facts.model}, not {model!r}: providers.embedded.gguf names another"
            return base.ProviderHealth(False, text, model_missing=True)
        return base.ProviderHealth(True, f"{facts.model}, {facts.slots} slots of {facts.context:,} tokens")

    async def models(self) -> list[base.ModelInfo]:
        path = await asyncio.to_thread(find, self._own, self._home)
        name = path.name.removesuffix(".gguf")
        return [
            base.ModelInfo(
                name,
                display_name(self.kind, name),
                size=path.stat().st_size,
                context_window=self._own.context,
                abilities=ABILITIES,
                detail=STAND_IN if name == MODEL_NAME else "named in config.toml",
            )
        ]

    async def context_window(self, model: str) -> int:
        facts = self._file.read()
        window = facts.context if facts else self._own.context
        return window - small_model.EXCHANGE_TOKENS if model == MODEL_NAME else window

    async def abilities(self, model: str) -> Abilities:
        return ABILITIES

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
        except (base.ProviderError, msgspec.DecodeError, KeyError, TypeError):
            return None

    async def pull(self, model: str) -> AsyncIterator[base.Loading]:
        """Fetch the shipped weights, in a process of its own that ends with the iterator; yields its progress.

        Raises:
            ModelNotFound: Another model is asked for, or it could not be fetched; the message says why.
        """
        if self._own.gguf or model not in ("", "embedded", MODEL_NAME):
            raise base.ModelNotFound(
                f"the embedded provider fetches {MODEL_NAME} and no other: for another one set providers.embedded.gguf"
            )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "backend.providers.embedded.weights", "fetch"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "TEKTON_HOME": str(self._home.root)},
            start_new_session=True,
        )
        said: list[str] = []
        try:
            assert process.stderr is not None
            async for line in process.stderr:
                words = line.decode(errors="replace").strip()
                if words.startswith(PROGRESS):
                    yield base.Loading(" ".join(words.removeprefix(PROGRESS).strip("█░ ").split()))
                else:
                    said.append(words)
            code = await process.wait()
        finally:
            if process.returncode is None:
                await _end(process)
        if code:
            raise base.ModelNotFound(
                said[0].removeprefix("tekton: ") if said else f"fetching the weights ended with {code}",
                evidence="\n".join(said[1:]),
            )

    async def aclose(self) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            await link.aclose()

    def _ready(self) -> ServerLink:
        if self._link is None:
            raise base.ProviderUnavailable("the provider was not prepared")
        return self._link

    async def _wait_for_server(self, seconds: float) -> ServerFacts:
        deadline = time.monotonic() + seconds
        while (facts := self._file.read()) is None:
            if gone := self._file.gone():
                raise base.ProviderUnavailable(gone)
            if time.monotonic() > deadline:
                raise base.ProviderUnavailable(
                    f"the embedded model server does not run: none began to serve within {seconds:g} s; {AGAIN}"
                )
            await asyncio.sleep(LOOK_EVERY_S)
        return facts

    async def _position(self, facts: ServerFacts) -> int:
        """Return the place in the server's queue, at most: how many requests have no slot yet, this one among them."""
        try:
            text = await self._ready().ask(facts, "/metrics", timeout_s=ASK_TIMEOUT_S)
        except base.ProviderError:
            return 1  # only a courtesy: the request itself will say what is wrong
        found = _DEFERRED.search(text)
        return max(1, int(found[1])) if found else 1

    def _temperature(self, request: base.CompletionRequest, facts: ServerFacts) -> float:
        wanted = self._own.temperature if request.temperature is None else request.temperature
        return min(wanted, small_model.TEMPERATURE) if facts.model == MODEL_NAME else wanted

    def _notes(self, request: base.CompletionRequest, facts: ServerFacts) -> list[str]:
        used, wished = self._temperature(request, facts), request.wished_temperature
        if request.temperature is None and self._own.temperature != EmbeddedSettings().temperature:
            wished = self._own.temperature
        if wished is None or wished <= used:
            return []
        return [f"temperature {used:g} was used instead of {wished:g}: this model loses its thread above"]

    def _body(self, request: base.CompletionRequest, facts: ServerFacts) -> dict[str, Any]:
        small = facts.model == MODEL_NAME
        talk = request.messages
        if small:
            shown = small_model.exchange(request.system)
            if shown and len(talk) == 1:
                shown += small_model.tasks(talk[0].content)
            talk = [*shown, *small_model.with_facts(talk)]
        messages = [{"role": "system", "content": request.system}] if request.system else []
        messages += chat_messages(talk)
        wanted = chat_options(request.options)
        if small and (held := wanted.get("response_format")) and "json_schema" in held:
            held["json_schema"]["schema"] = small_model.bounded(held["json_schema"]["schema"])
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
            **wanted,
        }


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process that fetches, which takes away what it has begun, with its own child."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_GRACE_S):
                await process.wait()
                return


async def _joined(first: bytes, rest: AsyncIterator[bytes | None]) -> AsyncIterator[bytes]:
    yield first
    async for part in rest:
        yield part or b""
