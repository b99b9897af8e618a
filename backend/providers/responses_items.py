"""Messages, tools and wishes in the words of OpenAI's Responses API, where thinking goes back to its model. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backend.providers.chat_messages import data_url, result_text
from backend.schema import content


def response_items(messages: Iterable[content.ChatMessage], thinking_to: str) -> list[dict[str, Any]]:
    """Return messages as items. `thinking_to` is the model (`provider:model`) that is given back its own thinking."""
    sent: list[dict[str, Any]] = []
    for message in messages:
        if not message.parts:
            sent.append(_said(message.role, [content.TextPart(message.content)]))
        elif message.role == "assistant":
            sent += _assistant(message.parts, thinking_to)
        else:
            sent += _user(message)
    return sent


def response_options(options: content.AnswerOptions) -> dict[str, Any]:
    """Return how an answer is wished for, as far as somebody said so; effort is not part of it."""
    wanted: dict[str, Any] = {}
    if options.tools:
        wanted["tools"] = [_tool(tool) for tool in options.tools]
        if (choice := options.choice) is not None:
            named = {"type": "function", "name": choice.name}
            wanted["tool_choice"] = named if choice.mode == "named" else choice.mode
            if not choice.parallel:
                wanted["parallel_tool_calls"] = False
    if (form := options.format) is not None and form.kind == "json":
        wanted["text"] = {"format": {"type": "json_object"}}
    elif form is not None and form.kind == "schema":
        schema = {"name": form.name or "answer", "schema": form.schema, "strict": form.strict}
        wanted["text"] = {"format": {"type": "json_schema", **schema}}
    if options.top_p is not None:
        wanted["top_p"] = options.top_p
    if options.logprobs is not None:
        wanted["top_logprobs"] = options.logprobs
    return wanted


def _tool(tool: content.ToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or None,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
        "strict": bool(tool.strict),
    }


def _assistant(parts: Iterable[content.Part], thinking_to: str) -> list[dict[str, Any]]:
    """Return an answer's items in their order; thinking without a signature, or of another model, is left out."""
    sent: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case content.ReasoningPart() if part.signature and part.origin == thinking_to:
                summary = [{"type": "summary_text", "text": part.text}] if part.text else []
                named = {"id": part.id} if part.id else {}
                sent.append(
                    {"type": "reasoning", **named, "summary": summary, "encrypted_content": part.signature}
                )
            case content.TextPart() if part.text:
                sent.append(_said("assistant", [part]))
            case content.RefusalPart():
                sent.append(_said("assistant", [content.TextPart(part.text)]))
            case content.ToolCall():
                sent.append(
                    {
                        "type": "function_call",
                        "call_id": part.id,
                        "name": part.name,
                        "arguments": part.arguments,
                    }
                )
            case _:
                pass
    return sent


def _user(message: content.ChatMessage) -> list[dict[str, Any]]:
    """Return the results of tools, then what else a user says; pictures in a result follow as the user's."""
    sent: list[dict[str, Any]] = []
    said: list[content.TextPart | content.ImagePart | content.FilePart] = []
    for part in message.parts:
        match part:
            case content.ToolResult():
                sent.append(
                    {"type": "function_call_output", "call_id": part.call_id, "output": result_text(part)}
                )
                said += [inner for inner in part.parts if not isinstance(inner, content.TextPart)]
            case content.TextPart() | content.ImagePart() | content.FilePart():
                said.append(part)
            case _:
                pass  # a model's own, and nothing a user says
    if said:
        sent.append(_said(message.role, said))
    return sent


def _said(
    role: str, parts: Iterable[content.TextPart | content.ImagePart | content.FilePart]
) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [_content(part, role) for part in parts]}


def _content(part: content.TextPart | content.ImagePart | content.FilePart, role: str) -> dict[str, Any]:
    match part:
        case content.TextPart():
            return {"type": "output_text" if role == "assistant" else "input_text", "text": part.text}
        case content.ImagePart():
            return {"type": "input_image", "image_url": data_url(part), "detail": part.detail or "auto"}
        case content.FilePart():
            where = {"file_url": part.url} if part.url else {"file_data": data_url(part)}
            return {"type": "input_file", "filename": part.name or "file", **where}
