"""The tool calls in one answer: as they come by events, and as memory has them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct, field

from backend.schema.content import Part, TextPart, ToolCall, ToolResult
from tekton_tui.clock import gateway_time

CallState = Literal["calling", "asking", "running", "done", "failed", "denied", "passed", "ended"]
"""`calling`: its arguments come, or the platform decides; `asking`: a person has to; `passed`: left to the caller's
program; `ended`: its turn ended before it gave anything."""
DENIED = "denied: "
"""With what the result of a call begins that was not allowed."""
OPEN: tuple[CallState, ...] = ("calling", "asking", "running")


class LiveCall(Struct):
    """One call. `at` is how many characters of the answer stand before it, `since` when its state began."""

    index: int
    at: int
    name: str = ""
    state: CallState = "calling"
    since: float = field(default_factory=time.time)
    detail: str = ""
    """What it says of its progress."""
    result: str = ""
    size: int = 0
    """Bytes of the whole result, of which the model may have got a part."""
    took_s: float = 0.0
    call_id: str = ""
    """Its model's name for it."""
    ask_id: str = ""
    """Of the question to a person, while that waits."""
    pieces: list[str] = field(default_factory=list[str])
    """Of its arguments."""

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    @property
    def open(self) -> bool:
        """Whether something of it is still to come."""
        return self.state in OPEN

    def enter(self, state: CallState) -> None:
        """Go on to another state, whose clock begins now."""
        if state != self.state:
            self.state, self.since = state, gateway_time()

    def end(self, content: str, *, is_error: bool, size: int, took_ms: float) -> None:
        self.enter("denied" if is_error and content.startswith(DENIED) else "failed" if is_error else "done")
        self.result = content.removeprefix(DENIED) if self.state == "denied" else content
        self.size, self.took_s = size, took_ms / 1000

    def end_without(self, finish_reason: str) -> None:
        """Take that nothing comes of it any more."""
        if self.open:
            self.enter("passed" if finish_reason == "tool_calls" else "ended")


def shown_name(name: str) -> str:
    """Return a tool's name as people and rules write it (`files:read`) from the one its model knows (`files__read`)."""
    return name.replace("__", ":", 1)


def calls_of(parts: Iterable[Part], finish_reason: str | None = None) -> list[LiveCall]:
    """Return the calls in the parts of an answer, with what came of them; `finish_reason` is `None` while it runs."""
    calls: list[LiveCall] = []
    at = 0
    for part in parts:
        match part:
            case TextPart():
                at += len(part.text)
            case ToolCall():
                number = len(calls)
                call_id = part.id or f"call_{number}"
                calls.append(
                    LiveCall(number, at, shown_name(part.name), call_id=call_id, pieces=[part.arguments])
                )
            case ToolResult():
                call = next((one for one in calls if one.call_id == part.call_id and one.open), None)
                if call is None:
                    call = LiveCall(len(calls), at, shown_name(part.name))
                    calls.append(call)
                call.end(part.content, is_error=part.is_error, size=part.size, took_ms=part.took_ms)
            case _:
                pass
    if finish_reason is not None:
        for call in calls:
            call.end_without(finish_reason)
    return calls
