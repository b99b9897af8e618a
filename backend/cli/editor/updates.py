"""What editors see of a turn: messages, thoughts, tool calls and plans as the protocol's values, and prompts read. Pure."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from backend.acp import messages as acp
from backend.acp import wire
from backend.acp.peer import RpcFailure
from backend.schema.content import ImagePart, Part
from backend.schema.errors import ErrorCode, TektonError
from backend.schema.frames import FinishReason, Usage
from backend.schema.records import StoredMessage
from backend.schema.tools import Ask

SHOWN_CHARS = 64 * 1024
"""Of a tool's result, at most this is shown in the editor."""
STOPS: dict[FinishReason, str] = {
    "length": "max_tokens",
    "refusal": "refusal",
    "content_filter": "refusal",
    "cancelled": "cancelled",
}
"""Stop reasons by how an answer ended; any other end is the end of the turn."""
CODES: dict[ErrorCode, int] = {
    "invalid_request": wire.INVALID_PARAMS,
    "too_large": wire.INVALID_PARAMS,
    "unknown_session": acp.NOT_FOUND,
    "unknown_specialist": acp.NOT_FOUND,
    "not_found": acp.NOT_FOUND,
}


class Call(Struct):
    """A tool call, as far as it is known: `name` as the model writes it, `arguments` as they come."""

    id: str
    name: str
    arguments: str = ""
    announced: bool = False
    ended: bool = False

    @property
    def tool(self) -> str:
        return self.name.replace("__", ":", 1)


class SessionUpdate(Struct, rename="camel"):
    """A `session/update` as we send it."""

    session_id: str
    update: Struct


class Chunk(Struct, rename="camel"):
    session_update: str
    content: acp.Block


class Step(Struct):
    """An entry of a plan; all of it is always sent, as the protocol wants it."""

    content: str
    status: str
    priority: str = "medium"


class Used(acp.TokenUse, omit_defaults=False):
    """What a turn used; zeros are sent, as the protocol wants them."""


class Plan(Struct, rename="camel"):
    entries: list[Step]
    session_update: str = "plan"


class Tool(acp.ToolUpdate, kw_only=True, omit_defaults=True):
    session_update: str


def chunk(kind: str, text: str) -> Struct:
    """Return the update for a piece of text."""
    return Chunk(kind, acp.Block("text", text))


def tool_update(call: Call, kind: str, status: str, result: str | None = None) -> Struct:
    content = None
    if result is not None:
        content = [acp.ToolContent("content", acp.Block("text", result[:SHOWN_CHARS]))]
    given = arguments_of(call.arguments) if call.arguments else None
    title = call.tool if kind == "tool_call" else None
    return Tool(
        call.id, title, "other" if title else None, status, content, raw_input=given, session_update=kind
    )


def kind_of(ask: Ask) -> str:
    """Return the protocol's word for what a tool does, as far as its server says it."""
    return "read" if ask.read_only else "other"


def arguments_of(text: str) -> Any:
    # a model may have written what is no JSON: the person sees it as it is
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def member_said(member: str, text: str, failed: str = "") -> str:
    """Return a member's answer under its name."""
    body = "\n\n".join(filter(None, [text, f"_{failed}_" if failed else ""]))
    return f"**{member.removesuffix('-ai')}**\n\n{body}\n\n"


def replayed(message: StoredMessage) -> list[Struct]:
    """Return a stored message as the updates that show it."""
    if message.role == "user":
        return [chunk("user_message_chunk", message.content)] if message.content else []
    if message.role != "assistant":
        return []
    text = message.content
    if message.lane or message.error_code:
        failed = f"failed: {message.error}" if message.error_code else ""
        text = (
            member_said(message.author, text, failed)
            if message.lane
            else "\n\n".join(filter(None, [text, failed]))
        )
    thought = [chunk("agent_thought_chunk", message.reasoning)] if message.reasoning else []
    return [*thought, chunk("agent_message_chunk", text)] if text else thought


def read_blocks(blocks: Sequence[acp.Block]) -> tuple[str, list[Part]]:
    """Return a prompt's text, with the texts that go along as attributed data, and its pictures.

    Raises:
        RpcFailure: A block cannot be used, or there is nothing to ask.
    """
    texts: list[str] = []
    pictures: list[Part] = []
    for block in blocks:
        match block.type:
            case "text":
                texts.append(block.text or "")
            case "resource_link":
                texts.append(f"[{block.title or block.name or block.uri}]({block.uri})")
            case "resource" if block.resource is not None:
                texts.append(_resource(block.resource))
            case "image":
                name = (block.uri or "").rpartition("/")[2]
                size = len(block.data or "") * 3 // 4
                picture = ImagePart(block.mime_type or "image/png", block.data or "", name=name, size=size)
                pictures.append(picture if block.data else ImagePart(url=block.uri or ""))
            case _:
                raise RpcFailure(wire.INVALID_PARAMS, f"a block of type {block.type!r} cannot be used here")
    text = "\n\n".join(filter(None, texts))
    if not text.strip() and not pictures:
        raise RpcFailure(wire.INVALID_PARAMS, "there is nothing to ask: the prompt has no text")
    return text, pictures


def _resource(resource: acp.Resource) -> str:
    text = resource.text
    if text is None:
        try:
            text = base64.b64decode(resource.blob or "", validate=True).decode()
        except ValueError:
            raise RpcFailure(wire.INVALID_PARAMS, f"{resource.uri} is no text and cannot be sent") from None
    # Markdown ends a fence at the first run of backticks as long as itself
    fence = "`" * (max([2, *map(len, _runs(text))]) + 1)
    return f"{resource.uri}\n{fence}\n{text}\n{fence}"


def _runs(text: str) -> list[str]:
    """Return the runs of backticks in a text: its fence must be longer."""
    return [run for run in "".join(c if c == "`" else " " for c in text).split() if run]


def folder_of(path: str) -> str:
    if not path.startswith("/"):
        raise RpcFailure(wire.INVALID_PARAMS, f"cwd must be an absolute path; found {path!r}")
    return path


def usage_of(usage: Usage) -> acp.TokenUse:
    """Return what a turn used, in the protocol's words."""
    total = usage.input_tokens + usage.cached_tokens + usage.output_tokens
    return Used(
        total, usage.input_tokens, usage.output_tokens, cached_read_tokens=usage.cached_tokens or None
    )


def failure(error: TektonError) -> RpcFailure:
    """Return an error of the platform in the protocol's form, in its own words."""
    return RpcFailure(CODES.get(error.code, wire.INTERNAL_ERROR), f"{error.code}: {error.message}")
