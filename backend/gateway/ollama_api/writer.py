"""A chat or a generation as it is answered in Ollama's words: a JSON document a line. Pure.

Tool calls come whole, behind the text.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.responses import Response

from backend.gateway.completions.answer import Answered, Collector, Finish, Piece
from backend.gateway.completions.serve import Head, token_value
from backend.gateway.responses import reply_with
from backend.gateway.sse import MARK, data_of
from backend.providers.chat_messages import arguments_object
from backend.schema.content import TokenLogprob, ToolCall
from backend.schema.errors import TektonError
from backend.wire import encode_line

NDJSON = "application/x-ndjson"
NANOSECONDS = 1_000_000_000


def error_reply(error: TektonError) -> Response:
    """Answer with an error in the dialect's shape."""
    return reply_with(error, {"error": error.message})


class ChatWriter:
    """See `Writer`. `media` has no comments: a client that waits gets nothing to keep it waiting."""

    media, alive = NDJSON, None

    def __init__(self, head: Head) -> None:
        self._head = head
        self._began = time.monotonic()
        self._calls = Collector()
        self._likely: list[TokenLogprob] = []
        self._around = encode_line(self._said(MARK, "", []) | {"done": False}).split(data_of(MARK))

    def whole(self, answers: list[Answered]) -> dict[str, Any]:
        [answered] = answers
        self._likely = answered.logprobs
        return self._said(answered.text, answered.reasoning, _calls(answered)) | self._done(answered.finish)

    def begin(self) -> bytes:
        return b""

    def piece(self, piece: Piece) -> bytes:
        if piece.call is not None:
            self._calls.add(piece)
        self._likely += piece.logprobs or ()
        if piece.text and not piece.reasoning and not self._likely:
            return data_of(piece.text).join(self._around)
        # calls come whole at the end: the dialect has no pieces of arguments
        if not piece.reasoning and not piece.text:
            return b""
        return encode_line(self._said(piece.text, piece.reasoning, []) | {"done": False})

    def end(self, finish: Finish) -> bytes:
        calls = _calls(self._calls.done(finish))
        return encode_line(self._said("", "", calls) | {"done": False}) if calls else b""

    def close(self, finishes: list[Finish]) -> bytes:
        return encode_line(self._said("", "", []) | self._done(finishes[-1]))

    def failed(self, error: TektonError) -> bytes:
        return encode_line({"error": error.message})

    def _said(self, text: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        return {**self._base(), "message": message}

    def _base(self) -> dict[str, Any]:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._head.created))
        likely, self._likely = self._likely, []
        logprobs = {"logprobs": [token_value(token) for token in likely]} if likely else {}
        return {"model": self._head.model, "created_at": moment, **logprobs}

    def _done(self, finish: Finish) -> dict[str, Any]:
        took = int((time.monotonic() - self._began) * NANOSECONDS)
        usage = finish.usage
        return {
            "done": True,
            # the dialect has no other word for an answer that is not complete
            "done_reason": "length" if finish.reason in ("length", "other") else "stop",
            "total_duration": took,
            "load_duration": 0,
            "prompt_eval_count": usage.input_tokens + usage.cached_tokens,
            "prompt_eval_duration": 0,
            "eval_count": usage.output_tokens,
            "eval_duration": took,
            **self._head.warnings(finish),
        }


class GenerateWriter(ChatWriter):
    """The older protocol: text stands in `response`."""

    def _said(self, text: str, thinking: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._base(), "response": text, **({"thinking": thinking} if thinking else {})}


def _calls(answered: Answered) -> list[dict[str, Any]]:
    calls = [part for part in answered.parts if isinstance(part, ToolCall)]
    return [{"function": {"name": call.name, "arguments": arguments_object(call)}} for call in calls]
