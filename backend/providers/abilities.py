"""What a request needs of a model beside text, and whether the model has it. Pure; asks nobody."""

from __future__ import annotations

from collections.abc import Iterable
from types import UnionType

from backend.providers.base import CompletionRequest, Unable
from backend.schema.content import Abilities, ChatMessage, FilePart, ImagePart, ToolCall, ToolResult

WORDS = {
    "tools": "takes no tools",
    "images": "sees no images",
    "files": "reads no files",
    "schema": "cannot be held to a JSON schema",
    "logprobs": "gives no log probabilities",
}
"""What a model cannot do, said of it."""


def needed(request: CompletionRequest) -> list[str]:
    """Return the names of the abilities a request needs, each once."""
    needs = dict.fromkeys(_attached(request.messages))
    if request.options.offered or _has(request.messages, ToolCall | ToolResult):
        needs["tools"] = None
    if request.options.format is not None and request.options.format.kind != "text":
        needs["schema"] = None
    if request.options.logprobs is not None:
        needs["logprobs"] = None
    return list(needs)


def check(needs: Iterable[str], abilities: Abilities, who: str) -> None:
    """Refuse a request that its model cannot answer; `who` names the model.

    Raises:
        Unable: With the model and what it lacks, before anybody is asked.
    """
    lacks = [name for name in needs if getattr(abilities, name) is False]
    if lacks:
        words = " and ".join(WORDS[name] for name in lacks)
        raise Unable(f"{who} {words}: choose another model, or leave that out", detail={"lacks": lacks})


def _attached(messages: Iterable[ChatMessage]) -> Iterable[str]:
    for message in messages:
        for part in message.parts:
            for inner in part.parts if isinstance(part, ToolResult) else [part]:
                if isinstance(inner, ImagePart):
                    yield "images"
                elif isinstance(inner, FilePart):
                    yield "files"


def _has(messages: Iterable[ChatMessage], kind: type | UnionType) -> bool:
    return any(isinstance(part, kind) for message in messages for part in message.parts)
