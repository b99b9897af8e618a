"""What an event of the Messages protocol holds, as Anthropic and compatible endpoints send it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from backend.providers.base import StreamItem
from backend.providers.lenient import as_list, as_object
from backend.providers.streams.answer import Answer
from backend.providers.streams.framing import member

DELTAS = {
    "text": "text_delta", "thinking": "thinking_delta", "signature": "signature_delta",
    "partial_json": "input_json_delta",
}  # fmt: skip
"""Of which kind a delta is that does not say it, by what it holds."""


def take(event: str, value: dict[str, Any], answer: Answer) -> Iterator[StreamItem]:
    """Take an event, or a message that was not streamed; see `Take`."""
    match value.get("type") or event:
        case "message_start":
            message = member(value, "message")
            _usage(message, answer)
            answer.counts.output = None  # of an answer that has not begun
            yield from _blocks(message, answer)
        case "content_block_start":
            yield from _block(member(value, "content_block"), answer, value.get("index"))
        case "content_block_delta":
            yield from _delta(member(value, "delta"), answer, value.get("index"))
        case "content_block_stop":
            yield from answer.tool_ended(_key(value.get("index")))
            yield from answer.signed()
        case "message_delta":
            _usage(value, answer)
            delta = member(value, "delta")
            explanation = as_object(delta.get("stop_details")).get("explanation")
            if (reason := delta.get("stop_reason")) is not None:  # counts may come before the end
                answer.end(reason, explanation)
            _stop_text(delta, answer)
        case "message_stop":
            if (reason := value.get("stop_reason")) is not None:
                answer.end(reason)
            answer.ended = answer.over = True
        case "message":
            _usage(value, answer)
            yield from _blocks(value, answer)
            answer.end(value.get("stop_reason"))
            _stop_text(value, answer)
        case _:
            pass  # ping, and events that come to be later


def _blocks(message: dict[str, Any], answer: Answer) -> Iterator[StreamItem]:
    blocks = message.get("content")
    if isinstance(blocks, str):
        yield from answer.content(blocks)
    for place, block in enumerate(as_list(blocks)):
        if said := as_object(block):
            yield from _block(said, answer, place)
            yield from answer.tool_ended(place)
            yield from answer.signed()


def _block(block: dict[str, Any], answer: Answer, place: object) -> Iterator[StreamItem]:
    """Take a block: text may stand in it from the start, though Anthropic itself leaves it empty."""
    match block.get("type"):
        case "text":
            yield from answer.content(block.get("text"))
        case "thinking":
            yield from answer.thinking(block.get("thinking"))
            answer.sign(block.get("signature"))
        case "redacted_thinking":
            yield from answer.redacted(block.get("data"))
        case "tool_use":
            yield from answer.tool(_key(place), block.get("name"), None, block.get("id"))
            # the input stands empty here, and comes as text behind; a whole message holds it, and so do some servers' starts
            answer.tool_given(_key(place), block.get("input"))
        case "server_tool_use" | "mcp_tool_use":
            answer.note(f"the upstream used its own tool {block.get('name')!r:.60}, which is not shown")
        case _:
            pass


def _delta(delta: dict[str, Any], answer: Answer, place: object) -> Iterator[StreamItem]:
    match delta.get("type") or next((kind for name, kind in DELTAS.items() if name in delta), None):
        case "text_delta":
            yield from answer.content(delta.get("text"))
        case "thinking_delta":
            yield from answer.thinking(delta.get("thinking"))
        case "signature_delta":
            answer.sign(delta.get("signature"))
        case "input_json_delta":
            yield from answer.tool(_key(place), None, delta.get("partial_json"))
        case _:
            pass  # a citation


def _key(place: object) -> object:
    return place if isinstance(place, int) else None


def _stop_text(holder: dict[str, Any], answer: Answer) -> None:
    if isinstance(text := holder.get("stop_sequence"), str):
        answer.stop = text


def _usage(holder: dict[str, Any], answer: Answer) -> None:
    """Take counts; those of the end are the whole answer's, and some endpoints give the prompt's only there."""
    usage = holder.get("usage")
    if not isinstance(usage, dict):
        return
    said, counts = cast(dict[str, Any], usage), answer.counts
    counts.inside = False
    thought = as_object(said.get("output_tokens_details")).get("thinking_tokens")
    counts.prompt = said.get("input_tokens") or counts.prompt
    counts.cached = said.get("cache_read_input_tokens") or counts.cached
    counts.written = said.get("cache_creation_input_tokens") or counts.written
    if (output := said.get("output_tokens")) is not None:
        counts.output = output
    counts.thought = thought or counts.thought
