"""A message as it is asked for in Anthropic's words. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from backend.gateway.completions.asked import (
    Asked,
    ModelName,
    StopText,
    call_of,
    checked_base64,
    conversation,
    file_of,
    image_of,
    picture,
    plain_or_rich,
    read_body,
    refused,
    result_of,
    spec_of,
    wrong_at,
)
from backend.gateway.completions.parameters import Parameters, check_tools
from backend.schema.content import (
    AnswerOptions,
    ChatMessage,
    Effort,
    FilePart,
    Part,
    ReasoningPart,
    ResponseFormat,
    TextPart,
    ToolChoice,
    ToolSpec,
    text_of,
)
from backend.schema.errors import InvalidRequest
from backend.schema.tools import CallRules

BUDGETS: tuple[tuple[int, Effort], ...] = ((16_000, "high"), (4_000, "medium"), (0, "low"))
"""What a budget of thinking tokens is as a degree of effort."""
KNOWN = frozenset(("text", "image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result"))
"""Blocks that are read."""
# `any` is what everybody else calls required
MODES: dict[str, Literal["auto", "none", "required", "named"]] = {
    "auto": "auto", "any": "required", "tool": "named", "none": "none",
}  # fmt: skip


class Source(Struct):
    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""


class Block(Struct):
    """Any block: what belongs to one kind is left alone in the others."""

    type: str
    text: str = ""
    source: Source | None = None
    title: str | None = None
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}
    tool_use_id: str = ""
    content: Any = None
    is_error: bool | None = None
    thinking: str = ""
    signature: str = ""
    data: str = ""


class Message(Struct):
    role: str
    content: str | list[Block]


class Tool(Struct):
    name: str = ""
    description: str | None = None
    input_schema: dict[str, Any] = {}
    type: str | None = None
    strict: bool | None = None


class Choice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct):
    type: str
    budget_tokens: Annotated[int, Meta(ge=0)] = 0


class Format(Struct):
    type: str
    schema: dict[str, Any] = {}


class OutputConfig(Struct):
    effort: Effort | None = None
    format: Format | None = None


class CountBody(Struct):
    """The body of a count of tokens: what we read of it."""

    model: ModelName
    messages: list[Message]
    system: str | list[Block] | None = None
    tools: Annotated[list[Tool], Meta(max_length=512)] | None = None


class MessageBody(Struct):
    """The body of a message: what we read of it."""

    model: ModelName
    messages: list[Message]
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    system: str | list[Block] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop_sequences: Annotated[list[StopText], Meta(max_length=16)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=512)] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    rules: CallRules | None = None


NOTED = {
    "metadata",
    "cache_control",
    "service_tier",
    "user_profile_id",
    "workspace_id",
    "billing_policy",
    "betas",
}
UNUSED = {
    "top_k", "container", "context_management", "compaction", "diagnostics", "inference_geo", "speed", "fallbacks",
    "fallback_credit_token",
}  # fmt: skip
REFUSE = {"mcp_servers": "specialists have tools of their own, set by the operator"}
OUTPUT = Parameters("messages output_config", OutputConfig, unused={"task_budget"})
THINKING = Parameters("messages thinking", Thinking, noted={"display"})
CHOICE = Parameters("messages tool_choice", Choice)
PARAMETERS = Parameters(
    "messages", MessageBody, noted={*NOTED, "thread"}, unused=UNUSED, refuse=REFUSE,
    inside={"output_config": OUTPUT, "thinking": THINKING, "tool_choice": CHOICE},
)  # fmt: skip
COUNTED = Parameters(
    "count_tokens", CountBody, refuse=REFUSE,
    noted={*NOTED, *UNUSED, "thinking", "tool_choice", "output_config", "max_tokens", "stream"},
    inside={"output_config": OUTPUT, "thinking": THINKING, "tool_choice": CHOICE},
)  # fmt: skip


def read_asked(values: dict[str, Any]) -> Asked:
    """Read the body of a message.

    Raises:
        InvalidRequest: With the parameter.
    """
    if values.get("thread"):
        # by this code a client's own tool runner falls back to sending the whole conversation, instead of asking for ever
        raise InvalidRequest(
            "thread: conversations are not kept here; send all messages",
            detail={"param": "thread", "error_code": "thread_unsupported_request"},
        )
    unused = PARAMETERS.check(values)
    body = read_body(values, MessageBody, PARAMETERS.name)
    check_tools(values.get("tools"), Tool.__struct_fields__)
    tools = _tools(body.tools or [], unused)
    return Asked(
        model=body.model.strip(),
        talk=conversation(_messages(body.messages, unused), _system(body.system)),
        stream=bool(body.stream),
        temperature=body.temperature,
        max_tokens=body.max_tokens,
        unused=unused,
        rules=body.rules,
        options=AnswerOptions(
            tools=tools,
            choice=_choice(body.tool_choice, tools),
            format=_format(body.output_config),
            effort=_effort(body),
            stops=body.stop_sequences or [],
            top_p=body.top_p,
        ),
    )


def read_count(values: dict[str, Any]) -> tuple[str, list[str]]:
    """Read the body of a count of tokens; return the model and the texts that count."""
    COUNTED.check(values)
    body = read_body(values, CountBody, COUNTED.name)
    texts = [_system(body.system)]
    for message in _messages(body.messages, []):
        for part in message.parts or [TextPart(message.content)]:
            texts.append(part.text if isinstance(part, TextPart) else msgspec.json.encode(part).decode())
    texts += [msgspec.json.encode(tool).decode() for tool in body.tools or ()]
    return body.model.strip(), [text for text in texts if text]


def _system(system: str | list[Block] | None) -> str:
    if not isinstance(system, list):
        return system or ""
    return "\n\n".join(block.text for block in system if block.text)


def _tools(tools: list[Tool], unused: list[str]) -> list[ToolSpec]:
    specs: list[ToolSpec] = []
    for number, tool in enumerate(tools):
        if tool.type not in (None, "custom"):
            unused.append(f"tools[{number}]")  # one of the vendor's own, which only it can run
        else:
            specs.append(spec_of(number, tool.name, tool.description, tool.input_schema, tool.strict))
    return specs


def _choice(choice: Choice | None, tools: list[ToolSpec]) -> ToolChoice | None:
    if choice is None or not tools:
        if choice is not None and choice.type in ("any", "tool"):
            raise refused("tool_choice", "tool_choice: there are no tools to choose from: send tools")
        return None
    if choice.type == "tool" and choice.name not in [tool.name for tool in tools]:
        raise refused("tool_choice", f"tool_choice: there is no tool {choice.name!r:.60}")
    return ToolChoice(MODES[choice.type], choice.name, not choice.disable_parallel_tool_use)


def _format(config: OutputConfig | None) -> ResponseFormat | None:
    if config is None or config.format is None:
        return None
    if config.format.type != "json_schema":
        raise refused("output_config", "output_config.format.type: expected json_schema")
    return ResponseFormat("schema", schema=config.format.schema)


def _effort(body: MessageBody) -> Effort | None:
    thinking = body.thinking
    if thinking is not None and thinking.type == "disabled":
        return "none"
    if body.output_config is not None and body.output_config.effort is not None:
        return body.output_config.effort
    if thinking is None:
        return None
    # older models are given a number of tokens to think, newer ones ("adaptive") none
    if thinking.budget_tokens:
        return next(effort for least, effort in BUDGETS if thinking.budget_tokens >= least)
    return "high"


def _messages(given: list[Message], unused: list[str]) -> list[ChatMessage]:
    return [_message(message, f"messages[{number}]", unused) for number, message in enumerate(given)]


def _message(message: Message, where: str, unused: list[str]) -> ChatMessage:
    blocks = message.content if isinstance(message.content, list) else [Block("text", message.content)]
    parts: list[Part] = []
    for number, block in enumerate(blocks):
        if message.role == "assistant" and block.type not in KNOWN:
            unused.append(f"{where}.content[{number}]")  # of the vendor's own, such as a search that it ran
        elif (part := _part(block, f"{where}.content[{number}]")) is not None:
            parts.append(part)
    match message.role:
        case "system":
            return ChatMessage("system", text_of(parts))
        case "user" | "assistant":
            return plain_or_rich(message.role, parts)
        case _:
            raise wrong_at(f"{where}.role", f"expected user or assistant, found {message.role[:40]!r}")


def _part(block: Block, where: str) -> Part | None:
    match block.type:
        case "text":
            return TextPart(block.text) if block.text else None
        case "image" | "document":
            return _attached(block, where)
        case "thinking":
            return ReasoningPart(block.thinking, signature=block.signature)
        case "redacted_thinking":
            return ReasoningPart(signature=block.data, redacted=True)
        case "tool_use":
            arguments = msgspec.json.encode(block.input).decode()
            return call_of(block.id, block.name, arguments, where)
        case "tool_result":
            said = _inner(block.content, where)
            return result_of(block.tool_use_id, said, where, is_error=bool(block.is_error))
        case _:
            known = "text, image, document, thinking, tool_use and tool_result"
            raise wrong_at(where, f"only blocks of type {known} are read, found {block.type[:40]!r}")


def _inner(content: Any, where: str) -> list[Part]:
    """Return what a tool's result holds: text, or blocks."""
    if content is None or isinstance(content, str):
        return [TextPart(content)] if content else []
    try:
        blocks = msgspec.convert(content, list[Block])
    except msgspec.ValidationError as error:
        raise wrong_at(f"{where}.content", str(error)) from error
    return [part for block in blocks if (part := _part(block, where)) is not None]


def _attached(block: Block, where: str) -> Part:
    source = block.source
    if source is None or source.type not in ("base64", "url", "text"):
        raise wrong_at(f"{where}.source", "expected base64, url or text")
    if source.type == "text":
        return TextPart(source.data)
    if source.type == "url":
        if block.type == "image":
            return image_of(source.url, where)
        return file_of(source.url, where, block.title or "")
    if block.type == "image":
        return picture(source.media_type, source.data, where)
    return FilePart(block.title or "", source.media_type, checked_base64(source.data, where))
