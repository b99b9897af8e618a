"""A model that does what the prompt says, for tests and demonstrations. It says "scripted" wherever a model is named.

Words in the prompt, anywhere, in double brackets; what is left is echoed as `You said: …`:

    [[say TEXT]]        answer TEXT (`\\n`, `\\x1b` and the like are read as escapes)
    [[repeat N]]        answer N numbered tokens
    [[rate N]]          N pieces a second (default: as fast as they are taken)
    [[first S]]         wait S seconds before the first piece
    [[pieces N]]        pieces of N characters (default: words)
    [[think TEXT]]      reasoning before the answer
    [[queue N]]         be N-th in a queue first
    [[stall S]]         after the third piece, be silent for S seconds
    [[crash N]]         the worker process ends with exit code N after the third piece
    [[kill]]            the worker process kills itself with SIGKILL after the third piece
    [[fail CODE]]       fail with an error code before any piece; [[cut CODE]] after the third piece
    [[length]]          finish because of the length
    [[empty]]           answer nothing
    [[system]]          answer with the system prompt; [[messages]] with all messages as JSON
    [[hostile]]         answer with text that attacks terminals and markup

With `TEKTON_SCRIPTED_COUNT=FILE` each call appends a line to FILE, so that calls can be counted.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping

import msgspec

from backend.config import Settings
from backend.home import Home
from backend.providers.base import (
    Completed,
    CompletionRequest,
    ContextOverflow,
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
from backend.schema.frames import Usage

WINDOW = 8192
COUNT_FILE = "TEKTON_SCRIPTED_COUNT"
HOSTILE = (
    "before \x1b]52;c;aGVsbG8=\x07 \x1b[2J\x1b[31mred \x9b31m \x90q\x9c [@click=app.quit]x[/] [/] [b]bold "
    "\u202egnp.exe \u2066iso\u2069 \x00\x08\x7f [link=file:///etc/passwd]y[/link] after"
)
ERRORS: dict[str, type[ProviderError]] = {
    "provider_unavailable": ProviderUnavailable,
    "provider_auth": ProviderAuth,
    "provider_rate_limited": ProviderRateLimited,
    "model_not_found": ModelNotFound,
    "context_overflow": ContextOverflow,
    "internal": ProviderFault,
}
_WORD = re.compile(r"\[\[(\w+)(?: ((?:(?!\]\]).)*))?\]\]", re.DOTALL)
_PIECE = re.compile(r"\s*\S+\s*")
FAULT_AFTER = 3
"""Pieces that come before a fault in the middle."""


class ScriptedProvider:
    """See the module's text for what it obeys."""

    kind = "scripted"

    def __init__(self, settings: Settings, home: Home, environment: Mapping[str, str]) -> None:
        self._count_file = environment.get(COUNT_FILE, "")

    async def prepare(self) -> None:
        return

    async def stream(self, request: CompletionRequest) -> AsyncIterator[StreamItem]:
        self._count()
        prompt = next((m.content for m in reversed(request.messages) if m.role == "user"), "")
        script = {name: value or "" for name, value in _WORD.findall(prompt)}
        if "queue" in script:
            yield Queued(int(script["queue"]))
        await asyncio.sleep(float(script.get("first", 0)))
        if "fail" in script:
            raise _error(script["fail"])
        if "think" in script:
            yield Reasoning(script["think"])
        answer = _answer(script, prompt, request)
        sent = 0
        pieces = _pieces(answer, int(script.get("pieces", 0)))
        limit = request.max_tokens or len(pieces)
        for piece in pieces[:limit]:
            yield Text(piece)
            sent += 1
            if sent == FAULT_AFTER:
                await _fault(script)
            if "rate" in script:
                await asyncio.sleep(1 / float(script["rate"]))
            elif sent % 64 == 0:
                await asyncio.sleep(0)
        inputs = sum(len(message.content.split()) for message in request.messages) + len(
            request.system.split()
        )
        finish = "length" if "length" in script or sent < len(pieces) else "stop"
        yield Completed(finish, Usage(inputs, sent))

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


def _answer(script: Mapping[str, str], prompt: str, request: CompletionRequest) -> str:
    if "empty" in script:
        return ""
    if "hostile" in script:
        return HOSTILE
    if "repeat" in script:
        return " ".join(f"token{number}" for number in range(int(script["repeat"])))
    if "system" in script:
        return request.system
    if "messages" in script:
        return msgspec.json.encode(request.messages).decode()
    if "say" in script:
        return script["say"].encode("latin-1", "backslashreplace").decode("unicode_escape")
    return f"You said: {_WORD.sub('', prompt).strip()}"


def _pieces(answer: str, size: int) -> list[str]:
    if size:
        return [answer[start : start + size] for start in range(0, len(answer), size)]
    return _PIECE.findall(answer) or ([answer] if answer else [])


async def _fault(script: Mapping[str, str]) -> None:
    """Do what the script wants in the middle of an answer."""
    if "stall" in script:
        await asyncio.sleep(float(script["stall"]))
    if "crash" in script:
        os._exit(int(script["crash"] or 3))
    if "kill" in script:
        os.kill(os.getpid(), signal.SIGKILL)
    if "cut" in script:
        raise _error(script["cut"])


def _error(code: str) -> ProviderError:
    kind = ERRORS.get(code or "internal", ProviderFault)
    detail: dict[str, object] = {"retry_after_s": 12} if kind is ProviderRateLimited else {}
    return kind(f"scripted failure: {code}", evidence="the upstream's own words", detail=detail)
