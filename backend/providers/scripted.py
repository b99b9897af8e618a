"""A model that does what the prompt says, for tests and demonstrations. It says "scripted" wherever a model is named.

Words in the prompt, anywhere, in double brackets; what is left is echoed as `You said: …`:

    [[say TEXT]]        answer TEXT (`\\n`, `\\x1b` and the like are read as escapes)
    [[repeat N]]        answer N numbered tokens
    [[rate N]]          N pieces a second (default: as fast as they are taken)
    [[first S]]         wait S seconds before the first piece
    [[pieces N]]        pieces of N characters (default: words)
    [[think TEXT]]      reasoning before the answer
    [[queue N]]         be N-th in a queue first; [[load TEXT]] say that something loads
    [[stall S]]         after the third piece, be silent for S seconds
    [[crash N]]         the worker process ends with exit code N after the third piece
    [[kill]]            the worker process kills itself with SIGKILL after the third piece
    [[fail CODE]]       fail with an error code before any piece; [[cut CODE]] after the third piece
    [[after N]]         the four above happen after piece N instead of the third
    [[length]]          finish because of the length
    [[empty]]           answer nothing
    [[system]]          answer with the system prompt; [[messages]] with all messages as JSON
    [[clock]]           each piece is the host's monotonic clock in nanoseconds as the piece leaves
    [[hostile]]         answer with text that attacks terminals and markup

`providers.scripted.script` names a TOML file of rules, the first that fits a prompt is taken; words in the prompt win:

    [[answer]]
    when = "deploy"     # found in the prompt
    who = "apollo"      # found in the persona
    say = "On Friday."  # and any of the words above
    rate = 20

With `TEKTON_SCRIPTED_COUNT=FILE` each call appends a line to FILE, so that calls can be counted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

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
    ProviderError,
    ProviderFault,
    ProviderHealth,
    ProviderRateLimited,
    ProviderUnavailable,
    Queued,
    Reasoning,
    StreamItem,
    Text,
)
from backend.providers.script import Rule, Script, answer_of, pieces_of, read_rules, script_for
from backend.schema.frames import Usage

WINDOW = 8192
COUNT_FILE = "TEKTON_SCRIPTED_COUNT"
ERRORS: dict[str, type[ProviderError]] = {
    "provider_unavailable": ProviderUnavailable,
    "provider_auth": ProviderAuth,
    "provider_rate_limited": ProviderRateLimited,
    "model_not_found": ModelNotFound,
    "context_overflow": ContextOverflow,
    "internal": ProviderFault,
}
BREATH = 64
"""Pieces in a row after which others get the loop."""


class ScriptedProvider:
    """See the module's text for what it obeys."""

    kind = "scripted"

    def __init__(self, settings: Settings, home: Home, environment: Mapping[str, str]) -> None:
        self._count_file = environment.get(COUNT_FILE, "")
        script = settings.providers.scripted.script
        self._path = home.root / Path(script).expanduser() if script else None
        self._rules: list[Rule] = []

    async def prepare(self) -> None:
        if self._path is not None:
            self._rules = read_rules(self._path)

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        self._count()
        prompt = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        script = script_for(prompt, request.system, self._rules)
        if script.queue:
            yield Queued(script.queue)
        if script.load:
            yield Loading(script.load)
        await asyncio.sleep(script.first)
        if script.fail:
            raise _error(script.fail)
        if script.think:
            yield Reasoning(script.think)
        pieces = pieces_of(answer_of(script, prompt, request.system, [*request.messages]), script.pieces)
        shown = pieces[: request.max_tokens or len(pieces)]
        for sent, piece in enumerate(shown, 1):
            yield Text(f"{time.monotonic_ns()} " if script.clock else piece)
            if sent == script.after:
                await _fault(script)
            if script.rate:
                await asyncio.sleep(1 / script.rate)
            elif sent % BREATH == 0:
                await asyncio.sleep(0)
        inputs = sum(len(m.content.split()) for m in request.messages) + len(request.system.split())
        cut = script.length or len(shown) < len(pieces)
        yield Completed("length" if cut else "stop", Usage(inputs, len(shown)))

    async def health(self, model: str) -> ProviderHealth:
        return ProviderHealth(True, "scripted: answers by its script, not by a model")

    async def models(self) -> list[ModelInfo]:
        return [
            ModelInfo("scripted", "scripted", context_window=WINDOW, detail="for tests and demonstrations")
        ]

    async def context_window(self, model: str) -> int:
        return WINDOW

    async def count_tokens(self, texts: list[str], model: str) -> list[int] | None:
        return [len(text.split()) for text in texts]

    async def aclose(self) -> None:
        return

    def _count(self) -> None:
        if self._count_file:
            with open(self._count_file, "a", encoding="ascii") as file:
                file.write("call\n")


async def _fault(script: Script) -> None:
    """Do what the script wants in the middle of an answer."""
    await asyncio.sleep(script.stall)
    if script.crash is not None:
        os._exit(script.crash)
    if script.kill:
        os.kill(os.getpid(), signal.SIGKILL)
    if script.cut:
        raise _error(script.cut)


def _error(code: str) -> ProviderError:
    kind = ERRORS.get(code, ProviderFault)
    detail: dict[str, object] = {"retry_after_s": 12} if kind is ProviderRateLimited else {}
    return kind(f"scripted failure: {code}", evidence="the upstream's own words", detail=detail)
