"""A small provider for tests of the socket: what it does is written in the prompt.

slow        a piece every 10 ms           hang     two pieces, then nothing for ever
mute        nothing ever comes            fail     one piece, then a fault
flood N     N pieces without waiting      think    reasoning first
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from backend.config import Providers, Settings, Timeouts
from backend.providers.base import (
    Completed,
    CompletionRequest,
    ModelInfo,
    ProviderFault,
    ProviderHealth,
    ProviderUnavailable,
    Reasoning,
    StreamItem,
    Text,
)
from backend.schema.frames import Usage
from backend.worker.spec import WorkerSpec


class TinyProvider:
    """Counts its calls and the streams it closed."""

    kind = "tiny"

    def __init__(self) -> None:
        self.calls: list[CompletionRequest] = []
        self.closed = 0
        self.prepared = asyncio.Event()
        self.prepared.set()
        self.broken = ""
        self.was_closed = False

    async def prepare(self) -> None:
        await self.prepared.wait()
        if self.broken:
            raise ProviderUnavailable(self.broken)

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        self.calls.append(request)
        prompt = request.messages[-1].content
        pieces = int(prompt.split()[1]) if prompt.startswith("flood") else 3
        try:
            if prompt.startswith("mute"):
                await asyncio.Event().wait()
            if prompt.startswith("think"):
                yield Reasoning("hm ")
            for number in range(pieces):
                if prompt.startswith("slow"):
                    await asyncio.sleep(0.01)
                yield Text(f"w{number} ")
                if prompt.startswith("fail"):
                    raise ProviderFault("the stream was cut", evidence="upstream said no")
                if prompt.startswith("hang") and number == 1:
                    await asyncio.Event().wait()
            yield Completed("stop", Usage(input_tokens=7, output_tokens=pieces))
        finally:
            self.closed += 1

    async def health(self, model: str) -> ProviderHealth:
        return ProviderHealth(not self.broken, self.broken)

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo("tiny-1")]

    async def context_window(self, model: str) -> int:
        return 4096

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        return [len(text.split()) for text in texts]

    async def aclose(self) -> None:
        self.was_closed = True


def spec_with(**changes: Any) -> WorkerSpec:
    timeouts = changes.pop("timeouts", Timeouts())
    places = changes.pop("places", 64)
    own: dict[str, object] = {"timeouts": msgspec.to_builtins(timeouts), "max_concurrency": places}
    settings = Settings(providers=Providers(tables={"scripted": own}))
    spec = WorkerSpec(
        ai_id="apollo-ai",
        component="apollo",
        title="Executive Coordinator",
        persona="You are Apollo.",
        provider="scripted",
        model="tiny-1",
        home="/nonexistent",
        token="worker-secret",
        capabilities=["planning"],
        settings=msgspec.Raw(msgspec.json.encode(settings)),
    )
    return msgspec.structs.replace(spec, **changes)
