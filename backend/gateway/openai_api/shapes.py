"""The JSON of OpenAI's API, made from what we know: models, completions, chunks, usage. Pure."""

from __future__ import annotations

from typing import Any

from backend.orchestration.discovery import ACTIVE
from backend.schema.frames import FinishReason, Usage
from backend.schema.records import SpecialistStatus

OWNER = "tekton"
TEAM_MODEL, AUTO_MODEL = "team", "auto"


def model_entry(name: str, created: float, **facts: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created), "owned_by": OWNER, **facts}


def specialist_entry(status: SpecialistStatus, created: float) -> dict[str, Any]:
    """Return a specialist as a model; beside OpenAI's fields who it is, whether it runs and what answers."""
    return model_entry(
        status.id,
        created,
        title=status.title,
        state=status.state,
        active=status.state in ACTIVE,
        backing_model=status.model,
        capabilities=status.capabilities,
    )


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


def completion(
    name: str,
    created: float,
    model: str,
    text: str,
    reasoning: str,
    finish: FinishReason,
    usage: Usage,
    backing: str,
) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if reasoning:
        message["reasoning_content"] = reasoning
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": int(created),
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": usage_value(usage),
        "system_fingerprint": backing or None,
    }


def chunk(
    name: str,
    created: float,
    model: str,
    delta: dict[str, Any] | None,
    finish: FinishReason | None = None,
    usage: Usage | None = None,
) -> dict[str, Any]:
    """Return one chunk of a stream; without a delta it is the last one, which has only the usage."""
    choices = (
        [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    )
    value: dict[str, Any] = {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion.chunk",
        "created": int(created),
        "model": model,
        "choices": choices,
    }
    if usage is not None:
        value["usage"] = usage_value(usage)
    return value


def summed(usages: list[Usage]) -> Usage:
    """Add up the usage of several turns."""
    return Usage(
        sum(usage.input_tokens for usage in usages),
        sum(usage.output_tokens for usage in usages),
        sum(usage.cached_tokens for usage in usages),
        sum(usage.reasoning_tokens for usage in usages),
        any(usage.estimated for usage in usages),
    )
