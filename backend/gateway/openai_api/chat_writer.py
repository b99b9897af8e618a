"""A chat completion as it is answered, whole or streamed, in OpenAI's words. Pure.

A chunk of text is put together from bytes that are encoded once an answer, around the text of each piece.
"""

from __future__ import annotations

from typing import Any

from backend.gateway.completions.answer import Answered, Finish, Piece
from backend.gateway.completions.serve import SSE, Head, token_value
from backend.gateway.responses import error_body
from backend.gateway.sse import COMMENT, MARK, data_of, frame
from backend.schema.content import TokenLogprob, ToolCall
from backend.schema.errors import TektonError
from backend.schema.frames import FinishReason, Usage, summed

# no JSON: by this line OpenAI's SDKs know that a stream is whole
DONE = b"data: [DONE]\n\n"
FINISH_REASONS: dict[FinishReason, str] = {"refusal": "content_filter", "other": "length"}
"""What the protocol has no word for, in the nearest it has; none of them says that the answer is complete."""


def usage_value(usage: Usage) -> dict[str, Any]:
    """Return token counts as OpenAI names them: the prompt includes what came from a cache."""
    prompt = usage.input_tokens + usage.cached_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": prompt + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


class ChatWriter:
    """See `Writer`."""

    media, alive = SSE, COMMENT

    def __init__(self, head: Head) -> None:
        self._head = head
        self._begun: set[int] = set()
        self._likely: dict[int, list[TokenLogprob]] = {}
        """Log probabilities whose text has not come yet, by choice."""
        self._text = self._chunk({"content": MARK}).split(data_of(MARK))
        self._thinking = self._chunk({"reasoning_content": MARK}).split(data_of(MARK))

    def whole(self, answers: list[Answered]) -> dict[str, Any]:
        asked, last = self._head.asked, answers[-1].finish
        return {
            "id": f"chatcmpl-{self._head.name}",
            "object": "chat.completion",
            "created": int(self._head.created),
            "model": asked.model,
            "choices": [_choice(number, answered) for number, answered in enumerate(answers)],
            "usage": usage_value(summed([answered.finish.usage for answered in answers])),
            "system_fingerprint": last.backing or None,
            **self._head.warnings(*[answered.finish for answered in answers]),
        }

    def begin(self) -> bytes:
        self._begun.add(0)
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, piece: Piece) -> bytes:
        if piece.logprobs:
            self._likely.setdefault(piece.choice, []).extend(piece.logprobs)
            return b""
        # the frame that was encoded beforehand is of the first choice and has no probabilities
        if piece.choice or self._likely:
            return self._of_choice(piece)
        if piece.text:
            return data_of(piece.text).join(self._text)
        if piece.reasoning:
            return data_of(piece.reasoning).join(self._thinking)
        return self._chunk(_call(piece)) if piece.call is not None else b""

    def end(self, finish: Finish) -> bytes:
        begin = b"" if finish.choice in self._begun else self._opening(finish.choice)
        row = self._row({}, finish.choice, FINISH_REASONS.get(finish.reason, finish.reason))
        return begin + frame(self._base([row]) | self._head.warnings(finish))

    def close(self, finishes: list[Finish]) -> bytes:
        # who did not ask for it may read `choices[0]` of every chunk
        if not self._head.asked.include_usage:
            return DONE
        value = self._base([]) | {"usage": usage_value(summed([finish.usage for finish in finishes]))}
        return frame(value) + DONE

    def failed(self, error: TektonError) -> bytes:
        """Return the failure; there is no `[DONE]` behind it."""
        return frame(error_body(error))

    def _of_choice(self, piece: Piece) -> bytes:
        begin = b"" if piece.choice in self._begun else self._opening(piece.choice)
        delta: dict[str, Any] = {}
        if piece.text:
            delta["content"] = piece.text
        if piece.reasoning:
            delta["reasoning_content"] = piece.reasoning
        if piece.call is not None:
            delta |= _call(piece)
        return begin + (self._chunk(delta, piece.choice) if delta else b"")

    def _opening(self, choice: int) -> bytes:
        self._begun.add(choice)
        return self._chunk({"role": "assistant", "content": ""}, choice)

    def _base(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._head.name}",
            "object": "chat.completion.chunk",
            "created": int(self._head.created),
            "model": self._head.model,
            "choices": choices,
        }

    def _chunk(self, delta: dict[str, Any], choice: int = 0) -> bytes:
        return frame(self._base([self._row(delta, choice)]))

    def _row(self, delta: dict[str, Any], choice: int, finish: str | None = None) -> dict[str, Any]:
        likely = self._likely.pop(choice, None) if delta.get("content") or finish else None
        return {"index": choice, "delta": delta, "logprobs": logprobs_value(likely), "finish_reason": finish}


def logprobs_value(tokens: list[TokenLogprob] | None) -> dict[str, Any] | None:
    """Return log probabilities as the protocol has them; `None` where there are none."""
    return {"content": [token_value(token) for token in tokens], "refusal": None} if tokens else None


def _call(piece: Piece) -> dict[str, Any]:
    call = piece.call
    if call is None:
        return {}
    function: dict[str, Any] = {"arguments": call.arguments}
    value: dict[str, Any] = {"index": call.index, "function": function}
    if call.name:
        value |= {"id": call.id, "type": "function", "function": {"name": call.name, **function}}
    return {"tool_calls": [value]}


def _choice(number: int, answered: Answered) -> dict[str, Any]:
    calls = [part for part in answered.parts if isinstance(part, ToolCall)]
    message: dict[str, Any] = {"role": "assistant", "content": answered.text, "refusal": None}
    if calls:
        message["content"] = answered.text or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    if answered.reasoning:
        message["reasoning_content"] = answered.reasoning
    reason = answered.finish.reason
    return {
        "index": number,
        "message": message,
        "logprobs": logprobs_value(answered.logprobs),
        "finish_reason": FINISH_REASONS.get(reason, reason),
    }
