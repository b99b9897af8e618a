"""Messages, tools and wishes in the words of the chat completions protocol, which several servers speak. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from backend.providers.base import Unable
from backend.schema.content import (
    AnswerOptions,
    ChatMessage,
    FilePart,
    ImagePart,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    ToolCall,
    ToolResult,
    ToolSpec,
    read_arguments,
)

MAX_STOPS = 4
"""More than this OpenAI refuses."""


def chat_messages(messages: Iterable[ChatMessage], *, thinking_to: str = "") -> list[dict[str, Any]]:
    """Return messages as the protocol has them: results of tools are messages of their own.

    `thinking_to` is the model (`provider:model`) that is given back its own thinking beside its calls; empty for
    servers that take none.
    """
    sent: list[dict[str, Any]] = []
    for message in messages:
        if not message.parts:
            sent.append({"role": message.role, "content": message.content})
        elif message.role == "assistant":
            sent.append(_assistant(message, thinking_to))
        else:
            sent += _user(message)
    return sent


def chat_tools(tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    """Return tools as the protocol declares them."""
    return [{"type": "function", "function": _function(tool)} for tool in tools]


def chat_options(options: AnswerOptions) -> dict[str, Any]:
    """Return how an answer is wished for, as far as somebody said so; effort is not part of it."""
    wanted: dict[str, Any] = {}
    if options.tools:
        wanted["tools"] = chat_tools(options.tools)
        if (choice := options.choice) is not None:
            named = {"type": "function", "function": {"name": choice.name}}
            wanted["tool_choice"] = named if choice.mode == "named" else choice.mode
            if not choice.parallel:
                wanted["parallel_tool_calls"] = False
    if options.format is not None and options.format.kind != "text":
        wanted["response_format"] = chat_format(options.format)
    if 0 < len(options.stops) <= MAX_STOPS:  # the gateway holds more
        wanted["stop"] = options.stops
    if options.seed is not None:
        wanted["seed"] = options.seed
    if options.top_p is not None:
        wanted["top_p"] = options.top_p
    if options.logprobs is not None:
        wanted["logprobs"] = True
        if options.logprobs:
            wanted["top_logprobs"] = options.logprobs
    return wanted


def chat_format(wanted: ResponseFormat) -> dict[str, Any]:
    """Return the format of an answer as the protocol has it."""
    if wanted.kind == "json":
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": wanted.name or "answer", "schema": wanted.schema, "strict": wanted.strict},
    }


def data_url(part: ImagePart | FilePart) -> str:
    """Return where a part's bytes are: its address, or the bytes themselves as one."""
    return part.url or f"data:{part.media_type or 'application/octet-stream'};base64,{part.data}"


def result_text(result: ToolResult) -> str:
    """Return the text of a tool's result; a failure says that it is one where the protocol cannot."""
    return f"Error: {result.content}" if result.is_error else result.content


def _function(tool: ToolSpec) -> dict[str, Any]:
    return {
        "name": tool.name,
        **({"description": tool.description} if tool.description else {}),
        "parameters": tool.parameters or {"type": "object", "properties": {}},
        **({"strict": tool.strict} if tool.strict is not None else {}),
    }


def _assistant(message: ChatMessage, thinking_to: str) -> dict[str, Any]:
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    value: dict[str, Any] = {"role": "assistant", "content": message.content or None}
    if calls:
        value["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
        own = [p.text for p in message.parts if isinstance(p, ReasoningPart) and p.origin == thinking_to]
        if thinking_to and any(own):
            value["reasoning_content"] = "".join(own)
    elif not message.content:
        value["content"] = ""
    return value


def _user(message: ChatMessage) -> list[dict[str, Any]]:
    """Return the results of tools, then what else a user says; pictures in a result follow as the user's."""
    sent: list[dict[str, Any]] = []
    content: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case ToolResult():
                sent.append({"role": "tool", "tool_call_id": part.call_id, "content": result_text(part)})
                content += [_part(inner) for inner in part.parts if not isinstance(inner, TextPart)]
            case TextPart() | ImagePart() | FilePart():
                content.append(_part(part))
            case RefusalPart():
                content.append({"type": "text", "text": part.text})
            case _:
                pass  # a model's own, and nothing a user says
    if all(part["type"] == "text" for part in content):
        if content:
            sent.append({"role": message.role, "content": "\n".join(part["text"] for part in content)})
    else:
        sent.append({"role": message.role, "content": content})
    return sent


def _part(part: TextPart | ImagePart | FilePart) -> dict[str, Any]:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            detail = {"detail": part.detail} if part.detail else {}
            return {"type": "image_url", "image_url": {"url": data_url(part), **detail}}
        case FilePart(url=str(address)) if address:
            raise Unable(
                f"chat completions take the bytes of a file, not its address ({address[:100]}): send the bytes, or ask by "
                'Responses (providers.openai.api = "responses")',
                detail={"lacks": ["files"]},
            )
        case FilePart():
            named = {"filename": part.name} if part.name else {}
            return {"type": "file", "file": {"file_data": data_url(part), **named}}


def arguments_object(call: ToolCall) -> dict[str, Any]:
    """Return a call's arguments as an object, for vendors that take no text; text that is no object is kept as it was written."""
    try:
        return read_arguments(call.arguments)
    except ValueError:
        return {"invalid_arguments": call.arguments}
