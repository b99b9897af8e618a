"""What an agent is sent for a question: text, pictures and files as blocks of the protocol. Pure.

The agent keeps its conversation itself, so earlier messages are only sent where the caller keeps them, as material.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from backend.acp.messages import Block, PromptAbilities, Resource
from backend.schema.content import FilePart, ImagePart, Part, TextPart, ToolCall, ToolResult, parts_of
from backend.schema.errors import TektonError
from backend.schema.frames import Request
from backend.worker.prompt import material


def blocks_of(request: Request, persona: str, takes: PromptAbilities) -> tuple[list[Block], list[str]]:
    """Return the blocks of a question, and notes on what was cut.

    Raises:
        TektonError: The agent does not take what the question holds.
    """
    notes: list[str] = []
    before = [
        persona if request.persona else "",
        request.system or "",
        material(request.context, request.prompt, notes) if request.context else "",
        _conversation(request),
        request.instruction or "",
    ]
    blocks = [Block("text", text="\n\n".join(text for text in before if text))] if any(before) else []
    asked: Sequence[Part] = request.parts or [TextPart(request.prompt)]
    blocks += [_block(part, takes) for part in asked]
    if request.options is not None and request.options.tools:
        notes.append("the tools that were offered were left out: an agent has its own")
    return blocks, notes


def _conversation(request: Request) -> str:
    """Return earlier messages that the caller keeps, as material."""
    lines: list[str] = []
    for message in request.messages or ():
        who = "Person" if message.role == "user" else "You" if message.role == "assistant" else "Instructions"
        for part in parts_of(message):
            match part:
                case TextPart(text=text):
                    lines.append(f"{who}: {text}")
                case ToolCall():
                    lines.append(f"{who} called {part.name} with {part.arguments}")
                case ToolResult():
                    lines.append(f"Result of {part.name or part.call_id}: {part.content}")
                case _:
                    pass
    return "The conversation so far:\n" + "\n".join(lines) if lines else ""


def _block(part: Part, takes: PromptAbilities) -> Block:
    match part:
        case TextPart(text=text):
            return Block("text", text=text)
        case ImagePart() if part.data:
            if not takes.image:
                raise TektonError("this agent takes no pictures", code="invalid_request")
            return Block(
                "image", data=part.data, mime_type=part.media_type or "image/png", uri=part.url or None
            )
        case ImagePart() | FilePart() if part.url:
            name = getattr(part, "name", "") or part.url
            return Block("resource_link", uri=part.url, name=name, mime_type=part.media_type or None)
        case FilePart():
            return _file(part, takes)
        case ToolResult():
            return Block("text", text=f"Result of {part.name or part.call_id}:\n{part.content}")
        case _:
            raise TektonError(f"an agent cannot be sent a {type(part).__name__}", code="invalid_request")


def _file(part: FilePart, takes: PromptAbilities) -> Block:
    name = part.name or "file"
    try:
        data = base64.b64decode(part.data, validate=True)
    except binascii.Error as error:
        raise TektonError(f"{name} is no base64: {error}", code="invalid_request") from error
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    uri = f"attachment:///{name}"
    if takes.embedded_context:
        blob = part.data if text is None else None
        return Block("resource", resource=Resource(uri, text, blob, part.media_type or None))
    if text is None:
        raise TektonError(f"this agent takes no files but text: {name}", code="invalid_request")
    return Block("text", text=f'<file name="{name}">\n{text}\n</file>')
