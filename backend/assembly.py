"""An answer's parts, put together from its pieces: where thinking was signed and tools were asked for. Pure.

Text and thinking are kept by whoever uses this; noted here is only what breaks them, so that plain text costs nothing.
"""

from __future__ import annotations

from backend.schema.content import Part, ReasoningPart, TextPart, ToolCall, ToolResult
from backend.schema.frames import StreamSignature, StreamToolCall, StreamToolResult


class _Call:
    """A call that grows."""

    def __init__(self) -> None:
        self.id = self.name = ""
        self._arguments: list[str] = []

    def add(self, piece: StreamToolCall) -> None:
        self.id, self.name = self.id or piece.id, self.name or piece.name
        self._arguments.append(piece.arguments)

    def done(self) -> ToolCall:
        return ToolCall(self.id, self.name, "".join(self._arguments) or "{}")


class PartsBuilder:
    """Takes signatures and calls as they come, each with how much text and thinking came before."""

    def __init__(self) -> None:
        self._marks: list[tuple[int, ReasoningPart | ToolResult | _Call]] = []
        self._calls: dict[int, _Call] = {}
        self._thought = 0

    def __bool__(self) -> bool:
        return bool(self._marks)

    def sign(self, piece: StreamSignature, text_chars: int, reasoning: str) -> None:
        """Take the signature of the thinking that came since the one before."""
        text, self._thought = reasoning[self._thought :], len(reasoning)
        self._marks.append(
            (text_chars, ReasoningPart(text, piece.id, piece.signature, redacted=piece.redacted))
        )

    def call(self, piece: StreamToolCall, text_chars: int) -> None:
        """Take the beginning of a call, or more of its arguments."""
        if (call := self._calls.get(piece.index)) is None:
            call = self._calls[piece.index] = _Call()
            self._marks.append((text_chars, call))
        call.add(piece)

    def result(self, piece: StreamToolResult, text_chars: int) -> None:
        """Take what came of a call."""
        call = self._calls.get(piece.index)
        name = call.name if call else ""
        call_id = (call.id if call else "") or f"call_{piece.index}"
        result = ToolResult(
            call_id, piece.content, name, piece.is_error, took_ms=piece.took_ms, size=piece.size
        )
        self._marks.append((text_chars, result))

    def calls(self) -> list[ToolCall]:
        """Return the calls so far, in the order they began."""
        return [call.done() for call in self._calls.values()]

    def parts(self, text: str, reasoning: str, origin: str) -> list[Part]:
        """Return the answer's parts in the order they came, none for plain text; `origin` is `provider:model`."""
        if not self._marks:
            return []
        parts: list[Part] = []
        if rest := reasoning[self._thought :]:
            parts.append(ReasoningPart(rest, origin=origin))
        start = 0
        for end, mark in self._marks:
            if text[start:end]:
                parts.append(TextPart(text[start:end]))
            start = max(start, end)
            if isinstance(mark, ReasoningPart):
                mark.origin = origin
                parts.append(mark)
            elif isinstance(mark, ToolResult):
                parts.append(mark)
            else:
                parts.append(mark.done())
        if text[start:]:
            parts.append(TextPart(text[start:]))
        return parts
