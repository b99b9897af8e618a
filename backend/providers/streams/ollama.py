"""What a line of Ollama's chat holds. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from backend.providers.base import StreamItem
from backend.providers.lenient import as_objects
from backend.providers.streams.answer import Answer, Counts
from backend.providers.streams.framing import Malformed


def take(event: str, value: dict[str, Any], answer: Answer) -> Iterator[StreamItem]:
    """Take a line; see `Take`."""
    yield from answer.logprobs(value.get("logprobs"))
    message = value.get("message")
    if isinstance(message, dict):
        part = cast(dict[str, Any], message)
        yield from answer.thinking(part.get("thinking"))
        yield from answer.content(part.get("content"))
        for call in as_objects(part.get("tool_calls")):
            for said in as_objects([call.get("function")]):
                yield from answer.tool(object(), said.get("name"), said.get("arguments"))
    elif message is not None:
        raise Malformed(f"message should be an object, not {message!r:.60}")
    if not isinstance(message, dict):  # the protocol of `generate`
        yield from answer.thinking(value.get("thinking"))
        yield from answer.content(value.get("response"))
    if value.get("done") is True:
        answer.counts = Counts(prompt=value.get("prompt_eval_count"), output=value.get("eval_count"))
        answer.end(value.get("done_reason", "stop"))  # older versions give no reason
        answer.over = True
