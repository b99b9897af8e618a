"""A message as it is answered, whole or streamed, and errors, in Anthropic's words. Pure.

The protocol has one open block at a time. Of calls that are written side by side the first streams, the others follow
whole behind it.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from backend.gateway.completions.answer import Answered, Finish, Piece
from backend.gateway.completions.serve import SSE, Head
from backend.gateway.responses import reply_with, status_of
from backend.gateway.sse import MARK, data_of, named_event
from backend.providers.chat_messages import arguments_object
from backend.schema.content import Part, ReasoningPart, TextPart, ToolCall
from backend.schema.errors import TektonError
from backend.schema.frames import FinishReason, StreamToolCall, Usage

STOP_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "refusal": "refusal",
    "content_filter": "refusal", "other": "max_tokens",
}  # fmt: skip
ERRORS = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
    429: "rate_limit_error", 500: "api_error", 503: "overloaded_error",
}  # fmt: skip


def error_reply(error: TektonError) -> Response:
    """Answer with an error in the protocol's shape."""
    return reply_with(error, error_value(error))


def error_value(error: TektonError) -> dict[str, Any]:
    status = status_of(error)
    # Anthropic has no kind for a dependency that failed
    kind = "api_error" if status == 424 else ERRORS.get(status, "invalid_request_error")
    kind = "rate_limit_error" if error.code == "provider_rate_limited" else kind
    text = error.message
    if error.code == "context_overflow":
        text = f"prompt is too long: {text}"  # by these words clients know that they should shorten it
    value: dict[str, Any] = {"type": kind, "message": text, "code": error.code}
    if "error_code" in error.detail:
        value["details"] = {"error_code": error.detail["error_code"]}
    return {"type": "error", "error": value, "request_id": None}


def usage_value(usage: Usage) -> dict[str, Any]:
    """Return token counts as Anthropic names them: what was read from or written to a cache stands apart."""
    return {
        "input_tokens": usage.input_tokens - usage.written_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.written_tokens,
    }


class MessageWriter:
    """See `Writer`."""

    media = SSE

    def __init__(self, head: Head) -> None:
        self._head = head
        self._index = -1
        self._open: str | int = ""
        """Kind of the open block, or the number of the call it holds."""
        self._later: dict[int, list[StreamToolCall]] = {}
        self._text_later: list[str] = []
        self._called = False
        self._around: list[bytes] = []

    @property
    def alive(self) -> bytes | None:
        # the protocol's own word for an answer that is slow: clients know it and wait on
        return _event("ping")

    def whole(self, answers: list[Answered]) -> dict[str, Any]:
        [answered] = answers
        return self._message(_content(answered), answered.finish)

    def begin(self) -> bytes:
        message = self._message([], None)
        return _event("message_start", message=message) + _event("ping")

    def piece(self, piece: Piece) -> bytes:
        if piece.text:
            # a block of text would close the block of the call that still streams
            if self._called:
                self._text_later.append(piece.text)
                return b""
            begin = self._block("text", {"type": "text", "text": ""}) if self._open != "text" else b""
            if begin:
                text = {"type": "text_delta", "text": MARK}
                self._around = self._delta(text).split(data_of(MARK))
            return begin + data_of(piece.text).join(self._around)
        if piece.reasoning:
            return self._thinking() + self._delta({"type": "thinking_delta", "thinking": piece.reasoning})
        if piece.signature is not None:
            if piece.signature.redacted:
                block = {"type": "redacted_thinking", "data": piece.signature.signature}
                return self._block("redacted", block) + self._close()
            signed = {"type": "signature_delta", "signature": piece.signature.signature}
            return self._thinking() + self._delta(signed) + self._close()
        return self._call(piece.call) if piece.call is not None else b""

    def end(self, finish: Finish) -> bytes:
        out = [self._close()]
        for pieces in self._later.values():
            first = pieces[0]
            out.append(self._block(first.index, _tool(first)))
            arguments = "".join(piece.arguments for piece in pieces)
            out += [self._delta({"type": "input_json_delta", "partial_json": arguments}), self._close()]
        if self._text_later:
            out.append(self._block("text", {"type": "text", "text": ""}))
            out += [self._delta({"type": "text_delta", "text": "".join(self._text_later)}), self._close()]
        return b"".join(out)

    def close(self, finishes: list[Finish]) -> bytes:
        [finish] = finishes
        delta = {"stop_reason": _reason(finish), "stop_sequence": finish.stop or None}
        changes = {"delta": delta, "usage": usage_value(finish.usage), **self._head.warnings(finish)}
        return _event("message_delta", **changes) + _event("message_stop")

    def failed(self, error: TektonError) -> bytes:
        return named_event("error", error_value(error))

    def _thinking(self) -> bytes:
        if self._open == "thinking":
            return b""
        return self._block("thinking", {"type": "thinking", "thinking": "", "signature": ""})

    def _call(self, call: StreamToolCall) -> bytes:
        if call.name and not self._called:
            self._called = True
            begin = self._block(call.index, _tool(call))
        elif self._open != call.index:
            self._later.setdefault(call.index, []).append(call)
            return b""
        else:
            begin = b""
        piece = {"type": "input_json_delta", "partial_json": call.arguments}
        return begin + (self._delta(piece) if call.arguments else b"")

    def _block(self, kind: str | int, block: dict[str, Any]) -> bytes:
        closed = self._close()
        self._index += 1
        self._open = kind
        return closed + _event("content_block_start", index=self._index, content_block=block)

    def _close(self) -> bytes:
        if self._open == "":
            return b""
        self._open = ""
        return _event("content_block_stop", index=self._index)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _message(self, content: list[dict[str, Any]], finish: Finish | None) -> dict[str, Any]:
        return {
            "id": f"msg_{self._head.name}",
            "type": "message",
            "role": "assistant",
            "model": self._head.model,
            "content": content,
            "stop_reason": _reason(finish) if finish else None,
            "stop_sequence": (finish.stop or None) if finish else None,
            # the first event of Anthropic's own streams counts one token of output, and clients expect a number
            "usage": usage_value(finish.usage if finish else Usage(0, 1)),
            **(self._head.warnings(finish) if finish else {}),
        }


def _event(name: str, **values: Any) -> bytes:
    return named_event(name, {"type": name, **values})


def _tool(call: StreamToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}


def _reason(finish: Finish) -> str:
    if finish.reason == "stop" and finish.stop:
        return "stop_sequence"
    return STOP_REASONS.get(finish.reason, "end_turn")


def _content(answered: Answered) -> list[dict[str, Any]]:
    return [block for part in answered.as_parts if (block := _block_of(part))]


def _block_of(part: Part) -> dict[str, Any] | None:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ReasoningPart(redacted=True):
            return {"type": "redacted_thinking", "data": part.signature}
        case ReasoningPart():
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_object(part)}
        case _:
            return None
