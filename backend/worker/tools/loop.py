"""The tool calls in one turn: put to the platform, run at their servers, and given back to the model.

Nothing runs without the platform's word. A call that is refused, fails or is too long comes back as a result that says
so: the model goes on with that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from backend.schema.content import ToolCall, ToolResult, shortened
from backend.schema.frames import Phase, Request, StreamToolResult, StreamToolUse, Usage

if TYPE_CHECKING:
    from backend.worker.tools.questions import Question
    from backend.worker.tools.toolbox import Tool, Toolbox

MAX_CALLS = 8
"""Calls of one answer that are run; further ones get a result that refuses them."""
SILENT_S = 0.1
"""How long the platform may take before the turn shows that it waits for a person."""

SetPhase = Callable[[Phase, int, str], None]

QUESTIONS = 1_000_000
"""From where the questions of running tools are numbered, beyond any call."""
QUESTION = "question"
"""Under which name a server's questions stand in rules and records."""


class _FrameSink(Protocol):
    def send(self, frame: Struct) -> None: ...


class ToolLoop:
    """Runs the calls of one turn. `phase` shows what goes on: `waiting` for a person, or a `tool` at work."""

    def __init__(
        self, toolbox: Toolbox, ai_id: str, request_id: str, frames: _FrameSink, phase: SetPhase
    ) -> None:
        self._toolbox, self._ai_id, self._request_id = toolbox, ai_id, request_id
        self._frames, self._phase = frames, phase
        self._verdicts: dict[int, asyncio.Future[Request]] = {}
        self._questions = count(QUESTIONS)
        self.rounds = 0

    @property
    def over(self) -> bool:
        """Whether the model has had all the rounds it may have."""
        return self.rounds >= self._toolbox.max_rounds

    def decided(self, verdict: Request) -> None:
        """Apply the platform's verdict on a call; one that came twice, or for no call, is ignored."""
        waiting = self._verdicts.get(verdict.index)
        if waiting is not None and not waiting.done():
            waiting.set_result(verdict)

    async def run(self, calls: Sequence[tuple[int, ToolCall]], used: Usage) -> list[ToolResult]:
        """Run the calls of one answer in their order, each once it is allowed; return a result for each.

        `used` is what the turn took up to now.

        All of them are put to the platform at once, so that a person sees them together. Cancelling this cancels the
        tool that runs.
        """
        self.rounds += 1
        tools = [self._toolbox.find(call.name) for _, call in calls]
        # Each future is there before its frame leaves: a verdict must find it, however soon it comes.
        for (index, call), tool in zip(calls[:MAX_CALLS], tools, strict=False):
            if tool is not None:
                self._verdicts[index] = asyncio.get_running_loop().create_future()
                self._frames.send(
                    StreamToolUse(
                        self._request_id,
                        self._ai_id,
                        index,
                        tool.name,
                        call.arguments,
                        tool.read_only,
                        used=used,
                    )
                )
        results = [
            await self._result(place, index, call, tool)
            for place, ((index, call), tool) in enumerate(zip(calls, tools, strict=True))
        ]
        for (_, call), result in zip(calls, results, strict=True):
            result.call_id, result.name = call.id, call.name
        return results

    async def _result(self, place: int, index: int, call: ToolCall, tool: Tool | None) -> ToolResult:
        began = time.monotonic()
        if tool is None:
            result = ToolResult("", f"there is no tool {call.name!r}", is_error=True)
        elif place >= MAX_CALLS:
            result = ToolResult("", f"at most {MAX_CALLS} calls at a time: call it again", is_error=True)
        else:
            verdict = await self._verdict(index, tool.name)
            began = time.monotonic()
            if not verdict.allow:
                result = ToolResult("", f"denied: {verdict.content}", is_error=True)
            elif verdict.result is not None:
                result = verdict.result
            else:
                self._phase("tool", 0, tool.name)
                result = await self._toolbox.run(
                    tool,
                    call.arguments,
                    lambda text: self._phase("tool", 0, f"{tool.name} {text}"),
                    lambda question: self._put(tool.name, question),
                )
        size = len(result.content.encode())
        result.content = shortened(result.content, self._toolbox.max_result_bytes)
        took_ms = (time.monotonic() - began) * 1000
        name = tool.name if tool else call.name
        self._frames.send(
            StreamToolResult(self._request_id, index, name, result.content, result.is_error, size, took_ms)
        )
        return result

    async def _put(self, name: str, question: Question) -> Request:
        """Put what a running tool asks to a person, and return the answer."""
        index, server = next(self._questions), name.partition(":")[0]
        asked = f"{server}:{QUESTION}"
        self._verdicts[index] = asyncio.get_running_loop().create_future()
        self._frames.send(
            StreamToolUse(
                self._request_id,
                self._ai_id,
                index,
                asked,
                question.arguments,
                options=question.options,
                form=question.form,
            )
        )
        try:
            return await self._verdict(index, asked)
        finally:
            self._phase("tool", 0, name)

    async def _verdict(self, index: int, name: str) -> Request:
        waiting = self._verdicts[index]
        done, _ = await asyncio.wait([waiting], timeout=SILENT_S)
        # Shown only after a moment: a verdict by rule comes at once, and the phase would flicker.
        if not done:
            self._phase("waiting", 0, name)
        try:
            return await waiting
        finally:
            del self._verdicts[index]
