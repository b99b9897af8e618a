"""What an event of OpenAI's Responses API holds. Pure.

Text, thinking and calls come as deltas, each item once more whole at its end: what came in pieces before is not taken
twice. The signature of thinking comes with its whole item only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backend.providers.base import StreamItem
from backend.providers.http import from_error
from backend.providers.lenient import as_object, as_objects
from backend.providers.streams.answer import Answer, Counts

THINKING = (
    "response.reasoning_summary_text.delta",
    "response.reasoning_text.delta",
    "response.reasoning.delta",
)
"""Thinking in the words of OpenAI, of open models behind its API, and of Open Responses."""


def take(event: str, value: dict[str, Any], answer: Answer) -> Iterator[StreamItem]:
    """Take an event, or a response that was not streamed; see `Take`."""
    if value.get("object") == "response":
        yield from _output(value, answer)
        _end(value, answer)
        return
    kind = str(value.get("type") or event)
    if kind.endswith(".delta"):
        yield from _delta(kind, value, answer)
        return
    match kind:
        case "response.reasoning_summary_part.added":
            if value.get("summary_index"):
                yield from answer.thinking("\n\n")
        case "response.output_item.added":
            yield from _begun(as_object(value.get("item")), value.get("output_index"), answer)
        case "response.output_text.done":
            yield from _once(value, value.get("text"), answer)
        case "response.function_call_arguments.done":
            answer.tool_given(value.get("output_index"), value.get("arguments"))
            yield from answer.tool_ended(value.get("output_index"))
        case "response.output_item.done":
            yield from _ended(as_object(value.get("item")), value, answer)
        case "response.completed" | "response.incomplete" | "response.cancelled" | "response.done":
            response = as_object(value.get("response"))
            if answer.empty:  # a server that sends no deltas
                yield from _output(response, answer)
            _end(response, answer)
            answer.over = True
        case "response.failed":
            raise from_error(answer.upstream, as_object(value.get("response")).get("error"))
        case _:
            pass  # parts that begin and end, and events that come to be later


def _delta(kind: str, value: dict[str, Any], answer: Answer) -> Iterator[StreamItem]:
    match kind:
        case "response.output_text.delta":
            yield from answer.logprobs(value.get("logprobs"))
            answer.told.add(_place(value))
            yield from answer.content(value.get("delta"))
        case "response.refusal.delta":
            yield from answer.refusal(value.get("delta"))
        case "response.function_call_arguments.delta":
            yield from answer.tool(value.get("output_index"), None, value.get("delta"))
        case _ if kind in THINKING:
            yield from answer.thinking(value.get("delta"))
        case _:
            pass


def _place(value: dict[str, Any]) -> str:
    """Return what tells a text of an answer from its others."""
    return f"{value.get('output_index')!r:.40} {value.get('content_index')!r:.40}"


def _once(value: dict[str, Any], text: object, answer: Answer) -> Iterator[StreamItem]:
    """Take a text that is there whole, of a server that sent no deltas of it."""
    if _place(value) not in answer.told:
        answer.told.add(_place(value))
        yield from answer.content(text)


def _ended(item: dict[str, Any], value: dict[str, Any], answer: Answer) -> Iterator[StreamItem]:
    """Take an item that ended: what did not come of it before."""
    place = value.get("output_index")
    match item.get("type"):
        case "function_call":
            if not answer.knows(place):
                yield from answer.tool(place, item.get("name"), None, item.get("call_id"))
            answer.tool_given(place, item.get("arguments"))
            yield from answer.tool_ended(place)
        case "message":
            for number, part in enumerate(as_objects(item.get("content"))):
                yield from _once({"output_index": place, "content_index": number}, part, answer)
        case _:
            yield from _signed(item, answer)


def _begun(item: dict[str, Any], place: object, answer: Answer) -> Iterator[StreamItem]:
    match item.get("type"):
        case "function_call":
            yield from answer.tool(
                place, item.get("name"), item.get("arguments") or None, item.get("call_id")
            )
        case "message" | "reasoning":
            pass
        case kind:
            answer.note(f"the upstream used its own tool {kind!r:.60}, which is not shown")


def _signed(item: dict[str, Any], answer: Answer) -> Iterator[StreamItem]:
    if item.get("type") == "reasoning":
        yield from answer.signed_as(item.get("encrypted_content"), item.get("id"))


def _output(response: dict[str, Any], answer: Answer) -> Iterator[StreamItem]:
    """Take what a whole response holds; thinking that came in pieces before is left out."""
    thought = answer.pieces > 0
    for place, one in enumerate(as_objects(response.get("output"))):
        if not (thought and one.get("type") == "reasoning"):
            yield from _whole(one, place, answer)


def _whole(item: dict[str, Any], place: int, answer: Answer) -> Iterator[StreamItem]:
    match item.get("type"):
        case "message":
            yield from answer.content(item.get("content"))
        case "reasoning":
            yield from answer.thinking(item.get("summary"))
            yield from _signed(item, answer)
        case _:
            yield from _begun(item, place, answer)


def _end(response: dict[str, Any], answer: Answer) -> None:
    usage = as_object(response.get("usage"))
    answer.counts = Counts(
        prompt=usage.get("input_tokens"),
        output=usage.get("output_tokens"),
        cached=as_object(usage.get("input_tokens_details")).get("cached_tokens"),
        thought=as_object(usage.get("output_tokens_details")).get("reasoning_tokens"),
    )
    status = response.get("status", "completed")
    if status == "incomplete":
        answer.end(as_object(response.get("incomplete_details")).get("reason"))
    else:
        answer.end(status)
