"""A provider of ours as it is used, with its vendor's library where it has one, and a loopback server that speaks the vendor's wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from msgspec import to_builtins

from backend.config import Providers, Settings, Timeouts
from backend.home import Home, write_private
from backend.providers import create
from backend.providers.base import CompletionRequest, Provider, StreamItem
from backend.schema.frames import ChatMessage, Usage
from tests.providers.dialects import Answer, Dialect
from tests.providers.upstreams import Call, Handler, Upstream

KEY = "sk-test-1234567890abcdef"
ENVIRONMENT = {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY, "OLLAMA_API_KEY": KEY}
MODELS = {"anthropic": "claude-sonnet-5-5", "scripted": "scripted"}
BOUND_S = 60.0
Stream = AsyncGenerator[StreamItem]


def settings_for(kind: str, url: str, timeouts: Timeouts | None = None) -> Settings:
    """Return settings that send a kind to `url`."""
    own: dict[str, dict[str, object]] = {
        "ollama": {"host": url, "model": "test-model"},
        "openai": {"base_url": f"{url}/v1", "model": "test-model"},
        "anthropic": {"base_url": url},
        "embedded": {},
        "scripted": {"script": "script.toml"},
    }
    waits = to_builtins(timeouts or Timeouts())
    return Settings(providers=Providers(kind, {kind: {**own[kind], "timeouts": waits}}))


def point_embedded(home: Home, url: str) -> None:
    """Write where the embedded server is, as its starter does."""
    facts = {
        "url": url,
        "api_key": KEY,
        "pid": 1,
        "process_start": 1.0,
        "model": "test-model",
        "slots": 4,
        "context": 2048,
    }
    write_private(home.embedded_facts, json.dumps(facts).encode())


def asking(text: str = "Hello", **more: Any) -> CompletionRequest:
    messages = [ChatMessage("user", "one"), ChatMessage("assistant", "two"), ChatMessage("user", text)]
    return CompletionRequest("You are Apollo.", messages, more.pop("model", ""), **more)


@dataclass
class Rig:
    """`play` decides what the next prompts are answered with. `hold_after` pieces the server waits for `go`."""

    kind: str
    home: Home
    answer: Answer = field(default_factory=Answer)
    hold_after: int | None = None
    singly: bool = False
    """Whether the server sends each byte as a chunk of its own."""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    provider: Provider = field(init=False)

    @property
    def model(self) -> str:
        return MODELS.get(self.kind, "test-model")

    def play(self, answer: Answer, *, hold_after: int | None = None, singly: bool = False) -> None:
        self.answer, self.hold_after, self.singly = answer, hold_after, singly

    def ask(self, **more: Any) -> Stream:
        return cast(Stream, self.provider.stream(asking(model=self.model, **more)))

    async def calls(self) -> int:
        """Return how many prompts reached the upstream."""
        raise NotImplementedError

    def usage(self, answer: Answer) -> Usage:
        """Return what the provider should count of an answer."""
        return Usage(answer.prompt - answer.cached, answer.tokens, answer.cached)


@dataclass
class ServerRig(Rig):
    """A rig with a server. `handler` replaces what it does with the chat call."""

    dialect: Dialect = field(kw_only=True)
    upstream: Upstream = field(init=False)
    handler: Handler | None = None
    others: dict[str, Handler] = field(default_factory=dict)
    """What to do with paths beside the chat, instead of answering them as the vendor does."""

    async def serve(self) -> str:
        """Start only the server; return its address."""
        self.upstream = await Upstream(self._handle).start()
        return self.upstream.url

    async def start(self, timeouts: Timeouts | None = None) -> None:
        await self.serve()
        if self.kind == "embedded":
            point_embedded(self.home, self.upstream.url)
        settings = settings_for(self.kind, self.upstream.url, timeouts)
        self.provider = create(self.kind, settings, self.home, ENVIRONMENT)
        await self.provider.prepare()

    async def stop(self) -> None:
        await self.provider.aclose()
        await self.upstream.stop()

    async def calls(self) -> int:
        return len(self.upstream.to(self.dialect.chat))

    async def called(self, after: int = 0) -> Call:
        """Return the chat call that came behind `after` others."""
        return await self.upstream.until_called(self.dialect.chat, after)

    def usage(self, answer: Answer) -> Usage:
        return Usage(answer.prompt, answer.tokens) if self.kind == "ollama" else super().usage(answer)

    async def say(self, call: Call) -> None:
        """Answer a chat call with what is played."""
        wire = self.dialect.wire(self.answer)
        if self.hold_after == 0:
            await self.go.wait()
        await call.begin(self.dialect.media)
        for number, part in enumerate(wire.parts):
            if self.hold_after and number == len(wire.before) + self.hold_after:
                await self.go.wait()
            await call.send(*([bytes([byte]) for byte in part] if self.singly else [part]))
        await call.end()

    async def _handle(self, call: Call) -> None:
        path = call.path.partition("?")[0]
        if path == self.dialect.chat:
            await (self.handler or self.say)(call)
            return
        if path in self.others:
            await self.others[path](call)
            return
        body = self.dialect.side(path)
        if body is None:
            await call.reply(404, self.dialect.refusal(404, f"no such path {path}"))
        else:
            await call.reply(200, body.encode() if isinstance(body, str) else body)


@dataclass
class ScriptedRig(Rig):
    """The provider without an upstream: what is played becomes the rules of its script."""

    async def start(self) -> None:
        self._count = self.home.root / "calls"
        self._write()
        environment = {"TEKTON_SCRIPTED_COUNT": str(self._count)}
        self.provider = create("scripted", settings_for("scripted", ""), self.home, environment)
        await self.provider.prepare()

    async def stop(self) -> None:
        await self.provider.aclose()

    def ask(self, **more: Any) -> Stream:
        self._write()
        return self._prepared(**more)

    async def calls(self) -> int:
        return len(self._count.read_text().splitlines()) if self._count.exists() else 0

    def usage(self, answer: Answer) -> Usage:
        return Usage(6, answer.tokens)

    async def _prepared(self, **more: Any) -> Stream:
        await self.provider.prepare()
        async for item in super().ask(**more):
            yield item

    def _write(self) -> None:
        text, held = "".join(self.answer.pieces).replace("\\", "\\\\"), self.hold_after
        lines = [
            "[[answer]]",
            f"say = {json.dumps(text)}",
            f"think = {json.dumps(''.join(self.answer.thinking))}",
        ]
        if not text:
            lines = ["[[answer]]", "empty = true"]
        if self.answer.finish == "length":
            lines.append("length = true")
        if held is not None:
            lines.append("first = 0.2" if held == 0 else f"after = {held}\nstall = 0.2")
        Path(self.home.root / "script.toml").write_text("\n".join(lines), encoding="utf-8")
