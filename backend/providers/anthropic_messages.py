"""Messages, tools and wishes in the words of Anthropic's Messages protocol. Pure."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Iterable
from typing import Any, cast

from backend.providers.chat_messages import arguments_object
from backend.schema.content import (
    Abilities,
    AnswerOptions,
    ChatMessage,
    Effort,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolResult,
)

NOT_SHOWN = "(earlier messages are not shown)"
EFFORTS: dict[Effort, str] = {"minimal": "low"}
"""What the protocol calls a degree of effort, where it has another word."""
CHOICES = {"auto": "auto", "none": "none", "required": "any", "named": "tool"}
UNHELD = frozenset(
    {
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "pattern",
        "title",
        "default",
    }
)
"""Words of JSON schema that the protocol refuses; what they demand is not held."""


def anthropic_messages(messages: Iterable[ChatMessage], origin: str) -> list[dict[str, Any]]:
    """Return messages as the API takes them: none empty, a question first.

    `origin` (`provider:model`) is given back the thinking it signed; another model's is left out.
    """
    sent: list[dict[str, Any]] = []
    for message in messages:
        content = _content(message, origin)
        if content:
            # Anthropic takes system text apart from the messages only; in its place it is the caller's word.
            role = "user" if message.role == "system" else message.role
            sent.append({"role": role, "content": content})
    if sent and sent[0]["role"] == "assistant":
        sent.insert(0, {"role": "user", "content": NOT_SHOWN})
    return sent


def anthropic_options(options: AnswerOptions, abilities: Abilities) -> tuple[dict[str, Any], list[str]]:
    """Return how an answer is wished for, and notes on what could not be sent."""
    wanted: dict[str, Any] = {}
    notes: list[str] = []
    if options.tools:
        wanted["tools"] = [
            {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "input_schema": tool.parameters or {"type": "object", "properties": {}},
                **({"strict": True} if tool.strict else {}),
            }
            for tool in options.tools
        ]
        wanted["tool_choice"] = _choice(options.choice or ToolChoice())
    output: dict[str, Any] = {}
    if options.format is not None and options.format.kind == "schema":
        output["format"] = {"type": "json_schema", "schema": closed_schema(options.format.schema)}
    elif options.format is not None and options.format.kind == "json":
        notes.append("this provider holds no answer to JSON without a schema")
    if options.effort == "none":
        if abilities.thinking is not False:
            wanted["thinking"] = {"type": "disabled"}
    elif options.effort is not None and abilities.thinking is False:
        notes.append(f"effort {options.effort} was not sent: the model does not think before it answers")
    elif options.effort is not None:
        output["effort"] = EFFORTS.get(options.effort, options.effort)
        wanted["thinking"] = {"type": "adaptive", "display": "summarized"}
    if output:
        wanted["output_config"] = output
    if stops := [stop for stop in options.stops if stop.strip()]:  # others it refuses; the gateway holds them
        wanted["stop_sequences"] = stops
    if options.seed is not None or options.top_p is not None:
        notes.append("this provider takes neither seed nor top_p")
    return wanted, notes


def closed_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema as the protocol takes it: objects closed, without the words it does not hold."""
    return {name: _closed(value) for name, value in _object(schema).items() if name not in UNHELD}


def _closed(value: Any) -> Any:
    if isinstance(value, dict):
        inner = cast(dict[str, Any], value)
        if "type" in inner or "$ref" in inner or "anyOf" in inner or "allOf" in inner or "enum" in inner:
            return closed_schema(inner)
        return {name: _closed(one) for name, one in inner.items()}  # names of properties or definitions
    if isinstance(value, list):
        return [_closed(one) for one in cast(list[Any], value)]
    return value


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "additionalProperties": False} if schema.get("type") == "object" else schema


def _choice(choice: ToolChoice) -> dict[str, Any]:
    value: dict[str, Any] = {"type": CHOICES[choice.mode]}
    if choice.mode == "named":
        value["name"] = choice.name
    if not choice.parallel and choice.mode != "none":
        value["disable_parallel_tool_use"] = True
    return value


def _content(message: ChatMessage, origin: str) -> str | list[dict[str, Any]]:
    if not message.parts:
        return message.content if message.content.strip() else ""
    return [block for part in message.parts if (block := _block(part, origin))]


def _block(part: Part, origin: str) -> dict[str, Any] | None:
    match part:
        case TextPart(text=text) | RefusalPart(text=text):
            return {"type": "text", "text": text} if text.strip() else None
        case ImagePart():
            return {"type": "image", "source": _source(part)}
        case FilePart():
            titled = {"title": part.name} if part.name else {}
            return {"type": "document", "source": _document(part), **titled}
        case ReasoningPart():
            return _thinking(part, origin)
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_object(part)}
        case ToolResult():
            blocks = [block for inner in part.parts if (block := _block(inner, origin))]
            failed = {"is_error": True} if part.is_error else {}
            content = blocks or part.content
            return {"type": "tool_result", "tool_use_id": part.call_id, "content": content, **failed}
        case _:
            return None


def _thinking(part: ReasoningPart, origin: str) -> dict[str, Any] | None:
    if not part.signature or part.origin != origin:
        return None
    if part.redacted:
        return {"type": "redacted_thinking", "data": part.signature}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _source(part: ImagePart | FilePart) -> dict[str, Any]:
    if part.url:
        return {"type": "url", "url": part.url}
    return {"type": "base64", "media_type": part.media_type, "data": part.data}


def _document(part: FilePart) -> dict[str, Any]:
    """Return a file's source: what is text goes as text, which is all the protocol takes beside PDF."""
    if part.media_type.startswith("text/") and not part.url:
        try:
            text = b64decode(part.data, validate=True).decode(errors="replace")
        except NoBase64:
            text = part.data
        return {"type": "text", "media_type": "text/plain", "data": text}
    return _source(part)
