"""What a chunk of the chat completions protocol holds, in the variants of the servers that implement it. Pure.

Fields: the API reference of OpenAI, and those of vLLM, llama.cpp, SGLang, DeepSeek, Mistral, OpenRouter, Groq and Azure
where they differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from backend.providers.base import Loading, StreamItem
from backend.providers.http import from_error
from backend.providers.lenient import as_object, as_objects
from backend.providers.streams.answer import Answer, Counts, count
from backend.providers.streams.framing import Malformed, member

SHOWN_PREFILL = 64
"""A prompt of fewer new tokens is read before anyone could see that it is."""
THINKING = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""Where servers put thinking; several may repeat the same, so the first that holds text counts."""


UNSHOWN = ("images", "audio")
"""What may stand beside text, and is no text."""
NOT_YET = (None, "", "null", "None", "none")
"""What servers give as the ending of a chunk that ends nothing."""


def take(event: str, value: dict[str, Any], answer: Answer) -> Iterator[StreamItem]:
    """Take a chunk, or a completion that was not streamed; see `Take`."""
    usage = value.get("usage") or as_object(value.get("x_groq")).get("usage")
    if isinstance(usage, dict):
        answer.counts = answer.counts.with_later(_counts(cast(dict[str, Any], usage)))
    yield from _progress(value.get("prompt_progress"))
    choices: Any = value.get("choices") or []
    if not isinstance(choices, list):
        raise Malformed(f"choices should be a list, not {choices!r:.60}")
    for choice in cast(list[object], choices):
        if not isinstance(choice, dict):
            raise Malformed(f"a choice should be an object, not {choice!r:.60}")
        own = cast(dict[str, Any], choice)
        if own.get("index") in (None, 0, "0"):  # one answer was asked for
            yield from _choice(own, answer)


def _choice(choice: dict[str, Any], answer: Answer) -> Iterator[StreamItem]:
    if choice.get("error"):
        raise from_error(answer.upstream, choice)
    yield from answer.logprobs(as_object(choice.get("logprobs")).get("content"))
    delta, message = (
        member(choice, name) if choice.get(name) is not None else {} for name in ("delta", "message")
    )
    if delta:
        yield from _before_text(delta, answer)
        if delta.get("thought") is True:
            yield from answer.thinking(delta.get("content"))
        else:
            yield from answer.content(delta.get("content"))
    if message:
        yield from _before_text(message, answer, whole=True)
        yield from answer.message(message.get("content"))
    if delta.get("content") is None and message.get("content") is None:
        # the older completions protocol; some servers repeat there what they say in the delta
        yield from answer.content(choice.get("text"))
    if choice.get("finish_reason") not in NOT_YET:
        answer.end(choice["finish_reason"])


def _before_text(part: dict[str, Any], answer: Answer, *, whole: bool = False) -> Iterator[StreamItem]:
    """Take what a delta, or a whole message, holds beside its text."""
    for name in THINKING:
        items = list(answer.thinking(part.get(name)))
        yield from items
        if items:
            break
    yield from answer.refusal(part.get("refusal"))
    for name in UNSHOWN:
        if part.get(name):
            answer.note(f"the upstream sent {name}, which cannot be shown")
    if whole and answer.asked_for_tools:
        return  # they came in pieces before
    for place, call in enumerate(as_objects(part.get("tool_calls"))):
        for function in as_objects([call.get("function")]):
            key = call.get("index", place)
            yield from answer.tool(
                key if isinstance(key, int | str) else place,
                function.get("name"), function.get("arguments"), call.get("id"),
            )  # fmt: skip
    for function in as_objects([part.get("function_call")]):
        yield from answer.tool(0, function.get("name"), function.get("arguments"))


def _counts(usage: dict[str, Any]) -> Counts:
    cached = as_object(usage.get("prompt_tokens_details")).get("cached_tokens")
    thought = as_object(usage.get("completion_tokens_details")).get("reasoning_tokens")
    return Counts(
        prompt=usage.get("prompt_tokens"),
        output=usage.get("completion_tokens"),
        cached=usage.get("prompt_cache_hit_tokens") if cached is None else cached,
        thought=thought,
    )


def _progress(value: object) -> Iterator[StreamItem]:
    """Yield how far llama.cpp has read the prompt, when that takes long enough to be seen."""
    progress = as_object(value)
    total, cached, done = (count(progress.get(name)) for name in ("total", "cache", "processed"))
    if total is None or done is None or total - (cached or 0) < SHOWN_PREFILL:
        return
    yield Loading(f"reading the prompt, {done} of {total} tokens", done, total)
